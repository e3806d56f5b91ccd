"""One timer for everything that happens to sessions later: heartbeats, deadlines, expiry. No I/O and no clock: time is passed in.

The hub puts a session in with the time of its next visit; being busy in between moves nothing, the visit looks how things stand then.
So an idle session costs one visit a heartbeat, and a busy one no more.
"""

from __future__ import annotations

import math
from typing import Final, Generic, Protocol, TypeVar

TICK_S: Final = 0.25


class Visited(Protocol):
    """What the wheel writes on its guests: the tick of the one visit that counts, -1 for none."""

    visit_tick: int


Guest = TypeVar("Guest", bound=Visited)


class Wheel(Generic[Guest]):
    """Guests by the tick of their next visit. A visit comes at most TICK_S late."""

    def __init__(self, now_s: float) -> None:
        self._tick = math.floor(now_s / TICK_S)
        self._guests: dict[int, list[Guest]] = {}

    def visit_at(self, guest: Guest, at_s: float) -> None:
        """Makes this the guest's next visit, unless an earlier one is planned."""
        tick = max(math.ceil(at_s / TICK_S), self._tick + 1)
        if guest.visit_tick == -1 or tick < guest.visit_tick:
            guest.visit_tick = tick
            self._guests.setdefault(tick, []).append(guest)

    def due(self, now_s: float) -> list[Guest]:
        """Takes out the guests whose time has come."""
        due: list[Guest] = []
        tick_now = math.floor(now_s / TICK_S)
        for tick in range(self._tick + 1, tick_now + 1):
            for guest in self._guests.pop(tick, ()):
                if guest.visit_tick == tick:
                    guest.visit_tick = -1
                    due.append(guest)
        self._tick = max(self._tick, tick_now)
        return due
