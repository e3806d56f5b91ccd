"""What only the embedded log promises: damaged files, clocks that jump, and followers whose records
come from other processes.
"""

from __future__ import annotations

import sqlite3

import pytest

from backends.clock import Clock as WallClock
from backends.log import ProducerRecord
from backends.log.embedded.log import EmbeddedLog
from backends.log.embedded.timing import Timing
from schemas.errors import Unavailable
from schemas.topics import DEAD_LETTERS, MESSAGES
from tests.backends.log_ports import batches, ids, records, sent
from tests.support.events import event


async def test_a_ping_does_not_wait_longer_than_2_s(make, tmp_path):
    """Readiness must answer."""
    log = make(timing=Timing(ping_timeout_s=0.05))
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


async def test_a_clock_that_falls_back_does_not_date_records_backwards(log, clock):
    """Retention drops from the front, so times of a process never fall."""
    await log.append(records(1))
    clock.now_s -= 60
    await log.append(records(1))
    first, second = await log.read(DEAD_LETTERS, 0, 0, max_records=2)

    assert first.at_ms == second.at_ms


async def test_a_slow_consumer_costs_bounded_memory_and_misses_nothing(log):
    """What it leaves behind beyond 1 MiB is read from the file again, in order."""
    async with log.follow(DEAD_LETTERS, {0: 0, 1: 0}) as consumer:
        for _ in range(20):
            await log.append(
                [ProducerRecord(DEAD_LETTERS, event(data=b"x" * 100_000), 0), *records(1, 1)]
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
