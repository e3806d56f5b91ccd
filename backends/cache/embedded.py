"""The embedded cache: idempotency keys in the embedded log's file, where they hold over kill -9;
counters and values in memory.

One process's memory only: counters and values are not shared with a lone function beside a running
`dev`. Made by `wiring`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Final

from backends.cache import KEY_TTL_S, Claim, Held
from backends.concurrency import BoundedDict
from backends.rate_limits import Allowance, Buckets, Drawn
from schemas.errors import Malformed, Unavailable
from schemas.ids import UserId

if TYPE_CHECKING:
    from backends.log.embedded.log import EmbeddedLog

MAX_VALUE_BYTES: Final = 4_096
# At most 40 MiB of values, about 20 MiB of counters and 25 MiB of buckets; the oldest go first.
_MAX_VALUES: Final = 10_000
_MAX_COUNTERS: Final = 100_000
# Rows in one statement: six parameters each, and older SQLites take 32,766.
_ROWS: Final = 256
# What a claim counts in the log's queue.
_CLAIM_BYTES: Final = 256

_FIND: Final = """
WITH asked (user, key) AS (VALUES {})
SELECT user, key, id, content, confirmed
FROM asked CROSS JOIN keys USING (user, key) WHERE expires_ms > ?
"""
_WRITE: Final = (
    "INSERT OR REPLACE INTO keys (user, key, id, content, confirmed, expires_ms) VALUES {}"
)

Name = tuple[UserId, str]
"""User and key."""


class EmbeddedCache:
    """Implements `Cache`.

    Keys are written by the log's writing thread, in the transactions of the appends that follow.
    They belong to one process, which owns the data folder, as the one gateway does: what was not
    written yet is looked up in its memory.
    """

    def __init__(self, log: EmbeddedLog) -> None:
        self._log = log
        self._unwritten: dict[Name, Held] = {}
        self._buckets = Buckets(_MAX_COUNTERS)
        self._counters = BoundedDict[str, tuple[int, int]](_MAX_COUNTERS)
        self._values = BoundedDict[str, tuple[float, bytes]](_MAX_VALUES)

    async def reserve(
        self, claims: Sequence[Claim], *, confirm: Sequence[Claim] = ()
    ) -> Sequence[Held]:
        """See `Cache`.

        A key's 24 h begin with its reservation or confirmation; a confirmation of a key that is not
        held takes it. Costs neither an fsync nor a hop to another thread.
        """
        names = {(claim.user, claim.key) for claim in (*confirm, *claims)}
        holders = {name: held for name in names if (held := self._unwritten.get(name)) is not None}
        if unknown := [*(names - holders.keys())]:
            holders |= await self._log.query_inline(
                partial(_find, names=unknown, now_ms=self._now_ms())
            )
            # Another call may have reserved while the log was opened.
            holders |= {
                name: held for name in unknown if (held := self._unwritten.get(name)) is not None
            }
        changed: dict[Name, Held] = {}
        for claim in confirm:
            name = claim.user, claim.key
            if (held := holders.get(name)) is None or (held.id == claim.id and not held.confirmed):
                holders[name] = changed[name] = Held(
                    claim.id, claim.content, confirmed=True, fresh=False
                )
        answers = []
        for claim in claims:
            name = claim.user, claim.key
            if (held := holders.get(name)) is None:
                holders[name] = changed[name] = Held(
                    claim.id, claim.content, confirmed=False, fresh=False
                )
                held = Held(claim.id, claim.content, confirmed=False, fresh=True)
            answers.append(held)
        self._write(changed)
        return answers

    async def release(self, user: UserId, key: str) -> None:
        """See `Cache`. Durable on return."""
        name = user, key
        found = await self._log.query_inline(partial(_find, names=[name], now_ms=self._now_ms()))
        held = self._unwritten.get(name) or found.get(name)
        if held is not None and held.confirmed:
            self._write({name: Held(held.id, held.content, confirmed=False, fresh=False)})
            await self._log.run(lambda _: None, durable=True)

    def _write(self, changed: dict[Name, Held]) -> None:
        """Has these rows written with the next append, again and again until they are."""
        if not changed:
            return

        def ended(written: bool) -> None:
            mine = {
                name: held for name, held in changed.items() if self._unwritten.get(name) is held
            }
            for name in mine:
                del self._unwritten[name]
            if not written:
                # Unavailable: closed, or too much waits. The gateway's own memory of keys is all
                # there is then.
                with suppress(Unavailable):
                    self._write(mine)

        expires_ms = self._now_ms() + KEY_TTL_S * 1000
        rows = [
            (user, key, held.id, held.content, int(held.confirmed), expires_ms)
            for (user, key), held in changed.items()
        ]
        self._log.defer_to_next_commit(
            partial(_insert, rows=rows), size=_CLAIM_BYTES * len(rows), ended=ended
        )
        self._unwritten |= changed

    def _now_ms(self) -> int:
        return int(self._log.clock() * 1000)

    async def draw(self, buckets: Sequence[tuple[str, Allowance]], cost: float) -> Drawn:
        """See `Cache`. Of this process only."""
        return self._buckets.draw(buckets, cost, self._log.clock())

    async def hit(self, name: str, *, window_s: int) -> int:
        """See `Cache`. Counts in this process only."""
        window = int(self._log.clock() // window_s)
        counted = self._counters.get(name)
        count = counted[1] + 1 if counted is not None and counted[0] == window else 1
        self._counters[name] = window, count
        self._counters.move_to_end(name)
        return count

    async def put(self, name: str, value: bytes, *, ttl_s: int) -> None:
        """See `Cache`.

        In this process only. Raises Malformed when the value is longer than 4 KiB.
        """
        if len(value) > MAX_VALUE_BYTES:
            raise Malformed(
                f"a cached value holds at most {MAX_VALUE_BYTES} bytes, not {len(value)}"
            )
        self._values[name] = self._log.clock() + ttl_s, value
        self._values.move_to_end(name)

    async def get(self, name: str) -> bytes | None:
        """See `Cache`."""
        found = self._values.get(name)
        return found[1] if found is not None and found[0] > self._log.clock() else None

    async def ping(self) -> None:
        """Raises Unavailable when keys cannot be written, which is when the log cannot."""
        await self._log.ping()

    async def close(self) -> None:
        """Does nothing: the file is the log's."""


def _find(
    connection: sqlite3.Connection, *, names: Sequence[Name], now_ms: int
) -> dict[Name, Held]:
    found = {}
    for start in range(0, len(names), _ROWS):
        part = names[start : start + _ROWS]
        for user, key, id_, content, confirmed in connection.execute(
            _text(_FIND, 2, len(part)), (*chain.from_iterable(part), now_ms)
        ):
            found[user, key] = Held(id_, content, bool(confirmed), fresh=False)
    return found


def _insert(
    connection: sqlite3.Connection, *, rows: Sequence[tuple[int | str | bytes, ...]]
) -> None:
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        connection.execute(_text(_WRITE, 6, len(part)), [*chain.from_iterable(part)])


@lru_cache(maxsize=1024)
def _text(text: str, columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return text.format(", ".join([row] * rows))
