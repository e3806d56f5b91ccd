"""A stand-in for the receiver of Knative's KafkaSinks, over any log of ours.

`kn-chat dev --real --sink` serves it before Kafka (`knchat.develop.sink`), the tests of the Knative
log in their own process. It answers and stores as the measured receiver does; `Faults` are what
that one does when its broker fails. Not imitated: tracestate and baggage, which no port of ours
takes, specversion 0.3, and records between 512 KiB and 1 MiB, which this one refuses like larger
ones. Production has the real one.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Final

from backends.log import LogProducer, ProducerRecord
from schemas.cloudevents import Event, from_kafka
from schemas.errors import Malformed, Unavailable
from schemas.topics import TOPICS

MAX_BYTES: Final = 1 << 20
MAX_SHUFFLE_S: Final = 0.02

_PROBES: Final = {"/healthz", "/readyz"}
_TRAILING_ZEROS: Final = re.compile(r"(\.\d*?)0+(?=[Zz+-])")
_NO_URI: Final = re.compile(r"[\s\"<>\\^`{|}]")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


@dataclass(kw_only=True)
class Faults:
    """What the receiver does to every `every`-th event that it would take; all may be changed while
    it serves.
    """

    every: int = 1
    hang_s: float = 0.0
    """Waits before it stores, as with a broker that is paused."""
    copies: bool = False
    """Stores each twice, and those that come together in any order, as its producer does around a
    broker's pause: answered 202.
    """
    status: int = 202
    """Stores, and then answers this: 503 is what a producer says that has given up a moment too
    early.
    """
    silent: bool = False
    """Stores, and never answers."""
    max_bytes: int = MAX_BYTES
    """Larger bodies are answered 413, as by a proxy before it, whatever `every` says."""


class Receiver:
    """An ASGI app. `appends` must not sign: a forged event would become a true one here."""

    def __init__(self, appends: LogProducer, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.taken = 0
        """Events that were valid, with or without a fault."""
        self._appends = appends

    async def __call__(
        self, scope: Message, receive: Receive, send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Answers one request."""
        status = await self._status(scope, receive)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-length", b"0")],
            }
        )
        await send({"type": "http.response.body", "body": b""})

    async def _status(self, scope: Message, receive: Receive) -> int:
        if scope["method"] == "GET" and scope["path"] in _PROBES:
            return 200  # whatever the broker does
        if scope["method"] != "POST":
            return 405
        match scope["path"].rstrip("/").split("/"):
            case ["", _namespace, topic] if topic in TOPICS:
                pass
            case _:
                return 404
        body = await _body(receive)
        if body is None:
            return 503  # always, though it looks as if it would pass
        if len(body) > self.faults.max_bytes:
            return 413
        try:
            event = received(scope["headers"], body)
        except Malformed:
            return 400
        self.taken += 1
        faults = self.faults if self.taken % self.faults.every == 0 else Faults()
        await asyncio.sleep(
            # No secret.
            faults.hang_s + (random.uniform(0, MAX_SHUFFLE_S) if faults.copies else 0)  # noqa: S311
        )
        try:
            for _ in range(1 + faults.copies):
                await self._appends.append([ProducerRecord(topic, event)])
        except (Malformed, Unavailable):
            return 503
        if faults.silent:
            await asyncio.Event().wait()
        return faults.status


def received(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Event:
    """The event of a request, as the receiver writes it.

    Raises Malformed where that one says 400.
    """
    # Its bytes are read as Latin-1, and nothing is percent-decoded.
    texts = [
        (name.decode("latin-1").lower(), value.decode("latin-1").encode())
        for name, value in headers
    ]
    named = [(f"ce_{name[3:]}" if name.startswith("ce-") else name, value) for name, value in texts]
    event = from_kafka(
        [
            (name, value)
            for name, value in named
            if name.startswith("ce_") or name in {"content-type", "traceparent"}
        ],
        body,
    )
    if _NO_URI.search(event.source):
        raise Malformed("the source is no URI", field="source")
    time = (
        None
        if event.time is None
        else _TRAILING_ZEROS.sub(lambda match: match[1].rstrip("."), event.time).replace(
            "+00:00", "Z"
        )
    )
    trace = event.traceparent
    if trace is not None and len(trace) == 55:
        trace = f"{trace[:36]}{random.getrandbits(64):016x}{trace[52:]}"  # a span of its own
    return replace(event, time=time, traceparent=trace)


async def _body(receive: Receive) -> bytes | None:
    """None: there is more of it than a record holds."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size >= MAX_BYTES:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)
