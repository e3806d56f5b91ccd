"""RFC 6455 as the gateway's socket keeps it, over real TCP and byte by byte."""

import asyncio
import tracemalloc

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway.echo_server import LIMIT, Server, refusal
from tests.gateway.raw_socket import (
    BINARY,
    CLOSE,
    CONTINUATION,
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


@pytest.fixture
async def server():
    server = await Server().start()
    yield server
    await server.stop()


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
    peer.send(
        frame(TEXT, grin[:2], fin=False)
        + frame(PING, b"?")
        + frame(CONTINUATION, fin=False)
        + frame(CONTINUATION, grin[2:])
    )

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
    """Told by the header alone, or by the sum of the fragments; the code arrives although the
    client is still sending.
    """
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
    """Unmasked, unknown, badly fragmented, long control frames, and lengths that are not the
    shortest.
    """
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
    """Surrogates, overlong forms, cut characters; over fragments as well, and in the reason of a
    close.
    """
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
    """Every client gets the code, half-made connections are dropped, and at the
    end none is left.
    """
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
MESSAGE = st.tuples(
    st.sampled_from([TEXT, BINARY]),
    st.lists(st.text(max_size=40).map(str.encode), min_size=1, max_size=5),
)


@settings(max_examples=60, deadline=None)
@given(
    messages=st.lists(MESSAGE, max_size=6),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_messages_arrive_however_they_are_cut(messages, cuts):
    """Fragments and packets may fall anywhere; the messages are the same."""

    async def run():
        server = await Server().start()
        peer, handler = await server.connect(Recorder(echo=False))
        stream = b"".join(fragments(opcode, parts) for opcode, parts in messages) + close_frame(
            1000
        )
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
