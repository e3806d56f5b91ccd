"""Runs a driver's blocking calls on a few threads, with a bound on what waits and a deadline for each call.

SQL (`backends/database.py`) and questions to Kafka (`backends/log/kafka.py`) use it. It knows no driver and no statement; errors of a call
pass through as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from schemas.errors import Unavailable

T = TypeVar("T")

# One event of 256 commands makes at most 256 calls, and the pump posts at most 99 events at once. What waits beyond this could not be
# served within the deadline (a read takes about 0.2 ms), so it is told at once.
WAITING: Final = 4_096


class Blocking:
    """A bounded executor. Belongs to one event loop; threads are started when they are first needed. `whom` stands in its errors."""

    def __init__(self, name: str, *, threads: int, timeout_s: float, waiting: int = WAITING, whom: str = "the database") -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._timeout_s = timeout_s
        self._whom = whom
        self._waiting = waiting
        self._under_way: set[asyncio.Future[Any]] = set()
        self._closed = False

    async def run(self, call: Callable[[], T], *, timeout_s: float | None = None) -> T:
        """What `call` returns or raises, run in a thread.

        Raises Unavailable when it has not ended within the timeout, its wait in the queue included, when too much waits already, and after
        `close`. A call that was given up, or whose caller was cancelled, is left out if it has not begun; else it runs to its end unseen.
        """
        if self._closed or len(self._under_way) >= self._waiting:
            raise Unavailable(f"too much waits for {self._whom}" if not self._closed else f"{self._whom} is closed")
        given_up = False
        future = asyncio.wrap_future(self._executor.submit(lambda: None if given_up else call()))
        self._under_way.add(future)
        future.add_done_callback(self._ended)
        try:
            await asyncio.wait((future,), timeout=self._timeout_s if timeout_s is None else timeout_s)
        finally:
            given_up = True
        if not future.done():
            raise Unavailable(f"{self._whom} does not answer in time")
        return future.result()  # type: ignore[return-value] # None only if given up before it began, and that was raised above

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self._under_way.discard(future)
        future.exception()  # a call that was given up has nobody left to hear of its error

    async def close(self) -> None:
        """Takes no more calls, and waits for those under way: at most the timeout."""
        self._closed = True
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self._timeout_s)
        self._executor.shutdown(wait=False)
