"""Static settings: an empty environment runs, and every mistake names its variable."""

from __future__ import annotations

import base64
import dataclasses
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.settings import Settings
from backends.settings_checks import check_event_keys
from backends.wiring import Backends
from schemas.errors import Malformed

FIELDS = {f"KNCHAT_{item.name.upper()}": item for item in dataclasses.fields(Settings)}
NUMBERS = {name: item for name, item in FIELDS.items() if item.type == "int"}
SECRETS = [item.name for item in FIELDS.values() if item.metadata["secret"]]
KEY = base64.b64encode(b"sixteen bytes ok").decode()


def test_an_empty_environment_is_the_embedded_default():
    """Nothing needs to be set, and other programs' variables do not matter."""
    assert (
        Settings.from_env({}) == Settings() == Settings.from_env({"PATH": "/bin", "KNATIVE": "x"})
    )


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_documented(name):
    """The table of settings is made from unit and meaning, and numbers have their least value."""
    item = FIELDS[name]

    assert item.metadata["unit"]
    assert len(item.metadata["meaning"]) > 10
    if item.type == "int":
        assert item.metadata["least"] <= item.default <= (item.metadata["most"] or item.default)


def test_values_are_read():
    """Each kind of value in its spelling."""
    settings = Settings.from_env(
        {
            "KNCHAT_DATA": "/var/lib/x",
            "KNCHAT_HTTP_PORT": "0",
            "KNCHAT_METRICS": "0",
            "KNCHAT_LOG_LEVEL": "DEBUG",
            "KNCHAT_HOST": "0.0.0.0",
            "KNCHAT_PUBLIC_URL": "wss://chat.example/eu/v1/socket",
            "KNCHAT_ALLOWED_ORIGINS": "https://a.example, "
            "http://localhost:3000,http://[::1]:81,*,capacitor://localhost,app://-,file://,null",
            "KNCHAT_EVENT_KEYS": f"{KEY}, {KEY}",
        }
    )

    assert settings == Settings(
        data=Path("/var/lib/x"),
        http_port=0,
        metrics=False,
        log_level="DEBUG",
        host="0.0.0.0",
        public_url="wss://chat.example/eu/v1/socket",
        allowed_origins=(
            "https://a.example",
            "http://localhost:3000",
            "http://[::1]:81",
            "*",
            "capacitor://localhost",
            "app://-",
            "file://",
            "null",
        ),
        event_keys=(b"sixteen bytes ok",) * 2,
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KNCHAT_TOKENS", "5"),
        ("KNCHAT_", ""),
        ("KNCHAT_HTTP_PORT", "65536"),
        ("KNCHAT_HTTP_PORT", "-1"),
        ("KNCHAT_HTTP_PORT", "80 "),
        ("KNCHAT_HTTP_PORT", ""),
        ("KNCHAT_HTTP_PORT", "\u0668\u0660"),
        ("KNCHAT_HTTP_PORT", "9" * 5_000),
        ("KNCHAT_RING_S", "9"),
        ("KNCHAT_METRICS", "true"),
        ("KNCHAT_LOG_LEVEL", "debug"),
        ("KNCHAT_TRACE_RATIO", "1.5"),
        ("KNCHAT_TRACE_RATIO", "1%"),
        ("KNCHAT_TRACE_RATIO", ""),
        ("KNCHAT_OTLP_ENDPOINT", "collector:4318"),
        ("KNCHAT_OTLP_ENDPOINT", "http://user:secret@collector:4318"),
        ("KNCHAT_DATA", ""),
        ("KNCHAT_HOST", ""),
        ("KNCHAT_GATEWAY_NAME", "gateway 0"),
        ("KNCHAT_PUBLIC_URL", "http://chat.example/v1/socket"),
        ("KNCHAT_PUBLIC_URL", "wss://chat.example"),
        ("KNCHAT_PUBLIC_URL", "wss:///v1/socket"),
        ("KNCHAT_DATABASE", "postgres://chat@db.example/chat"),
        ("KNCHAT_DATABASE", "postgresql://db.example/chat"),
        ("KNCHAT_DATABASE", "postgresql://chat:secret@db.example/chat"),
        ("KNCHAT_DATABASE", "postgresql://chat@db.example:5432"),
        ("KNCHAT_DATABASE", "postgresql://chat@db.example/chat?sslmode=require"),
        ("KNCHAT_DATABASE", "postgresql://chat@db.example:65536/chat"),
        ("KNCHAT_DATABASE", "postgresql://chat@db.example/"),
        ("KNCHAT_REDIS", "cache.example:6379"),
        ("KNCHAT_REDIS", "valkey://cache.example:6379"),
        ("KNCHAT_REDIS", "redis://cache.example:0"),
        ("KNCHAT_REDIS", "redis://cache.example/chat"),
        ("KNCHAT_REDIS", "redis://cache.example?db=1"),
        ("KNCHAT_REDIS", "redis://:secret@cache.example"),
        ("KNCHAT_REDIS", "redis://chat:secret@cache.example"),
        ("KNCHAT_KAFKA", "kafka.example"),
        ("KNCHAT_KAFKA", "kafka.example:9092,kafka.example:"),
        ("KNCHAT_KAFKA", "kafka.example:90920"),
        ("KNCHAT_KAFKA", "chat:secret@kafka.example:9092"),
        ("KNCHAT_KAFKA_SECURITY", "tls"),
        ("KNCHAT_KAFKA_CA", "nowhere.pem"),
        ("KNCHAT_KAFKA_REPLICATION", "0"),
        ("KNCHAT_CASSANDRA", "cassandra://node:9042"),
        ("KNCHAT_CASSANDRA_CONSISTENCY", "TWO"),
        ("KNCHAT_CHATS", "history"),
        ("KNCHAT_LOG", "Kafka"),
        ("KNCHAT_LOG", ""),
        ("K_SINK", "kafka-sink/namespace/name"),
        ("K_SINK", "ftp://sink.example"),
        ("KNCHAT_SINK_QUERIES", "http://chat:secret@sink.example/x"),
        ("KNCHAT_JWKS", "ftp://keys.example/jwks.json"),
        ("KNCHAT_JWKS", "https://chat:secret@keys.example/jwks.json"),
        ("KNCHAT_REDIS_PASSWORD_FILE", "nowhere"),
        ("KNCHAT_REDIS_FILE", "nowhere"),
        ("KNCHAT_CASSANDRA_KEYSPACE", "Chat"),
        ("KNCHAT_CASSANDRA_KEYSPACE", ""),
        ("KNCHAT_CASSANDRA_KEYSPACE", "a; drop"),
        ("KNCHAT_ALLOWED_ORIGINS", "app.example"),
        ("KNCHAT_ALLOWED_ORIGINS", "https://a.example,https://App.example"),
        ("KNCHAT_ALLOWED_ORIGINS", "https://app.example/"),
        ("KNCHAT_ALLOWED_ORIGINS", "https://app.example:443"),
        ("KNCHAT_ALLOWED_ORIGINS", "https://*.example"),
        ("KNCHAT_ALLOWED_ORIGINS", "capacitor://localhost/index.html"),
        ("KNCHAT_ALLOWED_ORIGINS", "Capacitor://localhost"),
        ("KNCHAT_ALLOWED_ORIGINS", "https://"),
        ("KNCHAT_EVENT_KEYS", "not base64"),
        ("KNCHAT_EVENT_KEYS", "é"),
        ("KNCHAT_EVENT_KEYS", base64.b64encode(b"short").decode()),
        ("KNCHAT_EVENT_KEYS", f"{KEY},{KEY},{KEY}"),
    ],
)
def test_a_mistake_names_its_variable(name, text):
    """An unknown name or a wrong value stops the start, and the one line that
    is shown says which.
    """
    with pytest.raises(Malformed, match=name) as refusal:
        Settings.from_env({name: text})
    assert refusal.value.field == name


