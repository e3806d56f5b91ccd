"""The transactions of the embedded log: a group of jobs is committed in one.

The writing thread uses it, on its connection. It knows SQLite and offsets, not who waits for what.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Final, TypeVar

from backends.concurrency import jittered
from backends.log.embedded.file import OFFSET_BITS, Row, Written, bounds

# Each statement gives up the interpreter's lock several times, and beside a busy event loop gets it
# back only when that is asked to release it: after 5 ms by default. So appends are one statement a
# group (five parameters a row, and SQLite takes 32,766), and the process is set to hand the lock
# over sooner. 300 appends a second beside an event loop that never rests: p50 56 ms and p99 280 ms
# by default, 5 and 30 so (statement by statement and by default: seconds).
_MAX_ROWS: Final = 512
_INSERT_IF_UNCHANGED: Final = (
    "INSERT INTO records SELECT * FROM ({}) WHERE (SELECT data_version "
    "FROM pragma_data_version) = ?"
)
# A group waits for another process with short sleeps of our own. SQLite's own waiting sleeps up to
# 100 ms at a time: beside a process that appends without a pause our p99 was 700 ms, so it is 24.
BUSY_TIMEOUT_MS: Final = 1
_PAGE_BYTES: Final = 4096

Result = TypeVar("Result")
Step = Callable[[sqlite3.Connection], Result]
"""Something to do inside the transaction of a group. It must not begin or end one."""


@dataclass(slots=True, eq=False)
class Job:
    """What one caller has to be written: rows, a step, or both."""

    done: asyncio.Future[Any]
    size: int
    durable: bool
    rows: Sequence[Row] = ()
    step: Step[Any] | None = None
    result: Any = None


class Transactions:
    """On one connection of one thread.

    `clock` gives Unix seconds. `on_others_wrote` is called when another process changed the file.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: Callable[[], float],
        on_others_wrote: Callable[[], None],
        *,
        lock_timeout_s: float,
    ) -> None:
        self._connection = connection
        self._lock_timeout_s = lock_timeout_s
        self._clock = clock
        self._on_others_wrote = on_others_wrote
        self._durable: bool | None = None
        self._ends: dict[int, int] = {}
        self._version = self._data_version()
        self._at_ms = 0
        self.written_bytes = 0
        """What went into the write-ahead log since the start, about."""

    def use(self, connection: sqlite3.Connection) -> None:
        """Goes on with another connection, of which nothing is known yet."""
        self._connection, self._durable, self._version = connection, None, -1
        self._ends.clear()

    def commit(self, jobs: Sequence[Job]) -> list[Written]:
        """The rows of these jobs with their offsets, once they and the steps are committed.

        Raises what SQLite or a step raises; `rollback` then.
        """
        connection = self._connection
        durable = any(job.durable for job in jobs)
        if durable != self._durable:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        before = connection.total_changes
        try:
            return self._write_at_once(jobs) or self._write_in_steps(jobs)
        finally:
            self.written_bytes += sum(job.size for job in jobs) + _PAGE_BYTES * (
                connection.total_changes - before
            )

    def rollback(self) -> None:
        """After an error: what was not committed is undone."""
        self._ends.clear()
        if self._connection.in_transaction:
            self._connection.rollback()

    def check_data_version(self) -> None:
        """Inside a transaction: whether the ends we remember still hold.

        Outside: whether another process wrote, which `on_others_wrote` is told.
        """
        version = self._data_version()
        if version != self._version:
            self._version = version
            self._ends.clear()
            self._on_others_wrote()

    def _write_at_once(self, jobs: Sequence[Job]) -> list[Written] | None:
        """Appends alone are one statement, which is a transaction of its own.

        None when this group needs more.
        """
        if (
            any(job.step is not None for job in jobs)
            or not 0 < sum(len(job.rows) for job in jobs) <= _MAX_ROWS
        ):
            return None
        rows = self._number(jobs)
        # Inserts nothing if another process wrote since we looked: then the ends that we remember
        # may be wrong.
        text = _INSERT_IF_UNCHANGED.format(_values(len(rows)))
        return (
            rows
            if self._execute_when_unlocked(text, [*chain.from_iterable(rows), self._version])
            else None
        )

    def _write_in_steps(self, jobs: Sequence[Job]) -> list[Written]:
        self._execute_when_unlocked("BEGIN IMMEDIATE")
        self.check_data_version()
        for job in jobs:
            if job.step is not None:
                job.result = job.step(self._connection)
        rows = self._number(jobs)
        for start in range(0, len(rows), _MAX_ROWS):
            part = rows[start : start + _MAX_ROWS]
            self._connection.execute(
                f"INSERT INTO records {_values(len(part))}", [*chain.from_iterable(part)]
            )
        self._connection.execute("COMMIT")
        return rows

    def _number(self, jobs: Sequence[Job]) -> list[Written]:
        """Gives the next offsets and the time to the rows of a group."""
        self._at_ms = at_ms = max(self._at_ms, int(self._clock() * 1000))
        ends = self._ends
        if unknown := {row[0] for job in jobs for row in job.rows} - ends.keys():
            ends |= {slot: held.end for slot, held in bounds(self._connection, unknown).items()}
        rows: list[Written] = []
        for job in jobs:
            for slot, key, headers, value in job.rows:
                rows.append((slot << OFFSET_BITS | ends[slot], at_ms, key, headers, value))
                ends[slot] += 1
        return rows

    def _execute_when_unlocked(self, text: str, parameters: Sequence[Any] = ()) -> int:
        """Executes a statement that begins a transaction, waiting for other processes, and returns
        how many rows it changed.
        """
        deadline_s = time.monotonic() + self._lock_timeout_s
        while True:
            try:
                return self._connection.execute(text, parameters).rowcount
            except sqlite3.OperationalError as error:
                if (
                    error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY
                    or time.monotonic() > deadline_s
                ):
                    raise
                time.sleep(jittered(0.001, least=0.1))

    def _data_version(self) -> int:
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version


@lru_cache
def _values(rows: int) -> str:
    return "VALUES " + ", ".join(["(?, ?, ?, ?, ?)"] * rows)
