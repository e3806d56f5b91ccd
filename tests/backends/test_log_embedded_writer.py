"""The embedded log's writing thread: what an fsync serves, what waits for locks and full disks, and
what a failure leaves.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sqlite3
import subprocess
import sys
import threading
from functools import partial

import pytest

from backends.log import Bounds, ProducerRecord
from backends.log.embedded import transactions
from backends.log.embedded import writer as embedded_writer
from backends.log.embedded.checkpoints import Checkpoints
from backends.log.embedded.log import EmbeddedLog
from backends.log.embedded.timing import Timing
from schemas.errors import Unavailable
from schemas.topics import DEAD_LETTERS
from tests.backends.log_ports import ends, ids, records, sent
from tests.support.events import event


def python(code, *arguments):
    """A program of its own, spoken to by lines."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_one_fsync_serves_all_waiting_appends(log, monkeypatch):
    """300 appends at once are written in a handful of groups."""
    groups = []
    commit = transactions.Transactions.commit

    def counted(self, jobs):
        groups.append(len(jobs))
        return commit(self, jobs)

    monkeypatch.setattr(transactions.Transactions, "commit", counted)  # counts and passes on
    await log.ping()
    await asyncio.gather(*[log.append(records(1)) for _ in range(300)])

    assert sum(groups) == 301
    assert len(groups) <= 30


async def test_only_what_must_be_durable_waits_for_the_disk(log):
    """SQLite syncs the transactions of appends and commits (2, FULL); those of reservations are
    deferred to the next one (1, NORMAL).
    """

    def synchronous(connection):
        return connection.execute("PRAGMA synchronous").fetchone()[0]

    assert [await log.run(synchronous, durable=durable) for durable in (True, False, True)] == [
        2,
        1,
        2,
    ]
    assert await asyncio.gather(
        log.run(synchronous, durable=False),
        log.append(records(1)),
        log.run(synchronous, durable=False),
    ) == [
        2,
        None,
        2,
    ]


async def test_a_statement_that_cannot_be_bound_fails_no_other(log):
    """One impossible number among good appends of the same group fails alone."""
    good = records(20)
    results = await asyncio.gather(
        *[log.append([record]) for record in good[:10]],
        log.run(lambda connection: connection.execute("SELECT ?", (1 << 70,)), durable=False),
        *[log.append([record]) for record in good[10:]],
        return_exceptions=True,
    )

    assert [type(result) for result in results if result is not None] == [Unavailable]
    assert ids(await log.read(DEAD_LETTERS, 0, 0, max_records=99)) == sent(good)


async def test_more_than_the_queue_holds_is_refused(log):
    """A caller that appends faster than the disk is told at once, and what was taken is written."""
    big = [ProducerRecord(DEAD_LETTERS, event(data=b"x" * 500_000), 0) for _ in range(60)]
    results = await asyncio.gather(
        *[log.append([record]) for record in big], return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, Unavailable)]

    assert 0 < len(refused) < 60
    assert "nothing was appended" in refused[0].message
    assert (await ends(log))[0] == 60 - len(refused)
    await log.append(records(1))


async def test_an_append_gives_up_after_its_deadline_and_is_not_written_later(make):
    """Its caller was told Unavailable, and will ask again."""
    loop, started, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def sit(_):
        loop.call_soon_threadsafe(started.set)
        go_on.wait(10)

    log = make(timing=Timing(timeout_s=0.5))
    sitting = asyncio.create_task(log.run(sit, durable=False))
    await started.wait()
    with pytest.raises(Unavailable, match="did not confirm"):
        await log.append(records(1))
    with pytest.raises(Unavailable, match="did not confirm"):
        await sitting
    go_on.set()
    await log.close()
    again, last = make(), records(1)
    await again.append(last)

    assert ids(await again.read(DEAD_LETTERS, 0, 0, max_records=9)) == sent(last)


