"""RFC 6455 as the gateway's socket keeps it, over real TCP and byte by byte; and what bad, slow and vanishing peers cost."""

import asyncio
import logging
import tracemalloc

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sockets import Accept, Limits, Request, Response
from gateway.websocket import Listener, listen
from tests.gateway.raw_socket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PATIENCE_S,
    PING,
    PONG,
    TEXT,
    RawSocket,
    Recorder,
    close_frame,
    fragments,
    frame,
    header,
    request,
)

LIMIT = 65_536
# Small marks, so that a peer that does not read is noticed after a few hundred KiB.
LIMITS = Limits(frame_bytes=LIMIT, write_high_bytes=65_536, write_low_bytes=16_384, linger_s=1)


class Server:
    """A listener whose sockets get the handlers that a test has put ready, in order, and echoing ones after that."""

    def __init__(self) -> None:
        self.listener: Listener
        self.next: list[Recorder] = []
        self.handlers: list[Recorder] = []
        self._peers: list[RawSocket] = []

    async def start(self, limits: Limits = LIMITS) -> "Server":
        self.listener = await listen("127.0.0.1", 0, admit=self._admit, http=self._http, limits=limits)
        return self

    async def connect(self, handler: Recorder | None = None, *, receive_bytes: int | None = None) -> tuple[RawSocket, Recorder]:
        """A peer and the handler it has got."""
        if handler is not None:
            self.next.append(handler)
        self._peers.append(await RawSocket.connect(self.listener.port, receive_bytes=receive_bytes))
        return self._peers[-1], self.handlers[-1]

    async def stop(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(self.listener.close(), *(peer.hang_up() for peer in self._peers))

    def _admit(self, _: Request) -> Accept:
        self.handlers.append(self.next.pop(0) if self.next else Recorder())
        return Accept(self.handlers[-1], None)

    async def _http(self, _: Request) -> Response:
        return Response(404, b"")


@pytest.fixture
async def server():
    server = await Server().start()
    yield server
    await server.stop()


async def refusal(server: Server, data: bytes) -> tuple[tuple[int, str], Recorder]:
    """The close that `data` leads to, and the handler, which has been told the same; another socket goes on as before."""
    other, _ = await server.connect()
    peer, handler = await server.connect()
    peer.send(data)
    told = await peer.closing()
    await handler.until("closed")
    assert handler.ends == [told]
    other.send(frame(TEXT, b"still here"))
    assert await other.frame() == (TEXT, b"still here")
    return told, handler


# Messages.


@pytest.mark.parametrize("size", [0, 1, 125, 126, 8192, 8193, 65_535, LIMIT])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_of_any_allowed_size_arrives_and_leaves(server, opcode, size):
    """All three lengths of the header, both ways, up to the limit."""
    peer, handler = await server.connect()
    peer.send(frame(opcode, b"x" * size))

    assert await peer.frame() == (opcode, b"x" * size)
    assert handler.messages == [(b"x" * size, opcode == TEXT)]


async def test_fragments_arrive_as_one_message(server):
    """Control frames may come in between (RFC 6455, 5.4), and a character may be cut."""
    peer, handler = await server.connect()
    grin = "😀".encode()
    peer.send(frame(TEXT, grin[:2], fin=False) + frame(PING, b"?") + frame(CONTINUATION, fin=False) + frame(CONTINUATION, grin[2:]))

    assert await peer.frame() == (PONG, b"?")
    assert await peer.frame() == (TEXT, grin)
    assert handler.messages == [(grin, True)]


async def test_fragments_up_to_the_limit_pass(server):
    """The limit is one of the whole message."""
    peer, _ = await server.connect()
    peer.send(fragments(BINARY, [b"x" * 30_000, b"x" * 30_000, b"x" * (LIMIT - 60_000)]))

    assert await peer.frame() == (BINARY, b"x" * LIMIT)


@pytest.mark.parametrize(
    "data",
    [
        frame(BINARY, b"x" * (LIMIT + 1)),
        header(BINARY, LIMIT + 1),
        header(TEXT, 2**62),
        frame(PING) + frame(BINARY, b"x" * 5_000_000),
        fragments(BINARY, [b"x" * LIMIT, b"x"]),
        fragments(BINARY, [b"x" * 30_000] * 3),
        fragments(BINARY, [b"x", b"x" * (LIMIT + 1)]),
    ],
)
async def test_a_message_over_the_limit_is_1009_and_never_delivered(server, data):
    """Told by the header alone, or by the sum of the fragments; the code arrives although the client is still sending."""
    other, _ = await server.connect()
    peer, handler = await server.connect()
    peer.send(data)
    opcode, payload = await peer.frame()
    if opcode == PONG:
        opcode, payload = await peer.frame()

    assert (opcode, payload[:2]) == (CLOSE, (1009).to_bytes(2))
    await handler.until("closed")
    assert handler.messages == []
    assert [code for code, _ in handler.ends] == [1009]
    other.send(frame(TEXT, b"still here"))
    assert await other.frame() == (TEXT, b"still here")


async def test_tiny_fragments_cost_no_more_than_their_bytes(server):
    """20,000 empty fragments are no reason to hold 20,000 objects."""
    peer, _ = await server.connect()
    tracemalloc.start()
    peer.send(frame(TEXT, b"a", fin=False))
    empty = frame(CONTINUATION, fin=False) * 1000
    for _ in range(20):
        peer.send(empty)
        peer.send(frame(PING))
        assert (await peer.frame())[0] == PONG
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    peer.send(frame(CONTINUATION, b"b"))

    assert await peer.frame() == (TEXT, b"ab")
    assert held < 500_000


# Broken rules.


@pytest.mark.parametrize("reserved", [1, 2, 4, 7])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE])
async def test_reserved_bits_are_1002(server, reserved, opcode):
    """No extension is ever agreed on, so none may be used (RFC 6455, 5.2)."""
    told, handler = await refusal(server, frame(opcode, reserved=reserved))

    assert told[0] == 1002
    assert handler.messages == []


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"hi", masked=False),
        frame(CLOSE, masked=False),
        frame(0x3),
        frame(0xB),
        frame(PING, fin=False),
        frame(CLOSE, fin=False),
        frame(PING, b"x" * 126),
        frame(CONTINUATION, b"of nothing"),
        frame(CONTINUATION, b"of nothing", fin=False),
        frame(TEXT, b"one", fin=False) + frame(TEXT, b"two"),
        frame(TEXT, b"one", fin=False) + frame(BINARY, b"two", fin=False),
        b"\x81\xfe\x00\x01abcdx",
        b"\x81\xff" + (1).to_bytes(8) + b"abcdx",
        b"\x81\xff" + (2**63).to_bytes(8),
    ],
)
async def test_a_frame_against_the_rules_is_1002(server, data):
    """Unmasked, unknown, badly fragmented, long control frames, and lengths that are not the shortest."""
    told, handler = await refusal(server, data)

    assert told[0] == 1002
    assert handler.messages == []


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, b"\xff"),
        frame(TEXT, b"\xed\xa0\x80"),
        frame(TEXT, b"\xc0\xaf"),
        frame(TEXT, "é".encode()[:1]),
        fragments(TEXT, ["é".encode()[:1], b"x"]),
        frame(CLOSE, (1000).to_bytes(2) + b"\xff"),
    ],
)
async def test_text_that_is_not_utf_8_is_1007(server, data):
    """Surrogates, overlong forms, cut characters; over fragments as well, and in the reason of a close."""
    told, handler = await refusal(server, data)

    assert told[0] == 1007
    assert handler.messages == []


