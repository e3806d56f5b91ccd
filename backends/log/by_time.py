"""Ranges of offsets, read once, in the order of their records' times.

For jobs that look back at the log, such as the audit. It knows the port only.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from backends.log import ConsumerRecord, LogReader

# Of each partition so much is held at once: 3 MiB for the 27 of outcomes.
MAX_RECORDS: Final = 100
MAX_BYTES: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The offsets `begin` to `end` of a partition, the last one not in it."""

    topic: str
    partition: int
    begin: int
    end: int


async def read_by_time(
    reads: LogReader, spans: Iterable[OffsetRange]
) -> AsyncIterator[ConsumerRecord]:
    """The records of these spans, oldest first; those of a partition in their order, whatever times
    they have.

    What retention has dropped meanwhile is passed over. Errors: Unavailable when the log cannot be
    read.
    """
    cursors = [_Cursor(reads, span) for span in spans]
    heads = [
        (record.at_ms, number, record)
        for number, cursor in enumerate(cursors)
        if (record := await cursor.next())
    ]
    heapq.heapify(heads)
    while heads:
        _, number, record = heads[0]
        yield record
        following = await cursors[number].next()
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (following.at_ms, number, following))


class _Cursor:
    """Goes through one span."""

    def __init__(self, reads: LogReader, span: OffsetRange) -> None:
        self._reads, self._span, self._offset = reads, span, span.begin
        self._held: Sequence[ConsumerRecord] = ()
        self._at = 0

    async def next(self) -> ConsumerRecord | None:
        """The next record; None at the end."""
        if self._at == len(self._held):
            if self._offset >= self._span.end:
                return None
            topic, partition = self._span.topic, self._span.partition
            self._held = await self._reads.read(
                topic, partition, self._offset, max_records=MAX_RECORDS, max_bytes=MAX_BYTES
            )
            self._at = 0
            if not self._held:
                return None
            self._offset = self._held[-1].offset + 1
        record = self._held[self._at]
        self._at += 1
        return record if record.offset < self._span.end else None
