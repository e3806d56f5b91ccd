"""When and by whom each message is sent: fixed before the run, so that a slow server cannot slow
its own measurement down.

Source: the open-loop rule of wrk2 (coordinated omission): latency counts from the intended moment,
also for a late send.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """Slot n is sent by client `senders[n]` at `n / rate` seconds after the start."""

    rate: float
    senders: Sequence[int]

    def offset_ns(self, n: int) -> int:
        """When slot n is due, after the start."""
        return int(n * 1e9 / self.rate)


def make(*, clients: int, rate: float, seconds: float, seed: int) -> Schedule:
    """Evenly spaced slots over `seconds`, each given to a random client."""
    chooser = random.Random(seed)  # noqa: S311 - a repeatable schedule, not a secret
    return Schedule(rate, [chooser.randrange(clients) for _ in range(int(rate * seconds))])


class Timer:
    """A Linux timerfd: an event loop's own timers have a millisecond's grain, which would be most
    of a fast server's latency.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._due = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._expired)

    async def until(self, at_ns: int) -> None:
        """Waits for that moment of `time.monotonic_ns()`."""
        self._due.clear()
        spec = struct.pack("=qqqq", 0, 0, at_ns // 1_000_000_000, at_ns % 1_000_000_000)
        if self._libc.timerfd_settime(self._fd, 1, spec, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        await self._due.wait()

    def _expired(self) -> None:
        os.read(self._fd, 8)
        self._due.set()

    def close(self) -> None:
        """Closes the descriptor."""
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
