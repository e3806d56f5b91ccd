"""What a cursor outside the ring leads to: one that is ahead of it waits for the follower, one that is behind it gets what was missed.

The conversations ask before they let anybody in, so `resumed` is said only when nothing will be missing. Behind the ring the log is
read in one pass a partition for all who wait for it, and one partition after the other. Source: design.md D9.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from backends.log import LogReader
from gateway.delivery import Delivery
from gateway.hub import Hub
from gateway.records import Record, parse
from gateway.ring import Behind, Cursor, Missed, Position
from gateway.told import Told
from schemas import chat_pb2 as pb
from schemas.errors import Unavailable
from schemas.topics import DELIVERIES, DELIVERIES_MADE

log = logging.getLogger(__name__)

SOON_S: Final = 0.25
"""Most cursors ahead of a ring are ahead by a moment. After it the log is asked whether they are of this log at all."""
PASS_S: Final = 15.0
"""What a hello waits for a pass; then it is a `reset`. The client waits 20 s for its welcome."""
IN_ONE_READ: Final = 256
IN_ONE_TURN: Final = 64
"""Records that are looked through in one turn of the event loop: about 2 ms."""
PAUSES: Final = 3
"""So many times as long a pause follows each: whoever comes back with old cursors all the time gets a quarter of the loop at most."""
KEPT_BYTES: Final = 2**20
"""What one device may have missed behind the ring; who has missed more reloads from history."""
PASS_BYTES: Final = 16 * 2**20
"""What all who wait for one pass may have missed; whoever has missed most goes first."""


@dataclass(slots=True, eq=False)
class _Waiter:
    user: int
    position: Position
    done: asyncio.Future[Behind | None]
    missed: list[Missed] = field(default_factory=list)
    size: int = 0


class Resume:
    """Belongs to one event loop. `records`: how far behind the ring a cursor may lie; `delivery` knows which records are believed."""

    def __init__(self, reads: LogReader, hub: Hub, delivery: Delivery, *, records: int) -> None:
        self._reads = reads
        self._hub = hub
        self._delivery = delivery
        self._records = records
        self._waiting: dict[int, list[_Waiter]] = {}
        self._asked = asyncio.Event()

    async def reached(self, partition: int, cursor: Cursor) -> None:
        """Returns when the ring reaches the cursor, or the log ends before it. The caller has a deadline. Raises Unavailable."""
        if cursor.position <= self._hub.ring.end(partition):
            return
        reached = asyncio.Event()
        forget = self._hub.await_end(partition, cursor.position, reached.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(SOON_S):
                    await reached.wait()
            if not reached.is_set() and cursor.position <= ((await self._reads.bounds(DELIVERIES, [partition]))[partition].end, 0):
                await reached.wait()
        finally:
            forget()

    async def missed(self, partition: int, user: int, cursor: Cursor) -> Behind | None:
        """What the user missed from the cursor to where the ring begins; None: it is too far, too much, or the log no longer has it.

        Raises Unavailable when the log cannot be read, or does not give it in time.
        """
        if not self._hub.holds(partition):
            raise Unavailable("the partition has gone to another gateway")
        if not 0 < self._hub.ring.begin(partition) - cursor.position[0] <= self._records:
            return None
        waiter = _Waiter(user, cursor.position, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(partition, []).append(waiter)
        self._asked.set()
        try:
            async with asyncio.timeout(PASS_S):
                return await waiter.done
        except TimeoutError:
            return None

    async def work(self) -> None:
        """Reads for ever for those who wait."""
        while True:
            await self._asked.wait()
            while self._waiting:
                partition = next(iter(self._waiting))
                waiters = [waiter for waiter in self._waiting.pop(partition) if not waiter.done.done()]
                try:
                    await self._pass(partition, waiters)
                except Unavailable as error:
                    log.info("what was missed cannot be read", extra={"partition": partition, "error": error.message})
                    for waiter in waiters:
                        if not waiter.done.done():
                            waiter.done.set_exception(error)
            self._asked.clear()

    async def _pass(self, partition: int, waiters: list[_Waiter]) -> None:
        offset = first = min((waiter.position[0] for waiter in waiters), default=0)
        told = Told()
        while waiters and self._hub.holds(partition) and offset < self._hub.ring.begin(partition):
            until = self._hub.ring.begin(partition)
            found = await self._reads.read(DELIVERIES, partition, offset, max_records=min(IN_ONE_READ, until - offset))
            records = [self._delivery.record(stored, DELIVERIES_MADE) for stored in found if stored.offset < until]
            for start in range(0, len(records), IN_ONE_TURN):
                await self._look_through(records[start : start + IN_ONE_TURN], waiters, told)
            offset = found[-1].offset + 1 if found else until
            waiters = [waiter for waiter in waiters if not waiter.done.done()]
            self._bound(waiters)
        # What expired while it was read is missing without a word, so the log is asked at the end.
        begin = (await self._reads.bounds(DELIVERIES, [partition]))[partition].begin
        log.info("read behind the ring", extra={"partition": partition, "records": offset - first, "sessions": len(waiters)})
        for waiter in waiters:
            if not waiter.done.done():
                waiter.done.set_result(Behind(waiter.missed, (offset, 0)) if waiter.position[0] >= begin else None)

    async def _look_through(self, records: Sequence[Record], waiters: Sequence[_Waiter], told: Told) -> None:
        clock = asyncio.get_running_loop().time
        began_s = clock()
        of_user: dict[int, list[_Waiter]] = {}
        for waiter in waiters:
            of_user.setdefault(waiter.user, []).append(waiter)
        for record in records:
            for index, delivery in enumerate(parse(record.data, pb.Deliveries).deliveries):
                told.sift(record.partition, record.at_ms, delivery)
                for user in delivery.users:
                    for waiter in of_user.get(user, ()):
                        if waiter.position <= (record.offset, index):
                            raw = delivery.SerializeToString()
                            waiter.missed.append(((record.offset, index + 1), raw))
                            waiter.size += len(raw)
        await asyncio.sleep(PAUSES * (clock() - began_s))

    def _bound(self, waiters: list[_Waiter]) -> None:
        """Lets go of those who have missed too much: they reload from history."""
        waiters.sort(key=lambda waiter: waiter.size)
        while waiters and (waiters[-1].size > KEPT_BYTES or sum(waiter.size for waiter in waiters) > PASS_BYTES):
            waiters.pop().done.set_result(None)
