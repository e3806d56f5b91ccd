"""Much small work, done between what sockets and timers wait for.

Thousands of sessions that come, leave or are told something at once would hold up everything else
for as long as all of them take: their work waits here, and a little of it is done at a time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

TURN_S: Final = 0.001


class Turns:
    """Calls in the order in which they were asked for, for a millisecond in each turn of the event
    loop, and at least one. Belongs to one event loop.
    """

    def __init__(
        self, call_soon: Callable[[Callable[[], None]], object], elapsed_s: Callable[[], float]
    ) -> None:
        """`call_soon` calls in the next turn."""
        self._call_soon = call_soon
        self._elapsed_s = elapsed_s
        self._calls = deque[Callable[[], None]]()

    def call(self, call: Callable[[], None]) -> None:
        """In one of the next turns; it should take much less than a millisecond."""
        self._calls.append(call)
        if len(self._calls) == 1:
            self._call_soon(self._turn)

    def _turn(self) -> None:
        until_s = self._elapsed_s() + TURN_S
        while self._calls:
            try:
                self._calls[0]()
            except Exception:
                log.exception("work of a turn failed")
            # Only now: while it stands here, what it asks for begins no second row of turns.
            self._calls.popleft()
            if self._calls and self._elapsed_s() >= until_s:
                self._call_soon(self._turn)
                return
