"""What a call or a client frame costs, in units of a budget; a message costs about 1 in all.

Declared with each HTTP endpoint (`Endpoint.cost`) and here for each frame; how many units a caller
may spend is a setting. Source: protocol.md section 2, `rate_limited`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

from schemas import frames


@dataclass(frozen=True, slots=True)
class Cost:
    """`units`, and `per_item` for each item asked for: the call's or frame's `limit`."""

    units: float
    per_item: float = 0.0

    def of(self, limit: int) -> float:
        """The whole cost for that limit."""
        return self.units + self.per_item * limit


FREE: Final = Cost(0)
ONE: Final = Cost(1)
WRITE: Final = Cost(2)
"""A durable statement of its own; messages share theirs."""
PAGE: Final = Cost(1, per_item=1 / 16)
"""Pages, lists and searches."""
DIGEST: Final = Cost(PAGE.of(256))
"""It reads up to 1,024 rows and answers with two numbers."""
HASH: Final = Cost(20)
"""argon2: 20 ms of a core."""
TWO_HASHES: Final = Cost(40)

# Pings are limited as frames of their session; a hello comes before its user is known.
OF_FRAMES: Final[dict[type[frames.ClientFrame], Cost]] = {
    frames.Hello: FREE,
    frames.Send: ONE,
    frames.Mark: ONE,
    frames.History: PAGE,
    frames.Chats: PAGE,
    frames.DigestAsk: DIGEST,
    frames.Refresh: ONE,
    frames.Ping: FREE,
}

if missing := set(get_args(frames.Incoming)) - OF_FRAMES.keys():
    raise TypeError(
        f"frames without a cost in schemas/costs.py: {sorted(kind.__name__ for kind in missing)}"
    )
