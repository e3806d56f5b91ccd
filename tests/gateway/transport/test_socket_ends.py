"""How a socket of the gateway ends, over real TCP: closes from either side, failing handlers, peers
that are slow or vanish.
"""

import asyncio
import logging
import tracemalloc

import pytest

from gateway.transport.interface import Limits
from tests.gateway.echo_server import LIMITS, Server, refusal
from tests.gateway.raw_socket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    RawSocket,
    Recorder,
    close_frame,
    frame,
)


@pytest.fixture
async def server():
    server = await Server().start()
    yield server
    await server.stop()


# Closing.


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 4000, 4999])
async def test_the_peers_close_is_answered_and_told(server, code):
    """The same code comes back, and the handler learns code and reason."""
    told, _ = await refusal(server, close_frame(code, "så är det"))

    assert told == (code, "så är det")


async def test_a_close_without_a_code_is_told_as_1005(server):
    """RFC 6455, 7.1.5; the answer is a normal close."""
    peer, handler = await server.connect()
    peer.send(frame(CLOSE))

    assert await peer.closing() == (1000, "")
    await handler.until("closed")
    assert handler.ends == [(1005, "")]


@pytest.mark.parametrize(
    "code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]
)
async def test_a_close_code_that_must_not_be_sent_is_1002(server, code):
    """Those that only an API may show, unassigned ones and those out of range."""
    told, _ = await refusal(server, close_frame(code))

    assert told[0] == 1002


async def test_a_close_of_one_byte_is_1002(server):
    """There is no half of a code."""
    told, _ = await refusal(server, frame(CLOSE, b"\x03"))

    assert told[0] == 1002


@pytest.mark.parametrize(
    "after", [close_frame(1001), frame(0x3), frame(TEXT, b"hi"), frame(TEXT, b"hi", masked=False)]
)
@pytest.mark.parametrize(
    ("sent", "answered", "told"),
    [(close_frame(4000, "bye"), 4000, 4000), (frame(CLOSE), 1000, 1005)],
)
async def test_what_follows_a_close_does_not_change_it(server, sent, answered, told, after):
    """Even in the same packet, and even when it breaks a rule."""
    peer, handler = await server.connect()
    peer.send(sent + after)
    code, reason = await peer.closing()
    await handler.until("closed")

    assert code == answered
    assert handler.ends == [(told, reason)]
    assert handler.messages == []


async def test_our_close_sends_code_and_reason_and_then_nothing(server):
    """Later calls do nothing, later frames are not delivered, and the end is told once, with our
    code.
    """
    peer, handler = await server.connect()
    handler.socket.close(4001, "moved")
    handler.socket.close(1011, "again")
    handler.socket.send(b"late", text=True)
    handler.socket.ping()
    peer.send(frame(TEXT, b"late"))

    assert await peer.closing() == (4001, "moved")
    await handler.until("closed")
    assert handler.ends == [(4001, "moved")]
    assert handler.messages == []
    assert handler.socket.buffered_bytes == 0


async def test_a_long_reason_is_cut_between_characters(server):
    """123 bytes fit, 41 of these characters with three bytes each."""
    peer, handler = await server.connect()
    handler.socket.close(4000, "x" + "€" * 100)

    assert await peer.closing() == (4000, "x" + "€" * 40)
    await handler.until("closed")


async def test_a_handler_may_close_while_it_is_told_of_a_frame(server):
    """The frames behind it, already read, are not delivered."""

    class Closes(Recorder):
        def on_message(self, payload, *, text):
            super().on_message(payload, text=text)
            self.socket.close(4400)

    peer, handler = await server.connect(Closes(echo=False))
    peer.send(frame(TEXT, b"one") + frame(TEXT, b"two"))

    assert await peer.closing() == (4400, "")
    await handler.until("closed")
    assert handler.messages == [(b"one", True)]


async def test_the_close_code_reaches_a_client_that_is_still_sending(server):
    """The server reads on for a while: a reset would destroy the close frame before the client has
    read it.
    """
    peer, handler = await server.connect(Recorder(echo=False))
    chunk = frame(BINARY, b"x" * 60_000)
    peer.send(chunk * 20)
    await handler.until("frame")
    handler.socket.close(4005, "too many frames")
    peer.send(chunk * 100)

    assert await peer.closing() == (4005, "too many frames")


@pytest.mark.parametrize("reads", [True, False])
async def test_a_peer_that_does_not_end_its_side_is_ended(reads):
    """After our close frame it has `linger_s`, whether it reads or not."""
    server = await Server().start(
        Limits(write_high_bytes=65_536, write_low_bytes=16_384, linger_s=0.05)
    )
    _, handler = await server.connect(Recorder(echo=False), receive_bytes=4096)
    while not reads and not handler.socket.congested:
        handler.socket.send(b"x" * 10_000, text=False)
    async with asyncio.timeout(1):
        await server.listener.close(1012)

    assert handler.ends == [(1012, "")]
    await server.stop()


