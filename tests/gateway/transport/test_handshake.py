"""What the gateway's port answers to a first request, over real TCP and byte by byte."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from gateway.transport.interface import Accept, Limits, Request, Response
from gateway.transport.listener import Listener, listen
from tests.gateway.raw_socket import ACCEPT, TEXT, RawSocket, Recorder, frame, request


class Handlers:
    """Admission that remembers what it was asked and answers with `verdict`; plain requests get
    `answer`.
    """

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.handler = Recorder()
        self.verdict: Accept | Response = Accept(self.handler, None)
        self.answer = Response(
            200, b"alive\n", content_type="text/plain", headers=(("Cache-Control", "no-store"),)
        )
        self.released = asyncio.Event()
        self.released.set()
        self.started, self.cancelled = asyncio.Event(), asyncio.Event()
        self.fails = False

    def admit(self, request: Request) -> Accept | Response:
        self.asked.append(request)
        if self.fails:
            raise RuntimeError("admission fails as told")
        return self.verdict

    async def http(self, request: Request) -> Response:
        self.asked.append(request)
        self.started.set()
        if self.fails:
            raise RuntimeError("answer fails as told")
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self.answer


@pytest.fixture
async def handlers():
    return Handlers()


@pytest.fixture
async def listener(handlers):
    listener = await listen(
        "127.0.0.1",
        0,
        admit=handlers.admit,
        http=handlers.http,
        limits=Limits(handshake_timeout_s=2),
    )
    yield listener
    await listener.close()


async def answer_to(listener: Listener, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer, after which the server ended its side."""
    peer = await RawSocket.dial(listener.port)
    peer.send(data)
    status, headers = await peer.response_head()
    body = await peer.rest()
    await peer.hang_up()
    return status, headers, body


async def test_an_upgrade_is_answered_with_the_accept_key(listener):
    """The handshake of RFC 6455, 1.3, with its own example; no extension is ever agreed on."""
    peer = await RawSocket.dial(listener.port)
    peer.send(request(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"))
    status, headers = await peer.response_head()
    await peer.hang_up()

    assert status == 101
    assert headers == {
        "upgrade": "websocket",
        "connection": "upgrade",
        "sec-websocket-accept": ACCEPT,
    }


async def test_admission_sees_the_request(listener, handlers):
    """Path and query apart, names of headers in small letters, the offered subprotocols in order
    over all lines, the peer's address.
    """
    peer = await RawSocket.connect(
        listener.port,
        "/v1/socket?a=1&b=2",
        Origin="https://chat.example",
        Sec_WebSocket_Protocol="one, two\r\nSec-WebSocket-Protocol: three",
    )
    await peer.hang_up()

    (asked,) = handlers.asked
    assert (asked.path, asked.query, asked.client) == ("/v1/socket", "a=1&b=2", "127.0.0.1")
    assert asked.headers["origin"] == "https://chat.example"
    assert asked.subprotocols == ("one", "two", "three")


async def test_the_chosen_subprotocol_is_told(listener, handlers):
    """The client learns which of its offers was taken."""
    handlers.verdict = Accept(handlers.handler, "two")
    peer = await RawSocket.dial(listener.port)
    peer.send(request(Sec_WebSocket_Protocol="one, two"))
    _, headers = await peer.response_head()
    await peer.hang_up()

    assert headers["sec-websocket-protocol"] == "two"


@pytest.mark.parametrize(
    "changes",
    [
        {"Connection": "keep-alive, Upgrade"},
        {"Upgrade": "WebSocket", "Connection": "upgrade"},
        {"Upgrade": "h2c, websocket"},
    ],
)
async def test_browsers_spell_the_upgrade_in_their_ways(listener, changes):
    """Firefox sends `keep-alive, Upgrade`; lists and capitals are all allowed
    by RFC 6455, 4.2.1.
    """
    peer = await RawSocket.connect(listener.port, **changes)
    peer.send(frame(TEXT, b"hi"))

    assert await peer.frame() == (TEXT, b"hi")
    await peer.hang_up()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Connection": None}, 400),
        ({"Connection": "keep-alive"}, 400),
        ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Version": None}, 426),
        ({"Sec_WebSocket_Key": None}, 400),
        ({"Sec_WebSocket_Key": "c2hvcnQ="}, 400),
        ({"Content_Length": "5"}, 400),
    ],
)
async def test_a_request_that_is_no_proper_upgrade_is_refused(listener, handlers, changes, status):
    """Admission is not asked about a malformed upgrade; a wrong version is told the right one."""
    got, headers, _ = await answer_to(listener, request(**changes))

    assert got == status
    assert headers.get("sec-websocket-version") == ("13" if status == 426 else None)
    assert handlers.asked == []


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01 what\r\n\r\n",
    ],
)
async def test_what_is_not_a_get_of_http_1_1_is_refused(listener, handlers, data):
    """Other methods, versions and protocols get 400, and admission is not asked."""
    status, headers, _ = await answer_to(listener, data)

    assert (status, headers["connection"]) == (400, "close")
    assert handlers.asked == []


