"""A bounded queue whose items travel in micro-batches: at most so many are in flight, and what
comes meanwhile goes with the next.

The publisher sends commands this way, the queries their questions. What the items are and where
they go is not known here. Batches keep a distance that grows with load: an item that comes alone
leaves at once, and the cost of an item falls. Source: design.md D1.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from backends.telemetry.metrics import count
from schemas.errors import Malformed
from schemas.topics import MAX_BATCH, MAX_BATCH_BYTES

log = logging.getLogger(__name__)

MAX_QUEUE_BYTES: Final = 4 * 2**20
TIMEOUT_S: Final = 10.0
"""Nothing waits longer than this to be taken, and while something else is late by as much nothing
new is taken in.
"""
STALL_TIMEOUT_S: Final = 1.0
"""So long a queue may stall, with nothing under way and its distance over, before it is started
again.
"""
WIDER_ABOVE: Final = 10
"""Items in a batch above which the next one keeps more than the least distance ..."""
WIDEST: Final = 2
"""... up to so many times as much."""


def distance_s(apart_s: float, items: int) -> float:
    """How long after a batch of so many the next one leaves, `apart_s` being the least.

    The root of the size: the distance then grows with the rate, so that events become fewer as load
    grows, and never jumps.
    """
    return apart_s * min(math.sqrt(max(items / WIDER_ABOVE, 1.0)), WIDEST)


class Sized(Protocol):
    """What an item says of itself: its bytes on the wire, and when it came (seconds, monotonic)."""

    size: int
    came_s: float


Item = TypeVar("Item", bound=Sized)
T = TypeVar("T")


async def in_halves(
    items: Sequence[T],
    append: Callable[[Sequence[T]], Awaitable[None]],
    refused: Callable[[T, Malformed], None],
) -> None:
    """Appends all items together; where that is refused for good, in halves, down to the one that
    is to blame: `refused` is called with it.

    A batch that is too large, or holds something that the log never takes, would else be sent
    without end. Raises what `append` does, but for Malformed.
    """
    try:
        await append(items)
    except Malformed as error:
        if len(items) == 1:
            refused(items[0], error)
            return
        middle = len(items) // 2
        await in_halves(items[:middle], append, refused)
        await in_halves(items[middle:], append, refused)


class MicroBatcher(Generic[Item]):
    """Items in, batches out, in the order of arrival. Belongs to one event loop."""

    def __init__(
        self,
        publish: Callable[[list[Item]], Awaitable[None]],
        failed: Callable[[Item], None],
        *,
        in_flight: int,
        apart_s: float = 0.0,
    ) -> None:
        """`failed` is called with each item of a batch whose `publish` raised."""
        self._publish = publish
        self._failed = failed
        self._in_flight = in_flight
        self._apart_s = apart_s
        self._next_at_s = 0.0
        self._departure: asyncio.Handle | None = None
        """Of the next batch.

        There is one whenever something waits and may leave; nothing else says that a batch gets
        ready.
        """
        self._queue: deque[Item] = deque()
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self._stalled_since_s: float | None = None
        self.under_way: list[list[Item]] = []
        """What has left and is not done."""

    def is_late(self, now_s: float) -> bool:
        """Whether there is too much to take in more: 4 MiB wait, or an item that came 10 s ago is
        still not done.
        """
        oldest = min((batch[0].came_s for batch in self.under_way), default=now_s)
        if self._queue:
            oldest = min(oldest, self._queue[0].came_s)
        return self._bytes >= MAX_QUEUE_BYTES or now_s - oldest >= TIMEOUT_S

    def put(self, item: Item) -> None:
        """Takes the item.

        It leaves in the next turn of the event loop if a batch may leave, with all that came in the
        same turn.
        """
        self._queue.append(item)
        self._bytes += item.size
        self._schedule()

    def tick(self, now_s: float) -> list[Item]:
        """Called some times a second.

        Takes out what has waited too long in the queue: it never left. A queue that stalls although
        nothing is under way is started again: that is a bug of ours, counted and logged.
        """
        gone: list[Item] = []
        while self._queue and now_s - self._queue[0].came_s >= TIMEOUT_S:
            item = self._queue.popleft()
            self._bytes -= item.size
            gone.append(item)
        self._moved.set()
        if not self._queue or self.under_way or asyncio.get_running_loop().time() < self._next_at_s:
            self._stalled_since_s = None
        elif self._stalled_since_s is None:
            self._stalled_since_s = now_s
        elif now_s - self._stalled_since_s >= STALL_TIMEOUT_S:
            count("knchat_batches_restarted_total")
            log.error(
                "a queue stalled and was started again",
                extra={"waiting": len(self._queue), "for_s": STALL_TIMEOUT_S},
            )
            self._stalled_since_s = None
            self._unschedule()
            self._schedule()
        return gone

    async def flush(self) -> None:
        """Returns when nothing waits and nothing is under way."""
        while self._queue or self.under_way:
            self._moved.clear()
            await self._moved.wait()

    async def close(self) -> None:
        """Gives up what is under way: whether it reached the log is unknown then.

        `failed` is not called.
        """
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        self.under_way.clear()  # of tasks that were cancelled before their first step
        self._unschedule()

    def _schedule(self) -> None:
        """Sets the next departure, unless it is set or nothing may leave: `distance_s` after the
        one before at the earliest.
        """
        if self._departure is None and self._queue and len(self.under_way) < self._in_flight:
            loop = asyncio.get_running_loop()
            if self._next_at_s > loop.time():
                self._departure = loop.call_at(self._next_at_s, self._depart)
            else:
                self._departure = loop.call_soon(self._depart)

    def _unschedule(self) -> None:
        if self._departure is not None:
            self._departure.cancel()
            self._departure = None

    def _depart(self) -> None:
        self._departure = None
        if not (batch := self._take()):
            return  # it waited too long, and was taken out
        loop = asyncio.get_running_loop()
        # What did not fit is a batch already: there is nothing to wait for.
        self._next_at_s = loop.time() + (
            self._apart_s if self._queue else distance_s(self._apart_s, len(batch))
        )
        self.under_way.append(batch)
        task = loop.create_task(self._travel(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._schedule()  # for what did not fit

    async def _travel(self, batch: list[Item]) -> None:
        try:
            await self._publish(batch)
        except Exception:
            log.exception("a batch was given up")
            for item in batch:
                self._failed(item)
        finally:
            # Here and not in a callback of the task, which comes a turn later: after its answer the
            # batch is over.
            self.under_way.remove(batch)
            self._moved.set()
            self._schedule()

    def _take(self) -> list[Item]:
        batch: list[Item] = []
        size = 0
        while (
            self._queue
            and len(batch) < MAX_BATCH
            and (not batch or size + self._queue[0].size <= MAX_BATCH_BYTES)
        ):
            item = self._queue.popleft()
            self._bytes -= item.size
            size += item.size
            batch.append(item)
        return batch
