"""The readers of this process, and what was appended lately for them: an append wakes them at once
and hands its records over unread.

A reader takes a partition's records from memory where they are held without a gap, else from the
file, so that order and completeness depend on offsets alone. Lives on the event loop; knows no SQL.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Final, Self

from backends.log import Bounds, ConsumerRecord, OnOffsetReset
from backends.log.embedded.file import OFFSET_BITS, Written, row_bytes
from backends.log.embedded.tables import Place
from backends.log.offset_resets import report_offset_reset
from schemas.errors import Unavailable

# Records leave when every reader of their partition has taken them; a slow reader goes on from the
# file beyond this.
_MAX_RECENT_BYTES: Final = 2**20

MAX_BATCH_RECORDS: Final = 500
MAX_BATCH_BYTES: Final = 2**20

Read = Callable[[int, int, int, int], Awaitable[list[ConsumerRecord]]]
"""(slot, offset, most records, most bytes) -> records from the file."""
Look = Callable[[Collection[int]], Awaitable[Mapping[int, Bounds]]]
"""Slots -> what the file holds of each."""


class _RecentRecords:
    """The newest records of one partition that has readers: those before `end`, without a gap."""

    __slots__ = ("end", "held", "readers", "size")

    def __init__(self) -> None:
        self.end = 0
        self.held: deque[tuple[ConsumerRecord, int]] = deque()
        self.size = 0
        self.readers: set[EmbeddedPartitionConsumer] = set()

    @property
    def first(self) -> int:
        return self.end - len(self.held)

    def extend(self, stored: ConsumerRecord, size: int) -> None:
        if stored.offset != self.end:
            self.restart(stored.offset)
        self.held.append((stored, size))
        self.end += 1
        self.size += size
        while self.size > _MAX_RECENT_BYTES and len(self.held) > 1:
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

    def __init__(
        self, *, stored: Callable[[Written], ConsumerRecord], read: Read, look: Look
    ) -> None:
        self.closed = False
        self.read = read
        self.look = look
        self._stored = stored
        self._recent: dict[int, _RecentRecords] = {}
        self._readers: set[EmbeddedPartitionConsumer] = set()

    def appended(self, rows: Sequence[Written]) -> None:
        """Hands rows of this process to their readers, and wakes them."""
        woken: set[EmbeddedPartitionConsumer] = set()
        for row in rows:
            # A look at the file may have told us already of rows that arrive here only now: those
            # are read from the file.
            recent = self._recent.get(row[0] >> OFFSET_BITS)
            if recent is not None and (stored := self._stored(row)).offset >= recent.end:
                recent.extend(stored, row_bytes(row))
                woken |= recent.readers
        for reader in woken:
            reader.news.set()

    def others_wrote(self) -> None:
        """Makes every reader look at the file."""
        for reader in self._readers:
            reader.must_look = True
            reader.news.set()

    def attach(self, reader: EmbeddedPartitionConsumer, slots: Collection[int]) -> None:
        """From now on what is appended to these slots is held for this reader."""
        for slot in slots:
            self._recent.setdefault(slot, _RecentRecords()).readers.add(reader)
        self._readers.add(reader)

    def detach(self, reader: EmbeddedPartitionConsumer, slots: Collection[int]) -> None:
        """Undoes `attach`."""
        for slot in slots:
            recent = self._recent[slot]
            recent.readers.discard(reader)
            if not recent.readers:
                del self._recent[slot]
        self._readers.discard(reader)

    @property
    def has_readers(self) -> bool:
        """Whether any partition is followed."""
        return bool(self._readers)

    def recent(self, slot: int) -> _RecentRecords:
        """Of an attached slot."""
        return self._recent[slot]

    def close(self) -> None:
        """Ends all readers."""
        self.closed = True
        for reader in self._readers:
            reader.news.set()


class EmbeddedPartitionConsumer:
    """A position in each of some partitions of a topic.

    One task reads; use it as a context manager. Implements `PartitionConsumer`.
    """

    def __init__(
        self,
        tail: Tail,
        place: Place,
        offsets: Mapping[int, int],
        on_offset_reset: OnOffsetReset | None = None,
    ) -> None:
        self.news = asyncio.Event()
        self.must_look = True
        self._tail = tail
        self._place = place
        self._on_offset_reset = on_offset_reset
        self._positions = place.slots(offsets)
        self._turn = deque(self._positions)

    def __enter__(self) -> Self:
        self._tail.attach(self, self._positions)
        return self

    async def assign(self, offsets: Mapping[int, int]) -> None:
        """See `PartitionConsumer`. Does not wait."""
        positions = self._place.slots(offsets)
        gained = {
            slot: position for slot, position in positions.items() if slot not in self._positions
        }
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

    async def __anext__(self) -> Sequence[ConsumerRecord]:
        """The next batch; the end when the log is closed."""
        try:
            return await self.next(MAX_BATCH_RECORDS, MAX_BATCH_BYTES)
        except Unavailable:
            if self._tail.closed:
                raise StopAsyncIteration from None
            raise

    async def next(
        self, max_records: int, max_bytes: int, wait_s: float | None = None
    ) -> list[ConsumerRecord]:
        """What comes next, at least one record; nothing when there is none within `wait_s` (None:
        no timeout).

        Partitions take turns. Errors: Unavailable when the log cannot be read or is closed; nothing
        is skipped then.
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
            recent = self._tail.recent(slot)
            if bounds.end > recent.end:
                recent.restart(bounds.end)
            self._not_below(slot, bounds.begin)

    async def _gather(self, max_records: int, max_bytes: int) -> list[ConsumerRecord]:
        batch: list[ConsumerRecord] = []
        room = max_bytes
        for _ in range(len(self._turn)):
            slot = self._turn[0]
            position, recent = self._positions[slot], self._tail.recent(slot)
            if position < recent.first and batch:
                break
            self._turn.rotate(-1)
            if position < recent.first:
                return await self._from_file(slot, max_records, max_bytes)
            if position < recent.end:
                room = self._from_memory(slot, batch, max_records, room)
            if len(batch) >= max_records or room <= 0:
                break
        return batch

    def _from_memory(
        self, slot: int, batch: list[ConsumerRecord], max_records: int, room: int
    ) -> int:
        """Adds to the batch what fits and returns the room left; 0 when the next record did not
        fit.
        """
        recent = self._tail.recent(slot)
        for stored, size in islice(recent.held, self._positions[slot] - recent.first, None):
            if len(batch) >= max_records or (batch and size > room):
                room = 0
                break
            batch.append(stored)
            room -= size
            self._positions[slot] += 1
        slowest = min(reader.position(slot) for reader in recent.readers)
        while recent.held and recent.first < slowest:
            recent.drop_first()
        return room

    async def _from_file(self, slot: int, max_records: int, max_bytes: int) -> list[ConsumerRecord]:
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
            report_offset_reset(
                self._place.topic,
                slot - self._place.first_slot,
                position,
                oldest,
                self._on_offset_reset,
            )
