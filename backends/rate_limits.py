"""What a caller may spend: buckets of units that fill with time.

The gateway, the caches and the HTTP functions draw from them. What a call or frame costs is
declared in schemas/costs.py. Pure: time is passed in, in seconds of a clock that does not go back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from backends.concurrency import BoundedDict

_LEAST_S: Final = 1e-6
"""A shorter wait is none: it is what floating point leaves."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """`units` at once, and `per_s` of them a second in the long run."""

    units: float
    per_s: float

    @property
    def fills_s(self) -> float:
        """How long an empty bucket takes to be full."""
        return self.units / self.per_s


class Drawn(NamedTuple):
    """What became of a draw from some buckets. `wait_s`: 0.0, it was taken; or nothing was, and
    there will be enough in so many seconds.

    `allowance` and `left`, in units as of now, are of the bucket that refused, else of the one with
    the least left; None: there was no bucket.
    """

    wait_s: float
    allowance: Allowance | None = None
    left: float = 0.0


class Bucket:
    """One bucket, full at first.

    Its state is one number: when it will be full again (the generic cell rate algorithm).
    """

    __slots__ = ("_fills_s", "_per_s", "_units", "full_s")

    def __init__(self, allowance: Allowance) -> None:
        self.allow(allowance)
        self.full_s = 0.0

    def allow(self, allowance: Allowance) -> None:
        """From now on it holds so much. It will be full when it would have been, or before."""
        self._units, self._per_s, self._fills_s = (
            allowance.units,
            allowance.per_s,
            allowance.fills_s,
        )

    def wait_s(self, cost: float, now_s: float) -> float:
        """After how many seconds so much can be drawn; 0.0: now.

        What costs more than a full bucket takes all of it.
        """
        wait_s = self._after(cost, now_s) - now_s - self._fills_s
        return wait_s if wait_s > _LEAST_S else 0.0

    def draw(self, cost: float, now_s: float) -> float:
        """Takes so much and returns 0.0; or takes nothing, and says in how many seconds there will
        be enough.
        """
        full_s = self._after(cost, now_s)
        wait_s = full_s - now_s - self._fills_s
        if wait_s > _LEAST_S:
            return wait_s
        self.full_s = full_s
        return 0.0

    def left(self, now_s: float) -> float:
        """How many units are in it."""
        return (now_s + self._fills_s - self._after(0.0, now_s)) * self._per_s

    def _after(self, cost: float, now_s: float) -> float:
        """When it would be full again if so much were taken.

        Never emptier than empty, also after a clock went back.
        """
        full_s = self.full_s
        if full_s < now_s:
            full_s = now_s
        elif full_s - now_s > self._fills_s:
            full_s = now_s + self._fills_s
        return full_s + (min(self._units, cost)) / self._per_s


class Buckets:
    """Buckets by name, at most so many of them; the one that was used longest ago goes first, and
    is full again by that.

    Each draw says what a bucket holds: it may be another allowance than the last time.
    """

    def __init__(self, most: int) -> None:
        self._buckets = BoundedDict[str, Bucket](most)

    def draw(self, named: Sequence[tuple[str, Allowance]], cost: float, now_s: float) -> Drawn:
        """Draws from all of these or from none; else the wait is the longest."""
        buckets = [(self._named(name, allowance), allowance) for name, allowance in named]
        if not buckets:
            return Drawn(0.0)
        waits = [bucket.wait_s(cost, now_s) for bucket, _ in buckets]
        if wait_s := max(waits):
            bucket, allowance = buckets[waits.index(wait_s)]
            return Drawn(wait_s, allowance, bucket.left(now_s))
        for bucket, _ in buckets:
            bucket.draw(cost, now_s)
        left, place = min((bucket.left(now_s), n) for n, (bucket, _) in enumerate(buckets))
        return Drawn(0.0, buckets[place][1], left)

    def wait_s(self, named: Sequence[tuple[str, Allowance]], cost: float, now_s: float) -> float:
        """After how many seconds so much could be drawn from all of these; 0.0: now.

        Nothing is drawn.
        """
        return max(
            (self._named(name, allowance).wait_s(cost, now_s) for name, allowance in named),
            default=0.0,
        )

    def _named(self, name: str, allowance: Allowance) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(allowance)
        else:
            bucket.allow(allowance)
            self._buckets.move_to_end(name)
        return bucket
