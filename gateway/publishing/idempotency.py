"""What the gateway itself remembers of clients' idempotency keys: a bounded table in front of the
cache.

No I/O. The publisher asks it before an id is made. A repeat while the first is under way joins
it; a settled one is answered from here. Source: design.md D4.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from backends.cache import KEY_TTL_S
from schemas import chat_pb2 as pb
from schemas.errors import ChatError
from schemas.ids import MessageId

MAX_ENTRIES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command is safe in the log under this id; `duplicate`: it was asked for before."""

    id: MessageId
    duplicate: bool


Outcome = Accepted | ChatError
Waiter = Callable[[Outcome], None]
"""Is called once with what became of a command. Never raises."""


@dataclass(slots=True, eq=False)
class Pending:
    """A command on its way into the log, and its waiters.

    `duplicate`: even the first of them only repeats.
    """

    command: pb.Command
    size: int
    came_s: float
    known: Known | None
    waiters: list[Waiter] = field(default_factory=list)
    duplicate: bool = False

    def settle(self, outcome: Outcome) -> None:
        """Calls back all waiters; those that joined the first only repeat."""
        waiters, self.waiters = self.waiters, []
        for number, waiter in enumerate(waiters):
            if number and isinstance(outcome, Accepted) and not outcome.duplicate:
                outcome = Accepted(outcome.id, duplicate=True)
            waiter(outcome)


@dataclass(slots=True, eq=False)
class Known:
    """One key: the id made for it, when (seconds, monotonic), and the hash of what was asked.

    Neither pending nor confirmed: its command may or may not be in the log.
    """

    id: MessageId
    content: bytes
    since_s: float
    pending: Pending | None = None
    confirmed: bool = False


class IdempotencyKeys:
    """The MAX_ENTRIES most recently used keys, each for KEY_TTL_S: after that it may be used for
    something new.

    One that is pending is never forgotten: those are bounded by the publisher's queue. A
    `BoundedDict` would forget those too.
    """

    def __init__(self, limit: int = MAX_ENTRIES) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[int, str], Known] = OrderedDict()

    def get(self, user: int, key: str, now_s: float) -> Known | None:
        """What is known of the key, which counts as a use."""
        known = self._known.get((user, key))
        if known is None:
            return None
        if known.pending is None and now_s - known.since_s >= KEY_TTL_S:
            del self._known[user, key]
            return None
        self._known.move_to_end((user, key))
        return known

    def put(self, user: int, key: str, known: Known) -> None:
        """Remembers the key, and forgets the one that was used longest ago."""
        self._known[user, key] = known
        if len(self._known) > self._limit:
            for oldest, held in self._known.items():
                if held.pending is None:
                    del self._known[oldest]
                    break

    def forget(self, user: int, key: str) -> None:
        """As if the key had never been seen: nothing was published under it."""
        self._known.pop((user, key), None)