def test_a_variable_of_the_tests_is_passed_over():
    """It may stand in the same shell."""
    assert Settings.from_env({"KNCHAT_CRDS": "/definitions"}) == Settings.from_env({})


def test_urls_are_taken():
    """Each in the forms that operators write; what is set by Knative has its own names."""
    given = {
        "KNCHAT_DATABASE": "postgresql://chat@[::1]:5433/chat-1",
        "KNCHAT_REDIS": "rediss://chat@cache.example:6380/15",
        "KNCHAT_KAFKA": "kafka-0.kafka:9092, [::1]:9093,",
        "K_SINK": "https://kafka-sink-ingress.knative-eventing.svc.cluster.local"
        "/chat/chat-commands",
        "KNCHAT_SINK_QUERIES": "http://127.0.0.1:8080/?a=b",
        "KNCHAT_OTLP_ENDPOINT": "http://collector:4318/",
        "KNCHAT_JWKS": "https://chat.example/.well-known/jwks.json",
    }
    settings = Settings.from_env(given)

    assert (settings.database, settings.redis, settings.jwks) == tuple(
        given[f"KNCHAT_{name}"] for name in ("DATABASE", "REDIS", "JWKS")
    )
    assert settings.kafka == ("kafka-0.kafka:9092", "[::1]:9093")
    assert (settings.sink, settings.sink_queries) == (given["K_SINK"], given["KNCHAT_SINK_QUERIES"])
    for url in ("redis://cache.example", "redis://127.0.0.1:6379", "redis://chat@[::1]/0"):
        assert Settings.from_env({"KNCHAT_REDIS": url}).redis == url
    assert Settings.from_env({"KNCHAT_JWKS": "keys/jwks.json"}).jwks == "keys/jwks.json"