async def test_admission_may_refuse_with_a_whole_answer(listener, handlers):
    """A refusal is plain HTTP, complete, and ends the connection; the handler is never called."""
    handlers.verdict = Response(
        403,
        b'{"code": "forbidden"}',
        content_type="application/json",
        headers=(("Vary", "Origin"),),
    )
    status, headers, body = await answer_to(listener, request(Origin="https://evil.example"))

    assert (status, body) == (403, b'{"code": "forbidden"}')
    assert datetime.now(UTC) - parsedate_to_datetime(headers.pop("date")) < timedelta(seconds=30)
    assert headers == {
        "content-type": "application/json",
        "content-length": "21",
        "connection": "close",
        "vary": "Origin",
    }
    assert not hasattr(handlers.handler, "socket")


async def test_a_plain_get_is_answered(listener, handlers):
    """Probes and metrics share the port."""
    status, headers, body = await answer_to(
        listener, b"GET /livez?verbose HTTP/1.1\r\nHost: x\r\n\r\n"
    )

    assert (status, body, headers["cache-control"]) == (200, b"alive\n", "no-store")
    assert (handlers.asked[0].path, handlers.asked[0].query) == ("/livez", "verbose")


async def test_an_answer_may_take_its_time_while_others_are_served(listener, handlers):
    """A probe that waits for its backends holds up no other, and bytes that follow its request are
    dropped.
    """
    handlers.released.clear()
    slow = await RawSocket.dial(listener.port)
    slow.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\nGET /again HTTP/1.1\r\n\r\n")
    await handlers.started.wait()
    peer = await RawSocket.connect(listener.port)
    peer.send(frame(TEXT, b"hi"))
    slow.send(b"more")

    assert await peer.frame() == (TEXT, b"hi")
    handlers.released.set()
    assert (await slow.response_head())[0] == 200
    assert await slow.rest() == b"alive\n"
    await asyncio.gather(slow.hang_up(), peer.hang_up())


async def test_a_client_that_ended_its_side_still_gets_the_answer(listener, handlers):
    """`printf ... | nc` half-closes at once."""
    handlers.released.clear()
    peer = await RawSocket.dial(listener.port)
    peer.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    peer.end()
    await handlers.started.wait()
    handlers.released.set()

    assert (await peer.response_head())[0] == 200
    await peer.hang_up()


async def test_an_answer_that_is_no_longer_waited_for_is_cancelled(listener, handlers):
    """A client that has gone does not keep a probe running."""
    handlers.released.clear()
    peer = await RawSocket.dial(listener.port)
    peer.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    await handlers.started.wait()
    peer.reset()

    async with asyncio.timeout(1):
        await handlers.cancelled.wait()


