"""The tables of the embedded log's file: how they are made, and where topics lie in them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.errors import Malformed, Unavailable
from schemas.topics import TOPICS

VERSION: Final = 1
"""Of the tables below, kept as `user_version`. A file of a newer version is refused."""

# `slots.begin` is the oldest offset kept; it moves only when retention drops records, so that an
# emptied partition goes on counting. `starts` came later and makes no new version: where a group
# began that had no commit yet, so that what it has not read is known. `keys` is the cache's
# (backends/cache/embedded.py): numbered in order of time, so that a confirmation and the expiry
# touch few pages.
_TABLES: Final = """
CREATE TABLE topics (
    topic TEXT PRIMARY KEY, epoch TEXT NOT NULL, first_slot INTEGER NOT NULL,
    partitions INTEGER NOT NULL
);
CREATE TABLE slots (slot INTEGER PRIMARY KEY, begin INTEGER NOT NULL);
CREATE TABLE records (
    id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, key BLOB, headers BLOB NOT NULL, value BLOB
);
CREATE TABLE commits (
    consumers TEXT, slot INTEGER, next INTEGER NOT NULL, PRIMARY KEY (consumers, slot)
) WITHOUT ROWID;
CREATE TABLE keys (
    number INTEGER PRIMARY KEY, user INTEGER NOT NULL, key TEXT NOT NULL, id INTEGER NOT NULL,
    content BLOB NOT NULL, confirmed INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
    UNIQUE (user, key)
);
CREATE TABLE pings (at_ms INTEGER NOT NULL);
INSERT INTO pings VALUES (0);
"""

_STARTS: Final = """
CREATE TABLE IF NOT EXISTS starts (
    consumers TEXT, slot INTEGER, next INTEGER NOT NULL, PRIMARY KEY (consumers, slot)
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a topic lies in the file: its partitions are the slots from `first_slot` on."""

    topic: str
    epoch: str
    first_slot: int
    partitions: int

    def slot(self, partition: int) -> int:
        """The slot of a partition. Raises Malformed when there is no such partition."""
        if not 0 <= partition < self.partitions:
            raise Malformed(
                f"{self.topic} has the partitions 0 to {self.partitions - 1}, not {partition}",
                field="partition",
            )
        return self.first_slot + partition

    def slots(self, offsets: Mapping[int, int]) -> dict[int, int]:
        """The same by slot. Raises Malformed when there is no such partition."""
        return {self.slot(partition): offset for partition, offset in offsets.items()}


def make(connection: sqlite3.Connection, path: Path, partitions: Mapping[str, int]) -> None:
    """Makes or completes the tables, unless all is there. Two processes may do it at once."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise Unavailable(
            f"{path} was written by a newer kn-chat (file version {version}, this one knows "
            f"{VERSION}): "
            "install that version, or choose another data folder (KNCHAT_DATA)"
        )
    starts = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'starts'").fetchone()
    if version == VERSION and starts is not None and topics(connection).keys() >= TOPICS.keys():
        return
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute(_STARTS)
    known = topics(connection)
    slot = sum(place.partitions for place in known.values())
    for topic in TOPICS.values():
        if topic.name not in known:
            count = partitions.get(topic.name, topic.partitions)
            connection.execute(
                "INSERT INTO topics VALUES (?, ?, ?, ?)",
                (topic.name, os.urandom(16).hex(), slot, count),
            )
            connection.executemany(
                "INSERT INTO slots VALUES (?, 0)", [(slot + number,) for number in range(count)]
            )
            slot += count
    connection.execute("COMMIT")


def topics(connection: sqlite3.Connection) -> dict[str, Place]:
    """Where each topic lies."""
    rows = connection.execute("SELECT topic, epoch, first_slot, partitions FROM topics")
    return {row[0]: Place(*row) for row in rows}
