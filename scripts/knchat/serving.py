"""The HTTP server of `dev`: uvicorn on a socket and a loop of ours, without signals of its own. In production it is its own process.

There a proxy stands before it. Here strangers reach it, so what a connection may cost is bounded here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from knchat import exits
from schemas.errors import ChatError, Malformed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

HEAD_BYTES: Final = 65_536
"""Request line and headers. uvicorn alone takes any number: one endless header filled the memory (measured)."""
# Longer than a call may take, so a body that comes too slowly has had its answer by then.
REQUEST_S: Final = 15.0
"""From the first byte of a request to its last, and from the start of a connection to its first request."""
UNREAD_S: Final = 30
"""How long a peer may take nothing of its answer."""


def listen(host: str, port: int, *, option: str) -> socket.socket:
    """A listening socket. Raises Ended in one line: a port in use, an address that is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise exits.Ended(
                f"port {port} is in use: stop what uses it, or choose another one with {option}", exits.CANNOT_START
            ) from error
        why = str(error.strerror).partition(" (while")[0]  # Python names the address once more
        raise exits.Ended(f"cannot listen on {host} port {port}: {why}", exits.CANNOT_START) from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1_000)
    return listener


class _Bounded(HttpToolsProtocol):
    """uvicorn's connection, which ends when a request does not become whole: too long a head, or too slow."""

    _late: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_body = False
    _heads = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # asyncio's own protocols narrow it too
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._expect()
        self._heads, was_in_body = 0, self._in_body
        super().data_received(data)
        self._head_bytes = 0 if self._heads or self._in_body or was_in_body else self._head_bytes + len(data)
        if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(Malformed(f"the head of a request holds at most {HEAD_BYTES} bytes", code="too_large"))

    def on_headers_complete(self) -> None:
        self._heads += 1
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        self._expect_no_more()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """To what is no HTTP, in the shape that all errors have."""
        self._refuse(Malformed(msg.rstrip(".")))

    def _refuse(self, error: ChatError) -> None:
        body = json.dumps(error.problem)
        head = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\ncontent-type: application/json\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode())
        self.transport.close()

    def _expect(self) -> None:
        if self._late is None:
            self._late = asyncio.get_running_loop().call_later(REQUEST_S, self.transport.abort)

    def _expect_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class HttpServer(uvicorn.Server):
    """Serves an ASGI app from `run` on until `stop`."""

    def __init__(self, app: ASGIApp, listener: socket.socket, *, stop_s: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Bounded,
                ws="none",
                lifespan="off",
                log_config=None,
                # Its warnings are about what strangers send.
                log_level="error",
                access_log=False,
                server_header=False,
                # As in production, where the proxy's idle connections outlive the default (design.md D15).
                timeout_keep_alive=75,
                timeout_graceful_shutdown=round(stop_s),
            )
        )
        self._listener = listener
        self.up = asyncio.Event()
        """Set when it serves."""

    async def run_until_stopped(self) -> None:
        await self.serve(sockets=[self._listener])

    def stop(self) -> None:
        """Lets `run_until_stopped` finish requests under way (at most `stop_s`) and return."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
