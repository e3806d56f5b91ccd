"""The writing thread of the embedded log.

All that waits is written in one transaction, so that many appenders share one fsync. `embedded`
hands it rows and steps from the event loop; it answers there, once per group. It knows SQLite, not
topics, events or readers.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

from backends.concurrency import jittered
from backends.log.embedded.file import OFFSET_BITS, LogFile, Row, Written, bounds
from backends.sql.wal import WriteAheadLog
from schemas.errors import Unavailable

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0
MAX_QUEUE_BYTES: Final = 16 * 2**20
"""What may wait to be written.

More is refused, so that a caller that appends faster than the disk is told.
"""

# A group is bounded so that no caller waits for another's megabytes: 4 MiB are written and synced
# within about 20 ms.
_MAX_GROUP_BYTES: Final = 4 * 2**20
_MAX_GROUP_JOBS: Final = 1_000
# Each statement gives up the interpreter's lock several times, and beside a busy event loop gets it
# back only when that is asked to let go: after 5 ms by default. So appends are one statement a
# group (five parameters a row, and SQLite takes 32,766), and the process is set to hand the lock
# over sooner. 300 appends a second beside an event loop that never rests: p50 56 ms and p99 280 ms
# by default, 5 and 30 so (statement by statement and by default: seconds).
_MAX_ROWS: Final = 512
_SWITCH_INTERVAL_S: Final = 0.0005
_INSERT_IF_UNCHANGED: Final = (
    "INSERT INTO records SELECT * FROM ({}) WHERE (SELECT data_version "
    "FROM pragma_data_version) = ?"
)
_WATCH_INTERVAL_S: Final = 0.05
# How long a deferred step waits for an append to be committed with.
_DEFER_TIMEOUT_S: Final = 1.0
# How long a group waits for another process to release the file. SQLite's own waiting sleeps up to
# 100 ms at a time: beside a process that appends without a pause our p99 was 700 ms, with short
# sleeps of our own it is 24 ms.
_LOCK_TIMEOUT_S: Final = 5.0

# Measured, 3 records of 1 KB in 3 partitions a commit: a write-ahead log that only grows costs 0.49
# ms a commit (p99 4 ms), SQLite's own checkpoint in the committing thread 0.19 ms (p99 2.0, longest
# 37), and the two steps below 0.15 ms (p99 0.4, longest 3.5). A checkpoint in a thread of its own
# takes the bulk, then one in the writing thread, between two groups, the rest: only then does
# SQLite begin the file anew; and only if no reader is active just then, which `backends.sql.wal`
# sees to where one always is.
_CHECKPOINT_BYTES: Final = 4 * 2**20
_PAGE_BYTES: Final = 4096
# For those who read, a page of at most 1 MiB each: appends wait for them then.
_CUT_TIMEOUT_MS: Final = 100
_BUSY_TIMEOUT_MS: Final = 1  # see _LOCK_TIMEOUT_S
_RETRY_DELAY_S: Final = 0.5


Result = TypeVar("Result")
Step = Callable[[sqlite3.Connection], Result]
"""Something to do inside the transaction of a group. It must not begin or end one."""


class Listener(Protocol):
    """Called on the event loop with what came into the log."""

    def appended(self, rows: Sequence[Written]) -> None:
        """This process appended these rows, in the order of their offsets."""
        ...

    def others_wrote(self) -> None:
        """Another process changed the file."""
        ...


@dataclass(slots=True, eq=False)
class _Job:
    done: asyncio.Future[Any]
    size: int
    durable: bool
    rows: Sequence[Row] = ()
    step: Step[Any] | None = None
    result: Any = None


class Writer:
    """Writes for one event loop, which `append`, `run`, `watch` and `close` belong to.

    Starts its thread at once.
    """

    def __init__(self, file: LogFile, listener: Listener, clock: Callable[[], float]) -> None:
        self._file = file
        self._listener = listener
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[list[_Job]] = (
            SimpleQueue()
        )  # what was put together stays together; nothing: look at the flags
        self._deferred: list[_Job] = []
        self._deferred_timer: asyncio.TimerHandle | None = None
        self._queued_bytes = 0
        self._closing = False
        self._watching = False
        self._ended = self._loop.create_future()
        # What follows belongs to the thread.
        self._connection = file.connect()
        self._durable: bool | None = None
        self._ends: dict[int, int] = {}
        self._version = self._data_version()
        self._in_hand: Sequence[_Job] = []
        self._wal = WriteAheadLog(file.path)
        self._at_ms = 0
        self._failing = False
        self._wal_bytes = 0
        self._checkpoint: Future[None] | None = None
        self._checkpointer = ThreadPoolExecutor(1, "log-checkpoint")
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
        threading.Thread(target=self._main, name="log-writer", daemon=True).start()

    async def append(self, rows: Sequence[Row], size: int) -> None:
        """Returns when the rows are durable.

        Errors: Unavailable when they are not within TIMEOUT_S, or too much waits.
        """
        await self._submit(_Job(self._loop.create_future(), size, durable=True, rows=rows))

    async def run(self, step: Step[Result], *, durable: bool, size: int = 0) -> Result:
        """What the step returns, once its transaction is committed.

        Not durable: kept over kill -9, but over a power cut only from the next durable write on.
        That one syncs the whole write-ahead log, which holds this step before it, unless a
        checkpoint, which syncs it too, has moved it on.
        """
        result: Result = await self._submit(
            _Job(self._loop.create_future(), size, durable=durable, step=step)
        )
        return result

    def defer_to_next_commit(
        self, step: Step[None], *, size: int, ended: Callable[[bool], None]
    ) -> None:
        """Runs the step in the transaction of the next append, before it, or alone within a second:
        it costs no wake-up of the thread.

        So it is durable no later than any append that begins after this returned. `ended` is told
        whether the transaction was committed. Errors: Unavailable when too much waits.
        """
        self._check_room(size)
        job = _Job(self._loop.create_future(), size, durable=False, step=step)
        job.done.add_done_callback(lambda done: ended(done.exception() is None))
        self._queued_bytes += size
        self._deferred.append(job)
        if self._deferred_timer is None:
            self._deferred_timer = self._loop.call_later(_DEFER_TIMEOUT_S, self._put)

    def watch(self, *, on: bool) -> None:
        """Whether to notice within 50 ms what other processes write.

        One read of shared memory each, no disk.
        """
        self._watching = on
        self._queue.put([])

    async def close(self) -> None:
        """Writes what waits, at most TIMEOUT_S long, and ends."""
        self._closing = True
        self._put()
        done, _ = await asyncio.wait([self._ended], timeout=TIMEOUT_S)
        if not done:
            log.error("the log's writing thread did not end in time")

    def _check_room(self, size: int) -> None:
        if self._closing or self._ended.done():
            raise Unavailable("the log is closed")
        if self._queued_bytes and self._queued_bytes + size > MAX_QUEUE_BYTES:
            raise Unavailable("the log takes less than is appended; nothing was appended")

    def _put(self, *jobs: _Job) -> None:
        """Hands over these jobs, and before them all deferred ones."""
        if self._deferred_timer is not None:
            self._deferred_timer.cancel()
            self._deferred_timer = None
        deferred, self._deferred = self._deferred, []
        self._queue.put([*deferred, *jobs])

    async def _submit(self, job: _Job) -> Any:
        self._check_room(job.size)
        self._queued_bytes += job.size
        self._put(job)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await job.done
        except TimeoutError as error:
            raise Unavailable(f"the log did not confirm within {TIMEOUT_S:.0f} s") from error

    def _written(self, jobs: Sequence[_Job], rows: Sequence[Written]) -> None:
        if rows:
            self._listener.appended(rows)
        for job in jobs:
            self._queued_bytes -= job.size
            if not job.done.done():
                job.done.set_result(job.result)

    def _failed(self, jobs: Sequence[_Job], reason: str) -> None:
        for job in jobs:
            self._queued_bytes -= job.size
            if not job.done.done():
                job.done.set_exception(Unavailable(f"the log cannot be written: {reason}"))

    def _end(self) -> None:
        self._ended.set_result(None)
        while not self._queue.empty():
            self._failed(self._queue.get_nowait(), "its writing thread ended")

    # From here on: the thread.

    def _main(self) -> None:
        with self._checkpointer:
            while True:
                try:
                    with closing(self._connection):
                        self._work()
                    break
                # A bug of ours, or a disk that errs in a new way: no caller may wait for a thread
                # that is dead.
                except Exception:
                    log.exception("the log's writing thread failed, and begins again")
                    self._call_soon(self._failed, self._in_hand, "its writing thread failed")
                    self._in_hand = []
                time.sleep(_RETRY_DELAY_S)
                with suppress(sqlite3.Error):  # the next round fails too then
                    self._connection = self._file.connect()
                self._durable, self._version, self._checkpoint = (
                    None,
                    -1,
                    None,
                )  # what this connection knows yet
                self._ends.clear()
        self._call_soon(self._end)

    def _work(self) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")  # see _LOCK_TIMEOUT_S
        while not (self._closing and self._queue.empty()):
            if jobs := self._take():
                self._in_hand = jobs
                self._write(jobs)
                self._in_hand = []
            elif self._watching:
                self._poll_other_writers()
            self._keep_wal_short()

    def _take(self) -> list[_Job]:
        try:
            jobs = self._queue.get(
                timeout=_WATCH_INTERVAL_S
                if self._watching or self._checkpoint is not None
                else None
            )
        except Empty:
            return []
        size = sum(job.size for job in jobs)
        while jobs and size < _MAX_GROUP_BYTES and len(jobs) < _MAX_GROUP_JOBS:
            try:
                more = self._queue.get_nowait()
            except Empty:
                break
            jobs += more
            size += sum(job.size for job in more)
        return jobs

    def _write(self, jobs: Sequence[_Job]) -> None:
        live = [
            job for job in jobs if not job.done.done()
        ]  # callers that were cancelled are not written for
        try:
            rows = self._commit(live) if live else []
        except Exception as error:
            self._ends.clear()
            if self._connection.in_transaction:
                self._connection.rollback()
            if len(live) > 1 and not isinstance(error, sqlite3.OperationalError):
                # One of them cannot be written, whatever the disk does: the others must not suffer.
                for job in jobs:
                    self._write([job])
                return
            if not self._failing:
                log.warning("the log cannot be written", exc_info=error)
            self._failing = True
            self._call_soon(self._failed, jobs, str(error))
        else:
            if live and self._failing:
                log.info("the log can be written again")
                self._failing = False
            self._call_soon(self._written, jobs, rows)

    def _commit(self, jobs: Sequence[_Job]) -> list[Written]:
        connection = self._connection
        durable = any(job.durable for job in jobs)
        if durable != self._durable:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable
        before = connection.total_changes
        try:
            return self._write_at_once(jobs) or self._write_in_steps(jobs)
        finally:
            self._wal_bytes += sum(job.size for job in jobs) + _PAGE_BYTES * (
                connection.total_changes - before
            )

    def _write_at_once(self, jobs: Sequence[_Job]) -> list[Written] | None:
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

    def _write_in_steps(self, jobs: Sequence[_Job]) -> list[Written]:
        self._execute_when_unlocked("BEGIN IMMEDIATE")
        self._check_data_version()
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

    def _number(self, jobs: Sequence[_Job]) -> list[Written]:
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
        deadline_s = time.monotonic() + _LOCK_TIMEOUT_S
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

    def _poll_other_writers(self) -> None:
        try:
            self._check_data_version()
        except (
            sqlite3.OperationalError
        ) as error:  # another process repairs the file after a crash: the next look will tell
            log.info("the log was busy when looked at", exc_info=error)

    def _check_data_version(self) -> None:
        """Inside a transaction: whether the ends we remember still hold.

        Outside: whether the listener must be called.
        """
        version = self._data_version()
        if version != self._version:
            self._version = version
            self._ends.clear()
            self._call_soon(self._listener.others_wrote)

    def _data_version(self) -> int:
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def _keep_wal_short(self) -> None:
        if self._checkpoint is None:
            if self._wal_bytes >= _CHECKPOINT_BYTES:
                self._wal_bytes = 0
                self._checkpoint = self._checkpointer.submit(self._take_the_bulk)
        elif self._checkpoint.done():
            self._checkpoint = None
            _checkpoint(self._connection)
            self._wal.keep_short(
                self._connection, timeout_ms=_CUT_TIMEOUT_MS, busy_ms=_BUSY_TIMEOUT_MS
            )

    def _take_the_bulk(self) -> None:
        with closing(self._file.connect()) as connection:
            _checkpoint(connection)

    def _call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop was closed before the log: no caller waits any more
            self._closing = True


def _checkpoint(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except (
        sqlite3.Error
    ) as error:  # a full disk, say: appends go on as long as they can, and the next 4 MiB try again
        log.warning("the log's checkpoint failed", exc_info=error)


@lru_cache
def _values(rows: int) -> str:
    return "VALUES " + ", ".join(["(?, ?, ?, ?, ?)"] * rows)
