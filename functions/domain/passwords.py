"""Passwords: argon2id in threads, few at a time, the limits before it, and which may be chosen.

`accounts` and `devices` ask. A hash costs about 20 ms of a core and 19 MiB: how many run at once
bounds what log-ins can take from everything else. Wrong passwords are counted by name and network,
and by name alone; too many slow further tries down and never refuse for good, or any client could
lock any user out. A device that is logged in, and a change of the password, are counted on their
own. Source: design.md D19, NIST SP 800-63B-4 (sections 3.1.1 and 3.2.2).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from backends.fair import Turns
from backends.rate_limits import Allowance, Buckets
from backends.telemetry.metrics import count
from schemas.errors import Malformed, Refused, Unavailable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

    from backends.wiring import Backends
    from schemas.ids import UserId

# OWASP's least; 24 times cheaper than PBKDF2 with 1,000,000 rounds (measured: 17 ms).
TIME_COST: Final = 2
MEMORY_KIB: Final = 19_456
PARALLELISM: Final = 1

MAX_CONCURRENT: Final = min(4, len(os.sched_getaffinity(0)))
"""More than there are cores would only wait in memory: 4 x 19 MiB at most."""
NICE: Final = 10
"""Of the threads that hash."""
MAX_WAITING: Final = 512
"""Two idle cores work this off in 5 s, half of what a call has."""
MAX_WAITING_EACH: Final = 64
"""Of one user or address."""
MAX_LOCAL: Final = 10_000
"""Names whose wrong passwords this process counts for itself."""
WINDOW_S: Final = 60
RETRY_INTERVAL_S: Final = 5
"""From one try to the next where too many passwords were wrong within a minute, for a minute: of a
name from one network, of a device.
"""
FROM_ALL: Final = 5
"""So many times as many wrong ones of a name within an hour, from all networks together, slow every
network down that tries it.
"""
RETRY_INTERVAL_FOR_ALL_S: Final = 30
HOUR_S: Final = 3_600
COMMON: Final = Path(__file__).with_name("common-passwords.txt")

# Of no user's password, with the parameters above: an unknown user's log-in costs what a known
# one's does.
DUMMY_HASH: Final = (
    "$argon2id$v=19$m=19456,t=2,p=1"
    "$dvzG8qJnDeKAwCJooKRmVQ$evZFlb1pLwT1evWoTJ2aAuYaN9li3opItz4I+fQuSmI"
)


T = TypeVar("T")


@cache
def hasher() -> PasswordHasher:
    """The hasher of today's parameters."""
    from argon2 import PasswordHasher  # noqa: PLC0415 - 16 ms, and most functions see no password

    return PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)


