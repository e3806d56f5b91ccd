"""The embedded cache: idempotency keys in the embedded log's file, where they hold over kill -9; counters and values in memory.

One process's memory only: counters and values are not shared with a lone function beside a running `dev`. Made by `wiring`.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from backends.cache import KEY_TTL_S, Claim, Held
from schemas.errors import Malformed

if TYPE_CHECKING:
    from backends.log.embedded import EmbeddedLog
    from schemas.ids import UserId

VALUE_BYTES: Final = 4_096
# At most 40 MiB of values and about 20 MiB of counters; the oldest go first.
_VALUES: Final = 10_000
_COUNTERS: Final = 100_000
# Rows in one statement: six parameters each, and older SQLites take 32,766.
_ROWS: Final = 256
# What a claim counts in the log's queue.
_CLAIM_BYTES: Final = 256

_FIND: Final = """
WITH asked (user, key) AS (VALUES {})
SELECT user, key, id, content, confirmed FROM asked CROSS JOIN keys USING (user, key) WHERE expires_ms > ?
"""
_RESERVE: Final = "INSERT OR REPLACE INTO keys (user, key, id, content, confirmed, expires_ms) VALUES {}"
_CONFIRM: Final = """
INSERT INTO keys (user, key, id, content, confirmed, expires_ms) VALUES {}
ON CONFLICT (user, key) DO UPDATE SET confirmed = 1 WHERE id = excluded.id
"""


class EmbeddedCache:
    """Implements `Cache`. Keys are written by the log's writing thread, in its transactions."""

    def __init__(self, log: EmbeddedLog) -> None:
        self._log = log
        self._counters: _Bounded[tuple[int, int]] = _Bounded(_COUNTERS)
        self._values: _Bounded[tuple[float, bytes]] = _Bounded(_VALUES)

    async def reserve(self, claims: Sequence[Claim], *, confirm: Sequence[Claim] = ()) -> Sequence[Held]:
        """See `Cache`. A key's 24 h begin with its reservation; a confirmation of a key that nobody holds takes it.

        Costs no fsync: over a power cut a reservation holds from the next append on, which syncs both.
        """
        now_ms = int(self._log.clock() * 1000)
        step = partial(_reserve, claims=claims, confirm=confirm, now_ms=now_ms)
        return await self._log.run(step, durable=False, size=_CLAIM_BYTES * (len(claims) + len(confirm)))

    async def release(self, user: UserId, key: str) -> None:
        """See `Cache`. Durable on return."""
        await self._log.run(partial(_release, user=user, key=key), durable=True)

    async def hit(self, name: str, *, window_s: int) -> int:
        """See `Cache`. Counts in this process only."""
        window = int(self._log.clock() // window_s)
        counted = self._counters.get(name)
        count = counted[1] + 1 if counted is not None and counted[0] == window else 1
        self._counters.put(name, (window, count))
        return count

    async def put(self, name: str, value: bytes, *, ttl_s: int) -> None:
        """See `Cache`. In this process only. Raises Malformed when the value is longer than 4 KiB."""
        if len(value) > VALUE_BYTES:
            raise Malformed(f"a cached value holds at most {VALUE_BYTES} bytes, not {len(value)}")
        self._values.put(name, (self._log.clock() + ttl_s, value))

    async def get(self, name: str) -> bytes | None:
        """See `Cache`."""
        found = self._values.get(name)
        return found[1] if found is not None and found[0] > self._log.clock() else None

    async def ping(self) -> None:
        """Raises Unavailable when keys cannot be written, which is when the log cannot."""
        await self._log.ping()

    async def close(self) -> None:
        """Nothing of its own to let go of: the log has the file."""


Value = TypeVar("Value")


class _Bounded(Generic[Value]):
    """A dictionary that forgets what was put longest ago when it is full."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: OrderedDict[str, Value] = OrderedDict()

    def get(self, name: str) -> Value | None:
        return self._items.get(name)

    def put(self, name: str, value: Value) -> None:
        self._items[name] = value
        self._items.move_to_end(name)
        if len(self._items) > self._most:
            self._items.popitem(last=False)


def _reserve(connection: sqlite3.Connection, *, claims: Sequence[Claim], confirm: Sequence[Claim], now_ms: int) -> list[Held]:
    expires_ms = now_ms + KEY_TTL_S * 1000
    _insert(connection, _CONFIRM, [(claim.user, claim.key, claim.id, claim.content, 1, expires_ms) for claim in confirm])
    holders = _find(connection, claims, now_ms)
    answers, fresh = [], []
    for claim in claims:
        if (held := holders.get((claim.user, claim.key))) is None:
            holders[claim.user, claim.key] = Held(claim.id, claim.content, confirmed=False, fresh=False)
            held = Held(claim.id, claim.content, confirmed=False, fresh=True)
            fresh.append((claim.user, claim.key, claim.id, claim.content, 0, expires_ms))
        answers.append(held)
    _insert(connection, _RESERVE, fresh)
    return answers


def _release(connection: sqlite3.Connection, *, user: UserId, key: str) -> None:
    connection.execute("UPDATE keys SET confirmed = 0 WHERE user = ? AND key = ?", (user, key))


def _find(connection: sqlite3.Connection, claims: Sequence[Claim], now_ms: int) -> dict[tuple[int, str], Held]:
    found = {}
    for start in range(0, len(claims), _ROWS):
        part = claims[start : start + _ROWS]
        asked = chain.from_iterable((claim.user, claim.key) for claim in part)
        for user, key, id_, content, confirmed in connection.execute(_text(_FIND, 2, len(part)), (*asked, now_ms)):
            found[user, key] = Held(id_, content, bool(confirmed), fresh=False)
    return found


def _insert(connection: sqlite3.Connection, text: str, rows: Sequence[tuple[int | str | bytes, ...]]) -> None:
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        connection.execute(_text(text, 6, len(part)), [*chain.from_iterable(part)])


@lru_cache(maxsize=1024)
def _text(text: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return text.format(", ".join([row] * rows))
