"""The set with TLS and passwords: its own settings lead in, and nothing less does."""

import json
import ssl
import subprocess
import sys

import pg8000.native
import pytest
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster, NoHostAvailable
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from servers.certificates import Certificates
from servers.place import HOST, USER
from servers.services import Services

pytestmark = pytest.mark.slow

PLACE = Services(secure=True).place


@pytest.fixture
def stranger(tmp_path):
    """A certificate authority that is not trusted."""
    certificates = Certificates(tmp_path / "certificates")
    certificates.make()
    return str(certificates.authority)


def test_redis_takes_its_user_over_tls_and_no_other(secure_settings, stranger):
    """No plain TCP, no default user, no other password; clients refuse another authority."""
    settings = secure_settings("redis")
    place = PLACE("redis")
    good = {
        "ssl": True,
        "ssl_ca_certs": settings["redis_ca"],
        "username": USER,
        "password": settings["redis_password"],
    }

    def ping(**options):
        with Redis(
            host=HOST, port=place.port(), socket_timeout=1, retry=Retry(NoBackoff(), 0), **options
        ) as client:
            return client.ping()

    assert settings["redis"] == f"rediss://{USER}@{place.address}/0"
    assert ping(**good)
    for wrong in (
        {},
        {**good, "password": "wrong"},
        {**good, "username": None, "password": None},
        {**good, "ssl_ca_certs": stranger},
    ):
        with pytest.raises(RedisError):
            ping(**wrong)


def test_postgres_takes_its_user_over_tls_and_no_other(secure_settings, stranger):
    """No plain connection, no other password; clients refuse another authority."""
    settings = secure_settings("postgres")
    place = PLACE("postgres")
    context = ssl.create_default_context(cafile=settings["database_ca"])

    def connect(context, password):
        pg8000.native.Connection(
            USER,
            host=HOST,
            port=place.port(),
            database=USER,
            password=password,
            ssl_context=context,
            timeout=5,
        ).close()

    connect(context, settings["database_password"])
    for wrong, password in ((False, settings["database_password"]), (context, "wrong")):
        with pytest.raises(pg8000.native.DatabaseError):
            connect(wrong, password)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(ssl.create_default_context(cafile=stranger), settings["database_password"])


ASK_KAFKA = """
import json, sys
from kafka import KafkaAdminClient
admin = KafkaAdminClient(**json.loads(sys.argv[1]))
print(len(admin.describe_cluster()["brokers"]))
admin.close()
"""


def test_kafka_takes_its_user_over_tls_and_no_other(secure_settings, stranger):
    """No plain TCP, no TLS alone, no other password; clients refuse another authority."""
    settings = secure_settings("kafka")
    good = {
        "security_protocol": "SASL_SSL",
        "ssl_cafile": settings["kafka_ca"],
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": settings["kafka_user"],
        "sasl_plain_password": settings["kafka_password"],
    }

    def brokers(**options):
        # In a process of its own: kafka-python 3.0 leaves the socket of a failed handshake open.
        options |= {
            "bootstrap_servers": settings["kafka"],
            "request_timeout_ms": 3_000,
            "bootstrap_timeout_ms": 2_000,
        }
        done = subprocess.run(
            [sys.executable, "-c", ASK_KAFKA, json.dumps(options)],
            capture_output=True,
            text=True,
            check=False,
        )
        return int(done.stdout) if done.returncode == 0 else done.stderr.splitlines()[-1]

    assert settings["kafka_security"] == "sasl_ssl"
    assert brokers(**good) == 1
    for wrong in (
        {},
        {"security_protocol": "SSL", "ssl_cafile": settings["kafka_ca"]},
        {**good, "sasl_plain_password": "wrong"},
        {**good, "ssl_cafile": stranger},
    ):
        assert str(brokers(**wrong)).startswith("kafka.errors.")


def test_cassandra_takes_its_user_over_tls_and_no_other(secure_settings, stranger):
    """No plain connection, not the default superuser; clients refuse another
    authority.
    """
    settings = secure_settings("cassandra")

    def version(authority, user, password):
        options = (
            {
                "ssl_context": ssl.create_default_context(cafile=authority),
                "ssl_options": {"server_hostname": HOST},
            }
            if authority
            else {}
        )
        with Cluster(
            [HOST],
            port=PLACE("cassandra").port(),
            connect_timeout=3,
            auth_provider=PlainTextAuthProvider(user, password),
            **options,
        ) as cluster:
            return cluster.connect().execute("SELECT release_version FROM system.local").one()[0]

    user, password, authority = (
        settings[f"cassandra_{name}"] for name in ("user", "password", "ca")
    )
    assert version(authority, user, password).startswith("5.")
    for wrong in (
        (None, user, password),
        (authority, "cassandra", "cassandra"),
        (authority, user, "wrong"),
        (stranger, user, password),
    ):
        with pytest.raises(NoHostAvailable):
            version(*wrong)
