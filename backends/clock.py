"""The one clock of a process: the time that orders, expires and refuses.

A machine's wall clock may be wrong and may be set at any moment. This one follows the database,
which all processes share: its time at the last reading, and what has passed since by
CLOCK_BOOTTIME, which cannot be set and which counts while the machine is suspended. Where the
database lies in a file of this machine there is no better clock than the wall clock; then it is the
wall clock at the start and what has passed since, corrected towards the wall clock only forwards
and by at most CORRECTED_S a minute.

Nothing else reads the wall clock, but for what docs/clocks.md lists. Source: design.md D3.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from backends.concurrency import jittered
from backends.telemetry.metrics import gauge
from schemas.errors import Unavailable

log = logging.getLogger(__name__)

READ_INTERVAL_S: Final = 60.0
"""How often a store's clock is read. What passes in between is measured to some milliseconds."""
CORRECTED_S: Final = 1.0
"""So far a minute a clock without a store follows the wall clock: a wrong one cannot expire
anything, a right one is reached in time.
"""
OFF_S: Final = 60.0
"""A wall clock that differs by more is worth a word to the operator: one of the two is wrong."""
BELOW_MS: Final = 900
"""How far below the newest id a reading of a store may set this clock.

Message ids run up to 1 s ahead of it, so they go on rising.
"""
SETTLE_TIMEOUT_S: Final = 2.0
"""What is waited for a store's clock after a suspend; then this machine's word is taken."""
_RETRY_DELAY_S: Final = 5.0
_CHECK_INTERVAL_S: Final = 10.0
_SLICE_S: Final = 1.0
_EXACT_S: Final = 10.0
"""Twice what a question may take: a reading that is less exact began before a suspend."""
_SUSPENDED_S: Final = 1.0
"""CLOCK_BOOTTIME and CLOCK_MONOTONIC differ by as much more after a suspend."""


elapsed_s: Final = partial(
    time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
)
"""Seconds since the machine started.

They also pass while it is suspended, which `time.monotonic` sleeps through on Linux.
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a store's clock said (Unix milliseconds) at some time between the question and its
    answer (`elapsed_s`).
    """

    store_ms: int
    asked_s: float
    answered_s: float


class TimeSource(Protocol):
    """A store with a clock."""

    async def read_clock(self, clock: Clock) -> Reading:
        """What it says. Raises Unavailable."""
        ...