async def test_binary_need_not_be_utf_8(server):
    """Only text is checked."""
    peer, _ = await server.connect()
    peer.send(frame(BINARY, b"\xff"))

    assert await peer.frame() == (BINARY, b"\xff")


async def test_nothing_after_a_broken_rule_is_delivered(server):
    """What came before in another packet was, what comes after is dropped unread."""
    peer, handler = await server.connect()
    peer.send(frame(TEXT, b"before"))
    await peer.frame()
    peer.send(frame(TEXT, b"bad", reserved=4) + frame(TEXT, b"after") + close_frame(1000))
    peer.send(frame(TEXT, b"after"))

    assert (await peer.closing())[0] == 1002
    await handler.until("closed")
    assert handler.messages == [(b"before", True)]


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


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])
async def test_a_close_code_that_must_not_be_sent_is_1002(server, code):
    """Those that only an API may show, unassigned ones and those out of range."""
    told, _ = await refusal(server, close_frame(code))

    assert told[0] == 1002


async def test_a_close_of_one_byte_is_1002(server):
    """There is no half of a code."""
    told, _ = await refusal(server, frame(CLOSE, b"\x03"))

    assert told[0] == 1002


@pytest.mark.parametrize("after", [close_frame(1001), frame(0x3), frame(TEXT, b"hi"), frame(TEXT, b"hi", masked=False)])
@pytest.mark.parametrize(("sent", "answered", "told"), [(close_frame(4000, "bye"), 4000, 4000), (frame(CLOSE), 1000, 1005)])
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
    """Later calls do nothing, later frames are not delivered, and the end is told once, with our code."""
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
        def frame(self, payload, *, text):
            super().frame(payload, text=text)
            self.socket.close(4400)

    peer, handler = await server.connect(Closes(echo=False))
    peer.send(frame(TEXT, b"one") + frame(TEXT, b"two"))

    assert await peer.closing() == (4400, "")
    await handler.until("closed")
    assert handler.messages == [(b"one", True)]


