"""What callers of the HTTP functions may spend: a user, an address where a call is open, and the
log-in that a refresh token renews.

`router` draws once for every call, by the cost that the call declares, and tells the caller in
headers what is left. The buckets lie in the
cache, where all functions share them, and in this process while the cache is unavailable: then each
process counts for itself. Source: design.md D19.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from backends.fair import Turns, worked_for
from backends.rate_limits import Allowance, Buckets, Drawn
from backends.telemetry.metrics import count
from schemas.costs import HASH
from schemas.errors import Refused, Unavailable

if TYPE_CHECKING:
    from backends.wiring import Backends
    from schemas.configuration import Values

# A device renews once in a token's life, and again when an answer was lost.
LOG_IN: Final = Allowance(units=120, per_s=1)
"""What one log-in may spend on renewing itself: 60 times at once, and every 2 s in the long run."""
MAX_LOCAL: Final = 10_000
"""Buckets kept in this process while the cache is unavailable: 2 MiB."""
COOLDOWN_S: Final = 1.0
"""So long the cache is not asked again after it did not answer: each question may take its whole
timeout.
"""

UNAUTHORIZED: Final = Allowance(units=120, per_s=10)
"""Calls of an address, without a token that counts, that are answered at once; counted by this
process alone.
"""
REFUSAL_DELAY_S: Final = 0.1
"""What each refusal of a caller takes of its turn, so that asking on costs little."""
MAX_CONCURRENT_EACH: Final = 2
"""Calls of one user, or of an address where calls are open, that are under way at once: what others
wait for.
"""
PACE: Final = Allowance(units=50, per_s=100)
"""What a process does for one caller at once, and in a second, or faster where the caller's budget
fills faster: what is asked beyond waits, within the caller's turns. A core does about 700 units a
second, and so others wait no longer, however much of a budget is spent at once.
"""
MAX_CONCURRENT: Final = 256
MAX_WAITING: Final = 4_096
MAX_WAITING_EACH: Final = 128
"""Of one caller.

Refused one after another, MAX_CONCURRENT_EACH at once, they take 6.4 s: less than a handler has.
"""

_REASONS: Final = {
    "device": "you ask for too much at once",
    "user": "you ask for too much at once",
    "address": "too much is asked from your address",
    "log_in": "this device renews its tokens too often",
}


RATE_LIMIT_HEADERS: Final = {
    "ratelimit-limit": "Units that the budget holds at most.",
    "ratelimit-remaining": "Units that are left of it.",
    "ratelimit-reset": "Seconds until it is full again.",
    "ratelimit-policy": "The budget: units, and in how many seconds an empty one is full.",
}
"""What every answer to a call that was drawn for says of the budget with the least left, or the one
that refused. Names and meaning: draft-ietf-httpapi-ratelimit-headers-06.
"""


def headers_of(drawn: Drawn) -> dict[str, str]:
    """RATE_LIMIT_HEADERS of a draw, never more than is true: whole units down, seconds up."""
    if (allowance := drawn.allowance) is None:
        return {}
    units, left = math.floor(allowance.units), max(0.0, drawn.left)
    values = (
        units,
        math.floor(left),
        math.ceil((allowance.units - left) / allowance.per_s),
        f"{units};w={math.ceil(allowance.fills_s)}",
    )
    return {name: str(value) for name, value in zip(RATE_LIMIT_HEADERS, values, strict=True)}


class Budgets:
    """The buckets of one process's callers. `Context` makes it."""

    def __init__(self, backends: Backends) -> None:
        backends.configuration.follow(self._follow)
        self._cache = backends.cache
        self._local, self._unauthorized = Buckets(MAX_LOCAL), Buckets(MAX_LOCAL)
        self._paced = Buckets(MAX_LOCAL)
        self._cooldown_until_s = 0.0
        self._turns = Turns(
            MAX_CONCURRENT,
            each=MAX_CONCURRENT_EACH,
            waiting=MAX_WAITING,
            each_waiting=MAX_WAITING_EACH,
            busy="too many calls at once",
        )

    def _follow(self, values: Values) -> None:
        limits = values.limits
        hashes = HASH.units * limits.logins_per_minute
        self._allowed = {
            "device": Allowance(limits.device_units, limits.user_units_per_s),
            "user": Allowance(limits.user_units, limits.user_units_per_s),
            "address": Allowance(hashes, hashes / 60),
            "log_in": LOG_IN,
        }

    @asynccontextmanager
    async def spend(
        self, cost: float, told: dict[str, str] | None = None, **whose: str
    ) -> AsyncIterator[None]:
        """Draws, and then lets the call happen: of each caller few at once, in turn with the
        others' (`backends.fair`). The headers that say what is left are added to `told`, when it is
        refused too.

        Raises as `draw` does; Unavailable when too many wait. A refusal takes REFUSAL_DELAY_S
        of its caller's turn: so asking on costs little.
        """
        async with self._turns.turn():
            try:
                await self.draw(cost, told, **whose)
            except Refused:
                await asyncio.sleep(REFUSAL_DELAY_S)
                raise
            await self._keep_pace(cost, whose)
            yield

    async def _keep_pace(self, cost: float, whose: Mapping[str, str]) -> None:
        """Waits until the caller may have so much more of this process."""
        fills = [self._allowed[kind].per_s for kind in whose if kind != "log_in"]
        pace = replace(PACE, per_s=max([PACE.per_s, *fills]))
        mine, loop = [(worked_for(), pace)], asyncio.get_running_loop()
        wait_s = self._paced.draw(mine, cost, loop.time()).wait_s
        while wait_s:  # more than once where the caller's other call was first
            await asyncio.sleep(wait_s)
            wait_s = self._paced.draw(mine, cost, loop.time()).wait_s

    async def on_unauthorized(self, address: str) -> None:
        """Call it before a token is refused: after UNAUTHORIZED of them each takes REFUSAL_DELAY_S
        of the address's turn.
        """
        now_s = asyncio.get_running_loop().time()
        if self._unauthorized.draw([(address, UNAUTHORIZED)], 1, now_s).wait_s:
            count("knchat_rate_limited_total", whose="address")
            async with self._turns.turn():
                await asyncio.sleep(REFUSAL_DELAY_S)

    async def draw(self, cost: float, told: dict[str, str] | None = None, **whose: str) -> None:
        """Draws from the buckets of these: `device`, `user`, `address`, `log_in`, each with its
        name.

        Raises Refused rate_limited, with the time after which there is enough.
        """
        if not whose or not cost:
            return
        buckets = [(f"{kind}:{name}", self._allowed[kind]) for kind, name in whose.items()]
        drawn = await self._drawn(buckets, cost)
        if told is not None:
            told |= headers_of(drawn)
        if drawn.wait_s:
            kind = next(iter(whose))
            count("knchat_rate_limited_total", whose=kind)
            raise Refused("rate_limited", _REASONS[kind], retry_after_s=drawn.wait_s)

    async def _drawn(self, buckets: list[tuple[str, Allowance]], cost: float) -> Drawn:
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._cooldown_until_s:
            try:
                return await self._cache.draw(buckets, cost)
            except Unavailable:
                self._cooldown_until_s = now_s + COOLDOWN_S
        count("knchat_cache_skipped_total", use="limits")
        return self._local.draw(buckets, cost, now_s)
