"""The one clock of a process: the time that orders, expires and refuses.

A machine's wall clock may be wrong and may be set at any moment. This one follows the database, which all processes share: its time at
the last reading, and what has passed since by CLOCK_BOOTTIME, which nobody sets and which counts while the machine is suspended. Where
the database lies in a file of this machine there is no better clock than the wall clock; then it is the wall clock at the start and what
has passed since, corrected towards the wall clock only forwards and by at most CORRECTED_S a minute.

Nothing else reads the wall clock, but for what README.md lists. Source: design.md D3.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

CORRECTED_S: Final = 1.0
"""So far a minute a clock without a database follows the wall clock: a wrong one cannot expire anything, a right one is reached in time."""
OFF_S: Final = 60.0
"""A wall clock that differs by more is worth a word to the operator: one of the two is wrong."""
BELOW_MS: Final = 900
"""How far below the newest id a reading of the database may set this clock. A mint runs up to 1 s ahead of it, so ids go on rising."""
_CORRECT_EVERY_S: Final = 10.0
_SLICE_S: Final = 1.0


def elapsed_s() -> float:
    """Seconds since the machine started. They also pass while it is suspended, which `time.monotonic` sleeps through on Linux."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class Reading:
    """What a store's clock said (Unix milliseconds) at some time between the question and its answer (`elapsed_s`)."""

    store_ms: int
    asked_s: float
    answered_s: float


class Clock:
    """The clock of one process; any thread may ask. `alone`: there is no store with a better clock than this machine's.

    It never goes back, unless a store's clock says so: then at most to BELOW_MS before the newest id that its mint has made or followed.
    """

    def __init__(self, *, alone: bool, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = elapsed_s) -> None:
        self.elapsed_s: Final = elapsed
        """Seconds by CLOCK_BOOTTIME, for durations and deadlines within this process."""
        self._wall = wall
        self._alone = alone
        self._read = False
        self._correcting = threading.Lock()
        self._corrected_s = elapsed()
        self._next_s = self._corrected_s + _CORRECT_EVERY_S
        self._offset_s = wall() - self._corrected_s

    def now_s(self) -> float:
        """Unix time in seconds."""
        passed_s = self.elapsed_s()
        if passed_s >= self._next_s:
            self._correct(passed_s)
        return passed_s + self._offset_s

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return int(self.now_s() * 1_000)

    def synchronise(self, reading: Reading, *, newest_ms: int = 0) -> None:
        """Sets the clock by a store's, as far as the reading is exact. `newest_ms`: the time of the newest id that was made or followed.

        Does nothing where the store's clock is this machine's.
        """
        if self._alone:
            return
        with self._correcting:
            earliest_s, latest_s = reading.store_ms / 1_000 - reading.answered_s, reading.store_ms / 1_000 - reading.asked_s
            offset_s = min(max(self._offset_s, earliest_s), latest_s) if self._read else (earliest_s + latest_s) / 2
            if offset_s < self._offset_s:
                offset_s = min(self._offset_s, max(offset_s, (newest_ms - BELOW_MS) / 1_000 - self.elapsed_s()))
            self._offset_s, self._read = offset_s, True

    def not_below(self, unix_ms: int) -> None:
        """Sets the clock forwards to the time of the newest id or record of a log that lies on this machine. Only where it is alone."""
        with self._correcting:
            if self._alone:
                self._offset_s = max(self._offset_s, unix_ms / 1_000 - self.elapsed_s())

    @property
    def off_s(self) -> float:
        """How far the wall clock is ahead of this one."""
        return self._wall() - self.now_s()

    @property
    def doubt(self) -> str | None:
        """Why this clock cannot be trusted, in operators' words."""
        if not self._alone and not self._read:
            return "the database has not told its time yet"
        off_s = self.off_s
        if self._alone and abs(off_s) > OFF_S:
            return f"this machine's clock is {abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} what has passed since the start"
        return None

    async def sleep(self, seconds: float) -> None:
        """Sleeps, counting what a suspended machine sleeps too: `asyncio.sleep` does not. Wakes up to a second after the machine does."""
        until_s = self.elapsed_s() + seconds
        while (left_s := until_s - self.elapsed_s()) > 0:  # noqa: ASYNC110 - nothing tells of a suspend
            await asyncio.sleep(min(left_s, _SLICE_S))

    def _correct(self, passed_s: float) -> None:
        with self._correcting:
            self._next_s = passed_s + _CORRECT_EVERY_S
            since_s, self._corrected_s = max(0.0, passed_s - self._corrected_s), passed_s
            if not self._read:
                ahead_s = self._wall() - (passed_s + self._offset_s)
                self._offset_s += max(0.0, min(ahead_s, since_s * CORRECTED_S / 60))