async def test_the_close_code_reaches_a_client_that_is_still_sending(server):
    """The server reads on for a while: a reset would destroy the close frame before the client has read it."""
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
    server = await Server().start(Limits(write_high_bytes=65_536, write_low_bytes=16_384, linger_s=0.05))
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
    server = await Server().start(Limits(write_high_bytes=65_536, write_low_bytes=16_384, linger_s=0.05))
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


@pytest.mark.parametrize("fails", ["opened", "frame", "pong", "writable"])
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
    await handler.until("pong")


async def test_our_ping_reaches_the_peer_and_its_pong_us(server):
    """Heartbeats are the caller's business; this is all they need."""
    peer, handler = await server.connect()
    handler.socket.ping()
    assert await peer.frame() == (PING, b"")
    peer.send(frame(PONG))

    await handler.until("pong")
    assert handler.messages == []


async def test_a_slow_reader_congests_its_socket_until_it_has_read(server):
    """What waits is counted; every byte arrives, in order and whole, and then the handler is told once."""
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


# The listener.


async def test_a_listener_that_stopped_accepting_keeps_its_sockets(server):
    """The first step of a drain: newcomers are refused, those inside go on."""
    peer, _ = await server.connect()
    server.listener.stop_accepting()
    with pytest.raises(ConnectionRefusedError):
        await RawSocket.dial(server.listener.port)
    peer.send(frame(TEXT, b"hi"))

    assert await peer.frame() == (TEXT, b"hi")


async def test_closing_the_listener_closes_all_sockets_and_waits(server):
    """Every client gets the code, half-made connections are dropped, and at the end nobody is left."""
    undecided = await RawSocket.dial(server.listener.port)
    undecided.send(request()[:-2])
    peers = [await server.connect() for _ in range(3)]
    told = asyncio.gather(*(peer.closing() for peer, _ in peers))
    await server.listener.close(1012, "restart")

    assert await told == [(1012, "restart")] * 3
    assert [handler.ends for _, handler in peers] == [[(1012, "restart")]] * 3
    assert await undecided.rest() == b""
    await undecided.hang_up()


# Any bytes at all.

FRAME = st.builds(frame, st.integers(0, 15), st.binary(max_size=130), fin=st.booleans())
MESSAGE = st.tuples(st.sampled_from([TEXT, BINARY]), st.lists(st.text(max_size=40).map(str.encode), min_size=1, max_size=5))


@settings(max_examples=60, deadline=None)
@given(messages=st.lists(MESSAGE, max_size=6), cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_messages_arrive_however_they_are_cut(messages, cuts):
    """Fragments and packets may fall anywhere; the messages are the same."""

    async def run():
        server = await Server().start()
        peer, handler = await server.connect(Recorder(echo=False))
        stream = b"".join(fragments(opcode, parts) for opcode, parts in messages) + close_frame(1000)
        while stream:
            for size in cuts:
                peer.send(stream[:size])
                stream = stream[size:]
                await asyncio.sleep(0)  # lets the server read this packet alone
        assert await peer.closing() == (1000, "")
        await server.stop()
        assert handler.messages == [(b"".join(parts), opcode == TEXT) for opcode, parts in messages]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=300) | st.lists(FRAME, max_size=8).map(b"".join))
def test_no_bytes_break_anything_but_their_own_socket(data):
    """Whatever comes, the end is told exactly once, with a code, and another socket goes on."""

    async def run():
        server = await Server().start()
        other, _ = await server.connect()
        peer, handler = await server.connect()
        peer.send(data)
        peer.end()
        await peer.rest()
        await handler.until("closed")
        other.send(frame(TEXT, b"still here"))
        assert await other.frame() == (TEXT, b"still here")
        await server.stop()
        assert len(handler.ends) == 1
        assert handler.ends[0][0] >= 1000

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
