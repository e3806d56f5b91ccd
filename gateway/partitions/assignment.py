"""Which partitions of chat-deliveries this gateway serves: it takes over what the group assigns to
it, and hands over what it loses.

`app` runs its parts until cancelled; connections ask it where a user belongs. A partition is
*assigned* while the group says so, *served* once it is in the replay buffer and its records are
followed, *leaving* when it is served and no longer assigned: its sessions get everything until they
can be sent to the new owner, for a stale owner still reads the true log. Source: design.md D7, D8,
D9.
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
        self._assigned: frozenset[int] | None = None
        self._served: set[int] = set()
        self._announced: set[int] = set()
        """What is assigned and stands in the table of owners."""
        self._leaving_since_s: dict[int, float] = {}
        self._moving: set[int] = set()
        """What is leaving and whose sessions are on their way."""
        self._recreated = False
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
        return (
            self._assigned is not None and partition in self._assigned and partition in self._served
        )

    async def url_of_owner(self, partition: int) -> str | None:
        """None: it is served here. Else the whole URL of the gateway that owns the partition.

        Waits while the partition is assigned and not served yet: the caller has a deadline. Raises
        Unavailable when the owner is not known.
        """
        while self._assigned is None or partition in self._assigned:
            if self.is_served(partition):
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
        before, self._assigned = self._assigned or frozenset(), assigned
        for partition in assigned:
            self._leaving_since_s.pop(partition, None)
            self._moving.discard(partition)
        self._handover.cancel(assigned)
        now_s = self._clock.elapsed_s()
        self._leaving_since_s |= dict.fromkeys(before - assigned, now_s)
        self._announced &= assigned
        self._owner_cache.forget(assigned ^ before)
        self._notify()
        log.info(
            "partitions assigned",
            extra={
                "mine": len(assigned),
                "gained": sorted(assigned - before),
                "lost": sorted(before - assigned),
            },
        )

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        gauge("knchat_partitions", len(self._served & (self._assigned or frozenset())))

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
        if self._recreated:
            await self.check_partitions()
            await self._reader.drop(self._reader.followed)
            self._recreated = False
        elif self._assigned is None:
            return False
        elif empty := (self._served - self._assigned).difference(self._hub.by_partition()):
            self._served -= empty
            await self._reader.drop(empty)
        elif gained := self._assigned - self._served:
            await self._take_over(gained)
        else:
            self.settled.set()
            return False
        return True

    async def _take_over(self, gained: frozenset[int]) -> None:
        """One of these, as far as it stays assigned."""

        def wanted(partition: int) -> bool:
            return partition in (self._assigned or ()) and not self._recreated

        partition = await self._reader.open(gained, wanted)
        if partition is not None and not self._recreated:
            self._served.add(partition)
            self._notify()

    async def announce(self) -> None:
        """Writes what is served here to the table of owners, until cancelled.

        A database that is unavailable is waited for. Again from time to time, since nothing else
        would correct a wrong entry. Not while the log is unavailable: the partition may be
        another's.
        """
        while True:
            changed, assigned = self._changed, self._assigned or frozenset()
            unannounced = self._served & assigned - self._announced
            if not unannounced:
                if self._assigned is not None and self._assigned <= self._served:
                    self.announced.set()
                if (
                    await self._is_unchanged(changed, self._timing.announce_interval_s)
                    and await self._is_log_there()
                    and await self._is_unchanged(changed, self._timing.loss_timeout_s)
                ):
                    self._announced.clear()
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
                if (
                    self._assigned == assigned
                ):  # else another may have written meanwhile what is assigned again now
                    self._announced |= unannounced

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
            if self._assigned is not None and (leaving := self._served - self._assigned):
                await self._hand_over(leaving)

    async def _hand_over(self, leaving: set[int]) -> None:
        staying = leaving.intersection(self._hub.by_partition())
        asked = [partition for partition in staying if partition not in self._moving]
        self._owner_cache.forget(asked)
        urls = await asyncio.gather(*(self._owner_cache.url_of(partition) for partition in asked))
        now_s = self._clock.elapsed_s()
        for partition, url in zip(asked, urls, strict=True):
            if (since_s := self._leaving_since_s.get(partition)) is None:  # it is assigned again
                continue
            if url is not None and url != self._url():
                self._moving.add(partition)
                self._handover.begin(self._hub.by_partition().get(partition, ()), url)
            elif now_s - since_s >= self._timing.handover_timeout_s:
                self._hub.close_partition(partition, close.HANDED_OVER)
        if leaving.difference(staying):
            self._notify()

    async def watch_epoch(self) -> None:
        """Until cancelled: begins anew when the topics were recreated, which no client of Kafka
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
                self._recreated = True
                self._served.clear()
                self._hub.close_all(close.TOPIC_RECREATED)
                self._notify()

    async def _wait_to_retry(self) -> None:
        await asyncio.sleep(jittered(self._timing.retry_delay_s))
