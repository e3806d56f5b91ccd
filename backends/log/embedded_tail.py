"""The readers of this process, and what was appended lately for them: an append wakes them at once and hands its records over unread.

A reader takes a partition's records from memory where they are held without a gap, else from the file, so that order and completeness
depend on offsets alone. Lives on the event loop; knows no SQL.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Final, Self

from backends.log import Bounds, Jumped, Stored
from backends.log.embedded_file import OFFSET_BITS, Place, Written, row_bytes
from backends.log.jumps import jump
from schemas.errors import Unavailable

# Records leave when every reader of their partition has taken them; a slow reader goes on from the file beyond this.
_KEPT_BYTES: Final = 2**20

FOLLOWED_RECORDS: Final = 500
FOLLOWED_BYTES: Final = 2**20

Read = Callable[[int, int, int, int], Awaitable[list[Stored]]]
"""(slot, offset, most records, most bytes) -> records from the file."""
Look = Callable[[Collection[int]], Awaitable[Mapping[int, Bounds]]]
"""Slots -> what the file holds of each."""


class _Line:
    """The newest records of one partition that somebody reads: those before `end`, without a gap."""

    __slots__ = ("end", "held", "readers", "size")

    def __init__(self) -> None:
        self.end = 0
        self.held: deque[tuple[Stored, int]] = deque()
        self.size = 0
        self.readers: set[Reader] = set()

    @property
    def first(self) -> int:
        return self.end - len(self.held)

    def extend(self, stored: Stored, size: int) -> None:
        if stored.offset != self.end:
            self.restart(stored.offset)
        self.held.append((stored, size))
        self.end += 1
        self.size += size
        while self.size > _KEPT_BYTES and len(self.held) > 1:
            self.drop_first()

    def restart(self, end: int) -> None:
        """Another process appended between: what we hold ends before the gap."""
        self.held.clear()
        self.size = 0
        self.end = end

    def drop_first(self) -> None:
        self.size -= self.held.popleft()[1]


class Tail:
    """All readers of one process. Implements the writer's `Listener`."""

    def __init__(self, *, stored: Callable[[Written], Stored], read: Read, look: Look) -> None:
        self.closed = False
        self.read = read
        self.look = look
        self._stored = stored
        self._lines: dict[int, _Line] = {}
        self._readers: set[Reader] = set()

    def appended(self, rows: Sequence[Written]) -> None:
        """Hands rows of this process to whoever reads them, and wakes them."""
        woken: set[Reader] = set()
        for row in rows:
            # A look at the file may have told us already of rows that arrive here only now: those are read from the file.
            line = self._lines.get(row[0] >> OFFSET_BITS)
            if line is not None and (stored := self._stored(row)).offset >= line.end:
                line.extend(stored, row_bytes(row))
                woken |= line.readers
        for reader in woken:
            reader.news.set()

    def others_wrote(self) -> None:
        """Makes every reader look at the file."""
        for reader in self._readers:
            reader.must_look = True
            reader.news.set()

    def attach(self, reader: Reader, slots: Collection[int]) -> None:
        """From now on what is appended to these slots is held for this reader."""
        for slot in slots:
            self._lines.setdefault(slot, _Line()).readers.add(reader)
        self._readers.add(reader)

    def detach(self, reader: Reader, slots: Collection[int]) -> None:
        """Undoes `attach`."""
        for slot in slots:
            line = self._lines[slot]
            line.readers.discard(reader)
            if not line.readers:
                del self._lines[slot]
        self._readers.discard(reader)

    @property
    def has_readers(self) -> bool:
        """Whether anybody follows partitions."""
        return bool(self._readers)

    def line(self, slot: int) -> _Line:
        """Of an attached slot."""
        return self._lines[slot]

    def close(self) -> None:
        """Ends all readers."""
        self.closed = True
        for reader in self._readers:
            reader.news.set()


