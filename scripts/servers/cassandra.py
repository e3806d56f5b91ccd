"""Cassandra: one node with few tokens and small caches.

The secure one has our user in the place of the well-known superuser.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from cassandra import DriverException, RequestExecutionException
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import RoundRobinPolicy

from servers.packages import JAVA, Jars
from servers.place import HOST, USER, Place
from servers.server import NotReady, Server

_JARS = Jars("cassandra", ("org.apache.cassandra:cassandra-all:5.0.5",))

# One node alone has to promise what three promise together, so writes are on its disk before they
# are answered, those of 10 ms at once. With the usual periodic sync a kill -9 lost some that were
# answered in the last 100 ms (measured). A write holds its thread until then, and the thread that
# took a request writes the rows of a batch itself, one after the other: 16 threads, which two cores
# would ask for, are 1,600 rows a second, fewer than 1,000 messages make.
_CONFIGURATION = """\
cluster_name: kn-chat
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: "{host}:{storage}"}}]
listen_address: {host}
rpc_address: {host}
storage_port: {storage}
ssl_storage_port: {ssl_storage}
native_transport_port: {client}
start_native_transport: true
data_file_directories: ["{data}/data"]
commitlog_directory: "{data}/commitlog"
hints_directory: "{data}/hints"
saved_caches_directory: "{data}/saved_caches"
cdc_raw_directory: "{data}/cdc_raw"
commitlog_sync: group
commitlog_sync_group_window: 10ms
commitlog_segment_size: 8MiB
commitlog_total_space: 256MiB
memtable_heap_space: 256MiB
memtable_offheap_space: 64MiB
file_cache_size: 32MiB
key_cache_size: 8MiB
compaction_throughput: 4MiB/s
concurrent_compactors: 1
concurrent_reads: 4
concurrent_writes: 64
native_transport_max_threads: 64
"""

_SECURE = """\
authenticator: PasswordAuthenticator
authorizer: CassandraAuthorizer
role_manager: CassandraRoleManager
client_encryption_options:
  enabled: true
  optional: false
  require_client_auth: false
  keystore: "{keystore}"
  keystore_password: "{password}"
  store_type: PKCS12