async def test_an_append_waits_for_another_process(log, tmp_path):
    """A transaction of theirs delays ours, no more."""
    await log.ping()
    other = sqlite3.connect(tmp_path / "data" / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    some = records(1)
    appending = asyncio.create_task(log.append(some))
    assert await log.read(DEAD_LETTERS, 0, 0, max_records=1) == []  # reads do not wait
    assert not appending.done()
    other.rollback()
    other.close()
    await appending

    assert ids(await log.read(DEAD_LETTERS, 0, 0, max_records=1)) == sent(some)


async def test_an_append_waits_for_another_process_with_a_timeout(make, tmp_path):
    """A process that sits on the file makes appends unavailable, until it lets go."""
    log = make(timing=Timing(lock_timeout_s=0.05))
    await log.ping()
    other = sqlite3.connect(tmp_path / "data" / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="cannot be written: database is locked"):
        await log.append(records(1))
    other.rollback()
    other.close()
    await log.append(records(1))


async def test_a_writing_thread_that_failed_begins_again(make, monkeypatch, caplog):
    """A bug of ours in the thread: `dev` would stay alive and do nothing.

    Who waited is told, and the next append is written.
    """
    log = make(timing=Timing(retry_delay_s=0.01))
    write, keep = embedded_writer.Writer._write, Checkpoints.keep_wal_short
    bugs = ["in writing", "beside it"]

    def fail(method, bug):
        def failing(writer, *args):
            if bug in bugs:
                bugs.remove(bug)
                raise RuntimeError(bug)
            return method(writer, *args)

        return failing

    await log.append(records(1))
    monkeypatch.setattr(embedded_writer.Writer, "_write", fail(write, "in writing"))
    monkeypatch.setattr(Checkpoints, "keep_wal_short", fail(keep, "beside it"))
    with caplog.at_level(logging.ERROR):
        with pytest.raises(Unavailable, match="its writing thread failed"):
            await asyncio.wait_for(log.append(records(1)), 5)
        for _ in range(3):
            await asyncio.wait_for(log.append(records(1)), 5)
        await log.ping()

    assert await log.bounds(DEAD_LETTERS, [0]) == {0: Bounds(0, 4)}
    assert [record.message for record in caplog.records] == [
        "the log's writing thread failed, and begins again"
    ] * 2
    assert log._opened.writer._queued_bytes == 0


async def test_the_write_ahead_log_stays_short(log, tmp_path):
    """80 MiB through it leave a few MiB of it, while appends go on."""
    for _ in range(20):
        await asyncio.gather(
            *[
                log.append([ProducerRecord(DEAD_LETTERS, event(data=b"x" * 100_000), 0)])
                for _ in range(40)
            ]
        )
    written = (tmp_path / "data" / "log.db-wal").stat().st_size

    assert written < 40 * 2**20


def _tmpfs(folder):
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=28m", "tmpfs", folder], check=True)
    filler = folder / "filler"
    # A checkpoint that got stuck may take as much as is written by now.
    filler.write_bytes(b"x" * (14 * 2**20))
    return filler.unlink, partial(subprocess.run, ["umount", "--lazy", folder], check=True)


def _file_size_limit(folder):
    folder.mkdir()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6 * 2**20, hard))
    lift = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (hard, hard))
    return lift, lift


@pytest.fixture(
    params=[
        pytest.param(
            _tmpfs,
            marks=pytest.mark.skipif(
                os.geteuid() != 0,
                reason="only root may mount; the file size limit is tried instead",
            ),
        ),
        _file_size_limit,
    ]
)
def small_disk(request, tmp_path):
    """A folder with little room, and what makes more."""
    folder = tmp_path / "small"
    make_room, undo = request.param(folder)
    yield folder, make_room
    undo()


async def test_a_full_disk_refuses_and_recovers(small_disk, clock):
    """Nothing is acknowledged that is not there, nothing is half there, and when there is room
    again appends go on by themselves.
    """
    folder, make_room = small_disk
    log = EmbeddedLog(folder / "log.db", clock=clock)
    acknowledged, refused = [], []
    while len(refused) < 20:  # meanwhile checkpoints begin to fail as well
        calls = [
            [
                ProducerRecord(DEAD_LETTERS, event(data=b"x" * 20_000), 0),
                ProducerRecord(DEAD_LETTERS, event(data=b"y"), 0),
            ]
            for _ in range(5)
        ]
        for call, result in zip(
            calls,
            await asyncio.gather(*[log.append(call) for call in calls], return_exceptions=True),
            strict=True,
        ):
            assert result is None or isinstance(result, Unavailable)
            (refused if result else acknowledged).append(sent(call))
    full = await log.read(DEAD_LETTERS, 0, 0, max_records=9999, max_bytes=1 << 30)
    make_room()
    last = records(2)
    await log.append(last)
    await log.ping()
    await log.close()
    again = EmbeddedLog(folder / "log.db", clock=clock)
    stored = await again.read(DEAD_LETTERS, 0, 0, max_records=9999, max_bytes=1 << 30)
    await again.close()

    found = ids(stored)
    assert ids(full) == [name for call in acknowledged for name in call]
    assert found == [name for call in acknowledged for name in call] + sent(last)
    assert [item.offset for item in stored] == list(range(len(found)))
