"""The HTTP server of `dev` with hostile clients: what a connection may cost, and that others do not
notice.
"""

import asyncio
import json
import socket

import pytest
import uvloop
from starlette.responses import PlainTextResponse

from functions.runtime.http_protocol import BoundedHttpProtocol
from knchat.develop import serving

TIMEOUT_S = 10
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
SHORT_S = 0.1


class ShortRequests(BoundedHttpProtocol):
    """Waits shortly for the rest of a request."""

    request_timeout_s = SHORT_S


class Short(ShortRequests):
    """And for the first byte."""

    idle_timeout_s = SHORT_S


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


async def app(scope, receive, send):
    """Takes the body, and says how long it was."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await PlainTextResponse(str(size))(scope, receive, send)


@pytest.fixture
def protocol():
    """What a connection of the server is: tests may give another one."""
    return BoundedHttpProtocol


@pytest.fixture
async def connect(protocol):
    """Connections to a server of its own."""
    listener = serving.listen("127.0.0.1", 0, option="--http-port")
    server = serving.HttpServer(app, listener, stop_s=1, protocol=protocol)
    running = asyncio.create_task(server.run_until_stopped())
    await server.up.wait()
    made = []

    async def to_server():
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
        made.append(writer)
        return reader, writer

    yield to_server
    for writer in made:
        writer.transport.abort()
    server.stop()
    await running
    listener.close()


async def rest(reader):
    """All until the server ends the connection."""
    async with asyncio.timeout(TIMEOUT_S):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def answer(reader):
    """The body of one answer on a connection that stays."""
    async with asyncio.timeout(TIMEOUT_S):
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.startswith(b"content-length")
        )
        return await reader.readexactly(size)


@pytest.mark.parametrize("begin", [GET + b"X: ", GET, b"GET /", b"\r\n"])
async def test_an_endless_head(connect, begin):
    """One header, many, a path or empty lines without end: 413 or nothing, and the connection ends;
    memory stays bounded.
    """
    _, writer = await connect()
    more = {GET: b"a: b\r\n" * 4_000, b"\r\n": b"\r\n" * 12_000}.get(begin, b"a" * 24_000)
    writer.write(begin)

    async def send():
        for _ in range(500):
            writer.write(more)
            await asyncio.wait_for(writer.drain(), TIMEOUT_S)

    with pytest.raises(ConnectionError):
        await send()


async def test_what_is_no_http(connect):
    """The one shape that all errors have, whichever layer made them, and nothing in the log."""
    reader, writer = await connect()
    writer.write(b"FROB / HTTP/1.1\r\n\r\n")

    head, _, body = (await rest(reader)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body) == {
        "code": "malformed",
        "message": "Invalid HTTP request received",
        "details": {},
    }


@pytest.mark.parametrize("protocol", [Short])
@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"GET /",
        GET,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1",
        GET + b"\r\n\r\n",
        GET + b"\r\nGET /",
    ],
)
async def test_a_request_that_does_not_become_whole(connect, begin):
    """However slowly it goes on: the connection ends, also after a request that was whole."""
    reader, writer = await connect()
    writer.write(begin)

    async def drip():
        while True:
            await asyncio.sleep(SHORT_S / 4)
            writer.write(b"\r\n" if begin.endswith(b"\r\n\r\n") else b"x")

    dripping = asyncio.create_task(drip())
    heard = await rest(reader)
    dripping.cancel()

    assert heard.count(b"HTTP/1.1 200") == begin.count(GET + b"\r\n")


@pytest.mark.parametrize("protocol", [ShortRequests])
async def test_whole_requests_have_no_deadline(connect):
    """A connection that waits between its requests stays, and so do those behind each other in one
    packet.
    """
    reader, writer = await connect()
    writer.write((GET + b"\r\n") * 5_000)
    for _ in range(5_000):
        assert await answer(reader) == b"0"
    await asyncio.sleep(2 * SHORT_S)  # the thing waited for is that nothing happens

    body = b"b" * 200_000
    writer.write(
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + body + GET + b"\r\n"
    )
    assert await answer(reader) == b"200000"
    assert await answer(reader) == b"0"


async def test_the_end_of_a_large_body_is_no_head(connect):
    """What comes in one piece at the end of a body is not counted as the beginning of the next
    request.
    """
    reader, writer = await connect()
    # The first one widens the line, so that the second body comes in one piece.
    for size in (
        4_000_000,
        120_000,
    ):
        writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
            % size
        )
        assert (
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT_S)
            == b"HTTP/1.1 100 Continue\r\n\r\n"
        )
        writer.write(b"b" * size)

        assert await answer(reader) == b"%d" % size


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has it")
def test_a_peer_that_takes_nothing_is_given_up():
    """The kernel ends the connection of a peer that leaves its answer unread."""
    with (
        serving.listen("127.0.0.1", 0, option="--http-port") as listener,
        socket.create_connection(listener.getsockname()),
    ):
        accepted, _ = listener.accept()
        with accepted:
            assert (
                accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
                == serving.UNREAD_S * 1_000
            )
