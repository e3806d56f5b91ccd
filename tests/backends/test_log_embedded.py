"""What only the embedded log promises: what a group costs, what others on the file do, retention by
a clock, a full disk.
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

from backends.clock import Clock as WallClock
from backends.log import Bounds, ProducerRecord
from backends.log.embedded import transactions
from backends.log.embedded import writer as embedded_writer
from backends.log.embedded.checkpoints import Checkpoints
from backends.log.embedded.log import EmbeddedLog
from backends.telemetry.metrics import value_of
from schemas.errors import Unavailable
from schemas.topics import DEAD_LETTERS, MESSAGES, SESSION_DELIVERIES, TOPICS
from tests.backends.suite_log import batches, ends, event, ids, polled, records, sent

DAY_S = 86_400


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
    big = [ProducerRecord(DEAD_LETTERS, event(b"x" * 500_000), 0) for _ in range(60)]
    results = await asyncio.gather(
        *[log.append([record]) for record in big], return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, Unavailable)]

    assert 0 < len(refused) < 60
    assert "nothing was appended" in refused[0].message
    assert (await ends(log))[0] == 60 - len(refused)
    await log.append(records(1))


async def test_an_append_gives_up_after_its_deadline_and_is_not_written_later(log, monkeypatch):
    """Its caller was told Unavailable, and will ask again."""
    loop, started, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def sit(_):
        loop.call_soon_threadsafe(started.set)
        go_on.wait(10)

    monkeypatch.setattr(embedded_writer, "TIMEOUT_S", 0.1)
    sitting = asyncio.create_task(log.run(sit, durable=False))
    await started.wait()
    with pytest.raises(Unavailable, match="did not confirm"):
        await log.append(records(1))
    with pytest.raises(Unavailable, match="did not confirm"):
        await sitting
    go_on.set()
    monkeypatch.undo()
    last = records(1)
    await log.append(last)

    assert ids(await log.read(DEAD_LETTERS, 0, 0, max_records=9)) == sent(last)


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


async def test_an_append_waits_for_another_process_with_a_timeout(log, tmp_path, monkeypatch):
    """A process that sits on the file makes appends unavailable, until it lets go."""
    monkeypatch.setattr(transactions, "_LOCK_TIMEOUT_S", 0.05)
    await log.ping()
    other = sqlite3.connect(tmp_path / "data" / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="cannot be written: database is locked"):
        await log.append(records(1))
    other.rollback()
    other.close()
    await log.append(records(1))


async def test_a_writing_thread_that_failed_begins_again(log, monkeypatch, caplog):
    """A bug of ours in the thread: `dev` would stay alive and do nothing.

    Who waited is told, and the next append is written.
    """
    monkeypatch.setattr(embedded_writer, "_RETRY_DELAY_S", 0.01)
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


async def test_a_ping_does_not_wait_longer_than_2_s(log, tmp_path, monkeypatch):
    """Readiness must answer."""
    monkeypatch.setattr("backends.log.embedded.log.PING_TIMEOUT_S", 0.05)
    await log.append(records(1))
    other = sqlite3.connect(tmp_path / "data" / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="did not answer"):
        await log.ping()
    other.rollback()
    other.close()


async def test_a_damaged_file_cannot_be_read(log, tmp_path):
    """A reader gets Unavailable, not SQLite's words."""
    await log.append(records(1))
    with sqlite3.connect(tmp_path / "data" / "log.db") as other:
        other.execute("DROP TABLE records")
    other.close()

    with pytest.raises(Unavailable, match="cannot be read"):
        await log.read(DEAD_LETTERS, 0, 0, max_records=1)
    with pytest.raises(Unavailable, match="cannot be written"):
        await log.append(records(1))
    async with log.follow(DEAD_LETTERS, {0: 0}) as consumer:
        with pytest.raises(Unavailable, match="cannot be read"):
            await anext(aiter(consumer))


async def test_the_write_ahead_log_stays_short(log, tmp_path):
    """80 MiB through it leave a few MiB of it, while appends go on."""
    for _ in range(20):
        await asyncio.gather(
            *[
                log.append([ProducerRecord(DEAD_LETTERS, event(b"x" * 100_000), 0)])
                for _ in range(40)
            ]
        )
    written = (tmp_path / "data" / "log.db-wal").stat().st_size

    assert written < 40 * 2**20


async def test_records_are_kept_as_long_as_their_topic_says(log, clock):
    """Older ones are dropped, bounds move at once, offsets count on, and a reader below begins at
    the oldest.
    """
    old, new = records(200, 0, SESSION_DELIVERIES), records(3, 0, SESSION_DELIVERIES)
    await log.append(old)
    clock.now_s += TOPICS[SESSION_DELIVERIES].kept_s - 1
    await log.append(new)
    await log.expire()
    assert await log.bounds(SESSION_DELIVERIES, [0]) == {0: Bounds(0, 203)}
    clock.now_s += 2
    await log.expire()

    assert await log.bounds(SESSION_DELIVERIES, [0, 1]) == {0: Bounds(200, 203), 1: Bounds(0, 0)}
    assert ids(await log.read(SESSION_DELIVERIES, 0, 0, max_records=99)) == sent(new)


