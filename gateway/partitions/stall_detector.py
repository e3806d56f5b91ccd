"""Notices that the event loop stalled: the process was stopped, or its machine was suspended.

Meanwhile another gateway may have taken its partitions and its clients. Source: design.md D8.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

STALL_TIMEOUT_S: Final = 10.0
"""The session timeout of the group: after so long without a heartbeat the others own what this
gateway owned.
"""


class StallDetector:
    """`beat` is called by everything that must not go on after a stall as if nothing had happened;
    `on_stall` is called first then.

    `clock`: seconds that also pass while the machine is suspended.
    """

    def __init__(self, on_stall: Callable[[], None], *, clock: Callable[[], float]) -> None:
        self._on_stall = on_stall
        self._clock = clock
        self._last_s: float | None = None

    def beat(self) -> None:
        """Called some times a second, and before anything is pushed."""
        now_s = self._clock()
        last_s, self._last_s = self._last_s, now_s
        if last_s is not None and now_s - last_s >= STALL_TIMEOUT_S:
            log.error(
                "event loop stalled, all sessions are closed",
                extra={"for_s": round(now_s - last_s, 1)},
            )
            self._on_stall()
