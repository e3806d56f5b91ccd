"""A listener under test whose sockets echo, unless a test gives them another handler."""

import asyncio

from gateway.transport.interface import Accept, Limits, Request, Response
from gateway.transport.listener import Listener, listen
from tests.gateway.raw_socket import TEXT, TIMEOUT_S, RawSocket, Recorder, frame

LIMIT = 65_536
# Small marks, so that a peer that does not read is noticed after a few hundred KiB.
LIMITS = Limits(frame_bytes=LIMIT, write_high_bytes=65_536, write_low_bytes=16_384, linger_s=1)


class Server:
    """A listener whose sockets get the handlers that a test has put ready, in order, and echoing
    ones after that.
    """

    def __init__(self) -> None:
        self.listener: Listener
        self.next: list[Recorder] = []
        self.handlers: list[Recorder] = []
        self._peers: list[RawSocket] = []

    async def start(self, limits: Limits = LIMITS) -> "Server":
        self.listener = await listen(
            "127.0.0.1", 0, admit=self._admit, http=self._http, limits=limits
        )
        return self

    async def connect(
        self, handler: Recorder | None = None, *, receive_bytes: int | None = None
    ) -> tuple[RawSocket, Recorder]:
        """A peer and the handler it has got."""
        if handler is not None:
            self.next.append(handler)
        self._peers.append(await RawSocket.connect(self.listener.port, receive_bytes=receive_bytes))
        return self._peers[-1], self.handlers[-1]

    async def stop(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.gather(self.listener.close(), *(peer.hang_up() for peer in self._peers))

    def _admit(self, _: Request) -> Accept:
        self.handlers.append(self.next.pop(0) if self.next else Recorder())
        return Accept(self.handlers[-1], None)

    async def _http(self, _: Request) -> Response:
        return Response(404, b"")


async def refusal(server: Server, data: bytes) -> tuple[tuple[int, str], Recorder]:
    """The close that `data` leads to, and the handler, which has been told the same; another socket
    goes on as before.
    """
    other, _ = await server.connect()
    peer, handler = await server.connect()
    peer.send(data)
    told = await peer.closing()
    await handler.until("closed")
    assert handler.ends == [told]
    other.send(frame(TEXT, b"still here"))
    assert await other.frame() == (TEXT, b"still here")
    return told, handler
