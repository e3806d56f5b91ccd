"""The embedded log's retention: by time, by what groups have not read, and what followers find
afterwards.
"""

from __future__ import annotations

import asyncio
import logging

from backends.log import Bounds
from backends.log.embedded.timing import Timing
from backends.telemetry.metrics import value_of
from schemas.errors import Unavailable
from schemas.topics import DEAD_LETTERS, MESSAGES, SESSION_DELIVERIES, TOPICS
from tests.backends.log_ports import batches, ids, polled, records, sent

DAY_S = 86_400


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


async def test_the_log_expires_by_itself(make, monkeypatch):
    """Each minute; a try that fails is not the last."""
    log = make(timing=Timing(expiry_interval_s=0.01))
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