def test_a_process_that_appends_or_reads_needs_event_keys():
    """On one machine it does without; `chats` on Knative never asks, since it does neither."""
    cluster = {"KNCHAT_LOG": "kafka", "KNCHAT_KAFKA": "kafka:9093", "KNCHAT_KAFKA_SECURITY": "ssl"}
    with pytest.raises(Malformed, match=r"KNCHAT_EVENT_KEYS is missing.*KNCHAT_INSECURE=1"):
        check_event_keys(Settings.from_env(cluster))

    for more in (
        {"KNCHAT_EVENT_KEYS": KEY},
        {"KNCHAT_INSECURE": "1"},
        {"KNCHAT_KAFKA": "127.0.0.1:9093"},
        {"KNCHAT_LOG": "embedded"},
    ):
        check_event_keys(Settings.from_env(cluster | more))


async def test_without_event_keys_the_start_ends(tmp_path):
    """Before anything is asked."""
    backends = Backends(Settings(data=tmp_path, log="kafka", kafka=("kafka.example:9093",)))
    with pytest.raises(Malformed, match="KNCHAT_EVENT_KEYS is missing"):
        await backends.health.check(["reads"])
    await backends.health.check([])
    await backends.close()


def test_a_whole_configuration_is_taken(tmp_path):
    """With secrets in files, which end with a line break as editors leave it."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    settings = Settings.from_env(
        {
            "KNCHAT_LOG": "knative",
            "KNCHAT_KAFKA": "kafka:9093",
            "KNCHAT_KAFKA_SECURITY": "sasl_ssl",
            "KNCHAT_KAFKA_CA": str(secret),
            "KNCHAT_KAFKA_USER": "chat",
            "KNCHAT_KAFKA_PASSWORD_FILE": str(secret),
            "KNCHAT_CHATS": "cassandra",
            "KNCHAT_CASSANDRA": "cassandra:9042",
            "KNCHAT_CASSANDRA_USER": "chat",
            "KNCHAT_CASSANDRA_PASSWORD_FILE": str(secret),
            "KNCHAT_SEARCH": "opensearch",
            "KNCHAT_OPENSEARCH": "https://opensearch",
            "KNCHAT_OPENSEARCH_CA": str(secret),
            "KNCHAT_OPENSEARCH_USER": "chat",
            "KNCHAT_OPENSEARCH_PASSWORD_FILE": str(secret),
            "KNCHAT_REDIS": "rediss://redis",
            "KNCHAT_REDIS_CA": str(secret),
            "KNCHAT_REDIS_PASSWORD_FILE": str(secret),
            "KNCHAT_DATABASE": "postgresql://chat@postgres/chat",
            "KNCHAT_DATABASE_PASSWORD_FILE": str(secret),
            "KNCHAT_DATABASE_CA": str(secret),
            "KNCHAT_CASSANDRA_CA": str(secret),
            "KNCHAT_S3": "https://s3",
            "KNCHAT_S3_BUCKET": "chat",
            "KNCHAT_S3_KEY_ID": "chat",
            "KNCHAT_S3_SECRET_FILE": str(secret),
            "KNCHAT_S3_CA": str(secret),
        }
    )

    assert {getattr(settings, name) for name in SECRETS if name != "event_keys"} == {"s3cret"}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_said_once(name, tmp_path):
    """In the variable or in a file, not in both."""
    variable = f"KNCHAT_{name.upper()}"
    with pytest.raises(Malformed, match="both set"):
        Settings.from_env({variable: KEY, f"{variable}_FILE": str(tmp_path / "x")})


CANARY = "canary-4711"


def test_secrets_are_not_shown():
    """Logged settings show none, nor a part of one."""
    key = CANARY.encode() * 2
    shown = repr(Settings(**{name: (key,) if name == "event_keys" else CANARY for name in SECRETS}))

    assert CANARY not in shown
    assert base64.b64encode(key).decode() not in shown


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("KNCHAT_DATABASE", f"postgresql://chat:{CANARY}@db.example/chat"),
        ("KNCHAT_REDIS", f"redis://:{CANARY}@cache.example/0"),
        ("KNCHAT_REDIS", f"redis://{CANARY}:@cache.example/0"),
        ("KNCHAT_KAFKA", f"kafka:9092,chat:{CANARY}@kafka:9092"),
        ("KNCHAT_KAFKA", CANARY),
        ("KNCHAT_JWKS", f"https://chat:{CANARY}@keys.example/jwks.json"),
        ("KNCHAT_OTLP_ENDPOINT", f"http://chat:{CANARY}@collector:4318"),
        ("K_SINK", f"http://chat:{CANARY}@sink.example"),
        ("KNCHAT_ALLOWED_ORIGINS", f"https://chat:{CANARY}@app.example"),
        ("KNCHAT_EVENT_KEYS", CANARY),
        ("KNCHAT_LOG", CANARY),
        ("KNCHAT_TOKEN_S", CANARY),
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(name, text):
    """Not in the error, and not in what it came from: both are logged."""
    with pytest.raises(Malformed) as refusal:
        Settings.from_env({name: text})
    assert CANARY not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "ws://127.0.0.1:8081"),
        ("chat.example", "ws://chat.example:8081"),
        ("::1", "ws://[::1]:8081"),
        ("0.0.0.0", "ws://127.0.0.1:8081"),
        ("::", "ws://[::1]:8081"),
    ],
)
def test_a_server_that_listens_everywhere_is_reached_over_the_loopback(host, url):
    """IPv6 addresses stand in brackets, and an address that stands for all is
    none to connect to.
    """
    assert Settings(host=host).url("ws", 8081) == url


@given(st.sampled_from(sorted(NUMBERS)), st.text(max_size=12) | st.integers().map(str))
def test_numbers_are_taken_within_their_bounds(name, text):
    """Fuzz: any text is a number within the bounds, or Malformed."""
    item = NUMBERS[name]
    try:
        value = getattr(Settings.from_env({name: text}), item.name)
    except Malformed as refusal:
        assert refusal.field == name
    else:
        assert item.metadata["least"] <= value == int(text)
