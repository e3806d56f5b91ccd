"""Retention on the embedded log: what is over is dropped in small steps that let appends pass, but
nothing that a group has not read.

`EmbeddedLog` runs it every minute. The SQL runs in the log's threads, where `query` and `run` take
it.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol, TypeVar

from backends.log.embedded.file import IN_SLOT, OFFSET_BITS
from backends.log.embedded.tables import Place
from schemas.topics import TOPICS

log = logging.getLogger(__name__)

MAX_EXPIRED_ROWS: Final = 64
"""What one step of retention drops: about 1 ms while appends wait (20 ms if all were of the largest
size).
"""

MAX_HELD_BYTES: Final = 4 * 2**30
"""So much the file may hold before what no group has read is dropped too: a group that was given up
for good must not fill the disk.
"""

_EXPIRED_SLOTS: Final = f"""
SELECT slot FROM slots WHERE slot >= ? AND slot < ? AND
    (SELECT at_ms FROM records WHERE {IN_SLOT} ORDER BY id LIMIT 1) < ?
"""  # noqa: S608 - a number of ours
_FIRST_UNREAD: Final = """
SELECT min(next) FROM (
    SELECT coalesce((
        SELECT next FROM commits WHERE consumers = starts.consumers AND slot = starts.slot
    ), next) AS next
    FROM starts WHERE slot = :slot
    UNION ALL SELECT next FROM commits WHERE slot = :slot)
"""
_FIRST_TO_KEEP: Final = """
SELECT coalesce(min(id) FILTER (WHERE at_ms >= ?), max(id) + 1)
FROM (SELECT id, at_ms FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)
"""

Result = TypeVar("Result")


class Running(Protocol):
    """What runs SQL on the file."""

    async def query(self, question: Callable[[sqlite3.Connection], Result]) -> Result:
        """Reads."""
        ...

    async def run(
        self, step: Callable[[sqlite3.Connection], Result], *, durable: bool, size: int = 0
    ) -> Result:
        """Writes."""
        ...


class Retention:
    """Of one file."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._held: set[str] = set()
        """Topics of which records are kept beyond their time."""

    async def expire(self, places: Iterable[Place], now_ms: int) -> None:
        """Drops records older than their topic's `kept_s`, and keys whose time is over.

        Raises Unavailable. What a group that has ever had a member has not committed is kept,
        whatever its age: it was acknowledged, and is not done yet. Only when the file holds more
        than MAX_HELD_BYTES it goes all the same, with an error in the log.
        """
        query, run = self._running.query, self._running.run
        full = await query(used_bytes) > MAX_HELD_BYTES
        held: set[str] = set()
        for place in places:
            if (topic := TOPICS.get(place.topic)) is not None:
                before_ms = now_ms - topic.kept_s * 1000
                for slot in await query(partial(expired_slots, place=place, before_ms=before_ms)):
                    expire = partial(expire_records, slot=slot, before_ms=before_ms)
                    while await run(partial(expire, unread=False), durable=False):
                        pass
                    if await query(
                        partial(expired_slots, place=place, before_ms=before_ms, slot=slot)
                    ):
                        held.add(place.topic)
                        while full and await run(partial(expire, unread=True), durable=False):
                            pass
        self._tell(held, full=full)
        while await run(partial(expire_keys, now_ms=now_ms), durable=False):
            pass

    def _tell(self, held: set[str], *, full: bool) -> None:
        if held and full:
            log.error(
                "the log is full: what no group has read for too long was dropped",
                extra={"topics": sorted(held)},
            )
        elif held - self._held:
            log.warning(
                "records are kept beyond their time, since a group has not read them",
                extra={"topics": sorted(held)},
            )
        self._held = held


def used_bytes(connection: sqlite3.Connection) -> int:
    """What the file holds, without the pages that are free again."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def expired_slots(
    connection: sqlite3.Connection, place: Place, before_ms: int, slot: int | None = None
) -> list[int]:
    """The slots of a topic whose oldest record is from before that time; of all, or of this one."""
    first, last = (
        (place.first_slot, place.first_slot + place.partitions)
        if slot is None
        else (slot, slot + 1)
    )
    return [found for (found,) in connection.execute(_EXPIRED_SLOTS, (first, last, before_ms))]


def expire_records(
    connection: sqlite3.Connection, slot: int, before_ms: int, *, unread: bool
) -> bool:
    """Drops the oldest records of a slot, at most MAX_EXPIRED_ROWS, and returns whether to go on.

    Up to the first that is not from before that time, and to the first that a group has not read,
    unless `unread` ones are to go too.
    """
    first, last = slot << OFFSET_BITS, (slot + 1) << OFFSET_BITS
    (keep,) = connection.execute(
        _FIRST_TO_KEEP, (before_ms, first, last, MAX_EXPIRED_ROWS)
    ).fetchone()
    if keep is None:
        return False
    if not unread:
        (needed,) = connection.execute(_FIRST_UNREAD, {"slot": slot}).fetchone()
        keep = keep if needed is None else min(keep, first + max(needed, 0))
    dropped: int = connection.execute(
        "DELETE FROM records WHERE id >= ? AND id < ?", (first, keep)
    ).rowcount
    if dropped:
        connection.execute("UPDATE slots SET begin = ? WHERE slot = ?", (keep - first, slot))
    return dropped == MAX_EXPIRED_ROWS


def expire_keys(connection: sqlite3.Connection, now_ms: int) -> bool:
    """Drops the oldest keys whose time is over, at most MAX_EXPIRED_ROWS. Says whether to go on."""
    oldest = "SELECT number FROM keys ORDER BY number LIMIT ?"
    dropped = connection.execute(
        f"DELETE FROM keys WHERE number IN ({oldest}) AND expires_ms <= ?",  # noqa: S608 - ours
        (MAX_EXPIRED_ROWS, now_ms),
    )
    return dropped.rowcount == MAX_EXPIRED_ROWS
