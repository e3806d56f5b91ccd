"""Runs a driver's blocking calls on a few threads, with a bound on what waits, a deadline for each
call, and a turn for each caller.

SQL (`backends/sql/`), questions to Kafka (`backends/log/kafka/`) and the stores of files
(`backends/files/`) use it. It knows no driver and no statement; errors of a call pass through as
they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from backends.fair import SYSTEM, FairQueue, worked_for
from schemas.errors import Unavailable

T = TypeVar("T")

# One event of 256 commands makes at most 256 calls, and the local dispatcher posts at most 99
# events at once. What waits beyond this could not be served within the deadline (a read takes about
# 0.2 ms), so it is told at once.
MAX_WAITING: Final = 4_096
MAX_WAITING_EACH: Final = 512
"""Of them calls for one user or address, so that no caller fills the queue alone."""


@dataclass(slots=True)
class _Call:
    work: Callable[[], Any]
    done: Future[Any] = field(default_factory=Future)
    given_up: bool = False


class Blocking:
    """A bounded executor.

    Belongs to one event loop; threads are started when they are first needed. `whom` stands in its
    errors. What waits is begun in turn: one call for each whom the callers work for
    (`backends.fair`), then the next of each.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int,
        timeout_s: float,
        waiting: int = MAX_WAITING,
        whom: str = "the database",
    ) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._timeout_s = timeout_s
        self._whom = whom
        self._waiting = waiting
        self._queue = FairQueue[_Call]()
        self._under_way: set[asyncio.Future[Any]] = set()
        self._closed = False

    async def run(self, call: Callable[[], T], *, timeout_s: float | None = None) -> T:
        """What `call` returns or raises, run in a thread.

        Raises Unavailable when it has not ended within the timeout, its wait in the queue included,
        when too much waits already, and after `close`. A call that was given up, or whose caller
        was cancelled, is left out if it has not begun; else it runs to its end unseen.
        """
        if self._closed:
            raise Unavailable(f"{self._whom} is closed")
        who, asked = worked_for(), _Call(call)
        if len(self._under_way) >= self._waiting or (
            who != SYSTEM and self._queue.waiting(who) >= MAX_WAITING_EACH
        ):
            raise Unavailable(f"too much waits for {self._whom}")
        self._queue.put(who, asked)
        self._executor.submit(self._next)
        future = asyncio.wrap_future(asked.done)
        self._under_way.add(future)
        future.add_done_callback(self._ended)
        try:
            await asyncio.wait(
                (future,), timeout=self._timeout_s if timeout_s is None else timeout_s
            )
        finally:
            asked.given_up = True
        if not future.done():
            raise Unavailable(f"{self._whom} does not answer in time")
        # None only if given up before it began, and that was raised above.
        return future.result()  # type: ignore[no-any-return]

    def _next(self) -> None:
        """Does the call whose turn it is: there is one for each time that this is submitted."""
        asked = self._queue.take()
        try:
            asked.done.set_result(None if asked.given_up else asked.work())
        except BaseException as error:  # it is the caller's
            asked.done.set_exception(error)

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self._under_way.discard(future)
        future.exception()  # the error of a cancelled call is not retrieved

    async def close(self) -> None:
        """Takes no more calls, and waits for those under way: at most the timeout."""
        self._closed = True
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self._timeout_s)
        self._executor.shutdown(wait=False)
