"""One connection to Redis that all calls of a process share, by redis-py. `cache/redis.py` uses it.

Calls are written at once and answered in their order, so that a slow answer costs its caller a
timeout and not a connection: a pool would make new ones just when the server is overloaded. It
connects at a call, one attempt at a time, which no caller's timeout ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any, Final

from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

CONNECT_TIMEOUT_S: Final = 2.0
"""For the name, TCP, TLS and the log-in: over a long distance more than one call's timeout."""
SILENCE_TIMEOUT_S: Final = 2.0
"""So long without any answer while a call waits: the server is gone without a word, and a new
connection is made.
"""
MAX_WAITING: Final = 1_024
"""Calls without an answer, those included whose callers have gone."""

_STEPS: Final = 5


class RedisConnection:
    """One connection, made again when it is lost. Belongs to one event loop."""

    def __init__(
        self,
        url: str,
        *,
        password: str,
        ca: str,
        silence_timeout_s: float,
        max_waiting: int,
    ) -> None:
        """`url` as in the settings. Nothing is sent before the first call."""
        tls = url.startswith("rediss:")
        self._kind: type[Connection] = SSLConnection if tls else Connection
        self._parts: dict[str, Any] = {
            **parse_url(url),
            "password": password or None,
            "protocol": 2,  # nothing of 3 is needed, and 2 is one round trip less
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,  # who waits is here
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            **({"ssl_ca_certs": ca or None} if tls else {}),
        }
        self._parts.pop("connection_class", None)
        self._connection: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._asked: deque[asyncio.Future[Any]] = deque()
        self._heard_s = 0.0
        self._closed = False
        self._silence_timeout_s, self._max_waiting = silence_timeout_s, max_waiting

    async def call(self, *words: str | bytes | int, limit_s: float) -> Any:
        """The answer to one command.

        Raises RedisError, or TimeoutError after `limit_s`: whether it was done is then unknown.
        """
        if self._closed:
            raise RedisConnectionError("closed")
        now_s = asyncio.get_running_loop().time()
        if not self._asked:
            self._heard_s = now_s  # no call waited: silence begins now
        elif now_s - self._heard_s > self._silence_timeout_s:
            self.drop()
        if len(self._asked) >= self._max_waiting:
            raise RedisConnectionError("too many calls wait for an answer")
        async with _Timeout(limit_s):
            connection = self._connection or await self._connected()
            if connection is not self._connection or not connection.is_connected:
                # Else redis-py would connect by itself, without a reader of answers.
                raise RedisConnectionError("the connection was lost")
            packed = connection.pack_command(*words)
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._asked.append(answer)
            await connection.send_packed_command(packed, check_health=False)
            result = await answer
        if isinstance(result, Exception):
            raise result
        return result

    def drop(self) -> None:
        """Closes the connection: the next call makes another one."""
        if self._reading is not None:
            self._reading.cancel()
            self._forget()

    def _forget(self) -> None:
        self._connection, self._reading, self._asked = None, None, deque()

    async def close(self) -> None:
        """Ends it: further calls raise."""
        self._closed = True
        tasks = [task for task in (self._opening, self._reading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self) -> Connection:
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_opened)
        return await asyncio.shield(self._opening)

    async def _open(self) -> Connection:
        connection = self._kind(**self._parts)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                # redis-py has types where it matters.
                await connection.connect()  # type: ignore[no-untyped-call]
            self._connection = connection
        except TimeoutError:
            raise RedisConnectionError(f"no connection within {CONNECT_TIMEOUT_S:.0f} s") from None
        except asyncio.CancelledError:
            if self._closed:
                raise RedisConnectionError("closed") from None  # who waits here was not cancelled
            raise
        finally:
            self._opening = None
            if self._connection is None:
                await connection.disconnect(nowait=True)
        self._asked = deque()
        self._reading = asyncio.create_task(self._read(connection, self._asked))
        return connection

    async def _read(self, connection: Connection, waiting: deque[asyncio.Future[Any]]) -> None:
        """Hands out answers until the connection ends."""
        why: Exception = RedisConnectionError("the connection was dropped")
        try:
            while True:
                try:
                    answer = await connection.read_response()
                except ResponseError as error:
                    answer = error
                self._heard_s = asyncio.get_running_loop().time()
                if not waiting:
                    raise RedisConnectionError(f"an answer without a call: {answer!r:.100}")
                asked = waiting.popleft()
                if not asked.done():
                    asked.set_result(answer)
        except (RedisError, OSError) as error:
            why = error
        finally:
            if self._connection is connection:
                self._forget()
            for asked in waiting:
                if not asked.done():
                    asked.set_result(why)
            await connection.disconnect(nowait=True)


def _opened(task: asyncio.Task[Connection]) -> None:
    """The caller that opened it may be cancelled: its error is not retrieved then."""
    if not task.cancelled():
        task.exception()


class _Timeout:
    """asyncio.timeout, counted in five steps.

    A stalled event loop (a collection of garbage, a busy machine) uses up one step, and then first
    reads what has come meanwhile. With one timer the server would be taken for silent because we
    were.
    """

    def __init__(self, limit_s: float) -> None:
        self._step_s = limit_s / _STEPS
        self._left = _STEPS
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_later(self._step_s, self._step)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._next.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _step(self) -> None:
        self._left -= 1
        if self._left:
            self._next = self._loop.call_later(self._step_s, self._step)
        else:
            self._timeout.reschedule(self._loop.time())
