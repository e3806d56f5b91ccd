"""The reservations of idempotency keys in the cache that gateways share, as far as it answers.

`publisher` reserves before it appends and confirms afterwards. A cache that does not answer is left
alone for a while, and what is to be said to it waits. Source: design.md D4.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from backends.cache import Cache, Claim, Held
from backends.concurrency import BoundedDict
from backends.telemetry.metrics import count
from gateway.publishing.idempotency import MAX_ENTRIES
from schemas.errors import Unavailable
from schemas.ids import UserId

log = logging.getLogger(__name__)

CACHE_COOLDOWN_S: Final = 5.0
"""So long the cache is not asked after it did not answer: the keys remembered here go on alone."""
CONFIRM_INTERVAL_S: Final = 1.0
MAX_UNCONFIRMED: Final = 65_536
"""Confirmations kept for a cache that is unavailable; more are dropped, and such a key stays
reserved: a repeat appends its id again.
"""
MAX_CONFIRMS: Final = 1_024
"""In one call; the oldest first.

All of them at once would not be done within a call's 50 ms: 3 us of ours and of Redis for each.
"""


class KeyReservations:
    """Belongs to one event loop; `clock` is monotonic."""

    def __init__(self, cache: Cache, *, clock: Callable[[], float]) -> None:
        self._cache = cache
        self._clock = clock
        self._cooldown_until_s = float("-inf")
        self._unconfirmed: list[Claim] = []
        self._asked_s = float("-inf")
        self._confirming: asyncio.Task[None] | None = None
        # Keys of failed commands that were not sent again yet, and whether the cache has been told:
        # it may say `confirmed` for a moment more.
        self._failed_keys = BoundedDict[tuple[int, str], bool](MAX_ENTRIES)
        self._releasing: asyncio.Task[None] | None = None

    async def reserve(self, claims: Sequence[Claim]) -> Sequence[Held] | None:
        """What the cache holds for each of these, which are reserved now where nothing was.

        None: there are none, or the cache does not answer.
        """
        if not claims or self._is_cooling(self._clock()):
            return None
        return await self._ask(claims)

    def confirm_later(self, claims: Sequence[Claim]) -> None:
        """The log has the commands of these keys."""
        for claim in claims:
            self._failed_keys.pop((claim.user, claim.key), None)
        self._unconfirmed += claims
        del self._unconfirmed[:-MAX_UNCONFIRMED]

    def release(self, user: int, key: str) -> None:
        """The command of this key has failed: the cache must not call it confirmed any more."""
        self._unconfirmed = [
            claim for claim in self._unconfirmed if (claim.user, claim.key) != (user, key)
        ]
        self._failed_keys[user, key] = False
        self._release_soon()

    def has_failed(self, user: int, key: str) -> bool:
        """Whether the command of this key has failed, and was not sent again since."""
        return (user, key) in self._failed_keys

    def tick(self, now_s: float) -> None:
        """Called some times a second: says what waits, and what no next batch has confirmed."""
        if self._is_cooling(now_s):
            return
        self._release_soon()
        if (
            self._unconfirmed
            and (self._confirming is None or self._confirming.done())
            and now_s - self._asked_s >= CONFIRM_INTERVAL_S
        ):
            self._confirming = asyncio.get_running_loop().create_task(self._confirm())

    async def flush(self) -> None:
        """Returns when all is confirmed, or the cache does not answer."""
        if self._confirming is not None:
            await self._confirming
        while self._unconfirmed and await self._ask([]) is not None:
            pass

    def close(self) -> None:
        """Gives up what is under way."""
        for task in (self._releasing, self._confirming):
            if task is not None:
                task.cancel()

    def _start_cooldown(self, error: Unavailable) -> None:
        self._cooldown_until_s = self._clock() + CACHE_COOLDOWN_S
        count("knchat_cache_away_total")
        log.warning(
            "cache unavailable, going on without it",
            extra={"error": error.message, "for_s": CACHE_COOLDOWN_S},
        )

    def _is_cooling(self, now_s: float) -> bool:
        return now_s < self._cooldown_until_s

    async def _ask(self, claims: Sequence[Claim]) -> Sequence[Held] | None:
        """Reserves these and confirms what waits for it.

        None: the cache does not answer, and is not asked for a while.
        """
        confirm, self._unconfirmed = (
            self._unconfirmed[:MAX_CONFIRMS],
            self._unconfirmed[MAX_CONFIRMS:],
        )
        self._asked_s = self._clock()
        try:
            return await self._cache.reserve(claims, confirm=confirm)
        except Unavailable as error:
            self._unconfirmed = confirm + self._unconfirmed
            self._start_cooldown(error)
            return None

    async def _confirm(self) -> None:
        if self._unconfirmed:
            await self._ask([])

    def _release_soon(self) -> None:
        untold = [name for name, told in self._failed_keys.items() if not told]
        if untold and (self._releasing is None or self._releasing.done()):
            self._releasing = asyncio.get_running_loop().create_task(self._release(untold))

    async def _release(self, names: Sequence[tuple[int, str]]) -> None:
        for user, key in names:
            try:
                await self._cache.release(UserId(user), key)
            except Unavailable as error:
                self._start_cooldown(error)
                return
            if (user, key) in self._failed_keys:
                self._failed_keys[user, key] = True
