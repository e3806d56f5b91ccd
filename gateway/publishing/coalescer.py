"""Coalesces commands that move watermarks: each is held for half a second a kind, user and chat;
only the newest goes on, if it says more than the one before.

No I/O. A reader who scrolls sends dozens of marks; the log, the store and the other side need two a
second, and none that they have had: a device that comes late, or marks again what is marked.
Source: design.md section 6.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import repeat
from operator import le
from typing import Any, Final

from gateway.publishing.idempotency import Accepted, Outcome, Waiter
from gateway.sessions.deduplicator import RecentDict
from schemas import chat_pb2 as pb
from schemas.errors import Refused, Unavailable
from schemas.ids import MessageId
from schemas.kinds.kind import CommandSpec

# Reading on one device clears the user's others within a second: a tick comes 0.25 s late at most,
# and the way over log and store takes some tens of milliseconds.
HOLD_INTERVAL_S: Final = 0.5
MAX_HELD: Final = 65_536
MAX_HELD_PER_USER: Final = 512
"""Of one user: so many chats may be marked within half a second."""
MAX_ENTRIES: Final = 65_536
"""So many watermarks that the log has are known; without, a mark goes on and changes nothing.

About 150 bytes each.
"""


Name = tuple[str, int, str]
"""The body of a command, its user and its chat."""


@dataclass(slots=True, eq=False)
class HeldMark:
    """One user's watermarks of one chat, and the callbacks for when the log has them."""

    kind: CommandSpec[Any, Any]
    command: pb.Command
    due_s: float
    waiters: list[Waiter]
    marked: RecentDict[Name, tuple[tuple[int, ...], MessageId]]

    def settle(self, outcome: Outcome) -> None:
        """Calls back all waiters."""
        if isinstance(outcome, Accepted):
            marked = self.kind.watermarks_of(self.command), outcome.id
            self.marked.put(_name(self.kind, self.command), marked, limit=MAX_ENTRIES)
        for waiter in self.waiters:
            waiter(outcome)


class Coalescer:
    """At most MAX_HELD commands on hold, of one user MAX_HELD_PER_USER, in the order in which they
    are due.
    """

    def __init__(self) -> None:
        self._held: dict[Name, HeldMark] = {}
        self._marked = RecentDict[Name, tuple[tuple[int, ...], MessageId]]()
        self._of_each = Counter[int]()

    def hold(
        self, kind: CommandSpec[Any, Any], command: pb.Command, waiter: Waiter, now_s: float
    ) -> None:
        """Keeps the watermarks back until half a second after the first of them came.

        One that the log has had goes no further, and its waiter is called at once.
        Raises Refused rate_limited when too many of this user wait, Unavailable when too many of
        all do.
        """
        name = _name(kind, command)
        held = self._held.get(name)
        marked, number = self._marked.get(name) or (repeat(0), MessageId(0))
        if all(map(le, kind.watermarks_of(command), marked)):
            waiter(Accepted(number, duplicate=True))
            return
        if held is None:
            if len(self._held) >= MAX_HELD:
                raise Unavailable("too many watermarks wait, mark again")
            if self._of_each[command.user] >= MAX_HELD_PER_USER:
                raise Refused(
                    "rate_limited",
                    f"more than {MAX_HELD_PER_USER} chats marked in half a second",
                    retry_after_s=HOLD_INTERVAL_S,
                )
            self._of_each[command.user] += 1
            self._held[name] = HeldMark(
                kind, command, now_s + HOLD_INTERVAL_S, [waiter], self._marked
            )
            return
        kind.advance(held.command, command)
        held.command.device = command.device
        held.waiters.append(waiter)

    def pop_due(self, now_s: float) -> list[HeldMark]:
        """Takes out what has been held long enough."""
        due: list[HeldMark] = []
        for held in self._held.values():
            if held.due_s > now_s:
                break
            due.append(held)
        for held in due:
            user = held.command.user
            del self._held[_name(held.kind, held.command)]
            self._of_each[user] -= 1
            if not self._of_each[user]:
                del self._of_each[user]
        return due


def _name(kind: CommandSpec[Any, Any], command: pb.Command) -> Name:
    return kind.body, command.user, command.chat
