"""What is remembered for a while: idempotency keys, counters for limits, small values.

Losing it degrades, it never loses a message. The gateway's publisher keeps keys here (design.md
D4); `accounts` counts log-ins and remembers revocations. Embedded, keys lie in `log.db` and hold
over kill -9; the rest lies in memory. On Redis everything is shared, and holds as long as that
Redis does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from backends.rate_limits import Allowance, Drawn
from schemas.ids import MessageId, UserId

KEY_TTL_S: Final = 24 * 3600
"""A key is unique per user for so long (protocol.md section 3)."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A user's key, the id made for it and the hash of what was asked (8 bytes)."""

    user: UserId
    key: str
    id: MessageId
    content: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """Who holds a key after `reserve`: the claim itself (`fresh`), or an older one with its id and
    content.

    Confirmed: its command is in the log.
    """

    id: MessageId
    content: bytes
    confirmed: bool
    fresh: bool


class Cache(Protocol):
    """Bounded in time: every method answers or raises Unavailable within 50 ms of network time
    (embedded: its own disk's time).
    """

    async def reserve(
        self, claims: Sequence[Claim], *, confirm: Sequence[Claim] = ()
    ) -> Sequence[Held]:
        """Confirms the claims of the batch before (their commands are in the log), then reserves
        these: set if absent, for KEY_TTL_S.

        One round trip. In the order of `claims`; a key that occurs twice among them is fresh once.
        Each claim's step is atomic over all processes (embedded: the one that owns the data
        folder). Embedded, a reservation is durable no later than any append that begins after it
        returned; a Redis that restarts or fails over may forget it, and then each gateway has its
        own memory of keys, and clients have the key itself, to tell a repeat by.
        """
        ...

    async def release(self, user: UserId, key: str) -> None:
        """Sets a confirmed key back to reserved: its command turned out lost, so a repeat must
        append again.

        Unknown keys are ignored.
        """
        ...

    async def draw(self, buckets: Sequence[tuple[str, Allowance]], cost: float) -> Drawn:
        """Draws so many units from all of these buckets, or from none, and says what is left.

        One round trip, one step to all others. A bucket that was not drawn from is full; one that
        is forgotten is full again.
        """
        ...

    async def hit(self, name: str, *, window_s: int) -> int:
        """Counts one more event under this name and says how many there were in the current fixed
        window, this one included.

        Windows begin by the clock or with their first event, as the adapter likes.
        """
        ...

    async def put(self, name: str, value: bytes, *, ttl_s: int) -> None:
        """Remembers a small value (at most 4 KiB)."""
        ...

    async def get(self, name: str) -> bytes | None:
        """What was put, until its time is over."""
        ...

    async def ping(self) -> None:
        """Raises Unavailable when the cache does not answer, Malformed when a setting is wrong.

        Answers within 2 s. The other methods say Unavailable for both: their callers go on without.
        """
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...
