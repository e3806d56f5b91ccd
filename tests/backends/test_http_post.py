"""A `Post` over HTTP before a server that writes bytes: what goes over the connection, what is made
of what comes back, what becomes of connections.
"""

import asyncio
from dataclasses import replace

import pytest

from backends.dispatcher.requests import request_of
from backends.http_post import MAX_CONNECTIONS, HttpPost
from schemas.errors import Malformed
from tests.support.dispatched import TIMEOUT_S
from tests.support.events import event
from tests.support.servers import free_port

NO_ANSWER = OSError  # whatever the reason: that is the promise of `Post`
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK"


class Server:
    """Reads requests and answers each with the next of `answers` (None: never); keeps what it read,
    and its connections.
    """

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.connections = 0
        self.closed = asyncio.Semaphore(0)
        self.waiting = asyncio.Semaphore(0)
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/path"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                sizes = [
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ]
                self.requests.append((head, await reader.readexactly(sum(sizes))))
                answer = self.answers.pop(0) if self.answers else OK
                if answer is None:
                    self.waiting.release()
                    await reader.read()
                    return
                writer.write(answer)
                if b"content-length" not in answer:
                    await writer.drain()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.closed.release()


@pytest.fixture
async def post():
    """Makes posts to a URL; all are closed afterwards."""
    made = []

    def to(url):
        made.append(HttpPost(url))
        return made[-1]

    yield to
    for each in made:
        await each.close()


def lines(head):
    start, *fields = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    return start, {tuple(field.lower().split(": ", 1)) for field in fields}


@pytest.mark.parametrize("data", [b"\x08\x01data", b""], ids=["a body", "no body"])
async def test_the_headers_that_are_given_and_no_others(post, data):
    """The dispatcher's set, which names no length when there is no body, and nothing that a library
    likes to add.
    """
    async with Server() as server:
        headers, _ = request_of(replace(event(), data=data), url=server.url, namespace="chat")
        await post(server.url)(headers, data)

    ((head, sent),) = server.requests
    start, fields = lines(head)
    assert start == "POST /path HTTP/1.1"
    assert fields == {(name.decode().lower(), value.decode().lower()) for name, value in headers}
    assert sent == data


async def test_what_was_answered(post):
    """Status, headers in small letters, body, also in pieces."""
    pieces = (
        b"HTTP/1.1 422 No\r\nKne-Reason: Why\r\ntransfer-encoding: "
        b"chunked\r\n\r\n2\r\nNo\r\n1\r\n!\r\n0\r\n\r\n"
    )
    async with Server(pieces) as server:
        answer = await post(server.url)([], b"x")

    assert answer == (422, [(b"kne-reason", b"Why"), (b"transfer-encoding", b"chunked")], b"No!")


async def test_of_a_long_answer_the_beginning(post):
    """A function that says too much fills no memory: its connection is closed."""
    endless = b"HTTP/1.1 500 Oh\r\ncontent-length: 99999999\r\n\r\n" + b"ab" * 4_000
    async with Server(endless) as server:
        answer = await post(server.url)([], b"x")
        async with asyncio.timeout(TIMEOUT_S):
            await server.closed.acquire()

    assert (answer.status, answer.body) == (500, b"ab" * 512)


async def test_a_connection_serves_many_requests(post):
    """One after the other over one connection; at once over as many as there are, and no more than
    the dispatcher has.
    """
    async with Server() as server:
        send = post(server.url)
        for _ in range(3):
            await send([], b"x")
        assert server.connections == 1

        server.answers = [None] * (MAX_CONNECTIONS + 1)
        sending = [asyncio.create_task(send([], b"x")) for _ in range(MAX_CONNECTIONS + 1)]
        async with asyncio.timeout(TIMEOUT_S):
            for _ in range(MAX_CONNECTIONS):
                await server.waiting.acquire()
        assert server.connections == MAX_CONNECTIONS
        sending[0].cancel()
        async with asyncio.timeout(TIMEOUT_S):
            await server.waiting.acquire()
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)


async def test_a_cancelled_request_closes_its_connection(post):
    """So the function can notice that its caller is gone."""
    async with Server(None) as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await post(server.url)([], b"x")
        async with asyncio.timeout(TIMEOUT_S):
            await server.closed.acquire()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer(post, status):
    """It is not followed, and so no request goes anywhere else."""
    async with Server(
        b"HTTP/1.1 %d No\r\nlocation: /other\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n"
        % status
    ) as server:
        send = post(server.url)

        assert (await send([], b"x")).status == status
        await send([], b"x")

    assert len(server.requests) == 2
    assert b"cookie" not in server.requests[1][0].lower()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nOK",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
    ],
    ids=["closed", "cut", "cut body", "no HTTP", "endless head"],
)
async def test_what_is_no_answer_is_an_error(post, answer):
    """Whatever the server did: OSError, as `Post` says."""
    async with Server(answer) as server:
        with pytest.raises(NO_ANSWER):
            await post(server.url)([], b"x")


async def test_no_server_there(post):
    """Refused, or an unknown name: OSError too."""
    for url in (f"http://127.0.0.1:{free_port()}", "http://no-such-host.invalid"):
        with pytest.raises(NO_ANSWER):
            await post(url)([], b"x")


async def test_after_its_end_there_is_no_answer(post):
    """Also for calls that waited for one."""
    async with Server(None) as server:
        send = post(server.url)
        waiting = asyncio.create_task(send([], b"x"))
        async with asyncio.timeout(TIMEOUT_S):
            await server.waiting.acquire()
        await send.close()

        for late in (waiting, send([], b"x")):
            with pytest.raises(NO_ANSWER):
                await late


@pytest.mark.parametrize("url", ["", "send", "ftp://send", "http://", "http://[", "//send"])
def test_a_wrong_url_is_refused_at_once(url):
    """Not when the first event comes."""
    with pytest.raises(Malformed):
        HttpPost(url)