@pytest.mark.parametrize("data", [request(), b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_failing_handler_answers_500_and_is_logged(listener, handlers, data, caplog):
    """What went wrong is in our log with its traceback, not in the answer, and the next client is
    served.
    """
    handlers.fails = True
    status, _, body = await answer_to(listener, data)
    handlers.fails = False

    assert (status, body) == (500, b"internal error\n")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "as told" in str(record.exc_info[1])
    await (await RawSocket.connect(listener.port)).hang_up()


@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET /hangs HTTP/1.1\r\nHost: x\r\n\r\n"]
)
async def test_a_request_that_takes_too_long_is_cut(handlers, data):
    """Silent peers, endless requests and hanging answers end when the time is over."""
    handlers.released.clear()
    listener = await listen(
        "127.0.0.1",
        0,
        admit=handlers.admit,
        http=handlers.http,
        limits=Limits(handshake_timeout_s=0.05),
    )
    peer = await RawSocket.dial(listener.port)
    peer.send(data)

    assert await peer.rest() == b""
    await asyncio.gather(listener.close(), peer.hang_up())


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
async def test_a_request_of_more_than_8_kib_is_refused(listener, handlers, end):
    """A request head costs at most 8 KiB of memory, whether its end comes or not."""
    status, _, _ = await answer_to(listener, b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + end)

    assert status == 431
    assert handlers.asked == []


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("http://chat.example:8081/v1/socket?a=1", "/v1/socket", "a=1"),
        ("WSS://chat.example:8081/v1/socket", "/v1/socket", ""),
        ("http://chat.example:8081", "/", ""),
        ("ws://chat.example:8081?a", "/", "a"),
        ("//twice", "//twice", ""),
    ],
)
async def test_a_target_may_be_absolute(listener, handlers, target, path, query):
    """As proxies are asked; its host then counts, not that of the header (RFC 9112, 3.2.2)."""
    peer = await RawSocket.connect(listener.port, target)
    await peer.hang_up()

    (asked,) = handlers.asked
    assert (asked.path, asked.query) == (path, query)
    assert asked.headers["host"] == ("localhost" if target.startswith("/") else "chat.example:8081")


@pytest.mark.parametrize(
    "data",
    [
        b"GET ftp://x/ HTTP/1.1\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA B: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: x\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: x\0y\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: x\ny\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_a_request_that_breaks_http_is_refused(listener, handlers, data):
    """Names that are no tokens, folded lines, control characters, other schemes, bodies: 400."""
    status, _, _ = await answer_to(listener, data)

    assert status == 400
    assert handlers.asked == []


async def test_of_too_many_that_hold_back_their_request_the_oldest_ends(handlers):
    """So a flood of silent connections keeps no client out, and probes are answered."""
    listener = await listen(
        "127.0.0.1", 0, admit=handlers.admit, http=handlers.http, limits=Limits(asking=3)
    )
    silent = [await RawSocket.dial(listener.port) for _ in range(3)]
    peer = await RawSocket.connect(listener.port)

    assert await silent[0].rest() == b""
    peer.send(frame(TEXT, b"hi"))
    assert await peer.frame() == (TEXT, b"hi")
    assert len(listener.connections) == 3
    await asyncio.gather(listener.close(), *(one.hang_up() for one in (peer, *silent)))


async def test_frames_may_follow_the_request_at_once(listener, handlers):
    """A client need not wait for the 101 (as tunnels and tests do), and request and frame may share
    a packet.
    """
    peer = await RawSocket.dial(listener.port)
    peer.send(request() + frame(TEXT, b"early"))
    await peer.response_head()

    assert await peer.frame() == (TEXT, b"early")
    await peer.hang_up()


async def test_a_port_in_use_is_an_oserror(listener, handlers):
    """What starts the gateway can say it in one line."""
    with pytest.raises(OSError, match="in use"):
        await listen("127.0.0.1", listener.port, admit=handlers.admit, http=handlers.http)


async def test_ipv6_is_served(handlers):
    """An address with a colon is one of IPv6."""
    listener = await listen("::1", 0, admit=handlers.admit, http=handlers.http)
    reader, writer = await asyncio.open_connection("::1", listener.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")

    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()
    await asyncio.gather(listener.close(), writer.wait_closed())
    assert handlers.asked[0].client == "::1"
