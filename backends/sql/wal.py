"""Keeps SQLite's write-ahead logs short, `data.db-wal` and `log.db-wal`: SQLite alone does not,
while there is always a reader.

It folds the log into the file as it goes, but begins it anew only at a commit without a reader. Six
callers that read without a pause are never all at rest: 191 MiB beside 12 MiB of data after half a
minute (measured). So the writer asks for a checkpoint that waits for those who read now; those who
come meanwhile read the file itself and hold up nothing.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

CUT_BYTES: Final = 20 * 2**20
"""A log that grew beyond this is cut.

Where readers rest it is begun anew before: at 16 MiB (data.db) or 4 (log.db).
"""
RETRY_BYTES: Final = 4 * 2**20
"""After a try in vain the next one comes when so much more was written."""
WARN_BYTES: Final = 64 * 2**20
"""Only a read that never ends lets it grow so far, of an operator's shell, say. It is logged."""


class WriteAheadLog:
    """The one beside this database file. Used by one thread at a time, the one that writes."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}-wal")
        self._next_bytes = CUT_BYTES
        self._warned = False

    def keep_short(self, connection: sqlite3.Connection, *, timeout_ms: int, busy_ms: int) -> None:
        """Cuts it when it is long, outside a transaction. A look at its size costs 2 us.

        Waits up to `timeout_ms` for active readers, and no writer can go on meanwhile. `busy_ms`:
        the connection's own busy_timeout.
        """
        size = self._size()
        if size < self._next_bytes:
            return
        try:
            connection.execute(f"PRAGMA busy_timeout = {timeout_ms}")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            connection.execute(f"PRAGMA busy_timeout = {busy_ms}")
        except sqlite3.Error as error:  # a full disk, say: writing goes on as long as it can
            log.warning(
                "a write-ahead log cannot be cut",
                extra={"file": self._path.name, "error": str(error)},
            )
        size = self._size()
        self._next_bytes = max(CUT_BYTES, size + RETRY_BYTES)
        too_long, before = size > WARN_BYTES, self._warned
        self._warned = too_long
        if too_long and not before:
            log.warning(
                "a reader does not end, and so a file grows",
                extra={"file": self._path.name, "bytes": size},
            )

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0
