"""What the log held of a partition before now: read back chunk by chunk, and the log-outs in it.

`reader` uses both for what it takes over. Source: design.md D9, D19.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from backends.clock import Clock
from backends.log import ConsumerRecord, LogReader
from gateway.deliveries.records import ReceivedRecord, parse
from gateway.sessions.revocations import Revocations
from schemas import chat_pb2 as pb
from schemas.topics import DELIVERIES, DELIVERIES_MADE, EventType

# How many records are read back at once: the first guess, and the bytes that the next guesses aim
# at.
READ_BACK_RECORDS: Final = 128
READ_BACK_BYTES: Final = 2**20

Chunks = AsyncIterator[tuple[int, list[ReceivedRecord]]]


async def read_back(
    reads: LogReader,
    record_of: Callable[[ConsumerRecord, EventType], ReceivedRecord],
    partition: int,
    begin: int,
    until: int,
) -> Chunks:
    """Chunks of deliveries, the newest chunk first, each oldest first, with the offset where it
    starts.
    """
    step = READ_BACK_RECORDS
    while until > begin:
        start = max(begin, until - step)
        chunk: list[ReceivedRecord] = []
        offset = start
        while offset < until:
            found = await reads.read(DELIVERIES, partition, offset, max_records=until - offset)
            if not chunk and found and found[0].offset > start:
                # Retention was faster: there is nothing older.
                begin = start = min(found[0].offset, until)
            chunk += [
                record_of(stored, DELIVERIES_MADE) for stored in found if stored.offset < until
            ]
            offset = found[-1].offset + 1 if found else until
        yield start, chunk
        step = (
            min(2 * step, 8 * READ_BACK_RECORDS)
            if sum(len(record.data) for record in chunk) < READ_BACK_BYTES
            else max(step // 2, 1)
        )
        until = start


class PastLogOuts:
    """Log-outs from before the replay buffer begins, of devices whose tokens may still be valid."""

    def __init__(
        self,
        back: Callable[[int, int, int], Chunks],
        revocations: Revocations,
        *,
        token_s: int,
        clock: Clock,
    ) -> None:
        self._back = back
        self._revocations = revocations
        self._token_ms = token_s * 1_000
        self._clock = clock
        self._left: dict[int, tuple[int, int]] = {}
        """Partition -> from and to where they are still to be looked for."""
        self._added = asyncio.Event()

    def add(self, partition: int, begin: int, until: int) -> None:
        """They are to be looked for between these offsets."""
        self._left[partition] = (begin, until)
        self._added.set()

    def drop(self, partition: int) -> None:
        """This partition's are not looked for any more."""
        self._left.pop(partition, None)

    async def wait(self) -> None:
        """Returns when there is something to look through."""
        await self._added.wait()

    async def read(self) -> None:
        """Looks through all that was added. Raises Unavailable."""
        self._added.clear()
        while self._left:
            partition, (begin, until) = next(iter(self._left.items()))
            since_ms = self._clock.now_ms() - self._token_ms
            async for _, chunk in self._back(partition, begin, until):
                for record in chunk:
                    self._revocations.apply(
                        parse(record.data, pb.Deliveries).deliveries, record.at_ms
                    )
                if chunk and chunk[0].at_ms < since_ms:
                    break
            if self._left.get(partition) == (begin, until):
                del self._left[partition]
