"""The suite of the `AccountEvents` port, over all databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.account_events import AccountEvent
from backends.account_events.sql import SqlAccountEvents
from schemas.ids import UserId, random_id

ANN, BEN = UserId(random_id()), UserId(random_id())


@pytest.fixture
async def events(database):
    return SqlAccountEvents(database)


def event(at_ms, user=ANN, **more):
    values = {
        "id": random_id(),
        "event": "log_in",
        "device": "phone",
        "address": "192.0.2.1",
        "outcome": "done",
    }
    return AccountEvent(at_ms=at_ms, user=user, **(values | more))


async def test_events_come_back_the_newest_first(events):
    """Of one user, or of all; from a time on."""
    first, second, third = event(1_000), event(2_000, BEN, times=7), event(3_000, outcome="wrong")
    await events.write([second, first])
    await events.write([third])
    await events.write([])

    assert await events.read(limit=9) == [third, second, first]
    assert await events.read(limit=2) == [third, second]
    assert await events.read(user=ANN, limit=9) == [third, first]
    assert await events.read(since_ms=2_000, limit=9) == [third, second]
    assert await events.read(user=ANN, since_ms=2_000, limit=9) == [third]


async def test_a_repeat_writes_no_second_row(events):
    """A try whose outcome is not known may be made again."""
    first = event(1_000)
    await events.write([first])
    await events.write([replace(first, times=5), event(2_000)])

    assert [one.times for one in await events.read(limit=9)] == [1, 1]


async def test_what_is_too_old_is_forgotten(events):
    """And no more."""
    await events.write([event(at_ms) for at_ms in range(1_000, 2_200)])

    assert await events.forget(before_ms=1_700, keep=10_000) == 700
    assert await events.forget(before_ms=1_700, keep=10_000) == 0
    assert min(one.at_ms for one in await events.read(limit=9_999)) == 1_700


async def test_what_is_beyond_the_number_is_forgotten(events):
    """The oldest of them, however young."""
    await events.write([event(at_ms) for at_ms in range(1_000, 1_100)])

    assert await events.forget(before_ms=0, keep=30) == 70
    assert [one.at_ms for one in await events.read(limit=99)] == [*range(1_099, 1_069, -1)]
