"""Clocks that a test moves on: STARTED_S is in January 2027, and as good as any other for a
monotonic one.
"""

from __future__ import annotations

from backends import clock

STARTED_S = 1_800_000_000.0


class Clock:
    """Stands still until `now_s` is moved."""

    def __init__(self) -> None:
        self.now_s = STARTED_S

    def __call__(self) -> float:
        return self.now_s


class Machine:
    """A machine: what has passed, how wrong its wall clock is, and the true time."""

    def __init__(self, wrong_s=0.0):
        self.passed_s, self.wrong_s, self.suspended_s = 1_000.0, wrong_s, 100.0

    def true_s(self):
        return STARTED_S + self.passed_s

    def wall(self):
        return self.true_s() + self.wrong_s

    def elapsed(self):
        return self.passed_s

    def monotonic(self):
        return self.passed_s - self.suspended_s

    def suspend(self, seconds):
        self.passed_s += seconds
        self.suspended_s += seconds

    def clock(self, *, alone):
        return clock.Clock(
            alone=alone, wall=self.wall, elapsed=self.elapsed, monotonic=self.monotonic
        )

    def reading(self, *, late_s=0.0, took_s=0.0, wrong_s=0.0):
        """Of a database with the true time, `wrong_s` aside, which answered after `late_s` of the
        `took_s` that the question took.
        """
        asked_s = self.passed_s
        self.passed_s += took_s
        return clock.Reading(
            round((STARTED_S + asked_s + min(late_s, took_s) + wrong_s) * 1_000),
            asked_s,
            self.passed_s,
        )
