"""Passwords: argon2id in threads, few at a time, and the limits before it. `accounts` and `devices` ask; nobody else sees a password.

A hash costs about 20 ms of a core and 19 MiB: how many run at once bounds what log-ins can take from everything else.
Source: design.md D19.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING, Final, TypeVar
from weakref import WeakKeyDictionary

from backends.fair import Turns
from backends.telemetry import count
from schemas.errors import Refused, Unavailable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

    from backends.wiring import Backends

# OWASP's least; 24 times cheaper than PBKDF2 with 1,000,000 rounds (measured: 17 ms).
TIME_COST: Final = 2
MEMORY_KIB: Final = 19_456
PARALLELISM: Final = 1

AT_ONCE: Final = min(4, len(os.sched_getaffinity(0)))
"""More than there are cores would only wait in memory: 4 x 19 MiB at most."""
WAITING: Final = 512
"""Two cores work this off in 5 s, half of what a call has."""
WAITING_EACH: Final = 64
"""Of one user or address."""
GIVES_WAY: Final = 10
"""The niceness of hashing threads: where cores are short, messages and answers go before log-ins."""
WINDOW_S: Final = 60

# Of no password that anybody has, with the parameters above: an unknown user's log-in costs what a known one's does.
NOBODY: Final = "$argon2id$v=19$m=19456,t=2,p=1$dvzG8qJnDeKAwCJooKRmVQ$evZFlb1pLwT1evWoTJ2aAuYaN9li3opItz4I+fQuSmI"


T = TypeVar("T")


@cache
def hasher() -> PasswordHasher:
    """The hasher of today's parameters."""
    from argon2 import PasswordHasher  # noqa: PLC0415 - 16 ms, and most functions see no password

    return PasswordHasher(time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM)


class Passwords:
    """Hashing under a limit. One for each Backends: `passwords_of`."""

    def __init__(self, backends: Backends) -> None:
        self._cache = backends.cache
        self._settings = backends.settings
        # One place is always left for others than the busiest, where there are two.
        self._turns = Turns(AT_ONCE, each=max(1, AT_ONCE - 1), waiting=WAITING, each_waiting=WAITING_EACH, busy="too many log-ins at once")

    async def hash(self, password: str) -> str:
        """The hash to keep. Raises Unavailable when too many wait."""
        async with self._turns.turn():
            return await _in_a_thread(partial(hasher().hash, password))

    async def check(self, user_name: str, password: str, kept: str | None) -> bool:
        """Whether it is the password of `kept`, in the same time whether there is such a user or not (None).

        Raises Refused rate_limited after too many failures under this name, before any hashing; Unavailable when too many wait.
        """
        async with self._turns.turn():
            await self._check_failures(user_name)
            right = await _in_a_thread(partial(_verify, kept or NOBODY, password)) and kept is not None
            if not right:
                await self._count_failure(user_name)
            return right

    async def _check_failures(self, user_name: str) -> None:
        try:
            locked = await self._cache.get(f"locked:{user_name}")
        except Unavailable:
            count("knchat_cache_skipped_total", use="limits")
            return
        if locked is not None:
            count("knchat_log_ins_total", became="limited")
            raise Refused("rate_limited", "too many failed log-ins under this name", retry_after_s=WINDOW_S)

    async def _count_failure(self, user_name: str) -> None:
        try:
            failures = await self._cache.hit(f"failed:{user_name}", window_s=WINDOW_S)
            if failures >= self._settings.failed_logins_per_minute:
                await self._cache.put(f"locked:{user_name}", b"1", ttl_s=WINDOW_S)
        except Unavailable:
            count("knchat_cache_skipped_total", use="limits")


@cache
def _threads() -> ThreadPoolExecutor:
    def give_way() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, GIVES_WAY)  # on Linux of this thread alone

    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="passwords", initializer=give_way)


async def _in_a_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads(), work)


def _verify(kept: str, password: str) -> bool:
    from argon2.exceptions import VerifyMismatchError  # noqa: PLC0415 - see hasher

    try:
        return hasher().verify(kept, password)
    except VerifyMismatchError:
        return False


_passwords: WeakKeyDictionary[Backends, Passwords] = WeakKeyDictionary()


def passwords_of(backends: Backends) -> Passwords:
    """The hashing of this process's Backends."""
    passwords = _passwords.get(backends)
    if passwords is None:
        passwords = _passwords[backends] = Passwords(backends)
    return passwords
