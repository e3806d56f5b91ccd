"""Kafka: one node that is broker and controller (KRaft).

Topics are made by us alone; clients of the secure one log in by SCRAM.
"""

from __future__ import annotations

import base64
import subprocess
import uuid
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from servers.packages import JAVA, Jars, say
from servers.place import HOST, USER, Failed, Place
from servers.server import NotReady, Server

_JARS = Jars(
    "kafka",
    ("org.apache.kafka:kafka_2.13:4.1.0", "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"),
)

# One node, so one copy of everything. A broker that was killed is let in again when its old session
# is over: with the default of 9 s a restart on a busy machine took 14 s, with 3 s half of that. Few
# partitions of Kafka's own topics: 50 of each would be 100 folders to open at every start.
_CONFIGURATION = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={host}:{controller}
controller.listener.names=CONTROLLER
listeners={protocol}://{host}:{client},CONTROLLER://{host}:{controller}
advertised.listeners={protocol}://{host}:{client},CONTROLLER://{host}:{controller}
listener.security.protocol.map={protocol}:{protocol},CONTROLLER:PLAINTEXT
inter.broker.listener.name={protocol}
log.dirs={data}
auto.create.topics.enable=false
min.insync.replicas=1
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
num.network.threads=2
num.io.threads=4
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
log.cleaner.dedupe.buffer.size=16777216
"""

_SECURE = """\
ssl.keystore.type=PEM
ssl.keystore.location={both}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{user};User:ANONYMOUS
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required \
username="{user}" password="{password}";
"""


def _prepare(place: Place) -> list[str]:
    """Writes the configuration, formats a new data folder, and says what to run."""
    java, jars = str(JAVA.path()), _JARS.path()
    data, configuration = place.folder / "data", place.folder / "server.properties"
    text = _CONFIGURATION.format(
        host=HOST,
        client=place.port(),
        controller=place.port("controller"),
        protocol="SASL_SSL" if place.secure else "PLAINTEXT",
        data=data,
    )
    if place.secure:
        certificates = place.certificates
        text += _SECURE.format(
            both=certificates.both,
            authority=certificates.authority,
            user=USER,
            password=place.password(),
        )
    place.write("server.properties", text)
    if not (data / "meta.properties").exists():
        say("kafka: formatting its data folder")
        _format(place, java, jars, configuration)
    # log4j without a file of its own would say errors only.
    properties = ["-Dlog4j2.level=INFO", f"-Djdk.net.hosts.file={place.hosts()}"]
    options = [
        "-Xms640m",
        "-Xmx640m",
        "-Xmn320m",
        "-XX:+UseSerialGC",
        *place.jvm_options(),
        f"-XX:ErrorFile={place.folder}/jvm-crash.log",
    ]
    return [java, *options, *properties, "-cp", f"{jars}/*", "kafka.Kafka", str(configuration)]


def _format(place: Place, java: str, jars: Path, configuration: Path) -> None:
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    arguments = ["format", "--standalone", "--cluster-id", cluster, "--config", str(configuration)]
    if place.secure:
        # For the second that this takes, other users of this machine can see the password among its
        # processes; Kafka knows no other way.
        arguments += ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={place.password()}]"]
    done = subprocess.run(
        [
            java,
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            f"{jars}/*",
            "kafka.tools.StorageTool",
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"kafka: its data folder cannot be formatted:\n{done.stdout}{done.stderr}")


def _check(place: Place) -> None:
    """The broker describes its cluster: it has a controller, and it is registered there."""
    login = {
        "security_protocol": "SASL_SSL",
        "ssl_cafile": str(place.certificates.authority),
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": USER,
        "sasl_plain_password": place.password(),
    }
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=place.address,
            request_timeout_ms=3_000,
            bootstrap_timeout_ms=3_000,
            **(login if place.secure else {}),
        )
        try:
            brokers = admin.describe_cluster()["brokers"]
        finally:
            admin.close()
    except KafkaError as error:
        raise NotReady(str(error)) from error
    if not brokers:
        raise NotReady("no broker is registered")


def _settings(place: Place) -> dict[str, str]:
    settings = {"KNCHAT_KAFKA": place.address, "KNCHAT_KAFKA_REPLICATION": "1"}
    if place.secure:
        settings |= {
            "KNCHAT_KAFKA_SECURITY": "sasl_ssl",
            "KNCHAT_KAFKA_CA": str(place.certificates.authority),
            "KNCHAT_KAFKA_USER": USER,
            "KNCHAT_KAFKA_PASSWORD_FILE": str(place.password_file()),
        }
    return settings


KAFKA = Server(
    "kafka",
    ports=("client", "controller"),
    packages=lambda: _JARS.packages,
    prepare=_prepare,
    check=_check,
    settings=_settings,
)
