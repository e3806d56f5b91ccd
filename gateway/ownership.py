"""Which partitions of chat-deliveries this gateway serves: it takes over what the group of gateways gives it, and hands over what it loses.

`server` runs its parts for ever; conversations ask it where a user belongs. A partition is *mine* while the group says so, *served* once
its ring is filled and its records are followed. What is served and no longer mine is *left*: its sessions get everything until they can be
sent to the new owner, for a stale owner still reads the true log. Source: design.md D7, D8, D9.
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
from gateway.acts import RESTART, STARTING
from gateway.delivery import Delivery
from gateway.directory import Directory
from gateway.hub import Hub
from gateway.moves import Moves
from schemas.errors import ChatError, Malformed, Unavailable
from schemas.topics import DELIVERIES, SESSION_DELIVERIES

log = logging.getLogger(__name__)

GROUP: Final = "gateways"
AGAIN_S: Final = 1.0
LOOK_S: Final = 0.5
"""How often the new owners of what is left are looked for."""
LEAVE_S: Final = 30.0
"""So long a new owner may take to fill its ring and say that it is there. Then the sessions are told to come back some time (4006)."""
EPOCH_S: Final = 10.0
TELL_AGAIN_S: Final = 30.0
"""So long what another has written over ours may stand, one that did not know yet that it had lost the partition."""
CERTAIN_S: Final = 5.0
"""After the log has answered, the loss of a partition is told within this: a heartbeat, and 2 to 3 s to join again (measured)."""


class Ownership:
    """One gateway among the others: `name` is its place in the group, `url` its whole URL for clients.

    Belongs to one event loop.
    """

    def __init__(
        self,
        reads: LogReader,
        owners: PartitionOwners,
        hub: Hub,
        delivery: Delivery,
        *,
        partitions: int,
        name: str,
        url: Callable[[], str],
        clock: Clock,
    ) -> None:
        self._reads = reads
        self._owners = owners
        self._hub = hub
        self._delivery = delivery
        self._partitions = partitions
        self._name = name
        self._url = url
        self._clock = clock
        self._directory = Directory(owners, clock=clock.elapsed_s)
        self._moves = Moves(hub.do)
        self._mine: frozenset[int] | None = None
        self._served: set[int] = set()
        self._told: set[int] = set()
        """What is mine and stands in the table of owners."""
        self._left_since_s: dict[int, float] = {}
        self._going: set[int] = set()
        """What is left and whose sessions are on their way."""
        self._remade = False
        self._news = asyncio.Event()
        self.settled = asyncio.Event()
        """Set once all that was mine at first is served."""
        self.told = asyncio.Event()
        """Set once that is written down too: until then log-ins may name who owned it before."""

    async def check_partitions(self) -> None:
        """Raises Malformed when the topics have another count than everybody computes with: deliveries would be lost without a word.

        Raises Unavailable when the log does not answer.
        """
        for topic in (DELIVERIES, SESSION_DELIVERIES):
            if (found := await self._reads.partitions(topic)) != self._partitions:
                raise Malformed(
                    f"{topic} has {found} partitions and KNCHAT_DELIVERY_PARTITIONS is {self._partitions}: "
                    f"set it to {found}, or make both topics of deliveries anew",
                    field="KNCHAT_DELIVERY_PARTITIONS",
                )

    # ---- where a user belongs ------------------------------------------------------------------------------------------------------------

    def serves(self, partition: int) -> bool:
        """Whether this partition's users may be let in now."""
        return self._mine is not None and partition in self._mine and partition in self._served

    async def home_of(self, partition: int) -> str | None:
        """None: it is served here. Else the whole URL of the gateway that owns the partition.

        Waits while the partition is mine and not served yet: the caller has a deadline. Raises Unavailable when the owner is not known.
        """
        while self._mine is None or partition in self._mine:
            if self.serves(partition):
                return None
            await self._news.wait()
        url = await self._directory.url_of(partition)
        if url is None or url == self._url():
            raise Unavailable("who serves this user is not known yet")
        return url

    def tick(self, now_s: float) -> None:
        """Called some times a second."""
        self._moves.tick(now_s)

    # ---- what is mine --------------------------------------------------------------------------------------------------------------------

    async def share(self) -> None:
        """Is a member of the group for ever; when it is cancelled, it leaves. Raises Evicted."""
        while True:
            try:
                async with self._reads.join(GROUP, DELIVERIES, member=self._name) as sharing:
                    async for mine in sharing:
                        self.owns(mine)
            except Unavailable as error:
                log.warning("the group cannot be joined, again in a moment", extra={"error": error.message})
            await _again()

    def owns(self, mine: frozenset[int]) -> None:
        """From now on these are mine, and no others."""
        before, self._mine = self._mine or frozenset(), mine
        for partition in mine:
            self._left_since_s.pop(partition, None)
            self._going.discard(partition)
        self._moves.cancel(mine)
        now_s = self._clock.elapsed_s()
        self._left_since_s |= dict.fromkeys(before - mine, now_s)
        self._told &= mine
        self._directory.forget(mine ^ before)
        self._tell_news()
        log.info("partitions shared out", extra={"mine": len(mine), "gained": sorted(mine - before), "lost": sorted(before - mine)})

    def _tell_news(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
        gauge("knchat_partitions", len(self._served & (self._mine or frozenset())))

    # ---- one after another ---------------------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Fills and follows for ever what is mine, and lets go of what was left, one step at a time; everything else goes on meanwhile.

        Raises Malformed when the topics were made again with another count of partitions.
        """
        while True:
            news = self._news
            try:
                if not await self._step():
                    await news.wait()
            except Unavailable as error:
                log.warning("no partition can be taken over, again in a moment", extra={"error": error.message})
                await _again()

    async def _step(self) -> bool:
        """Whether there was something to do."""
        if self._remade:
            await self.check_partitions()
            await self._delivery.drop(self._delivery.followed)
            self._remade = False
        elif self._mine is None:
            return False
        elif empty := (self._served - self._mine).difference(self._hub.by_partition()):
            self._served -= empty
            await self._delivery.drop(empty)
        elif gained := self._mine - self._served:
            await self._gain(gained)
        else:
            self.settled.set()
            return False
        return True

    async def _gain(self, gained: frozenset[int]) -> None:
        """One of these, as far as it stays mine."""

        def wanted(partition: int) -> bool:
            return partition in (self._mine or ()) and not self._remade

        partition = await self._delivery.open(gained, wanted)
        if partition is not None and not self._remade:
            self._served.add(partition)
            self._tell_news()

    async def tell(self) -> None:
        """Writes down for ever what is served here, for log-ins and the other gateways. A database that is away is waited for.

        Again from time to time, since nobody else would set right what stands there. Not while the log is away: it may be another's by now.
        """
        while True:
            news, mine = self._news, self._mine or frozenset()
            untold = self._served & mine - self._told
            if not untold:
                if self._mine is not None and self._mine <= self._served:
                    self.told.set()
                if await self._silent(news, TELL_AGAIN_S) and await self._log_answers() and await self._silent(news, CERTAIN_S):
                    self._told.clear()
                continue
            try:
                await self._write_down(sorted(untold))
            except Unavailable as error:
                log.warning("ownership cannot be written down, again in a moment", extra={"error": error.message})
                await _again()
            else:
                if self._mine == mine:  # else another may have written meanwhile what is mine again now
                    self._told |= untold

    async def _write_down(self, partitions: Sequence[int]) -> None:
        """Those that do not stand there as ours. The group gave them to us since, so ours is the newer word, whatever the clocks say."""
        stand = await asyncio.gather(*(self._owners.owner_of(partition) for partition in partitions))
        now_ms = self._clock.now_ms()
        wrong = [
            PartitionOwner(partition, self._url(), now_ms if there is None else max(now_ms, there.generation + 1))
            for partition, there in zip(partitions, stand, strict=True)
            if there is None or there.url != self._url()
        ]
        await self._owners.own(wrong)

    async def _silent(self, news: asyncio.Event, seconds: float) -> bool:
        """Whether there is no news for so long, or a little less."""
        return await self._clock.sleep(jittered(seconds), unless=news)

    async def _log_answers(self) -> bool:
        try:
            await self._reads.ping()
        except ChatError:
            return False
        return True

    # ---- what is left --------------------------------------------------------------------------------------------------------------------

    async def hand_over(self) -> None:
        """For ever: sends the sessions of what is left to the new owners, as soon as those have said that they are there."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._mine is not None and (left := self._served - self._mine):
                await self._send_away(left)

    async def _send_away(self, left: set[int]) -> None:
        staying = left.intersection(self._hub.by_partition())
        asked = [partition for partition in staying if partition not in self._going]
        self._directory.forget(asked)
        urls = await asyncio.gather(*(self._directory.url_of(partition) for partition in asked))
        now_s = self._clock.elapsed_s()
        for partition, url in zip(asked, urls, strict=True):
            if (since_s := self._left_since_s.get(partition)) is None:  # it is mine again
                continue
            if url is not None and url != self._url():
                self._going.add(partition)
                self._moves.begin(self._hub.by_partition().get(partition, ()), url)
            elif now_s - since_s >= LEAVE_S:
                self._hub.end_partition(partition, STARTING, "another gateway takes over")
        if left.difference(staying):
            self._tell_news()

    async def watch_epoch(self) -> None:
        """For ever: begins anew when the topics were made again, which nobody tells. Cursors of before then lead to `reset`.

        Raises Malformed when one has got more partitions: functions write for those, and what is for half of the users would reach nobody.
        """
        while True:
            await self._clock.sleep(EPOCH_S)
            try:
                remade = await self._delivery.remade()
                if not remade:
                    await self.check_partitions()
            except Unavailable as error:
                log.info("the log's epoch is not known", extra={"error": error.message})
                continue
            if remade:
                log.warning("the topics of deliveries were made again, all sessions end")
                self._remade = True
                self._served.clear()
                self._hub.end_all(RESTART, "the log was made anew")
                self._tell_news()


async def _again() -> None:
    await asyncio.sleep(jittered(AGAIN_S))
