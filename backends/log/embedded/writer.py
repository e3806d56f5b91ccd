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
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

from backends.log.embedded.checkpoints import Checkpoints
from backends.log.embedded.file import LogFile, Row, Written
from backends.log.embedded.timing import Timing
from backends.log.embedded.transactions import BUSY_TIMEOUT_MS, Job, Result, Step, Transactions
from schemas.errors import Unavailable

log = logging.getLogger(__name__)

MAX_QUEUE_BYTES: Final = 16 * 2**20
"""What may wait to be written.

More is refused, so that a caller that appends faster than the disk is told.
"""

# A group is bounded so that no caller waits for another's megabytes: 4 MiB are written and synced
# within about 20 ms.
_MAX_GROUP_BYTES: Final = 4 * 2**20
_MAX_GROUP_JOBS: Final = 1_000
# So often an event loop that never rests hands over the interpreter's lock: see `transactions.py`.
_SWITCH_INTERVAL_S: Final = 0.0005
_WATCH_INTERVAL_S: Final = 0.05
# How long a deferred step waits for an append to be committed with.
_DEFER_TIMEOUT_S: Final = 1.0


class Listener(Protocol):
    """Called on the event loop with what came into the log."""

    def appended(self, rows: Sequence[Written]) -> None:
        """This process appended these rows, in the order of their offsets."""
        ...

    def others_wrote(self) -> None:
        """Another process changed the file."""
        ...


class Writer:
    """Writes for one event loop, which `append`, `run`, `watch` and `close` belong to.

    Starts its thread at once.
    """

    def __init__(
        self, file: LogFile, listener: Listener, clock: Callable[[], float], timing: Timing
    ) -> None:
        self._file, self._timing = file, timing
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        # What was put together stays together; nothing: look at the flags.
        self._queue: SimpleQueue[list[Job]] = SimpleQueue()
        self._deferred: list[Job] = []
        self._deferred_timer: asyncio.TimerHandle | None = None
        self._queued_bytes = 0
        self._closing = False
        self._watching = False
        self._ended = self._loop.create_future()
        # What follows belongs to the thread.
        self._connection = file.connect()
        self._transactions = Transactions(
            self._connection,
            clock,
            lambda: self._call_soon(listener.others_wrote),
            lock_timeout_s=timing.lock_timeout_s,
        )
        self._checkpoints = Checkpoints(file, busy_ms=BUSY_TIMEOUT_MS)
        self._in_hand: Sequence[Job] = []
        self._failing = False
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
        threading.Thread(target=self._main, name="log-writer", daemon=True).start()

    async def append(self, rows: Sequence[Row], size: int) -> None:
        """Returns when the rows are durable.

        Errors: Unavailable when they are not in time, or too much waits.
        """
        await self._submit(Job(self._loop.create_future(), size, durable=True, rows=rows))

    async def run(self, step: Step[Result], *, durable: bool, size: int = 0) -> Result:
        """What the step returns, once its transaction is committed.

        Not durable: kept over kill -9, but over a power cut only from the next durable write on.
        That one syncs the whole write-ahead log, which holds this step before it, unless a
        checkpoint, which syncs it too, has moved it on.
        """
        result: Result = await self._submit(
            Job(self._loop.create_future(), size, durable=durable, step=step)
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
        job = Job(self._loop.create_future(), size, durable=False, step=step)
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
        """Writes what waits, at most `timeout_s` long, and ends."""
        self._closing = True
        self._put()
        done, _ = await asyncio.wait([self._ended], timeout=self._timing.timeout_s)
        if not done:
            log.error("the log's writing thread did not end in time")

    def _check_room(self, size: int) -> None:
        if self._closing or self._ended.done():
            raise Unavailable("the log is closed")
        if self._queued_bytes and self._queued_bytes + size > MAX_QUEUE_BYTES:
            raise Unavailable("the log takes less than is appended; nothing was appended")

    def _put(self, *jobs: Job) -> None:
        """Hands over these jobs, and before them all deferred ones."""
        if self._deferred_timer is not None:
            self._deferred_timer.cancel()
            self._deferred_timer = None
        deferred, self._deferred = self._deferred, []
        self._queue.put([*deferred, *jobs])

    async def _submit(self, job: Job) -> Any:
        self._check_room(job.size)
        self._queued_bytes += job.size
        self._put(job)
        try:
            async with asyncio.timeout(self._timing.timeout_s):
                return await job.done
        except TimeoutError as error:
            raise Unavailable(
                f"the log did not confirm within {self._timing.timeout_s:.0f} s"
            ) from error

    def _written(self, jobs: Sequence[Job], rows: Sequence[Written]) -> None:
        if rows:
            self._listener.appended(rows)
        for job in jobs:
            self._queued_bytes -= job.size
            if not job.done.done():
                job.done.set_result(job.result)

    def _failed(self, jobs: Sequence[Job], reason: str) -> None:
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
        with closing(self._checkpoints):
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
                time.sleep(self._timing.retry_delay_s)
                with suppress(sqlite3.Error):  # the next round fails too then
                    self._connection = self._file.connect()
                self._transactions.use(self._connection)
                self._checkpoints.abandon()
        self._call_soon(self._end)

    def _work(self) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        while not (self._closing and self._queue.empty()):
            if jobs := self._take():
                self._in_hand = jobs
                self._write(jobs)
                self._in_hand = []
            elif self._watching:
                self._poll_other_writers()
            self._checkpoints.keep_wal_short(self._connection, self._transactions.written_bytes)

    def _take(self) -> list[Job]:
        try:
            jobs = self._queue.get(
                timeout=_WATCH_INTERVAL_S
                if self._watching or self._checkpoints.is_under_way
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

    def _write(self, jobs: Sequence[Job]) -> None:
        # Callers that were cancelled are not written for.
        live = [job for job in jobs if not job.done.done()]
        try:
            rows = self._transactions.commit(live) if live else []
        except Exception as error:
            self._transactions.rollback()
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

    def _poll_other_writers(self) -> None:
        try:
            self._transactions.check_data_version()
        except sqlite3.OperationalError as error:
            # Another process repairs the file after a crash: the next look will tell.
            log.info("the log was busy when looked at", exc_info=error)

    def _call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop was closed before the log: no caller waits any more
            self._closing = True