async def test_offsets_count_on_after_everything_expired(log, make, clock):
    """Also after a restart, and in a process that remembered the end."""
    other = make()
    await other.append(records(5, 1))
    await log.append(records(5, 1))
    clock.now_s += 15 * DAY_S
    await log.expire()
    await log.close()
    assert await make().bounds(DEAD_LETTERS, [1]) == {1: Bounds(10, 10)}
    await other.append(records(1, 1))

    assert await other.bounds(DEAD_LETTERS, [1]) == {1: Bounds(10, 11)}


async def test_each_topic_has_its_own_time(log, clock):
    """After two hours session deliveries are gone, the rest is there."""
    await log.append([*records(1, 0, SESSION_DELIVERIES), *records(1, 0, MESSAGES)])
    clock.now_s += 7200
    await log.expire()

    assert (await log.bounds(SESSION_DELIVERIES, [0]))[0] == Bounds(1, 1)
    assert (await log.bounds(MESSAGES, [0]))[0] == Bounds(0, 1)


async def test_a_clock_that_falls_back_does_not_date_records_backwards(log, clock):
    """Retention drops from the front, so times of a process never fall."""
    await log.append(records(1))
    clock.now_s -= 60
    await log.append(records(1))
    first, second = await log.read(DEAD_LETTERS, 0, 0, max_records=2)

    assert first.at_ms == second.at_ms


async def test_a_reader_overtaken_by_retention_goes_on_at_the_oldest_record(log, clock):
    """A consumer that finds nothing where it stood, and one from an offset that is gone.

    Each says so.
    """
    await log.append(records(4))
    clock.now_s += 15 * DAY_S
    told = []
    async with log.follow(
        DEAD_LETTERS, {0: 0}, on_offset_reset=lambda *where: told.append(where)
    ) as early:
        (first,) = await early.next(1, 1 << 20)  # it knows now that three more are there
        await log.expire()
        waiting = asyncio.create_task(batches(early, 2))
        await log.bounds(DEAD_LETTERS, [0])  # by now it has found nothing
        new = records(2)
        await log.append(new)
        async with log.follow(
            DEAD_LETTERS, {0: 0}, on_offset_reset=lambda *where: told.append(where)
        ) as late:
            found = [await waiting, await batches(late, 2)]

    assert first.offset == 0
    assert [ids(stored) for stored in found] == [sent(new)] * 2
    assert told == [(0, 4)] * 2


async def test_what_a_group_has_not_read_is_kept_whatever_its_age(log, make, clock, caplog):
    """From its first member on, where it has committed and where it has not; the slowest group
    counts.

    Operators hear of it, once.
    """
    await log.append([*records(4, 0), *records(2, 1), *records(2, 2)])
    async with log.member("send", DEAD_LETTERS) as member:
        await member.commit({0: 3, 2: 2})
    async with log.member("late", DEAD_LETTERS, start="end") as member:
        pass
    clock.now_s += 15 * DAY_S
    await log.close()
    again = make()
    with caplog.at_level(logging.WARNING):
        await again.expire()
        await again.expire()

    bounds = await again.bounds(DEAD_LETTERS, [0, 1, 2])
    assert bounds == {0: Bounds(3, 4), 1: Bounds(0, 2), 2: Bounds(2, 2)}
    assert [record.message for record in caplog.records] == [
        "records are kept beyond their time, since a group has not read them"
    ]
    async with again.member("send", DEAD_LETTERS) as member:
        assert len(await polled(member, 3)) == 3
        await member.commit({0: 4, 1: 2})
    await again.expire()
    assert await again.bounds(DEAD_LETTERS, [0, 1]) == {0: Bounds(4, 4), 1: Bounds(2, 2)}


async def test_a_group_that_was_given_up_does_not_fill_the_disk(log, clock, monkeypatch, caplog):
    """Beyond a size what it has not read goes all the same, with an error; should it come back, it
    is told.
    """
    await log.append(records(4))
    async with log.member("send", DEAD_LETTERS) as member:
        await member.commit({0: 1})
    clock.now_s += 15 * DAY_S
    monkeypatch.setattr("backends.log.embedded.retention.MAX_HELD_BYTES", 1)
    before = value_of("knchat_records_dropped_unread_total", topic=DEAD_LETTERS)
    with caplog.at_level(logging.ERROR):
        await log.expire()
        await log.append(new := records(1))
        async with log.member("send", DEAD_LETTERS) as member:
            found = await polled(member, 1)

    assert ids(found) == sent(new)
    assert value_of("knchat_records_dropped_unread_total", topic=DEAD_LETTERS) == before + 3
    assert [record.message for record in caplog.records] == [
        "the log is full: what no group has read for too long was dropped",
        "records were dropped before they were read",
    ]


