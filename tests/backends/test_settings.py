"""Static settings: an empty environment runs, and every mistake names its variable."""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.settings import Settings
from schemas.errors import Malformed

FIELDS = {f"KNCHAT_{item.name.upper()}": item for item in dataclasses.fields(Settings)}
NUMBERS = {name: item for name, item in FIELDS.items() if item.type == "int"}
KEY = base64.b64encode(b"sixteen bytes ok").decode()


def test_an_empty_environment_is_the_embedded_default():
    """Nothing needs to be set, and other programs' variables do not matter."""
    assert Settings.from_env({}) == Settings() == Settings.from_env({"PATH": "/bin", "KNATIVE": "x"})


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
            "KNCHAT_ALLOWED_ORIGINS": "https://a.example, http://localhost:3000,http://[::1]:81,*,",
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
        allowed_origins=("https://a.example", "http://localhost:3000", "http://[::1]:81", "*"),
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
        ("KNCHAT_CASSANDRA_KEYSPACE", "Chat"),
        ("KNCHAT_CASSANDRA_KEYSPACE", ""),
        ("KNCHAT_CASSANDRA_KEYSPACE", "a; drop"),
        ("KNCHAT_ALLOWED_ORIGINS", "app.example"),
        ("KNCHAT_ALLOWED_ORIGINS", "https://a.example,https://App.example"),
        ("KNCHAT_ALLOWED_ORIGINS", "https://app.example/"),
        ("KNCHAT_ALLOWED_ORIGINS", "https://app.example:443"),
        ("KNCHAT_ALLOWED_ORIGINS", "https://*.example"),
        ("KNCHAT_EVENT_KEYS", "not base64"),
        ("KNCHAT_EVENT_KEYS", "é"),
        ("KNCHAT_EVENT_KEYS", base64.b64encode(b"short").decode()),
        ("KNCHAT_EVENT_KEYS", f"{KEY},{KEY},{KEY}"),
    ],
)
def test_a_mistake_names_its_variable(name, text):
    """An unknown name or a wrong value stops the start, and the one line that is shown says which."""
    with pytest.raises(Malformed, match=name) as refusal:
        Settings.from_env({name: text})
    assert refusal.value.field == name


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
    """IPv6 addresses stand in brackets, and an address that stands for all is nobody's to connect to."""
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
