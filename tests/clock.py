"""A clock in seconds that a test moves on: 1_800_000_000 is in January 2027, and as good as any other for a monotonic one."""

from __future__ import annotations


class Clock:
    """Stands still until `now_s` is moved."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s
