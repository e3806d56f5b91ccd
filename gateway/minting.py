"""The gateway's message ids: a leased generator, kept alive, and the clock that mints with it.

The publisher mints, deliveries advance the clock. Without a live lease nothing is minted. Source: design.md D3.
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
from schemas.ids import MAX_AHEAD_MS, MessageId, Mint, unix_ms_of

log = logging.getLogger(__name__)

RENEW_S: Final = 60.0
RETRY_S: Final = 5.0
DEAD_RETRY_S: Final = 1.0
"""After a try that failed while nobody can write."""
# What is left of a lease is counted by our own clock, a minute long and while the database is away up to 15: no drift must matter.
LEASE_MARGIN_S: Final = 5.0


class Minting:
    """Mints for one gateway, and sets its clock by the database's. Belongs to one event loop."""

    def __init__(self, generators: GeneratorLeases, holder: str, *, clock: Clock) -> None:
        self._generators = generators
        self._holder = holder
        self._clock = clock
        self.now_ms = clock.now_ms
        """The clock that mints, in Unix milliseconds."""
        self._found_dead = asyncio.Event()
        self._lease: Lease | None = None
        self._until_s = 0.0
        self._mint: Mint | None = None
        self._last = MessageId(0)

    @property
    def ready(self) -> bool:
        """Whether an id could be minted now."""
        return self._clock.elapsed_s() < self._until_s

    @property
    def generator(self) -> int:
        """The number that is or was leased last; -1 before the first."""
        return -1 if self._lease is None else self._lease.generator

    def mint(self) -> MessageId:
        """The next id, greater than all that were minted or followed here. Raises Unavailable; a dead lease is renewed at once then."""
        if self._mint is None or not self.ready:
            self._found_dead.set()
            raise Unavailable("no ids can be made: no generator is leased", retry_after_s=DEAD_RETRY_S)
        self._last = self._mint.mint(self.now_ms())
        return self._last

    def advance(self, seen: int) -> bool:
        """Makes later ids greater than this one of the log. False, and nothing changed, when it lies over a second in the future."""
        now_ms = self.now_ms()
        if unix_ms_of(seen) > now_ms + MAX_AHEAD_MS:
            return False
        if self._mint is not None:
            self._mint.advance(seen, now_ms)
        self._last = MessageId(max(self._last, seen))
        return True

    def ahead(self, seen: int) -> bool:
        """Whether this id lies more than a second in the future, by the clock that mints."""
        return unix_ms_of(seen) > self.now_ms() + MAX_AHEAD_MS

    def greater_in_ms(self, seen: int) -> int:
        """After so many milliseconds all ids are greater than this one, which lies a little in the future; 0: they are already."""
        return 0 if seen <= self._last else max(0, unix_ms_of(seen) + 1 - self.now_ms())

    async def claim(self) -> None:
        """Leases a generator. Raises Unavailable."""
        self._use(await self._generators.claim(self._holder))

    async def keep(self) -> None:
        """Renews the lease for ever, and claims another generator when it was lost. A database that is away is waited for."""
        wait_s = RENEW_S
        while True:
            await self._clock.sleep(jittered(wait_s, least=0.8), unless=self._found_dead)
            wait_s = await self.renew()
            if self.ready:
                self._found_dead.clear()
            else:
                await asyncio.sleep(jittered(wait_s))

    async def renew(self) -> float:
        """One renewal; says after how many seconds the next is due."""
        try:
            if self._lease is None or not self.ready:
                await self.claim()
            else:
                self._use(await self._generators.renew(self._lease))
        except Refused as error:
            # A database that was set back to an earlier state has lent the number twice: not an id more with it.
            log.warning("generator given up, another one is claimed", extra={"generator": self.generator, "error": error.message})
            self._lease, self._until_s = None, 0.0
            return await self.renew()
        except Unavailable as error:
            # While the lease lives nobody else can have the number.
            log.warning("generator not renewed", extra={"generator": self.generator, "error": error.message})
            count("knchat_lease_failures_total")
            return RETRY_S if self.ready else DEAD_RETRY_S
        return RENEW_S

    async def release(self) -> None:
        """Gives the generator back: nothing is minted after this."""
        lease, self._lease, self._until_s = self._lease, None, 0.0
        if lease is not None:
            try:
                await self._generators.release(lease)
            except Unavailable as error:
                log.info("generator not released, its lease runs out", extra={"generator": lease.generator, "error": error.message})

    def _use(self, lease: Lease) -> None:
        if self._mint is None or self._mint.generator != lease.generator:
            self._mint = Mint(lease.generator)
        self._lease = lease
        self._until_s = lease.reading.asked_s + (lease.until_ms - lease.reading.store_ms) / 1_000 - LEASE_MARGIN_S
        self._clock.synchronise(lease.reading, newest_ms=unix_ms_of(self._last))
        self._mint.advance(self._last, self.now_ms())
