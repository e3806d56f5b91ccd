"""The file of the embedded log, `log.db`: how it is opened, and the SQL that reads it.

The log, its writing thread and the embedded cache use it. It knows no event loop and no thread:
every function runs where it is called.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from backends import private
from backends.log import Bounds, ConsumerRecord
from backends.log.embedded import data_folder, tables
from backends.log.embedded.tables import Place
from schemas.errors import Unavailable

OFFSET_BITS: Final = 40
"""A record's row id is slot << 40 | offset: a partition is one range of one B-tree, and an append
touches no index.

A slot is the number of one partition of one topic in this file.
"""

_SELECT: Final = (
    "SELECT id, at_ms, key, headers, value FROM records WHERE id >= ? AND id < ? "
    "ORDER BY id LIMIT ?"
)
IN_SLOT: Final = f"id >= slot << {OFFSET_BITS} AND id < (slot + 1) << {OFFSET_BITS}"
"""The condition for the records of one slot."""
_BOUNDS: Final = f"""
SELECT slot, begin, coalesce(
    (SELECT id + 1 FROM records WHERE {IN_SLOT} ORDER BY id DESC LIMIT 1) - (slot << {OFFSET_BITS}),
    begin)
FROM slots WHERE slot IN (SELECT value FROM json_each(?))
"""  # noqa: S608 - a number of ours
_NEWEST: Final = f"""
SELECT max((SELECT at_ms FROM records WHERE {IN_SLOT} ORDER BY id DESC LIMIT 1))
FROM slots
"""  # noqa: S608 - a number of ours
Row = tuple[int, bytes | None, bytes, bytes | None]
"""A record on its way in: slot, key, headers as MessagePack, value."""
Written = tuple[int, int, bytes | None, bytes, bytes | None]
"""A row of `records`: id, time, key, headers, value."""

encode_headers = msgspec.msgpack.Encoder().encode
_decode_headers = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


class LogFile:
    """The opened file: where everything lies, and how to connect.

    Opening makes folder, file and missing topics, with these counts. Raises Unavailable, with a
    text that says what to do, when the folder cannot be written, or the file is newer or is none of
    ours.
    """

    def __init__(self, path: Path, partitions: Mapping[str, int]) -> None:
        self.path = path
        data_folder.make(path.parent)
        try:
            private.make_file(path)
        except OSError as error:
            raise data_folder.unwritable(path.parent, error) from error
        try:
            with closing(self.connect()) as connection:
                tables.make(connection, path, partitions)
                self.topics = tables.topics(connection)
        except sqlite3.Error as error:
            raise Unavailable(
                f"{path} cannot be opened: {error}; free the file or choose another data folder "
                "(KNCHAT_DATA)"
            ) from error
        self._partitions = [
            (place.topic, partition)
            for place in sorted(self.topics.values(), key=lambda place: place.first_slot)
            for partition in range(place.partitions)
        ]

    def connect(self) -> sqlite3.Connection:
        """A connection to be used by one thread at a time.

        It waits up to 5 s for another process's transaction.
        """
        # 64 statements: one per number of rows in a group. Nothing is checkpointed in passing: see
        # the writer. No zeroing of what is dropped (Debian's SQLite does it): it costs writes, and
        # retention is no erasure.
        connection = sqlite3.connect(
            self.path,
            timeout=5,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        connection.executescript(
            "PRAGMA wal_autocheckpoint = 0; PRAGMA secure_delete = FAST; PRAGMA cache_size = -8192"
        )
        return connection

    def newest_ms(self) -> int:
        """When the newest record was appended, in Unix milliseconds; 0: there is none."""
        with closing(self.connect()) as connection:
            newest: int | None = connection.execute(_NEWEST).fetchone()[0]
            return newest or 0

    def place(self, topic: str) -> Place:
        """Raises Unavailable when there is no such topic."""
        if (place := self.topics.get(topic)) is None:
            raise Unavailable(f"there is no topic {topic}")
        return place

    def stored(self, row: Written) -> ConsumerRecord:
        """The record in a row."""
        number, at_ms, key, headers, value = row
        topic, partition = self._partitions[number >> OFFSET_BITS]
        return ConsumerRecord(
            topic,
            partition,
            number & ((1 << OFFSET_BITS) - 1),
            at_ms,
            key,
            _decode_headers(headers),
            value,
        )

    def read(
        self,
        connection: sqlite3.Connection,
        slot: int,
        offset: int,
        max_records: int,
        max_bytes: int,
    ) -> list[ConsumerRecord]:
        """Records of a slot from `offset` on, at least one if there is one."""
        records: list[ConsumerRecord] = []
        size = 0
        for row in connection.execute(
            _SELECT, (slot << OFFSET_BITS | max(offset, 0), (slot + 1) << OFFSET_BITS, max_records)
        ):
            size += row_bytes(row)
            if records and size > max_bytes:
                break
            records.append(self.stored(row))
        return records


def row_bytes(row: Written) -> int:
    """What a record counts against limits in bytes."""
    return len(row[2] or b"") + len(row[3]) + len(row[4] or b"")


def bounds(connection: sqlite3.Connection, slots: Collection[int]) -> dict[int, Bounds]:
    """What each slot holds now."""
    return {
        slot: Bounds(begin, end)
        for slot, begin, end in connection.execute(_BOUNDS, (str([*slots]),))
    }


def offset_at(connection: sqlite3.Connection, slot: int, held: Bounds, at_ms: int) -> int:
    """The first offset of a slot whose record is from that time on, else its end.

    Found by halves: times have no index.
    """
    low, high = held.begin, held.end
    while low < high:
        middle = (low + high) // 2
        (found_ms,) = connection.execute(
            "SELECT at_ms FROM records WHERE id >= ? ORDER BY id LIMIT 1",
            (slot << OFFSET_BITS | middle,),
        ).fetchone()
        if found_ms < at_ms:
            low = middle + 1
        else:
            high = middle
    return low


def committed(connection: sqlite3.Connection, group: str, place: Place) -> dict[int, int]:
    """Partition -> next offset to read of a group."""
    rows = connection.execute(
        "SELECT slot, next FROM commits WHERE consumers = ? AND slot >= ? AND slot < ?",
        (group, place.first_slot, place.first_slot + place.partitions),
    )
    return {slot - place.first_slot: offset for slot, offset in rows}


def commit(connection: sqlite3.Connection, group: str, offsets: Sequence[tuple[int, int]]) -> None:
    """Sets the next offsets to read of a group: (slot, offset)."""
    values = ", ".join(["(?, ?, ?)"] * len(offsets))
    connection.execute(
        # No text in it.
        f"INSERT INTO commits VALUES {values} ON CONFLICT DO UPDATE SET next = excluded.next",  # noqa: S608
        [part for slot, offset in offsets for part in (group, slot, offset)],
    )


def touch(connection: sqlite3.Connection, at_ms: int) -> None:
    """Writes something, to find out whether one can."""
    connection.execute("UPDATE pings SET at_ms = ?", (at_ms,))


def join(connection: sqlite3.Connection, group: str, offsets: Sequence[tuple[int, int]]) -> None:
    """A group has a member: (slot, offset) is where it begins if it never had one.

    What it does not commit is kept from now on.
    """
    connection.executemany(
        "INSERT OR IGNORE INTO starts VALUES (?, ?, ?)",
        [(group, slot, offset) for slot, offset in offsets],
    )
