"""Servers on ports of the machine's choice: an ASGI app under uvicorn, and none at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from knchat.develop.serving import HttpServer, listen


def free_ports(count):
    """Different ports of 127.0.0.1 on which nothing listens."""
    with contextlib.ExitStack() as stack:
        bound = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in bound]


def free_port():
    """One of them."""
    return free_ports(1)[0]


@contextlib.asynccontextmanager
async def serving(app):
    """The URL of an ASGI app under uvicorn."""
    with listen("127.0.0.1", 0, option="") as listener:
        server = HttpServer(app, listener, stop_s=1)
        task = asyncio.create_task(server.run_until_stopped())
        await server.up.wait()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.stop()
        await task


@contextlib.asynccontextmanager
async def refusing():
    """The URL of a port that refuses connections."""
    yield f"http://127.0.0.1:{free_port()}"
