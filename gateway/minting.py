"""The gateway's message ids: a leased generator, kept alive, and the clock that mints with it.

The publisher mints, sessions and deliveries advance the clock. Without a live lease, or with a clock that is wrong, nothing is minted.
Source: design.md D3.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from backends.accounts import Generators, Lease
from backends.telemetry import count
from schemas.errors import Refused, Unavailable
from schemas.ids import MAX_AHEAD_MS, MessageId, Mint, unix_ms_of

log = logging.getLogger(__name__)

RENEW_S: Final = 60.0
RETRY_S: Final = 5.0
# The lease's end is the database's time and our offset to it is a minute old at most: stop early enough that no drift between matters.
LEASE_MARGIN_MS: Final = 5_000


class Minting:
    """Mints for one gateway. Belongs to one event loop."""

    def __init__(self, generators: Generators, holder: str, *, clock: Callable[[], float]) -> None:
        self._generators = generators
        self._holder = holder
        self._clock = clock
        self._lease: Lease | None = None
        self._mint: Mint | None = None
        self._last = MessageId(0)

    @property
    def ready(self) -> bool:
        """Whether an id could be minted now."""
        return self._why_not() is None

    @property
    def generator(self) -> int:
        """The number that is or was leased last; -1 before the first."""
        return -1 if self._lease is None else self._lease.generator

    def now_ms(self) -> int:
        """The database's time as far as we know it, in Unix milliseconds: the clock that mints."""
        return int(self._clock() * 1_000) + (0 if self._lease is None else self._lease.offset_ms)

    def mint(self) -> MessageId:
        """The next id, greater than all that were minted or seen here. Raises Unavailable."""
        if (reason := self._why_not()) is not None or self._mint is None:
            raise Unavailable(f"no ids can be made: {reason}", retry_after_s=RETRY_S)
        self._last = self._mint.mint(self.now_ms())
        return self._last

    def advance(self, seen: int) -> bool:
        """Makes later ids greater than this one. False, and nothing changed, when it lies over a second in the future."""
        if self.ahead(seen):
            return False
        if self._mint is not None:
            self._mint.advance(seen, self.now_ms())
        self._last = MessageId(max(self._last, seen))
        return True

    def ahead(self, seen: int) -> bool:
        """Whether this id lies more than a second in the future, by the clock that mints."""
        return unix_ms_of(seen) > self.now_ms() + MAX_AHEAD_MS

    async def claim(self) -> None:
        """Leases a generator. Raises Unavailable."""
        self._use(await self._generators.claim(self._holder))

    async def keep(self) -> None:
        """Renews the lease for ever, and claims another generator when it was lost. A database that is away is waited for."""
        wait_s = RENEW_S
        while True:
            await asyncio.sleep(wait_s * random.uniform(0.8, 1.0))  # noqa: S311 - jitter
            wait_s = await self.renew()

    async def renew(self) -> float:
        """One renewal; says after how many seconds the next is due."""
        try:
            if self._lease is None or self._over(self._lease):
                await self.claim()
            else:
                self._use(await self._generators.renew(self._lease))
        except Refused as error:
            # A database that was set back to an earlier state has lent the number twice: not an id more with it.
            log.warning("generator given up, another one is claimed", extra={"generator": self.generator, "error": error.message})
            self._lease = None
            return await self.renew()
        except Unavailable as error:
            # While the lease lives nobody else can have the number.
            log.warning("generator not renewed", extra={"generator": self.generator, "error": error.message})
            count("knchat_lease_failures_total")
            return RETRY_S
        return RENEW_S if self.ready else RETRY_S

    async def release(self) -> None:
        """Gives the generator back: nothing is minted after this."""
        lease, self._lease = self._lease, None
        if lease is not None:
            try:
                await self._generators.release(lease)
            except Unavailable as error:
                log.info("generator not released, its lease runs out", extra={"generator": lease.generator, "error": error.message})

    def _use(self, lease: Lease) -> None:
        if self._mint is None or self._mint.generator != lease.generator:
            self._mint = Mint(lease.generator)
        self._lease = lease
        self._mint.advance(self._last, self.now_ms())
        if reason := self._why_not():
            log.error("nothing is minted", extra={"reason": reason, "offset_ms": lease.offset_ms})

    def _over(self, lease: Lease) -> bool:
        return self.now_ms() >= lease.until_ms - LEASE_MARGIN_MS

    def _why_not(self) -> str | None:
        if self._lease is None or self._over(self._lease):
            return "no generator is leased"
        if abs(self._lease.offset_ms) > MAX_AHEAD_MS:
            return "the clock differs from the database's by over a second"
        return None
