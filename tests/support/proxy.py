"""A TCP proxy between a client and its server, to cut, hold or redirect connections.

Runs in the test's own event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Proxy:
    """Listens on 127.0.0.1 at `port` and passes bytes to and from `target`."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.accepted = 0
        self._connections: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Condition()
        self.refusing = False
        """True: new connections are closed at once."""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> int:
        """Resets all connections, in the middle of whatever passes; says how many there were."""
        connections = list(self._connections)
        for connection in connections:
            for writer in connection:
                writer.transport.abort()
        await self.connections(0)
        return len(connections)

    def hold(self) -> None:
        """Passes nothing on any more, in either direction, and closes nothing: dead connections."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def connections(self, count: int) -> None:
        """Waits until there are so many."""
        async with asyncio.timeout(15), self._changed:
            await self._changed.wait_for(lambda: len(self._connections) == count)

    async def close(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            if self.refusing:
                return
            there, back = await asyncio.open_connection(*self.target)
            connection = (writer, back)
            self._connections.add(connection)
            await self._tell()
            try:
                ways = [
                    asyncio.create_task(self._pass(reader, back)),
                    asyncio.create_task(self._pass(there, writer)),
                ]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
            finally:
                back.transport.abort()
                self._connections.discard(connection)
                await self._tell()
        except OSError:
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@contextlib.asynccontextmanager
async def proxy_to(host: str, port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy((host, port))
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
