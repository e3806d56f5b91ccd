"""What one session was told of large groups, and what it was not: it is told once that there are
messages, until it asks for them.

What it was not told of is remembered until a page has shown it; what no page shows is told after
all. So clients' questions set the pace of a lively group, and none misses a message that came late.
No I/O and no clock. Source: decisions/0058.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

MAX_UNTOLD: Final = 64
"""Of one group. Beyond that each is told."""


class _Group:
    __slots__ = ("told", "untold")

    def __init__(self) -> None:
        self.told: set[int] = set()
        """Since it has asked, and not shown by a page since."""
        self.untold: set[int] = set()


class Untold:
    """Of one session: its large groups."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}

    def wants(self, chat: str, message: int) -> bool:
        """Whether it is to be told of this one now. If not, that is remembered."""
        group = self._groups.get(chat)
        if (
            group is None
            or not group.told
            or message < min(group.told)
            or len(group.untold) >= MAX_UNTOLD
        ):
            return True
        group.untold.add(message)
        return False

    def on_told(self, chat: str, message: int) -> None:
        """It was told of this one."""
        group = self._groups.setdefault(chat, _Group())
        group.untold.discard(message)
        if len(group.told) < MAX_UNTOLD:  # the others the client knows by itself
            group.told.add(message)

    def on_asked(self, chat: str) -> None:
        """It asks for a page."""
        if (group := self._groups.get(chat)) is not None:
            group.told.clear()

    def on_page(self, chat: str, shown: Collection[int]) -> int | None:
        """It was shown these. What it is to be told of now: the lowest that a page has left out.

        None when it will ask again anyway: it was told of one meanwhile that the page left out.
        """
        if (group := self._groups.get(chat)) is None:
            return None
        group.told.difference_update(shown)
        group.untold.difference_update(shown)
        if group.told:
            return None
        if not group.untold:
            del self._groups[chat]
            return None
        return min(group.untold)