class Reader:
    """A position in each of some partitions of a topic. One task reads; use it as a context manager. Implements `Follower`."""

    def __init__(self, tail: Tail, place: Place, offsets: Mapping[int, int], jumped: Jumped | None = None) -> None:
        self.news = asyncio.Event()
        self.must_look = True
        self._tail = tail
        self._place = place
        self._jumped = jumped
        self._positions = place.slots(offsets)
        self._turn = deque(self._positions)

    def __enter__(self) -> Self:
        self._tail.attach(self, self._positions)
        return self

    async def assign(self, offsets: Mapping[int, int]) -> None:
        """See `Follower`. Does not wait."""
        positions = self._place.slots(offsets)
        gained = {slot: position for slot, position in positions.items() if slot not in self._positions}
        given_up = [slot for slot in self._positions if slot not in positions]
        self._tail.detach(self, given_up)
        for slot in given_up:
            del self._positions[slot]
        self._tail.attach(self, gained)
        self._positions |= gained
        self._turn = deque(self._positions)
        self.must_look = True
        self.news.set()

    def __exit__(self, *_: object) -> None:
        self._tail.detach(self, self._positions)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Stored]:
        """The next batch of a follower; the end when the log is closed."""
        try:
            return await self.next(FOLLOWED_RECORDS, FOLLOWED_BYTES)
        except Unavailable:
            if self._tail.closed:
                raise StopAsyncIteration from None
            raise

    async def next(self, max_records: int, max_bytes: int, wait_s: float | None = None) -> list[Stored]:
        """What comes next, at least one record; nothing when there is none within `wait_s` (None: waits for ever).

        Partitions take turns. Errors: Unavailable when the log cannot be read or is closed; nothing is skipped then.
        """
        deadline = None if wait_s is None else asyncio.get_running_loop().time() + wait_s
        while True:
            self.news.clear()
            if self._tail.closed:
                raise Unavailable("the log is closed")
            while self.must_look:  # again when other slots were assigned meanwhile
                await self._look()
            if batch := await self._gather(max_records, max_bytes):
                return batch
            try:
                async with asyncio.timeout_at(deadline):
                    await self.news.wait()
            except TimeoutError:
                return []

    def position(self, slot: int) -> int:
        """The next offset that this reader takes."""
        return self._positions[slot]

    async def _look(self) -> None:
        self.must_look = False
        try:
            found = await self._tail.look(tuple(self._positions))
        except BaseException:
            self.must_look = True
            raise
        for slot, bounds in found.items():
            if slot not in self._positions:  # given up meanwhile
                continue
            line = self._tail.line(slot)
            if bounds.end > line.end:
                line.restart(bounds.end)
            self._not_below(slot, bounds.begin)

    async def _gather(self, max_records: int, max_bytes: int) -> list[Stored]:
        batch: list[Stored] = []
        room = max_bytes
        for _ in range(len(self._turn)):
            slot = self._turn[0]
            position, line = self._positions[slot], self._tail.line(slot)
            if position < line.first and batch:
                break
            self._turn.rotate(-1)
            if position < line.first:
                return await self._from_file(slot, max_records, max_bytes)
            if position < line.end:
                room = self._from_memory(slot, batch, max_records, room)
            if len(batch) >= max_records or room <= 0:
                break
        return batch

    def _from_memory(self, slot: int, batch: list[Stored], max_records: int, room: int) -> int:
        """Adds to the batch what fits and returns the room left; 0 when the next record did not fit."""
        line = self._tail.line(slot)
        for stored, size in islice(line.held, self._positions[slot] - line.first, None):
            if len(batch) >= max_records or (batch and size > room):
                room = 0
                break
            batch.append(stored)
            room -= size
            self._positions[slot] += 1
        slowest = min(reader.position(slot) for reader in line.readers)
        while line.held and line.first < slowest:
            line.drop_first()
        return room

    async def _from_file(self, slot: int, max_records: int, max_bytes: int) -> list[Stored]:
        position = self._positions[slot]
        batch = await self._tail.read(slot, position, max_records, max_bytes)
        if self._positions.get(slot) != position:  # given up meanwhile
            self.news.set()
            return []
        if batch:
            self._not_below(slot, batch[0].offset)
            self._positions[slot] = batch[-1].offset + 1
        else:  # retention was faster: the bounds say where to go on
            self.must_look = True
            self.news.set()
        return batch

    def _not_below(self, slot: int, oldest: int) -> None:
        """Offsets have no gaps: what lies between was dropped."""
        if (position := self._positions[slot]) < oldest:
            self._positions[slot] = oldest
            jump(self._place.topic, slot - self._place.first_slot, position, oldest, self._jumped)
