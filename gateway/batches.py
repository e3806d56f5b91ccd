"""A bounded queue whose items travel in micro-batches: at most so many batches are under way, and what comes meanwhile rides in the next.

The publisher sends commands this way, the queries their questions. What the items are and where they go is not known here.
Batches keep a distance that grows with load: an item that comes alone leaves at once, and the cost of an item falls. Source: design.md D1.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

from schemas.topics import MAX_BATCH, MAX_BATCH_BYTES

log = logging.getLogger(__name__)

QUEUE_BYTES: Final = 4 * 2**20
PATIENCE_S: Final = 10.0
"""Nothing waits longer than this to be taken, and while something else is late by as much nothing new is taken in."""
WIDER_ABOVE: Final = 10
"""Items in a batch above which the next one keeps more than the least distance ..."""
WIDEST: Final = 2
"""... up to so many times as much."""


def distance_s(apart_s: float, items: int) -> float:
    """How long after a batch of so many the next one leaves, `apart_s` being the least.

    The root of the size: the distance then grows with the rate, so that events become fewer as load grows, and never jumps.
    """
    return apart_s * min(math.sqrt(max(items / WIDER_ABOVE, 1.0)), WIDEST)


class Sized(Protocol):
    """What an item says of itself: its bytes on the wire, and when it came (seconds, monotonic)."""

    size: int
    came_s: float


Item = TypeVar("Item", bound=Sized)


class Batches(Generic[Item]):
    """Items in, batches out, in the order of arrival. Belongs to one event loop."""

    def __init__(self, publish: Callable[[list[Item]], Awaitable[None]], *, in_flight: int, apart_s: float = 0.0) -> None:
        self._publish = publish
        self._in_flight = in_flight
        self._apart_s = apart_s
        self._next_at_s = 0.0
        self._pacing = False
        self._queue: deque[Item] = deque()
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy = 0
        self.under_way: list[list[Item]] = []
        """What has left and is not done."""

    def late(self, now_s: float) -> bool:
        """Whether there is too much to take in more: 4 MiB wait, or an item that came 10 s ago is still not done."""
        oldest = min((batch[0].came_s for batch in self.under_way), default=now_s)
        if self._queue:
            oldest = min(oldest, self._queue[0].came_s)
        return self._bytes >= QUEUE_BYTES or now_s - oldest >= PATIENCE_S

    def put(self, item: Item) -> None:
        """Takes the item. It leaves in this turn of the event loop if a batch may leave, with all that came in the same turn."""
        self._queue.append(item)
        self._bytes += item.size
        self._start()

    def expired(self, now_s: float) -> list[Item]:
        """Takes out what has waited too long in the queue: it never left."""
        gone: list[Item] = []
        while self._queue and now_s - self._queue[0].came_s >= PATIENCE_S:
            item = self._queue.popleft()
            self._bytes -= item.size
            gone.append(item)
        return gone

    async def flush(self) -> None:
        """Returns when nothing waits and nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Gives up what is under way: whether it reached the log is unknown then."""
        for task in self._tasks:
            task.cancel()
        await self.flush()

    def _start(self) -> None:
        """Lets one more batch get ready, unless one is: that one takes everything along."""
        if self._queue and not self._pacing and self._busy < self._in_flight:
            self._busy += 1
            self._pacing = True
            task = asyncio.get_running_loop().create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def _work(self) -> None:
        try:
            while self._queue:
                if not (batch := await self._next()):
                    break  # it waited too long, and was taken out
                self._start()  # for what did not fit
                self.under_way.append(batch)
                try:
                    await self._publish(batch)
                finally:
                    self.under_way.remove(batch)
                if self._pacing:
                    break
        finally:
            # Here and not when the task is done, which is told a turn later: a `put` in between must start the next one.
            self._busy -= 1

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a batch was given up", exc_info=error)

    async def _next(self) -> list[Item]:
        """The next batch, at its time: `distance_s` after the one before at the earliest."""
        self._pacing = True
        try:
            loop = asyncio.get_running_loop()
            if (wait_s := self._next_at_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
        finally:
            self._pacing = False
        batch = self._take()
        # What did not fit is a batch already: there is nothing to wait for.
        self._next_at_s = loop.time() + (self._apart_s if self._queue else distance_s(self._apart_s, len(batch)))
        return batch

    def _take(self) -> list[Item]:
        batch: list[Item] = []
        size = 0
        while self._queue and len(batch) < MAX_BATCH and (not batch or size + self._queue[0].size <= MAX_BATCH_BYTES):
            item = self._queue.popleft()
            self._bytes -= item.size
            size += item.size
            batch.append(item)
        return batch
