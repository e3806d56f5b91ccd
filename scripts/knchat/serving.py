"""The HTTP server of `dev`: uvicorn on a socket and a loop of ours, without signals of its own. In production it is its own process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING

import uvicorn

from knchat import exits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp


def listen(host: str, port: int, *, option: str) -> socket.socket:
    """A listening socket. Raises Ended in one line: a port in use, an address that is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise exits.Ended(
                f"port {port} is in use: stop what uses it, or choose another one with {option}", exits.CANNOT_START
            ) from error
        raise exits.Ended(f"cannot listen on {host} port {port}: {error.strerror}", exits.CANNOT_START) from error


class HttpServer(uvicorn.Server):
    """Serves an ASGI app from `run` on until `stop`."""

    def __init__(self, app: ASGIApp, listener: socket.socket, *, stop_s: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
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
