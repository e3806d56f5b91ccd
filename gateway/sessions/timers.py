"""One timer for everything that happens to sessions later: heartbeats, deadlines, expiry.

No I/O and no clock: time is passed in. A connection schedules its next timer; being busy in
between moves nothing, the timer looks how things stand then. So an idle session costs one timer a
heartbeat, and a busy one no more.
"""

from __future__ import annotations

import math
from typing import Final, Generic, Protocol, TypeVar

TICK_S: Final = 0.25


class Timed(Protocol):
    """What the wheel writes on its entries: the tick of the one timer that counts, -1 for none."""

    timer_tick: int


Entry = TypeVar("Entry", bound=Timed)


class TimerWheel(Generic[Entry]):
    """Entries by the tick of their next timer, which comes at most TICK_S late."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s
        """As of the last tick: near enough for what needs no better, and cheaper than a clock."""
        self._tick = math.floor(now_s / TICK_S)
        self._entries: dict[int, list[Entry]] = {}

    def schedule(self, entry: Entry, at_s: float) -> None:
        """Makes this the entry's next timer, unless an earlier one is scheduled."""
        tick = max(math.ceil(at_s / TICK_S), self._tick + 1)
        if entry.timer_tick == -1 or tick < entry.timer_tick:
            entry.timer_tick = tick
            self._entries.setdefault(tick, []).append(entry)

    def pop_due(self, now_s: float) -> list[Entry]:
        """Takes out the entries whose time has come."""
        self.now_s = now_s
        due: list[Entry] = []
        tick_now = math.floor(now_s / TICK_S)
        for tick in range(self._tick + 1, tick_now + 1):
            for entry in self._entries.pop(tick, ()):
                if entry.timer_tick == tick:
                    entry.timer_tick = -1
                    due.append(entry)
        self._tick = max(self._tick, tick_now)
        return due