class Clock:
    """The clock of one process. Any thread may ask it; it is set on the event loop.

    `alone`: there is no store with a better clock than this machine's. It never goes back, unless a
    store's clock says so, and then at most to BELOW_MS before the newest id that was made or
    followed here.
    """

    def __init__(
        self,
        *,
        alone: bool,
        wall: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = elapsed_s,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.elapsed_s: Final = elapsed
        """Seconds by CLOCK_BOOTTIME, for durations and deadlines within this process."""
        self._wall = wall
        self._alone = alone
        self._trusted = asyncio.Event()
        if alone:
            self._trusted.set()
        self._setting = threading.Lock()
        self._looked_s = elapsed()
        self._look_s = self._looked_s + _CHECK_INTERVAL_S
        self._offset_s = wall() - self._looked_s
        self._off = False
        self._monotonic = monotonic
        self._set = asyncio.Event()
        self._suspended_s = self._looked_s - monotonic()
        """So long in all the machine had been suspended when this clock was set last."""

    def now_s(self) -> float:
        """Unix time in seconds."""
        passed_s = self.elapsed_s()
        if passed_s >= self._look_s:
            self._look(passed_s)
        return passed_s + self._offset_s

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        passed_s = self.elapsed_s()  # as in now_s: it is asked for each message
        if passed_s >= self._look_s:
            self._look(passed_s)
        return int((passed_s + self._offset_s) * 1_000)

    # ---- how it is set ---------------------------------------------------------------------------

    def synchronise(self, reading: Reading, *, newest_ms: int = 0) -> None:
        """Sets the clock by a store's, as far as the reading is exact.

        `newest_ms`: the time of the newest id that was made or followed. Does nothing where the
        store's clock is this machine's.
        """
        if self._alone:
            return
        earliest_s, latest_s = (
            reading.store_ms / 1_000 - reading.answered_s,
            reading.store_ms / 1_000 - reading.asked_s,
        )
        with self._setting:
            offset_s = (
                min(max(self._offset_s, earliest_s), latest_s)
                if self._trusted.is_set()
                else (earliest_s + latest_s) / 2
            )
            if offset_s < self._offset_s:
                offset_s = min(
                    self._offset_s, max(offset_s, (newest_ms - BELOW_MS) / 1_000 - self.elapsed_s())
                )
            self._offset_s = offset_s
        self._trusted.set()
        if latest_s - earliest_s < _EXACT_S:
            self._suspended_s = self.elapsed_s() - self._monotonic()
            self._set.set()

    def not_below(self, unix_ms: int) -> None:
        """Sets the clock forwards to what this machine has written down before as a time.

        Only where it is alone.
        """
        with self._setting:
            if self._alone:
                self._offset_s = max(self._offset_s, unix_ms / 1_000 - self.elapsed_s())

    async def follow(self, store: TimeSource) -> None:
        """Sets the clock by a store's once, where it is not alone. Raises Unavailable."""
        if not self._alone:
            self.synchronise(await store.read_clock(self))

    async def keep(self, store: TimeSource) -> None:
        """Does that until cancelled, where it is not alone.

        While the store is unavailable it goes on by itself.
        """
        while not self._alone:
            try:
                await self.follow(store)
            except Unavailable as error:
                log.info(
                    "the store's clock cannot be read, again in a moment",
                    extra={"error": error.message},
                )
                await self.sleep(jittered(_RETRY_DELAY_S, least=0.8))
            else:
                await self.sleep(jittered(READ_INTERVAL_S, least=0.8), while_settled=True)

    def _look(self, passed_s: float) -> None:
        """Compares it with the wall clock, and follows that a little where there
        is nothing better.
        """
        with self._setting:
            since_s, self._looked_s = max(0.0, passed_s - self._looked_s), passed_s
            self._look_s = passed_s + _CHECK_INTERVAL_S
            off_s = self._wall() - (passed_s + self._offset_s)
            if self._alone or not self._trusted.is_set():
                self._offset_s += max(0.0, min(off_s, since_s * CORRECTED_S / 60))
            self._off, was_off = abs(off_s) > OFF_S, self._off
        gauge("knchat_clock_off_seconds", off_s)
        if self._off is not was_off:
            text = (
                "this machine's clock is wrong, it is not followed"
                if self._off
                else "this machine's clock is right again"
            )
            log.warning(text, extra={"ahead_s": round(off_s, 1)})

    # ---- whether it can be trusted ---------------------------------------------------------------

    async def ping(self) -> None:
        """Returns as soon as this clock can be trusted: a store's clock was
        read, or there is none.
        """
        await self._trusted.wait()

    @property
    def is_trusted(self) -> bool:
        """Whether it can be trusted now."""
        return self._trusted.is_set()

    @property
    def is_settled(self) -> bool:
        """Whether this machine was not suspended since the clock was set by a store.

        After a suspend it goes by what the machine says has passed, which others may not agree
        with: a token of theirs would have expired, or not be valid yet, for as long as they differ.
        """
        return (
            self._alone or self.elapsed_s() - self._monotonic() - self._suspended_s < _SUSPENDED_S
        )

    async def settled(self) -> None:
        """Returns as soon as it is settled, at once where there was no suspend; or after
        SETTLE_TIMEOUT_S: a store that is unavailable holds up once a suspend only.
        """
        if self.is_settled:
            return
        self._set.clear()
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                await self._set.wait()
        except TimeoutError:
            log.warning("no store has set the clock since this machine was suspended")
            self._suspended_s = self.elapsed_s() - self._monotonic()

    @property
    def remark(self) -> str:
        """What an operator should know of the wall clock, in a few words; empty: nothing."""
        off_s = self._wall() - self.now_s()
        if abs(off_s) <= OFF_S:
            return ""
        than = "what has passed since the start" if self._alone else "the database's"
        return (
            f"clock: this machine's is {abs(off_s):.0f} s "
            f"{'ahead of' if off_s > 0 else 'behind'} {than}"
        )

    # ---- waiting ---------------------------------------------------------------------------------

    async def sleep(
        self, seconds: float, *, unless: asyncio.Event | None = None, while_settled: bool = False
    ) -> bool:
        """Sleeps, counting what a suspended machine sleeps too: `asyncio.sleep` does not.

        Wakes up to a second after the machine does. `unless` this is set, and no longer than until
        it is; says whether it slept to the end. `while_settled`: no suspend is slept on, however
        short, for who sets this clock.
        """
        until_s, woken = self.elapsed_s() + seconds, unless or asyncio.Event()
        while (left_s := until_s - self.elapsed_s()) > 0 and not (
            while_settled and not self.is_settled
        ):
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _SLICE_S)):
                    await woken.wait()
                    return False
        return True
