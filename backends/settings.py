"""Static settings: every `KNCHAT_*` environment variable, read once at the start by `wiring` or a command, and by nobody else.

An empty environment runs the embedded default. A wrong value stops the start and is named. The table in this room's README is
made from here. A secret may be given in a file: `KNCHAT_REDIS_PASSWORD_FILE` names one that holds `KNCHAT_REDIS_PASSWORD`.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import Malformed

_MOST_DIGITS = 18
# As browsers send them: CORS compares letter by letter.
_ORIGIN = re.compile(r"\*|https?://(?:[a-z0-9.\-]+|\[[0-9a-f:]+\])(?::(?!(?:80|443)$)[0-9]{1,5})?", re.ASCII)
_SOCKET_URL = re.compile(r"wss?://[^\s/?#]+/(?:[^\s?#]+/)?v1/socket", re.ASCII)
# Servers that listen everywhere are reached over the loopback of their family.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_KEYSPACE = re.compile(r"[a-z][a-z0-9_]{0,47}", re.ASCII)
_SHARE = re.compile(r"[01](\.[0-9]{1,9})?", re.ASCII)
_COLLECTOR = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?", re.ASCII)
_DATABASE = re.compile(r"postgresql://[^\s/?#:@]+@(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?/[^\s/?#]+", re.ASCII)
# Kafka's rule for a static member's name; every host name keeps it.
_NAME = re.compile(r"[A-Za-z0-9._\-]{1,249}", re.ASCII)
_PLACE = re.compile(r"(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}", re.ASCII)


def _setting(
    default: Any,
    unit: str,
    meaning: str,
    *,
    least: int | None = None,
    most: int | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
    variable: str = "",
) -> Any:
    metadata = {"unit": unit, "meaning": meaning, "least": least, "most": most, "choices": choices, "secret": secret, "variable": variable}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All static settings. A field `name` is read from `KNCHAT_NAME`."""

    data: Path = _setting(  # noqa: RUF009 - it returns a `field`, whose default is immutable
        Path(".run/data"), "folder", "embedded stores: log.db, data.db, and the signing key"
    )
    http_port: int = _setting(8080, "port", "where `dev` serves the HTTP functions; 0: any free one", least=0, most=65_535)
    gateway_port: int = _setting(8081, "port", "where the gateway listens; 0: any free one", least=0, most=65_535)
    host: str = _setting("127.0.0.1", "address", "what the servers bind to; 0.0.0.0 in containers")
    public_url: str = _setting("", "ws URL", "the gateway's whole URL for clients, {ordinal} is its number; empty: made from host and port")
    allowed_origins: tuple[str, ...] = _setting(
        (), "origins, comma", "browser origins allowed on the socket and by CORS; *: all; empty: own host"
    )
    event_keys: tuple[bytes, ...] = _setting(
        (), "base64, comma", "keys that sign events; the first signs, all (at most two) are accepted", secret=True
    )
    signing_key: str = _setting(
        "", "file", "Ed25519 private key (PEM) that signs tokens; empty: made in the data folder at the first start"
    )
    jwks: str = _setting("", "file or URL", "public keys that gateways and functions check tokens with; empty: those of the data folder")
    token_s: int = _setting(900, "s", "life of an access token", least=5, most=86_400)
    text_bytes: int = _setting(4_096, "bytes", "longest text of a message", least=1, most=32_768)
    send_per_minute: int = _setting(6_000, "1/min", "sends of one user before rate_limited", least=1)
    failed_logins_per_minute: int = _setting(20, "1/min", "failed log-ins of one user name before rate_limited", least=1)
    logins_per_minute: int = _setting(3_000, "1/min", "log-ins and registrations of one address before rate_limited", least=1)
    ping_s: int = _setting(30, "s", "heartbeat of idle sessions; closed 4002 after two without an answer", least=1, most=300)
    drain_s: int = _setting(5, "s", "what a stopping gateway gives its clients between `drain` and close 1012", least=0, most=300)
    publishes_in_flight: int = _setting(2, "events", "micro-batches a gateway has under way at once", least=1, most=16)
    ring_bytes: int = _setting(64 * 2**20, "bytes", "deliveries a gateway keeps to resume from, in all", least=2**20)
    ring_s: int = _setting(900, "s", "how long a gateway keeps deliveries to resume from", least=10)
    outbox_bytes: int = _setting(256 * 1024, "bytes", "what one slow session may have waiting before it is paused", least=131_072)
    sessions_per_user: int = _setting(20, "sessions", "more are closed with 4429", least=1)
    frames_per_second: int = _setting(500, "1/s", "frames of one session before it is closed with 4005", least=1)
    metrics: bool = _setting(True, "0 or 1", "serve /metrics, on the ports of gateways and functions")
    log_level: str = _setting("INFO", "level", "DEBUG, INFO, WARNING or ERROR", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    otlp_endpoint: str = _setting("", "URL", "where spans go, by OTLP over http, like http://collector:4318; empty: nowhere")
    trace_ratio: float = _setting(0.01, "0 to 1", "share of the traces beginning in this process whose spans are sent")

    log: str = _setting(
        "embedded",
        "choice",
        "the log: embedded; kafka; knative (appends by POST to K_SINK, reads from Kafka)",
        choices=("embedded", "kafka", "knative"),
    )
    kafka: tuple[str, ...] = _setting((), "host:port, comma", "brokers to begin with")
    kafka_security: str = _setting(
        "plaintext", "choice", "plaintext, ssl, sasl_plaintext or sasl_ssl", choices=("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
    )
    kafka_ca: str = _setting("", "file", "authorities (PEM) that the brokers' certificates are checked with; empty: the system's")
    kafka_user: str = _setting("", "name", "user of SASL (SCRAM-SHA-512)")
    kafka_password: str = _setting("", "secret", "its password", secret=True)
    kafka_replication: int = _setting(3, "copies", "replication of topics; acknowledged by one copy less; 1: development", least=1, most=9)
    delivery_partitions: int = _setting(
        12, "partitions", "of chat-deliveries and session-deliveries; at least 4 for each gateway ever planned", least=1, most=4_096
    )
    gateway_name: str = _setting("", "name", "this gateway, like gateway-0: its place in the group, and {ordinal}; empty: host name")
    sink: str = _setting("", "URL", "with log knative: where commands are posted; set by a SinkBinding", variable="K_SINK")
    sink_overrides: str = _setting("", "JSON", "extensions for what is posted; set by a SinkBinding", variable="K_CE_OVERRIDES")
    sink_ca: str = _setting("", "PEM", "authorities of an https sink; set by a SinkBinding; empty: the system's", variable="K_CA_CERTS")
    sink_queries: str = _setting("", "URL", "with log knative: where questions are posted")

    database: str = _setting(
        "",
        "URL",
        "accounts: postgresql://user@host:port/name (PostgreSQL, YugabyteDB); empty: data.db in the data folder",
    )
    database_password: str = _setting("", "secret", "password of the database's user", secret=True)
    database_ca: str = _setting("", "file", "authorities (PEM) that the database's certificate is checked with; empty: no TLS")
    chats: str = _setting("sql", "choice", "history: sql (the database above) or cassandra", choices=("sql", "cassandra"))
    cassandra: tuple[str, ...] = _setting((), "host:port, comma", "nodes to begin with")
    cassandra_keyspace: str = _setting("knchat", "name", "keyspace of messages and chat states")
    cassandra_datacenter: str = _setting("", "name", "the data centre to talk to; empty: that of the first node")
    cassandra_replication: int = _setting(3, "copies", "replication of a keyspace made by `kn-chat migrate`", least=1, most=9)
    cassandra_consistency: str = _setting(
        "LOCAL_QUORUM", "level", "of reads and writes", choices=("ONE", "LOCAL_ONE", "LOCAL_QUORUM", "QUORUM", "EACH_QUORUM", "ALL")
    )
    cassandra_user: str = _setting("", "name", "user; empty: none")
    cassandra_password: str = _setting("", "secret", "its password", secret=True)
    cassandra_ca: str = _setting("", "file", "authorities (PEM) that the nodes' certificates are checked with; empty: no TLS")
    redis: str = _setting(
        "", "URL", "the cache: redis://user@host:port/0, or rediss:// for TLS (Redis, Valkey); empty: in log.db and memory"
    )
    redis_password: str = _setting("", "secret", "its password", secret=True)
    redis_ca: str = _setting("", "file", "authorities (PEM) that its certificate is checked with; empty: the system's")
    store_timeout_s: int = _setting(5, "s", "patience with Cassandra and the database", least=1, most=60)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Settings of this environment. Raises Malformed naming the variable that is wrong, missing or unknown."""
        fields = {item.metadata["variable"] or f"KNCHAT_{item.name.upper()}": item for item in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for name, text in _given(environ, fields):
            values[fields[name].name] = _parse(name, text, fields[name])
        settings = cls(**values)
        settings._check()
        return settings

    def _check(self) -> None:
        """What one variable demands of another."""
        sasl = self.kafka_security.startswith("sasl")
        for needed, by, there in (
            ("KNCHAT_KAFKA", f"KNCHAT_LOG={self.log}", self.log == "embedded" or self.kafka),
            ("KNCHAT_KAFKA_USER", f"KNCHAT_KAFKA_SECURITY={self.kafka_security}", not sasl or self.kafka_user),
            (
                "KNCHAT_KAFKA_PASSWORD",
                f"KNCHAT_KAFKA_SECURITY={self.kafka_security}",
                not sasl or self.kafka_password,
            ),
            ("KNCHAT_CASSANDRA", f"KNCHAT_CHATS={self.chats}", self.chats == "sql" or self.cassandra),
            ("KNCHAT_CASSANDRA_PASSWORD", "KNCHAT_CASSANDRA_USER", not self.cassandra_user or self.cassandra_password),
        ):
            if not there:
                raise Malformed(f"{needed} is missing, which {by} asks for", field=needed)

    def url(self, scheme: str, port: int) -> str:
        """What this machine reaches a server of ours on this port by: scheme, host and port."""
        host = _LOOPBACK.get(self.host, self.host)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _given(environ: Mapping[str, str], fields: Mapping[str, dataclasses.Field[Any]]) -> Iterator[tuple[str, str]]:
    """Our variables and their texts, those that stand in files too."""
    for name, text in environ.items():
        if name in fields:
            yield name, text
        elif name.startswith("KNCHAT_"):
            item = fields.get(name.removesuffix("_FILE"))
            if item is None or not item.metadata["secret"]:
                raise Malformed(f"{name} is no setting; see the table in backends/README.md", field=name)
            if name.removesuffix("_FILE") in environ:
                raise Malformed(f"{name} and {name.removesuffix('_FILE')} are both set; one of them says the secret", field=name)
            yield name.removesuffix("_FILE"), _read(name, text).rstrip("\r\n")


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(f"{name}: {path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}", field=name) from error


def _parse(name: str, text: str, item: dataclasses.Field[Any]) -> Any:
    kind = item.type
    if kind == "int":
        return _number(name, text, item.metadata["least"], item.metadata["most"])
    if kind == "float":
        return _share(name, text)
    if kind == "bool":
        if text not in {"0", "1"}:
            raise Malformed(f"{name} must be 0 or 1", field=name)
        return text == "1"
    if not text and item.name in {"data", "host"}:
        raise Malformed(f"{name} must not be empty; without it: {item.default}", field=name)
    if kind == "Path":
        return Path(text)
    if kind == "tuple[str, ...]":
        return (_origins if item.name == "allowed_origins" else _places)(name, text)
    if kind == "tuple[bytes, ...]":
        return _keys(name, text)
    choices = item.metadata["choices"]
    if choices and text not in choices:
        raise Malformed(f"{name} must be one of {', '.join(choices)}", field=name)
    if item.metadata["unit"] == "file" and item.name.endswith("_ca") and text:
        _read(name, text)
    if item.name == "database" and text and not _DATABASE.fullmatch(text):
        raise Malformed(f"{name} must be like postgresql://user@host:5432/name; its password is KNCHAT_DATABASE_PASSWORD", field=name)
    if item.name == "cassandra_keyspace" and not _KEYSPACE.fullmatch(text):
        raise Malformed(f"{name} must be a letter, then up to 47 letters, digits or _, all small", field=name)
    if item.name == "gateway_name" and text and not _NAME.fullmatch(text):
        raise Malformed(f"{name} is made of letters, digits, dots, dashes and underscores, like gateway-0", field=name)
    if item.name == "public_url" and text and not _SOCKET_URL.fullmatch(text.replace("{ordinal}", "0")):
        raise Malformed(f"{name} must be a whole URL like wss://chat.example.org/v1/socket", field=name)
    if item.name == "otlp_endpoint" and text and not _COLLECTOR.fullmatch(text):
        raise Malformed(f"{name} must be the base URL of a collector, like http://collector:4318, without user and password", field=name)
    return text


def _number(name: str, text: str, least: int | None, most: int | None) -> int:
    bounds = f"{'any number' if least is None else least} to {'any' if most is None else most}"
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        raise Malformed(f"{name} must be a whole number, {bounds}", field=name)
    number = int(text)
    if (least is not None and number < least) or (most is not None and number > most):
        raise Malformed(f"{name} must be {bounds}", field=name)
    return number


def _share(name: str, text: str) -> float:
    if not _SHARE.fullmatch(text) or float(text) > 1:
        raise Malformed(f"{name} must be a number from 0 to 1, like 0.05", field=name)
    return float(text)


def _origins(name: str, text: str) -> tuple[str, ...]:
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise Malformed(f"{name}: {origin!r} is no origin as browsers send it, like https://app.example.org", field=name)
    return origins


def _places(name: str, text: str) -> tuple[str, ...]:
    places = tuple(part.strip() for part in text.split(",") if part.strip())
    for place in places:
        if not _PLACE.fullmatch(place):
            raise Malformed(f"{name}: {place!r} is no host:port", field=name)
    return places


def _keys(name: str, text: str) -> tuple[bytes, ...]:
    try:
        keys = tuple(base64.b64decode(part.strip(), validate=True) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise Malformed(f"{name} must be base64, comma between keys", field=name) from error
    if len(keys) > 2 or any(len(key) < 16 for key in keys):
        raise Malformed(f"{name} holds one or two keys of at least 16 bytes", field=name)
    return keys
