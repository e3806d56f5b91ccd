"""What a call or a client frame costs, in units of a budget; a message costs about 1 in all.

Declared with each HTTP endpoint (`Endpoint.cost`) and each kind of frame (schemas/kinds); how many
units a caller may spend is a setting. Source: protocol.md section 2, `rate_limited`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Cost(Struct, frozen=True):
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
"""Pages, lists and searches for users."""
SEARCH: Final = Cost(4, per_item=1 / 16)
"""Searches in messages: the index, and then each message from history."""
LIST: Final = Cost(PAGE.of(16))
"""A list that is never long enough for pages."""
DIGEST: Final = Cost(PAGE.of(256))
"""It reads up to 1,024 rows and answers with two numbers."""
HASH: Final = Cost(20)
"""argon2: 20 ms of a core."""
TWO_HASHES: Final = Cost(40)
