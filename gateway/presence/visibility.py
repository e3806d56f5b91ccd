"""Who may see how a user is, and that a user is typing.

One question for everything; what is asked here and not answered is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Protocol

from schemas.ids import UserId


class Visibility(Enum):
    """What a user may see of another."""

    NOTHING = auto()  # one has blocked the other: always offline
    STATE = auto()  # all but when they were last here
    ALL = auto()


Pair = tuple[UserId, UserId]
"""A user who looks, and the one who is looked at."""


class VisibilityRules(Protocol):
    """Answers who may see whom."""

    async def of(self, pairs: Sequence[Pair]) -> Sequence[Visibility]:
        """What the first of each pair may see of the second, in their order. Raises Unavailable."""
        ...

    async def hear(self, pairs: Sequence[Pair]) -> Sequence[bool]:
        """Whether the first of each pair is told that the second is typing to it, in their order.
        Raises Unavailable.
        """
        ...

    async def changed(self, since_ms: int) -> Mapping[UserId, int]:
        """Users of whom something of it may have changed at that time (Unix milliseconds) or later,
        and when it did last. Raises Unavailable.
        """
        ...
