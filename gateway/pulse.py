"""Notices that the whole process stood still: it was stopped, or its machine was suspended.

Meanwhile another gateway may have taken its partitions and its clients. Source: design.md D8.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

STILL_S: Final = 10.0
"""The session timeout of the group: after so long without a sign of life the others own what this gateway owned."""


class Pulse:
    """Beaten by everything that must not go on as if nothing had happened; `stood_still` is called first then.

    `clock`: seconds that also pass while the machine is suspended.
    """

    def __init__(self, stood_still: Callable[[], None], *, clock: Callable[[], float]) -> None:
        self._stood_still = stood_still
        self._clock = clock
        self._last_s: float | None = None

    def beat(self) -> None:
        """Called some times a second, and before anything is pushed."""
        now_s = self._clock()
        last_s, self._last_s = self._last_s, now_s
        if last_s is not None and now_s - last_s >= STILL_S:
            log.error("this process stood still, its sessions end", extra={"for_s": round(now_s - last_s, 1)})
            self._stood_still()