async def test_a_slow_consumer_costs_bounded_memory_and_misses_nothing(log):
    """What it leaves behind beyond 1 MiB is read from the file again, in order."""
    async with log.follow(DEAD_LETTERS, {0: 0, 1: 0}) as consumer:
        for _ in range(20):
            await log.append(
                [ProducerRecord(DEAD_LETTERS, event(b"x" * 100_000), 0), *records(1, 1)]
            )
        recent = consumer._tail.recent(0 + (await log._place(DEAD_LETTERS)).first_slot)
        held = recent.size
        found = await batches(consumer, 40)
        left = len(recent.held)

    assert held <= 1 << 20
    assert [stored.offset for stored in found if stored.partition == 0] == list(range(20))
    assert [stored.offset for stored in found if stored.partition == 1] == list(range(20))
    assert left == 0


async def test_records_of_another_process_between_ours_are_read_from_the_file(log, make):
    """What is held in memory ends before a gap, also for a consumer that has taken a part of it."""
    other = make()
    async with log.follow(DEAD_LETTERS, {0: 0}) as consumer:
        found = []
        ours, theirs, last = records(2), records(1), records(1)
        await log.append(ours)
        found += await consumer.next(1, 1 << 20)
        await other.append(theirs)
        await log.append(last)
        while len(found) < 4:
            found += await consumer.next(1, 1 << 20)

    assert ids(found) == sent([*ours, *theirs, *last])
    assert [stored.offset for stored in found] == list(range(4))


async def test_records_of_another_process_after_ours_are_read_from_the_file(log, make):
    """The same when we learn of them by a look at the file."""
    other = make()
    async with (
        log.follow(DEAD_LETTERS, {0: 0}) as consumer,
        log.follow(DEAD_LETTERS, {0: 0}) as witness,
    ):
        ours, theirs = records(2), records(2)
        await log.append(ours)
        found = await consumer.next(1, 1 << 20)
        await other.append(theirs)
        await batches(witness, 4)  # so both consumers have been told
        while len(found) < 4:
            found += await consumer.next(1, 1 << 20)

    assert ids(found) == sent([*ours, *theirs])
    assert [stored.offset for stored in found] == list(range(4))


async def test_an_append_that_is_handed_over_late_takes_nothing_back(log, make):
    """A consumer may have read it from the file already, and others behind it."""
    other = make()
    ours, theirs = records(1), records(2)
    await log.append(ours)
    await other.append(theirs)
    (first,) = await log.run(
        lambda connection: connection.execute("SELECT * FROM records LIMIT 1").fetchall(),
        durable=False,
    )
    async with log.follow(DEAD_LETTERS, {0: 0}) as consumer:
        found = await consumer.next(1, 1 << 20)
        # As if the writing thread's word had been overtaken by the reading one's.
        log._opened.tail.appended([first])
        found += await batches(consumer, 2)

    assert ids(found) == sent([*ours, *theirs])


async def test_the_log_expires_by_itself(log, clock, monkeypatch):
    """Each minute; a try that fails is not the last."""
    monkeypatch.setattr("backends.log.embedded.log._EXPIRY_INTERVAL_S", 0.01)
    tries = []

    async def expire():
        tries.append(1)
        if len(tries) == 1:
            raise Unavailable("busy")
        done.set()

    done = asyncio.Event()
    monkeypatch.setattr(log, "expire", expire)
    await log.ping()

    await asyncio.wait_for(done.wait(), 10)


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
                ProducerRecord(DEAD_LETTERS, event(b"x" * 20_000), 0),
                ProducerRecord(DEAD_LETTERS, event(b"y"), 0),
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


async def test_a_stretch_of_time_is_a_stretch_of_a_partition_though_clocks_jump(log, clock):
    """A later time never has a lower offset: what lies between two times is all that there is,
    once.
    """
    start = clock.now_s
    for step_s in (0, 50, -300, 20, 1000, -2000, 5):
        clock.now_s += step_s
        await log.append([ProducerRecord(DEAD_LETTERS, event(), 0)])
    offsets = [
        (await log.offsets_at(DEAD_LETTERS, int((start + moment) * 1000)))[0]
        for moment in range(-3000, 3000, 10)
    ]

    assert offsets == sorted(offsets)
    assert (offsets[0], offsets[-1]) == (0, 7)


async def test_a_clock_behind_the_log_is_set_to_its_newest_record(tmp_path, clock):
    """After a restart with an earlier wall clock: ids go on rising, and nothing is dated before
    what lies before it.
    """
    first = EmbeddedLog(tmp_path / "log.db", clock=clock)
    await first.append([*records(1), *records(1, 3, MESSAGES)])
    await first.close()
    clock.now_s -= 3_600
    behind = WallClock(alone=True, wall=clock)
    again = EmbeddedLog(tmp_path / "log.db", clock=behind.now_s, not_below=behind.not_below)
    await again.append(records(1))
    older, newer = await again.read(DEAD_LETTERS, 0, 0, max_records=2)
    await again.close()

    assert older.at_ms <= newer.at_ms < older.at_ms + 60_000
