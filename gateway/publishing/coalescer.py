"""Coalesces watermarks: each is held for a second a user and chat; only the newest goes on, if it
says more than the one before.

No I/O. A reader who scrolls sends dozens of marks; the log, the store and the other side need one a
second, and none that they have had: a device that comes late, or marks again what is marked.
Source: design.md section 6.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from gateway.publishing.idempotency import Accepted, Outcome, Waiter
from gateway.sessions.deduplicator import RecentDict
from schemas import chat_pb2 as pb
from schemas.errors import Refused, Unavailable
from schemas.ids import MessageId

HOLD_INTERVAL_S: Final = 1.0
MAX_HELD: Final = 65_536
MAX_HELD_PER_USER: Final = 512
"""Of one user: so many chats may be marked within a second."""
MAX_ENTRIES: Final = 65_536
"""So many watermarks that the log has are known; without, a mark goes on and changes nothing.

About 150 bytes each.
"""


@dataclass(slots=True, eq=False)
class HeldMark:
    """One user's watermarks of one chat, and the callbacks for when the log has them."""

    command: pb.Command
    due_s: float
    waiters: list[Waiter]
    marked: RecentDict[tuple[int, str], tuple[int, int, MessageId]]

    def settle(self, outcome: Outcome) -> None:
        """Calls back all waiters."""
        if isinstance(outcome, Accepted):
            mark = self.command.mark
            self.marked.put(
                (self.command.user, self.command.chat),
                (mark.received, mark.read, outcome.id),
                limit=MAX_ENTRIES,
            )
        for waiter in self.waiters:
            waiter(outcome)


class MarkCoalescer:
    """At most MAX_HELD marks on hold, of one user MAX_HELD_PER_USER, in the order in which they are
    due.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[int, str], HeldMark] = {}
        self._marked = RecentDict[tuple[int, str], tuple[int, int, MessageId]]()
        self._of_each = Counter[int]()

    def hold(self, command: pb.Command, waiter: Waiter, now_s: float) -> None:
        """Keeps the watermarks back until a second after the first of them came.

        One that the log has had goes no further, and its waiter is called at once.
        Raises Refused rate_limited when too many of this user wait, Unavailable when too many of
        all do.
        """
        held = self._held.get((command.user, command.chat))
        received, read, number = self._marked.get((command.user, command.chat)) or (
            0,
            0,
            MessageId(0),
        )
        if command.mark.received <= received and command.mark.read <= read:
            waiter(Accepted(number, duplicate=True))
            return
        if held is None:
            if len(self._held) >= MAX_HELD:
                raise Unavailable("too many watermarks wait, mark again")
            if self._of_each[command.user] >= MAX_HELD_PER_USER:
                raise Refused(
                    "rate_limited",
                    f"more than {MAX_HELD_PER_USER} chats marked in a second",
                    retry_after_s=HOLD_INTERVAL_S,
                )
            self._of_each[command.user] += 1
            self._held[command.user, command.chat] = HeldMark(
                command, now_s + HOLD_INTERVAL_S, [waiter], self._marked
            )
            return
        mark = held.command.mark
        mark.read, mark.received = (
            max(mark.read, command.mark.read),
            max(mark.received, command.mark.received),
        )
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
            del self._held[user, held.command.chat]
            self._of_each[user] -= 1
            if not self._of_each[user]:
                del self._of_each[user]
        return due
