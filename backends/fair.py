"""Fair queues: a caller that waits for something scarce waits for one item of each other caller,
never for all items of one.

`Blocking` (SQL) and the password hashing use it. For whom a task works is said once, by the
endpoints, with `work_for`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Final, Generic, TypeVar

from schemas.errors import Unavailable

SYSTEM: Final = ""
"""The caller of what is done for no user alone: events of many users, maintenance.

One among the others, without a bound of its own.
"""

_works_for: ContextVar[str] = ContextVar("works_for", default=SYSTEM)

Item = TypeVar("Item")


def work_for(who: str) -> None:
    """This task, and those that it starts, now work for this user or address."""
    _works_for.set(who)


def worked_for() -> str:
    """For whom this task works."""
    return _works_for.get()


class FairQueue(Generic[Item]):
    """Gives out one item of each in turn, those of one in their order. Any thread."""

    def __init__(self) -> None:
        self._items: dict[str, deque[Item]] = {}
        self._lock = Lock()

    def put(self, who: str, item: Item) -> None:
        """Puts an item at the end of its owner's; who had none waiting comes after all others."""
        with self._lock:
            self._items.setdefault(who, deque()).append(item)

    def take(self) -> Item:
        """The next one's oldest item. Raises StopIteration when there is none."""
        with self._lock:
            who = next(iter(self._items))
            items = self._items.pop(who)
            item = items.popleft()
            if items:
                self._items[who] = items
        return item

    def waiting(self, who: str) -> int:
        """How many items of this one wait."""
        return len(self._items.get(who, ()))


class Turns:
    """At most `at_once` at the same time; others wait, in turn, `waiting` of them at most.

    Belongs to one event loop. No caller gets all places, nor fills the queue: of each at most
    `each` are inside, and `each_waiting` wait.
    """

    def __init__(
        self, at_once: int, *, each: int, waiting: int, each_waiting: int, busy: str
    ) -> None:
        """`busy`: what is told when too many wait."""
        self._free = at_once
        self._each = each
        self._most, self._most_of_each = waiting, each_waiting
        self._busy = busy
        self._inside: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A place, for whom this task works for. Raises Unavailable when too many wait."""
        who = worked_for()
        await self._enter(who)
        try:
            yield
        finally:
            self._leave(who)

    async def _enter(self, who: str) -> None:
        if self._free and self._may(who) and who not in self._waiting:
            self._free -= 1
            self._inside[who] += 1
            return
        if sum(map(len, self._waiting.values())) >= self._most or (
            who != SYSTEM and len(self._waiting.get(who, ())) >= self._most_of_each
        ):
            raise Unavailable(self._busy)
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(who, deque()).append(called)
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled():  # it was called in the same moment
                self._leave(who)
            else:
                self._forget(who, called)
            raise

    def _leave(self, who: str) -> None:
        self._free += 1
        self._inside[who] -= 1
        if not self._inside[who]:
            del self._inside[who]
        self._call()

    def _call(self) -> None:
        """Calls in whom there is a place for, the one who was called longest ago first."""
        while (
            self._free
            and (who := next((who for who in self._waiting if self._may(who)), None)) is not None
        ):
            waiting = self._waiting.pop(who)
            called = waiting.popleft()
            if waiting:
                self._waiting[who] = waiting
            if called.done():
                continue  # its caller has been cancelled, and has not run since
            called.set_result(None)
            self._free -= 1
            self._inside[who] += 1

    def _may(self, who: str) -> bool:
        return who == SYSTEM or self._inside[who] < self._each

    def _forget(self, who: str, called: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(who)
        if waiting is not None and called in waiting:
            waiting.remove(called)
            if not waiting:
                del self._waiting[who]