class Passwords:
    """Hashing under a limit. `Context` makes it."""

    def __init__(self, backends: Backends) -> None:
        self._cache = backends.cache
        self._configuration = backends.configuration
        self._local = Buckets(MAX_LOCAL)
        self._elapsed_s = backends.clock.elapsed_s
        # One place is always left for others than the busiest, where there are two.
        self._turns = Turns(
            MAX_CONCURRENT,
            each=max(1, MAX_CONCURRENT - 1),
            waiting=MAX_WAITING,
            each_waiting=MAX_WAITING_EACH,
            busy="too many log-ins at once",
        )

    @property
    def _limit(self) -> int:
        return self._configuration.values.limits.failed_logins_per_minute

    @property
    def _wrong(self) -> Allowance:
        """While the cache is unavailable: wrong ones of this process alone, so many a minute."""
        return Allowance(self._limit, self._limit / WINDOW_S)

    async def hash(self, password: str) -> str:
        """The hash to keep. Raises Unavailable when too many wait."""
        async with self._turns.turn():
            return await _in_a_thread(partial(hasher().hash, password))

    async def check_log_in(
        self,
        user_name: str,
        password: str,
        kept: str | None,
        *,
        network: str,
        device: str,
        known: Callable[[], Awaitable[bool]],
    ) -> bool:
        """Whether it is the password of `kept`, in the same time whether there is such a user or
        not (None).

        `known` is asked, where a try from this network had to wait, whether the device is one of
        the user's. Raises Refused rate_limited when it has to wait, before any hashing; Unavailable
        when too many wait.
        """
        async with self._turns.turn():
            by, name = f"{user_name}@{network}", user_name
            pause_s = max(await self._pause_s(by), await self._pause_s(name))
            if pause_s and await known():
                # A guesser does not know the device's name; one who does gets a few tries more.
                by, name = f"{user_name}/{device}", ""
                pause_s = await self._pause_s(by)
            return await self._checked(password, kept, by=by, name=name, pause_s=pause_s)

    async def check_change(self, user: UserId, password: str, kept: str) -> bool:
        """Whether it is the password of `kept`, asked by a device that is logged in.

        Raises as `check_log_in` does.
        """
        async with self._turns.turn():
            by = f"change:{user}"
            return await self._checked(
                password, kept, by=by, name="", pause_s=await self._pause_s(by)
            )

    async def _checked(
        self, password: str, kept: str | None, *, by: str, name: str, pause_s: int
    ) -> bool:
        if pause_s and await self._hits(f"try:{by}", pause_s) > 1:
            count("knchat_log_ins_total", became="limited")
            raise Refused(
                "rate_limited",
                f"too many wrong passwords: one try in {pause_s} s",
                retry_after_s=pause_s,
            )
        right = (
            await _in_a_thread(partial(_verify, kept or DUMMY_HASH, password)) and kept is not None
        )
        if not right:
            limit = self._limit
            await self._count_wrong(by, limit=limit, window_s=WINDOW_S, pause_s=RETRY_INTERVAL_S)
            if name:
                await self._count_wrong(
                    name, limit=FROM_ALL * limit, window_s=HOUR_S, pause_s=RETRY_INTERVAL_FOR_ALL_S
                )
        return right

    async def _pause_s(self, by: str) -> int:
        """Seconds between two tries of who was wrong too often; 0: no pause.

        With the cache unavailable this process alone has counted; then it raises Refused
        rate_limited itself.
        """
        try:
            pause_s = await self._cache.get(f"slow:{by}")
        except Unavailable:
            count("knchat_cache_skipped_total", use="limits")
            if wait_s := self._local.wait_s([(by, self._wrong)], 1, self._elapsed_s()):
                count("knchat_log_ins_total", became="limited")
                raise Refused(
                    "rate_limited", "too many wrong passwords", retry_after_s=wait_s
                ) from None
            return 0
        return int(pause_s or 0)

    async def _count_wrong(self, by: str, *, limit: int, window_s: int, pause_s: int) -> None:
        self._local.draw([(by, self._wrong)], 1, self._elapsed_s())
        if await self._hits(f"wrong:{by}", window_s) < limit:
            return
        await self._hits(f"try:{by}", pause_s)  # this was one
        try:
            await self._cache.put(f"slow:{by}", str(pause_s).encode(), ttl_s=window_s)
        except Unavailable:
            count("knchat_cache_skipped_total", use="limits")

    async def _hits(self, name: str, window_s: int) -> int:
        try:
            return await self._cache.hit(name, window_s=window_s)
        except Unavailable:
            count("knchat_cache_skipped_total", use="limits")
            return 0


def check_choice(password: str, user_name: str, *, field: str) -> None:
    """Checks that this password may be chosen.

    Raises Malformed for the commonest 10,000 and the user's own name, in any case.
    """
    folded = password.casefold()
    if folded == user_name or folded in _common():
        raise Malformed(
            f"{field}: too easy to guess, it is among those that are tried first", field=field
        )


@cache
def _common() -> frozenset[str]:
    lines = COMMON.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("# ") and line != "#")


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_CONCURRENT, thread_name_prefix="passwords", initializer=_give_way)


def _give_way() -> None:
    """Where threads have priorities of their own (Linux), hashing leaves the cores to everything
    that takes milliseconds.
    """
    with suppress(OSError):
        os.setpriority(
            os.PRIO_PROCESS,
            threading.get_native_id(),
            max(NICE, os.getpriority(os.PRIO_PROCESS, 0)),
        )


async def _in_a_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads(), work)


def _verify(kept: str, password: str) -> bool:
    from argon2.exceptions import VerifyMismatchError  # noqa: PLC0415 - see hasher

    try:
        return hasher().verify(kept, password)
    except VerifyMismatchError:
        return False
