"""Cursors outside the replay buffer: one that is ahead of it waits for the reader, one that is
behind it gets what was missed.

Connections ask before they admit a session, so `resumed` is said only when nothing will be missing.
Before the replay buffer the log is read in one pass a partition for all sessions that wait, and one
partition after the other. Source: design.md D9.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from backends.log import LogReader
from gateway.deliveries.reader import DeliveryReader
from gateway.deliveries.records import ReceivedRecord, parse
from gateway.sessions.deduplicator import Deduplicator
from gateway.sessions.feed import Feed
from gateway.sessions.replay_buffer import Behind, Cursor, Missed, Position
from schemas import chat_pb2 as pb
from schemas.deliveries import bytes_for_one
from schemas.errors import Unavailable
from schemas.topics import DELIVERIES, DELIVERIES_MADE

log = logging.getLogger(__name__)

FOLLOWER_DELAY_S: Final = 0.25
"""Most cursors ahead of the replay buffer are ahead by a moment.

After it the log is asked whether they are of this log at all.
"""
PASS_TIMEOUT_S: Final = 15.0
"""What a hello waits for a pass; then it is a `reset`. The client waits 20 s for its welcome."""
MAX_PER_READ: Final = 256
MAX_PER_TURN: Final = 64
"""Records that are looked through in one turn of the event loop: about 2 ms."""
PAUSE_FACTOR: Final = 3
"""A pause of so many times as long follows each: clients with old cursors get a quarter of the loop
at most.
"""
MAX_MISSED_BYTES: Final = 2**20
"""What one device may have missed before the replay buffer; beyond, it reloads from history."""
MAX_PASS_BYTES: Final = 16 * 2**20
"""What all sessions of one pass may have missed together; beyond, the one that has missed most
reloads from history.
"""


@dataclass(slots=True, eq=False)
class _Waiter:
    user: int
    position: Position
    done: asyncio.Future[Behind | None]
    missed: list[Missed] = field(default_factory=list)
    size: int = 0


class Resume:
    """Belongs to one event loop.

    `records`: how far before the replay buffer a cursor may lie; `reader` knows which are believed.
    """

    def __init__(
        self,
        reads: LogReader,
        feed: Feed,
        reader: DeliveryReader,
        *,
        records: int,
        timeout_s: float = PASS_TIMEOUT_S,
        missed_bytes: int = MAX_MISSED_BYTES,
        pass_bytes: int = MAX_PASS_BYTES,
    ) -> None:
        self._reads = reads
        self._feed = feed
        self._replay_buffer = feed.replay_buffer
        self._reader = reader
        self._records = records
        self._timeout_s = timeout_s
        self._missed_bytes = missed_bytes
        self._pass_bytes = pass_bytes
        self._waiting: dict[int, list[_Waiter]] = {}
        self._asked = asyncio.Event()

    async def wait_until_reached(self, partition: int, cursor: Cursor) -> None:
        """Returns when the replay buffer reaches the cursor, or the log ends before it.

        The caller has a deadline. Raises Unavailable.
        """
        if cursor.position <= self._replay_buffer.end(partition):
            return
        reached = asyncio.Event()
        forget = self._feed.notify_at(partition, cursor.position, reached.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(FOLLOWER_DELAY_S):
                    await reached.wait()
            if not reached.is_set() and cursor.position <= (
                (await self._reads.bounds(DELIVERIES, [partition]))[partition].end,
                0,
            ):
                await reached.wait()
        finally:
            forget()

    async def missed(self, partition: int, user: int, cursor: Cursor) -> Behind | None:
        """What the user missed from the cursor to the replay buffer; None: it is too far, too much,
        or the log no longer has it.

        Raises Unavailable when the log cannot be read, or does not give it in time.
        """
        if not self._replay_buffer.has_partition(partition):
            raise Unavailable("the partition has gone to another gateway")
        if not 0 < self._replay_buffer.begin(partition) - cursor.position[0] <= self._records:
            return None
        waiter = _Waiter(user, cursor.position, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(partition, []).append(waiter)
        self._asked.set()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await waiter.done
        except TimeoutError:
            return None

    async def work(self) -> None:
        """Reads for the sessions that wait, until cancelled."""
        while True:
            await self._asked.wait()
            while self._waiting:
                partition = next(iter(self._waiting))
                waiters = [
                    waiter for waiter in self._waiting.pop(partition) if not waiter.done.done()
                ]
                try:
                    await self._pass(partition, waiters)
                except Unavailable as error:
                    log.info(
                        "what was missed cannot be read",
                        extra={"partition": partition, "error": error.message},
                    )
                    for waiter in waiters:
                        if not waiter.done.done():
                            waiter.done.set_exception(error)
            self._asked.clear()

    async def _pass(self, partition: int, waiters: list[_Waiter]) -> None:
        offset = first = min((waiter.position[0] for waiter in waiters), default=0)
        deduplicator = Deduplicator()
        while (
            waiters
            and self._replay_buffer.has_partition(partition)
            and offset < self._replay_buffer.begin(partition)
        ):
            until = self._replay_buffer.begin(partition)
            found = await self._reads.read(
                DELIVERIES, partition, offset, max_records=min(MAX_PER_READ, until - offset)
            )
            records = [
                self._reader.record(stored, DELIVERIES_MADE)
                for stored in found
                if stored.offset < until
            ]
            for start in range(0, len(records), MAX_PER_TURN):
                await self._look_through(
                    records[start : start + MAX_PER_TURN], waiters, deduplicator
                )
            offset = found[-1].offset + 1 if found else until
            waiters = [waiter for waiter in waiters if not waiter.done.done()]
            self._bound(waiters)
        # What expired while it was read is missing without a word, so the log is asked at the end.
        begin = (await self._reads.bounds(DELIVERIES, [partition]))[partition].begin
        log.info(
            "read before the replay buffer",
            extra={"partition": partition, "records": offset - first, "sessions": len(waiters)},
        )
        for waiter in waiters:
            if not waiter.done.done():
                waiter.done.set_result(
                    Behind(waiter.missed, (offset, 0)) if waiter.position[0] >= begin else None
                )

    async def _look_through(
        self,
        records: Sequence[ReceivedRecord],
        waiters: Sequence[_Waiter],
        deduplicator: Deduplicator,
    ) -> None:
        clock = asyncio.get_running_loop().time
        began_s = clock()
        of_user: dict[int, list[_Waiter]] = {}
        for waiter in waiters:
            of_user.setdefault(waiter.user, []).append(waiter)
        for record in records:
            for index, delivery in enumerate(parse(record.data, pb.Deliveries).deliveries):
                deduplicator.drop_repeats(record.partition, record.at_ms, delivery)
                for user in delivery.users:
                    for waiter in of_user.get(user, ()):
                        if waiter.position <= (record.offset, index):
                            raw = bytes_for_one(delivery)
                            waiter.missed.append(((record.offset, index + 1), raw))
                            waiter.size += len(raw)
        await asyncio.sleep(PAUSE_FACTOR * (clock() - began_s))

    def _bound(self, waiters: list[_Waiter]) -> None:
        """Drops the sessions that have missed too much: they reload from history."""
        waiters.sort(key=lambda waiter: waiter.size)
        while waiters and (
            waiters[-1].size > self._missed_bytes
            or sum(waiter.size for waiter in waiters) > self._pass_bytes
        ):
            waiters.pop().done.set_result(None)
