"""The end of a gateway: what is said, confirmed and waited for before it."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import websockets

from gateway.sessions.timers import TICK_S
from schemas.topics import COMMANDS
from tests.gateway.faults import broken
from tests.gateway.people import (
    ANN,
    BEN,
    CHAT,
    SEND,
    Person,
    appended,
)


async def test_drain(start, backends, token):
    """`drain`, then the socket stays usable; what is sent is acknowledged; then 1012, which
    arrives.

    No new client is let in.
    """
    gateway = await start(drain_s=1)
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()
    waiting = Person(BEN, "phone", gateway, backends)
    await waiting.open()

    stopping = asyncio.create_task(gateway.drain_and_stop())
    drain = await ann.hear("drain")
    ok = await ann.ask(SEND)
    await waiting.say({"type": "hello", "token": token(BEN), "device": "phone"})

    assert 0 <= drain["reconnect_after_ms"] <= 1_000
    assert ok["type"] == "ok"
    assert await waiting.ended() == 4006
    late = Person(BEN, "phone", gateway, backends)
    await late.connect()
    assert (late.welcome, late.socket.close_code) == (None, 4006)
    assert await ann.ended() == 1012
    await stopping
    with pytest.raises(OSError, match="refused"):
        await websockets.connect(gateway.url)
    assert await appended(backends, COMMANDS) == 1


async def test_a_stop_waits_until_the_group_is_left(start, backends, monkeypatch):
    """Also when the last client leaves at once, and so the stop comes in the middle of it: the
    others take over without a pause.
    """
    left = asyncio.Event()
    share = backends.reads.join

    @asynccontextmanager
    async def slowly(*args, **kwargs):
        """Leaving a group of Kafka takes a poll and a request."""
        async with share(*args, **kwargs) as sharing:
            try:
                yield sharing
            finally:
                await asyncio.sleep(3 * TICK_S)
                left.set()

    monkeypatch.setattr(backends.reads, "join", slowly)
    gateway = await start(drain_s=10)
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()

    stopping = asyncio.create_task(gateway.drain_and_stop())
    await ann.hear("drain")
    await ann.leave()
    await stopping

    assert left.is_set()


async def test_a_mark_on_hold_is_published_before_the_end(start, backends):
    """Its `ok` comes before the close."""
    gateway = await start()
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()
    await ann.say({"type": "mark", "id": 1, "chat": CHAT, "read": "5"}, {"type": "ping", "id": 2})
    await ann.hear("pong")

    await gateway.drain_and_stop()

    assert (await ann.hear("ok"))["re"] == 1
    assert await appended(backends, COMMANDS) == 1


async def test_an_unavailable_log_does_not_hold_up_the_end(start, backends, settings, timing):
    """After a while the gateway stops anyway, and nothing that was not
    confirmed is acknowledged.
    """
    gateway = await start(timing=replace(timing, flush_timeout_s=0.2))
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()
    await ann.ask(SEND)
    with broken(settings.data, "records"):
        await ann.say(
            {**SEND, "id": 2, "key": "k2"},
            {"type": "mark", "id": 3, "chat": CHAT, "read": "5"},
            {"type": "ping", "id": 4},
        )
        await ann.hear("pong")
        await gateway.drain_and_stop()

    assert await ann.hear("ok") is None
    assert ann.socket.close_code == 1012


async def test_a_drain_without_sessions_is_over_at_once(start):
    """There is nothing to wait for."""
    gateway = await start(drain_s=60)
    began = time.monotonic()

    await gateway.drain_and_stop()

    assert time.monotonic() - began < 5