"""

_LOGGING = """\
<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level [%thread] %date{ISO8601} %logger{0} - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="OUT"/></root>
</configuration>
"""

# What Cassandra's own start script opens to it on Java 17.
_OPENS = {
    "java.base": (
        "java.io java.util java.util.concurrent java.util.concurrent.atomic java.nio java.lang "
        "java.lang.reflect java.lang.ref java.net "
        "java.math jdk.internal.ref jdk.internal.reflect jdk.internal.math jdk.internal.module "
        "jdk.internal.util.jar sun.nio.ch"
    ),
    "java.rmi": "sun.rmi.registry sun.rmi.server sun.rmi.transport sun.rmi.transport.tcp",
    "java.sql": "java.sql",
    "jdk.management": "com.sun.management.internal",
    "jdk.management.jfr": "jdk.management.jfr",
    "jdk.compiler": "com.sun.tools.javac.file",
}
_EXPORTS = {
    "java.base": "jdk.internal.misc jdk.internal.ref sun.nio.ch",
    "java.management.rmi": "com.sun.jmx.remote.internal.rmi",
    "java.rmi": "sun.rmi.registry sun.rmi.server sun.rmi.transport.tcp",
    "java.sql": "java.sql",
    "jdk.attach": "sun.tools.attach",
    "jdk.compiler": "com.sun.tools.javac.file",
    "jdk.unsupported": "sun.misc",
}


def _prepare(place: Place) -> list[str]:
    """Writes the configuration and says what to run; the node makes its data folder itself."""
    java, jars = JAVA.path(), _JARS.path()
    data = place.folder / "data"
    text = _CONFIGURATION.format(
        host=HOST,
        data=data,
        **{name: place.port(name) for name in ("client", "storage", "ssl_storage")},
    )
    if place.secure:
        keystore, password = place.folder / "keystore.p12", place.password("keystore")
        place.certificates.pkcs12(keystore, password)
        text += _SECURE.format(keystore=keystore, password=password)
    configuration = place.write("cassandra.yaml", text)
    logging = place.write("logback.xml", _LOGGING)
    return [
        str(java),
        *_options(place, configuration, logging, data),
        "-cp",
        f"{jars}/*",
        "org.apache.cassandra.service.CassandraDaemon",
    ]


def _options(place: Place, configuration: Path, logging: Path, data: Path) -> list[str]:
    properties = {
        "jdk.attach.allowAttachSelf": "true",
        "jdk.net.hosts.file": place.hosts(),
        "cassandra.config": configuration.as_uri(),
        "cassandra.storagedir": data,
        "logback.configurationFile": logging,
        "cassandra.jmx.local.port": place.port("jmx"),
        "cassandra-foreground": "yes",
        # There is no other node to wait for: one node is the whole ring.
        "cassandra.ring_delay_ms": 100,
        "cassandra.skip_wait_for_gossip_to_settle": 0,
        "cassandra.superuser_setup_delay_ms": 0,
    }
    return [
        "-Xms512m",
        "-Xmx1536m",
        "-XX:+UseSerialGC",
        *place.jvm_options(),
        f"-XX:ErrorFile={place.folder}/jvm-crash.log",
        *(f"-D{name}={value}" for name, value in properties.items()),
        *(
            f"--add-opens={module}/{package}=ALL-UNNAMED"
            for module, opened in _OPENS.items()
            for package in opened.split()
        ),
        *(
            f"--add-exports={module}/{package}=ALL-UNNAMED"
            for module, opened in _EXPORTS.items()
            for package in opened.split()
        ),
    ]


def _check(place: Place) -> None:
    """It answers a query of our user, who is put in the place of the well-known superuser if the
    node is new.
    """
    if not place.secure:
        _ask(place, None, "SELECT release_version FROM system.local")
        return
    ours = (USER, place.password())
    try:
        _ask(place, ours, "SELECT release_version FROM system.local")
    except NotReady:
        _ask(
            place,
            ("cassandra", "cassandra"),
            f"CREATE ROLE IF NOT EXISTS {USER} WITH SUPERUSER = true AND LOGIN = true AND PASSWORD "
            f"= '{ours[1]}'",
        )
        _ask(place, ours, "SELECT release_version FROM system.local")
    _ask(place, ours, "ALTER ROLE cassandra WITH SUPERUSER = false AND LOGIN = false")


def _ask(place: Place, login: tuple[str, str] | None, statement: str) -> None:
    """One statement on a connection of its own. NotReady when it fails."""
    options: dict[str, Any] = {}
    if login:
        options["auth_provider"] = PlainTextAuthProvider(*login)
    if place.secure:
        options["ssl_context"] = ssl.create_default_context(
            cafile=str(place.certificates.authority)
        )
        options["ssl_options"] = {"server_hostname": HOST}
    cluster = Cluster(
        [HOST],
        port=place.port(),
        connect_timeout=3,
        control_connection_timeout=3,
        execution_profiles={
            EXEC_PROFILE_DEFAULT: ExecutionProfile(RoundRobinPolicy(), request_timeout=5)
        },
        **options,
    )
    try:
        cluster.connect().execute(statement)
    except (DriverException, RequestExecutionException, NoHostAvailable, OSError) as error:
        raise NotReady(str(error)) from error
    finally:
        cluster.shutdown()


def _settings(place: Place) -> dict[str, str]:
    settings = {"KNCHAT_CASSANDRA": place.address, "KNCHAT_CASSANDRA_REPLICATION": "1"}
    if place.secure:
        settings |= {
            "KNCHAT_CASSANDRA_USER": USER,
            "KNCHAT_CASSANDRA_PASSWORD_FILE": str(place.password_file()),
            "KNCHAT_CASSANDRA_CA": str(place.certificates.authority),
        }
    return settings


CASSANDRA = Server(
    "cassandra",
    ports=("client", "storage", "ssl_storage", "jmx"),
    packages=lambda: _JARS.packages,
    prepare=_prepare,
    check=_check,
    settings=_settings,
    # Its threads look for work in sleeps of 10 us and more: at 1,000 messages a second half of all
    # its CPU (decisions/0020).
    timer_slack_us=2_000,
    # No call waits for a row on disk: flushes and compactions take turns behind what people
    # wait for.
    niceness=5,
)
