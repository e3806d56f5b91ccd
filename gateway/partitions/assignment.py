"""Which partitions of chat-deliveries this gateway serves: it takes over what the group assigns to
it, and hands over what it loses.

`app` runs its parts until cancelled; connections ask it where a user belongs. What each partition
is here says `table`. The sessions of one that is leaving get everything until they can be sent to
the new owner, for a stale owner still reads the true log. Source: design.md D7, D8, D9.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from backends.clock import Clock
from backends.concurrency import jittered
from backends.coordination import PartitionOwner, PartitionOwners
from backends.log import LogReader
from backends.telemetry.metrics import gauge
from gateway.deliveries.reader import DeliveryReader
from gateway.partitions.handover import Handover
from gateway.partitions.owner_cache import OwnerCache
from gateway.partitions.table import PartitionTable, State
from gateway.sessions import close
from gateway.sessions.hub import Hub
from gateway.timing import Timing
from schemas.errors import ChatError, Malformed, Unavailable
from schemas.topics import DELIVERIES, SESSION_DELIVERIES

log = logging.getLogger(__name__)

GROUP: Final = "gateways"


class PartitionAssignment:
    """One gateway among the others: `name` is its place in the group, `url` its whole URL for
    clients.

    Belongs to one event loop.
    """

    def __init__(
        self,
        reads: LogReader,
        owners: PartitionOwners,
        hub: Hub,
        reader: DeliveryReader,
        *,
        partitions: int,
        name: str,
        url: Callable[[], str],
        clock: Clock,
        timing: Timing,
    ) -> None:
        self._reads = reads
        self._owners = owners
        self._hub = hub
        self._reader = reader
        self._partitions = partitions
        self._name = name
        self._url = url
        self._clock = clock
        self._timing = timing
        self._owner_cache = OwnerCache(owners, clock=clock.elapsed_s)
        self._handover = Handover()
        self._table = PartitionTable()
        self._changed = asyncio.Event()
        self.settled = asyncio.Event()
        """Set once all that was assigned at first is served."""
        self.announced = asyncio.Event()
        """Set once that is announced too: until then log-ins may name the owner of before."""

    async def check_partitions(self) -> None:
        """Raises Malformed when the topics have another count than the settings: deliveries would
        be lost silently.

        Raises Unavailable when the log does not answer.
        """
        for topic in (DELIVERIES, SESSION_DELIVERIES):
            if (found := await self._reads.partitions(topic)) != self._partitions:
                raise Malformed(
                    f"{topic} has {found} partitions and KNCHAT_DELIVERY_PARTITIONS is "
                    f"{self._partitions}: "
                    f"set it to {found}, or recreate both topics of deliveries",
                    field="KNCHAT_DELIVERY_PARTITIONS",
                )

    # ---- where a user belongs --------------------------------------------------------------------

    def is_served(self, partition: int) -> bool:
        """Whether this partition's users may be let in now."""
        return self._table.is_served(partition)

    def served(self) -> frozenset[int]:
        """All these partitions."""
        return self._table.of(State.SERVED, State.ANNOUNCED)

    async def url_of_owner(self, partition: int) -> str | None:
        """None: it is served here. Else the whole URL of the gateway that owns the partition.

        Waits while the partition is assigned and not served yet: the caller has a deadline. Raises
        Unavailable when the owner is not known.
        """
        while not self._table.generation or self._table.is_assigned(partition):
            if self._table.is_served(partition):
                return None
            await self._changed.wait()
        url = await self._owner_cache.url_of(partition)
        if url is None or url == self._url():
            raise Unavailable("who serves this user is not known yet")
        return url

    def tick(self, now_s: float) -> None:
        """Called some times a second."""
        self._handover.tick(now_s)

    # ---- what is assigned ------------------------------------------------------------------------

    async def join(self) -> None:
        """Is a member of the group until cancelled; then it leaves. Raises Evicted."""
        while True:
            try:
                async with self._reads.join(GROUP, DELIVERIES, member=self._name) as sharing:
                    async for assigned in sharing:
                        self.set_assignment(assigned)
            except Unavailable as error:
                log.warning(
                    "the group cannot be joined, again in a moment", extra={"error": error.message}
                )
            await self._wait_to_retry()

    def set_assignment(self, assigned: frozenset[int]) -> None:
        """From now on these are assigned, and no others."""
        gained, lost = self._table.set_assignment(assigned, self._clock.elapsed_s())
        self._handover.cancel(assigned)
        self._owner_cache.forget(gained | lost)
        self._notify()
        log.info(
            "partitions assigned",
            extra={"mine": len(assigned), "gained": sorted(gained), "lost": sorted(lost)},
        )

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        gauge("knchat_partitions", len(self._table.of(State.SERVED, State.ANNOUNCED)))

    # ---- one after another -----------------------------------------------------------------------

    async def run(self) -> None:
        """Fills and follows what is assigned, and drops what has left, one step at a time, until
        cancelled.

        Everything else goes on. Raises Malformed when the topics were recreated with another count
        of partitions.
        """
        while True:
            changed = self._changed
            try:
                if not await self._step():
                    await changed.wait()
            except Unavailable as error:
                log.warning(
                    "no partition can be taken over, again in a moment",
                    extra={"error": error.message},
                )
                await self._wait_to_retry()

    async def _step(self) -> bool:
        """Whether there was something to do."""
        table = self._table
        leaving = table.of(State.LEAVING, State.MOVING)
        if table.is_recreated:
            await self.check_partitions()
            await self._reader.drop(self._reader.followed)
            table.on_dropped()
        elif not table.generation:
            return False
        elif empty := leaving.difference(self._hub.by_partition()):
            table.on_empty(empty)
            await self._reader.drop(empty)
        elif gained := table.of(State.ASSIGNED):
            partition = await self._reader.open(gained, table.is_wanted)
            if partition is not None:
                table.on_filled(partition)
                self._notify()
        else:
            self.settled.set()
            return False
        return True

    async def announce(self) -> None:
        """Writes what is served here to the table of owners, until cancelled.

        A database that is unavailable is waited for. Again from time to time, since nothing else
        would correct a wrong entry. Not while the log is unavailable: the partition may be
        another's.
        """
        table = self._table
        while True:
            changed, generation = self._changed, table.generation
            unannounced = table.of(State.SERVED)
            if not unannounced:
                if generation and not table.of(State.ASSIGNED):
                    self.announced.set()
                if (
                    await self._is_unchanged(changed, self._timing.announce_interval_s)
                    and await self._is_log_there()
                    and await self._is_unchanged(changed, self._timing.loss_timeout_s)
                ):
                    table.announce_again()
                continue
            try:
                await self._write_owners(sorted(unannounced))
            except Unavailable as error:
                log.warning(
                    "ownership cannot be announced, again in a moment",
                    extra={"error": error.message},
                )
                await self._wait_to_retry()
            else:
                table.on_announced(unannounced, generation)

    async def _write_owners(self, partitions: Sequence[int]) -> None:
        """Those that do not stand there as ours.

        The group assigned them to us since, so ours is newer, whatever the clocks say.
        """
        stand = await asyncio.gather(
            *(self._owners.owner_of(partition) for partition in partitions)
        )
        now_ms = self._clock.now_ms()
        wrong = [
            PartitionOwner(
                partition,
                self._url(),
                now_ms if there is None else max(now_ms, there.generation + 1),
            )
            for partition, there in zip(partitions, stand, strict=True)
            if there is None or there.url != self._url()
        ]
        await self._owners.own(wrong)

    async def _is_unchanged(self, changed: asyncio.Event, seconds: float) -> bool:
        """Whether nothing changes for so long, or a little less."""
        return await self._clock.sleep(jittered(seconds), unless=changed)

    async def _is_log_there(self) -> bool:
        try:
            await self._reads.ping()
        except ChatError:
            return False
        return True

    # ---- what is leaving -------------------------------------------------------------------------

    async def hand_over(self) -> None:
        """Until cancelled: sends the sessions of leaving partitions to the new owners, as soon as
        those have announced themselves.
        """
        while True:
            await asyncio.sleep(self._timing.owners_interval_s)
            if leaving := self._table.of(State.LEAVING, State.MOVING):
                await self._hand_over(leaving)

    async def _hand_over(self, leaving: frozenset[int]) -> None:
        staying = leaving.intersection(self._hub.by_partition())
        asked = [partition for partition in staying if self._table.is_leaving(partition)]
        self._owner_cache.forget(asked)
        urls = await asyncio.gather(*(self._owner_cache.url_of(partition) for partition in asked))
        now_s = self._clock.elapsed_s()
        for partition, url in zip(asked, urls, strict=True):
            if not self._table.is_leaving(partition):  # it is assigned again
                continue
            if url is not None and url != self._url():
                self._table.on_moving(partition)
                self._handover.begin(self._hub.by_partition().get(partition, ()), url)
            elif now_s - self._table.lost_s(partition) >= self._timing.handover_timeout_s:
                self._hub.close_partition(partition, close.HANDED_OVER)
        if leaving.difference(staying):
            self._notify()

    async def watch_epoch(self) -> None:
        """Until cancelled: starts over when the topics were recreated, which no client of Kafka
        reports.

        Cursors of before lead to `reset`. Raises Malformed when one has got more partitions:
        functions write to those too, and nothing would read it.
        """
        while True:
            await self._clock.sleep(self._timing.epoch_interval_s)
            try:
                recreated = await self._reader.is_recreated()
                if not recreated:
                    await self.check_partitions()
            except Unavailable as error:
                log.info("the log's epoch is not known", extra={"error": error.message})
                continue
            if recreated:
                log.warning("the topics of deliveries were recreated, all sessions are closed")
                self._table.recreate()
                self._hub.close_all(close.TOPIC_RECREATED)
                self._notify()

    async def _wait_to_retry(self) -> None:
        await asyncio.sleep(jittered(self._timing.retry_delay_s))
