"""The HTTP server of `dev`: uvicorn on a socket and a loop of ours, without signals of its own.

In production it is its own process. There a proxy stands before it; what a connection may cost is
bounded here as there (`functions.runtime.http_protocol`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Final

import uvicorn

from functions.runtime.http_protocol import BoundedHttpProtocol
from knchat import exits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

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
                f"port {port} is in use: stop what uses it, or choose another one with {option}",
                exits.CANNOT_START,
            ) from error
        why = str(error.strerror).partition(" (while")[0]  # Python names the address once more
        raise exits.Ended(
            f"cannot listen on {host} port {port}: {why}", exits.CANNOT_START
        ) from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1_000)
    return listener


class HttpServer(uvicorn.Server):
    """Serves an ASGI app from `run` on until `stop`."""

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        stop_s: float,
        protocol: type[BoundedHttpProtocol] = BoundedHttpProtocol,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                # Its warnings are about malformed requests.
                log_level="error",
                access_log=False,
                # KNCHAT_TRUSTED_PROXIES alone decides which proxies are believed.
                proxy_headers=False,
                server_header=False,
                # As in production, where the proxy's idle connections outlive the default
                # (design.md D15).
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