@pytest.mark.parametrize("goes", [RawSocket.end, RawSocket.reset])
async def test_a_peer_that_vanishes_is_told_as_1006(server, goes):
    """A crash, or the end of its side without a close frame."""
    peer, handler = await server.connect()
    goes(peer)
    await handler.until("closed")

    assert handler.ends == [(1006, "")]
    handler.socket.send(b"late", text=True)
    handler.socket.close(1000)


async def test_a_peer_that_ended_its_side_and_does_not_read_is_ended():
    """What still waits for it is given up after `linger_s`; sending to it does nothing."""
    server = await Server().start(
        Limits(write_high_bytes=65_536, write_low_bytes=16_384, linger_s=0.05)
    )
    peer, handler = await server.connect(Recorder(echo=False), receive_bytes=4096)
    while not handler.socket.congested:
        handler.socket.send(b"x" * 10_000, text=False)
    peer.end()
    await handler.until("closed")
    async with asyncio.timeout(1):
        await server.listener.close()

    assert handler.ends == [(1006, "")]
    await server.stop()


# Handlers that fail.


@pytest.mark.parametrize("fails", ["opened", "frame", "heard", "writable"])
async def test_a_failing_handler_closes_its_own_socket_only(server, fails, caplog):
    """1011 for the peer, one traceback in the log, and the end is still told."""
    other, _ = await server.connect()
    peer, handler = await server.connect(Recorder(echo=False, fails=fails), receive_bytes=4096)
    if fails == "writable":
        while not handler.socket.congested:
            handler.socket.send(b"x" * 10_000, text=False)
    peer.send(frame(TEXT, b"hi") if fails == "frame" else frame(PONG))
    opcode, payload = await peer.frame()
    while opcode != CLOSE:
        opcode, payload = await peer.frame()
    await handler.until("closed")
    other.send(frame(TEXT, b"hi"))

    assert (opcode, payload) == (CLOSE, (1011).to_bytes(2))
    assert handler.ends == [(1011, "")]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert f"{fails} fails as told" in str(caplog.records[0].exc_info[1])
    assert await other.frame() == (TEXT, b"hi")


async def test_a_handler_that_fails_at_its_end_is_logged(server, caplog):
    """There is nothing left to close."""
    peer, handler = await server.connect(Recorder(fails="closed"))
    peer.send(close_frame(1000))

    assert await peer.closing() == (1000, "")
    await handler.until("closed")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


# Signs of life, and slow peers.


async def test_a_ping_is_answered_and_counts_as_life(server):
    """The payload comes back; the handler hears of it as of a pong."""
    peer, handler = await server.connect()
    peer.send(frame(PING, b"x" * 125))

    assert await peer.frame() == (PONG, b"x" * 125)
    await handler.until("heard")


async def test_our_ping_reaches_the_peer_and_its_pong_us(server):
    """Heartbeats are the caller's business; this is all they need."""
    peer, handler = await server.connect()
    handler.socket.ping()
    assert await peer.frame() == (PING, b"")
    peer.send(frame(PONG))

    await handler.until("heard")
    assert handler.messages == []


async def test_a_slow_reader_congests_its_socket_until_it_has_read(server):
    """What waits is counted; every byte arrives, in order and whole, and then the handler is told
    once.
    """
    peer, handler = await server.connect(Recorder(echo=False), receive_bytes=4096)
    sent = []
    while not handler.socket.congested:
        # On both sides of the size at which payloads take another way.
        sent.append(len(sent).to_bytes(4) * (10 if len(sent) % 3 else 4000 + len(sent)))
        handler.socket.send(sent[-1], text=False)
    waiting = handler.socket.buffered_bytes
    received = [await peer.frame() for _ in sent]
    await handler.until("writable")

    assert LIMITS.write_high_bytes < waiting < LIMITS.write_high_bytes + 40_000
    # A peer costs no more than this in the kernel, and is noticed after it.
    assert sum(map(len, sent)) < 1_000_000
    assert received == [(BINARY, payload) for payload in sent]
    assert not handler.socket.congested


async def test_a_peer_that_pings_and_does_not_read_gets_no_more_pongs(server):
    """Once its socket is congested its pings cost nothing; they still count as life."""
    peer, handler = await server.connect(Recorder(echo=False), receive_bytes=4096)
    while not handler.socket.congested:
        handler.socket.send(b"x" * 10_000, text=False)
    waiting = handler.socket.buffered_bytes
    peer.send(frame(PING, b"x" * 125) * 10_000 + frame(TEXT, b"read them all"))
    await handler.until("frame")

    assert handler.socket.buffered_bytes <= waiting


async def test_a_flood_of_tiny_frames_does_not_grow_the_read_buffer(server):
    """Memory of a connection follows its largest frame, not the speed of the peer."""
    peer, _ = await server.connect()
    flood = frame(PONG) * 100_000
    tracemalloc.start()
    peer.send(flood)
    peer.send(frame(TEXT, b"through"))
    assert await peer.frame() == (TEXT, b"through")
    snapshot = tracemalloc.take_snapshot()
    tracemalloc.stop()

    largest = max(trace.size for trace in snapshot.traces)
    assert largest < 400_000
