"""When users who are not here were here last: the newest in memory, the others in the cache.

Written once for each user who stays away, never for one who comes back at once. Losing it shows
presence without `last_seen`. Source: docs/decisions/0059.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Final, TypeVar

from backends.cache import Cache
from backends.clock import Clock
from backends.concurrency import BoundedDict
from backends.telemetry.metrics import count
from schemas.errors import ChatError

Value = TypeVar("Value")

TTL_S: Final = 30 * 86_400
MAX_ENTRIES: Final = 65_536
"""Of users known here; about 150 bytes each."""
MAX_WAITING: Final = 16_384
"""Of those to be written, and of those to be read: what is more is left out."""
MAX_AT_ONCE: Final = 32
"""Calls of the cache under way: about 2 ms of its time, so that `reserve` does not wait for them.
"""
COOLDOWN_S: Final = 5.0
"""The cache is left alone for so long after it did not answer."""


class LastSeen:
    """Of users of this gateway's partitions. Belongs to one event loop."""

    def __init__(self, cache: Cache, clock: Clock, *, on_read: Callable[[int], None]) -> None:
        """`on_read` is called with each user that `of` did not know and the cache was asked for."""
        self._cache = cache
        self._clock = clock
        self._on_read = on_read
        self._known = BoundedDict[int, int](MAX_ENTRIES)
        self._to_write: dict[int, int] = {}
        self._to_read: dict[int, None] = {}
        self._reading: set[int] = set()
        self._has_work = asyncio.Event()
        self._cooldown_until_s = 0.0

    def of(self, user: int) -> int | None:
        """Unix milliseconds; 0: not known; None: not known yet, `on_read` follows."""
        if (seen_ms := self._known.get(user)) is not None:
            return seen_ms
        if user in self._reading:
            return None
        if len(self._to_read) >= MAX_WAITING or self._is_cooling_down():
            return 0
        self._to_read[user] = None
        self._has_work.set()
        return None

    def keep(self, user: int, seen_ms: int) -> None:
        """The user was here until then, and is not any more."""
        self._known[user] = seen_ms
        self._known.move_to_end(user)
        if len(self._to_write) < MAX_WAITING and not self._is_cooling_down():
            self._to_write[user] = seen_ms
            self._has_work.set()

    def _is_cooling_down(self) -> bool:
        return self._clock.elapsed_s() < self._cooldown_until_s

    def forget(self) -> None:
        """Partitions have changed hands: others may know better by now."""
        self._known.clear()

    async def run(self) -> None:
        """Asks and tells the cache, until cancelled."""
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            while self._to_write or self._to_read:
                writes, reads = _pop_some(self._to_write), _pop_some(self._to_read)
                self._reading = {user for user, _ in reads}
                try:
                    await asyncio.gather(
                        *(self._write(user, seen_ms) for user, seen_ms in writes),
                        *(self._read(user) for user, _ in reads),
                    )
                except ChatError:
                    count("knchat_ephemeral_dropped_total", why="cache")
                    self._cooldown_until_s = self._clock.elapsed_s() + COOLDOWN_S
                    left, self._to_read, self._reading = self._to_read, {}, set()
                    self._to_write.clear()
                    for user in (*(user for user, _ in reads), *left):
                        self._on_read(user)

    async def _write(self, user: int, seen_ms: int) -> None:
        await self._cache.put(f"seen:{user}", seen_ms.to_bytes(8), ttl_s=TTL_S)

    async def _read(self, user: int) -> None:
        value = await self._cache.get(f"seen:{user}")
        self._reading.discard(user)
        if user not in self._known:
            self._known[user] = int.from_bytes(value or b"")
        self._on_read(user)


def _pop_some(waiting: dict[int, Value]) -> list[tuple[int, Value]]:
    return [(user, waiting.pop(user)) for user in [*islice(waiting, MAX_AT_ONCE)]]
