"""The gateway's message ids: a leased generator, kept alive, and the clock for it.

The publisher takes ids, deliveries advance the clock. Without a live lease there are none. Source:
design.md D3.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from backends.clock import Clock
from backends.concurrency import jittered
from backends.coordination import GeneratorLeases, Lease
from backends.telemetry.metrics import count
from schemas.errors import Refused, Unavailable
from schemas.ids import MAX_AHEAD_MS, MessageId, Snowflake, unix_ms_of

log = logging.getLogger(__name__)

RENEW_INTERVAL_S: Final = 60.0
RETRY_DELAY_S: Final = 5.0
NO_LEASE_RETRY_DELAY_S: Final = 1.0
"""After a try that failed while no id can be made."""
# What is left of a lease is counted by our own clock, a minute long and while the database is
# unavailable up to 15: no drift must matter.
LEASE_MARGIN_S: Final = 5.0


class MessageIds:
    """Makes the ids of one gateway, and sets its clock by the database's.

    Belongs to one event loop.
    """

    def __init__(
        self,
        generators: GeneratorLeases,
        holder: str,
        *,
        clock: Clock,
        renew_interval_s: float = RENEW_INTERVAL_S,
    ) -> None:
        self._generators = generators
        self._holder = holder
        self._clock = clock
        self._renew_interval_s = renew_interval_s
        self.now_ms = clock.now_ms
        """The clock of the ids, in Unix milliseconds."""
        self._lease_lost = asyncio.Event()
        self._lease: Lease | None = None
        self._until_s = 0.0
        self._snowflake: Snowflake | None = None
        self._last = MessageId(0)

    @property
    def is_ready(self) -> bool:
        """Whether an id could be made now."""
        return self._clock.elapsed_s() < self._until_s

    @property
    def generator(self) -> int:
        """The number that is or was leased last; -1 before the first."""
        return -1 if self._lease is None else self._lease.generator

    def next_id(self) -> MessageId:
        """The next id, greater than all that were made or followed here.

        Raises Unavailable; a dead lease is renewed at once then.
        """
        if self._snowflake is None or not self.is_ready:
            self._lease_lost.set()
            raise Unavailable(
                "no ids can be made: no generator is leased", retry_after_s=NO_LEASE_RETRY_DELAY_S
            )
        self._last = self._snowflake.next_id(self.now_ms())
        return self._last

    def advance(self, seen: int) -> bool:
        """Makes later ids greater than this one of the log.

        False, and nothing changed, when it lies over a second in the future.
        """
        now_ms = self.now_ms()
        if unix_ms_of(seen) > now_ms + MAX_AHEAD_MS:
            return False
        if self._snowflake is not None:
            self._snowflake.advance(seen, now_ms)
        self._last = MessageId(max(self._last, seen))
        return True

    def is_ahead(self, seen: int) -> bool:
        """Whether this id lies more than a second in the future, by the clock of the ids."""
        return unix_ms_of(seen) > self.now_ms() + MAX_AHEAD_MS

    def greater_in_ms(self, seen: int) -> int:
        """After so many milliseconds all ids are greater than this one, which lies a little in the
        future; 0: they are already.
        """
        return 0 if seen <= self._last else max(0, unix_ms_of(seen) + 1 - self.now_ms())

    async def claim(self) -> None:
        """Leases a generator. Raises Unavailable."""
        self._use(await self._generators.claim(self._holder))

    async def keep(self) -> None:
        """Renews the lease until cancelled, and claims another generator when it was lost.

        A database that is unavailable is waited for.
        """
        wait_s = self._renew_interval_s
        while True:
            # While the database is unavailable a suspend does not shorten the wait.
            is_renewed = wait_s == self._renew_interval_s
            await self._clock.sleep(
                jittered(wait_s, least=0.8), unless=self._lease_lost, while_settled=is_renewed
            )
            wait_s = await self.renew()
            if self.is_ready:
                self._lease_lost.clear()
            else:
                await asyncio.sleep(jittered(wait_s))

    async def renew(self) -> float:
        """One renewal; says after how many seconds the next is due."""
        try:
            if self._lease is None or not self.is_ready:
                await self.claim()
            else:
                self._use(await self._generators.renew(self._lease))
        except Refused as error:
            # A database that was set back to an earlier state has lent the number twice: not an id
            # more with it.
            log.warning(
                "generator given up, another one is claimed",
                extra={"generator": self.generator, "error": error.message},
            )
            self._lease, self._until_s = None, 0.0
            return await self.renew()
        except Unavailable as error:
            # While the lease lives no other gateway can have the number.
            log.warning(
                "generator not renewed", extra={"generator": self.generator, "error": error.message}
            )
            count("knchat_lease_failures_total")
            return RETRY_DELAY_S if self.is_ready else NO_LEASE_RETRY_DELAY_S
        return self._renew_interval_s

    async def release(self) -> None:
        """Releases the generator: no id is made after this."""
        lease, self._lease, self._until_s = self._lease, None, 0.0
        if lease is not None:
            try:
                await self._generators.release(lease)
            except Unavailable as error:
                log.info(
                    "generator not released, its lease runs out",
                    extra={"generator": lease.generator, "error": error.message},
                )

    def _use(self, lease: Lease) -> None:
        if self._snowflake is None or self._snowflake.generator != lease.generator:
            self._snowflake = Snowflake(lease.generator)
        self._lease = lease
        self._until_s = (
            lease.reading.asked_s
            + (lease.until_ms - lease.reading.store_ms) / 1_000
            - LEASE_MARGIN_S
        )
        self._clock.synchronise(lease.reading, newest_ms=unix_ms_of(self._last))
        self._snowflake.advance(self._last, self.now_ms())
