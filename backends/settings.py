"""Static settings: every `KNCHAT_*` environment variable, read once at the start by `wiring` or a command, and by nobody else.

An empty environment runs the embedded default. A wrong value stops the start and is named. The table in this room's README is
made from here.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import re
from collections.abc import Mapping
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


def _setting(default: Any, unit: str, meaning: str, *, least: int | None = None, most: int | None = None) -> Any:
    return field(default=default, metadata={"unit": unit, "meaning": meaning, "least": least, "most": most})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All static settings. A field `name` is read from `KNCHAT_NAME`."""

    data: Path = _setting(  # noqa: RUF009 - it returns a `field`, whose default is immutable
        Path(".run/data"), "folder", "embedded stores: log.db, data.db, and the signing key"
    )
    http_port: int = _setting(8080, "port", "where `dev` serves the HTTP functions; 0: any free one", least=0, most=65_535)
    gateway_port: int = _setting(8081, "port", "where the gateway listens; 0: any free one", least=0, most=65_535)
    host: str = _setting("127.0.0.1", "address", "what the servers bind to; 0.0.0.0 in containers")
    public_url: str = _setting("", "ws URL", "the gateway's whole URL as clients reach it; empty: made from host and port")
    allowed_origins: tuple[str, ...] = _setting(
        (), "origins, comma", "browser origins allowed on the socket and by CORS; *: all; empty: own host"
    )
    event_keys: tuple[bytes, ...] = _setting((), "base64, comma", "keys that sign events; the first signs, all (at most two) are accepted")
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
    metrics: bool = _setting(True, "0 or 1", "serve /metrics on the gateway's port")
    log_level: str = _setting("INFO", "level", "DEBUG, INFO, WARNING or ERROR")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Settings of this environment. Raises Malformed naming the variable that is wrong or unknown."""
        values: dict[str, Any] = {}
        fields = {f"KNCHAT_{item.name.upper()}": item for item in dataclasses.fields(cls)}
        for name, text in environ.items():
            if name.startswith("KNCHAT_"):
                if name not in fields:
                    raise Malformed(f"{name} is no setting; see the table in backends/README.md", field=name)
                values[fields[name].name] = _parse(name, text, fields[name])
        return cls(**values)

    def url(self, scheme: str, port: int) -> str:
        """What this machine reaches a server of ours on this port by: scheme, host and port."""
        host = _LOOPBACK.get(self.host, self.host)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _parse(name: str, text: str, item: dataclasses.Field[Any]) -> Any:
    kind = item.type
    if kind == "int":
        return _number(name, text, item.metadata["least"], item.metadata["most"])
    if kind == "bool":
        if text not in {"0", "1"}:
            raise Malformed(f"{name} must be 0 or 1", field=name)
        return text == "1"
    if not text and item.name in {"data", "host"}:
        raise Malformed(f"{name} must not be empty; without it: {item.default}", field=name)
    if kind == "Path":
        return Path(text)
    if kind == "tuple[str, ...]":
        return _origins(name, text)
    if kind == "tuple[bytes, ...]":
        return _keys(name, text)
    if item.name == "log_level" and text not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise Malformed(f"{name} must be DEBUG, INFO, WARNING or ERROR", field=name)
    if item.name == "public_url" and text and not _SOCKET_URL.fullmatch(text):
        raise Malformed(f"{name} must be a whole URL like wss://chat.example.org/v1/socket", field=name)
    return text


def _number(name: str, text: str, least: int | None, most: int | None) -> int:
    bounds = f"{'any number' if least is None else least} to {'any' if most is None else most}"
    if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS:
        raise Malformed(f"{name} must be a whole number, {bounds}", field=name)
    number = int(text)
    if (least is not None and number < least) or (most is not None and number > most):
        raise Malformed(f"{name} must be {bounds}", field=name)
    return number


def _origins(name: str, text: str) -> tuple[str, ...]:
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise Malformed(f"{name}: {origin!r} is no origin as browsers send it, like https://app.example.org", field=name)
    return origins


def _keys(name: str, text: str) -> tuple[bytes, ...]:
    try:
        keys = tuple(base64.b64decode(part.strip(), validate=True) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise Malformed(f"{name} must be base64, comma between keys", field=name) from error
    if len(keys) > 2 or any(len(key) < 16 for key in keys):
        raise Malformed(f"{name} holds one or two keys of at least 16 bytes", field=name)
    return keys
