"""Checkpoints of the embedded log: what SQLite's write-ahead log holds goes into the file.

The writing thread calls it between two groups.
"""

from __future__ import annotations

import logging
import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Final

from backends.log.embedded.file import LogFile
from backends.sql.wal import WriteAheadLog

log = logging.getLogger(__name__)

# Measured, 3 records of 1 KB in 3 partitions a commit: a write-ahead log that only grows costs 0.49
# ms a commit (p99 4 ms), SQLite's own checkpoint in the committing thread 0.19 ms (p99 2.0, longest
# 37), and the two steps below 0.15 ms (p99 0.4, longest 3.5). A checkpoint in a thread of its own
# takes the bulk, then one in the writing thread, between two groups, the rest: only then does
# SQLite begin the file anew; and only if no reader is active just then, which `backends.sql.wal`
# sees to where one always is.
_CHECKPOINT_BYTES: Final = 4 * 2**20
# For those who read, a page of at most 1 MiB each: appends wait for them then.
_CUT_TIMEOUT_MS: Final = 100


class Checkpoints:
    """Those of one file. `busy_ms`: the busy_timeout of the writing thread's connection."""

    def __init__(self, file: LogFile, *, busy_ms: int) -> None:
        self._file = file
        self._busy_ms = busy_ms
        self._wal = WriteAheadLog(file.path)
        self._begun_at_bytes = 0
        self._first_step: Future[None] | None = None
        self._executor = ThreadPoolExecutor(1, "log-checkpoint")

    @property
    def is_under_way(self) -> bool:
        """The first step of one runs or has ended: `keep_wal_short` has to be called for the
        second.
        """
        return self._first_step is not None

    def keep_wal_short(self, connection: sqlite3.Connection, written_bytes: int) -> None:
        """Takes the next step of a checkpoint, if one is due. `written_bytes`: since the start."""
        if self._first_step is None:
            if written_bytes - self._begun_at_bytes >= _CHECKPOINT_BYTES:
                self._begun_at_bytes = written_bytes
                self._first_step = self._executor.submit(self._take_first_step)
        elif self._first_step.done():
            self._first_step = None
            _checkpoint(connection)
            self._wal.keep_short(connection, timeout_ms=_CUT_TIMEOUT_MS, busy_ms=self._busy_ms)

    def abandon(self) -> None:
        """Leaves out the second step of the one under way."""
        self._first_step = None

    def close(self) -> None:
        """Waits for the step under way."""
        self._executor.shutdown()

    def _take_first_step(self) -> None:
        with closing(self._file.connect()) as connection:
            _checkpoint(connection)


def _checkpoint(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error as error:
        # A full disk, say: appends go on as long as they can, and the next 4 MiB try again.
        log.warning("the log's checkpoint failed", exc_info=error)
