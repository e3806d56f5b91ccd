"""The generator lease and the clock of ids, on the real table: no id without a live lease, none
that repeats.
"""

import asyncio
import sqlite3

import pytest

from backends.telemetry.metrics import value_of
from gateway.publishing.message_ids import (
    LEASE_MARGIN_S,
    NO_LEASE_RETRY_DELAY_S,
    RENEW_INTERVAL_S,
    RETRY_DELAY_S,
    MessageIds,
)
from schemas.errors import Unavailable
from schemas.ids import first_id_at, unix_ms_of
from tests.support.clock import Machine


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def clock(machine):
    """As beside PostgreSQL: the database has the true time, whatever the machine's clock says."""
    return machine.clock(alone=False)


@pytest.fixture
def message_ids(backends, clock, machine):
    database = type(backends.generators)(
        backends._database, Machine.clock(TrueMachine(machine), alone=True)
    )
    return MessageIds(database, "test", clock=clock)


class TrueMachine:
    """The database's: as much has passed there, and its clock is right."""

    def __init__(self, machine):
        self.wall, self.elapsed = machine.true_s, machine.elapsed
        self.monotonic = machine.monotonic


def now_ms(machine):
    return int(machine.true_s() * 1_000)


async def test_before_a_generator_is_leased(message_ids, machine):
    """Not ready, and no id made; what was seen counts later."""
    seen = first_id_at(now_ms(machine) + 500)
    assert (message_ids.is_ready, message_ids.generator) == (False, -1)
    with pytest.raises(Unavailable):
        message_ids.next_id()
    assert message_ids.advance(seen)

    await message_ids.claim()

    assert message_ids.is_ready
    assert message_ids.next_id() > seen


async def test_it_makes_no_id_past_its_lease(message_ids, machine):
    """Some seconds before the end it stops; a renewal finds another generator, and ids go on
    increasing.
    """
    await message_ids.claim()
    last = message_ids.next_id()
    machine.passed_s += 900 - LEASE_MARGIN_S
    assert not message_ids.is_ready
    with pytest.raises(Unavailable):
        message_ids.next_id()

    first_generator = message_ids.generator
    assert await message_ids.renew() == RENEW_INTERVAL_S
    assert message_ids.next_id() > last
    assert message_ids.generator != first_generator


async def test_a_renewal_keeps_the_generator(message_ids, machine):
    """And moves its end."""
    await message_ids.claim()
    before = message_ids._lease
    machine.passed_s += 1

    assert await message_ids.renew() == RENEW_INTERVAL_S

    assert message_ids.generator == before.generator
    assert message_ids._lease.until_ms > before.until_ms


async def test_a_generator_that_another_has_is_given_up_at_once(message_ids, backends):
    """However long its lease: a database that lost its last minutes in a fail-over may have lent it
    again.
    """
    await message_ids.claim()
    before = message_ids._lease
    with sqlite3.connect(backends.settings.data / "data.db") as connection:
        connection.execute(
            "UPDATE generators SET holder = 'other' WHERE generator = ?", (before.generator,)
        )
    connection.close()

    assert await message_ids.renew() == RENEW_INTERVAL_S
    assert message_ids.generator != before.generator
    assert message_ids.next_id()


async def test_an_unavailable_database_is_asked_again_soon(message_ids, backends):
    """While the lease lives it goes on making ids; without one it is asked more often."""
    await message_ids.claim()
    failures = value_of("knchat_lease_failures_total")
    await backends.close()

    assert await message_ids.renew() == RETRY_DELAY_S
    assert message_ids.next_id()
    assert value_of("knchat_lease_failures_total") == failures + 1
    await message_ids.release()
    assert not message_ids.is_ready
    assert await message_ids.renew() == NO_LEASE_RETRY_DELAY_S


@pytest.mark.parametrize(
    "step_s", [-90_000.0, -3_600.0, -20.0, -0.8, 10.0, 300.0, 3_600.0, 90_000.0]
)
async def test_a_wrong_clock_mints_by_the_database_s(message_ids, machine, step_s):
    """Whether it was wrong from the start or is set meanwhile, and set right again: ids have the
    true time, and increase.
    """
    machine.wrong_s = step_s
    await message_ids.claim()
    first = message_ids.next_id()
    machine.passed_s += 5
    machine.wrong_s = 0.0
    second = message_ids.next_id()
    machine.wrong_s = step_s
    third = message_ids.next_id()
    assert await message_ids.renew() == RENEW_INTERVAL_S
    fourth = message_ids.next_id()

    assert first < second < third < fourth
    assert unix_ms_of(fourth) == pytest.approx(machine.true_s() * 1_000, abs=10)


async def test_a_database_that_falls_back_stops_no_ids(message_ids, machine):
    """Ids go on increasing, and come back to its time where none was made for so long."""
    await message_ids.claim()
    last = message_ids.next_id()
    started_s, machine.true_s = machine.true_s, lambda: started_s() - 3_600
    for _ in range(3):
        message_ids._generators._clock = Machine.clock(TrueMachine(machine), alone=True)
        assert await message_ids.renew() == RENEW_INTERVAL_S
        machine.passed_s += 60
        before, last = last, message_ids.next_id()
        assert last > before


async def test_what_a_client_has_seen_moves_no_ids(message_ids, machine):
    """It says when all are greater; what lies far ahead is said to do so."""
    await message_ids.claim()
    seen = first_id_at(now_ms(machine) + 800)
    wait_ms = message_ids.greater_in_ms(seen)
    assert message_ids.next_id() < seen
    assert message_ids.greater_in_ms(1) == 0

    machine.passed_s += wait_ms / 1_000
    assert message_ids.greater_in_ms(seen) == 0
    assert message_ids.next_id() > seen
    assert message_ids.greater_in_ms(first_id_at(now_ms(machine) + 60_000)) == pytest.approx(
        60_001, abs=2
    )


async def test_ids_too_far_ahead_are_not_followed(message_ids, machine):
    """Over a second: false, and nothing changed."""
    await message_ids.claim()
    far = first_id_at(now_ms(machine) + 2_000)

    assert not message_ids.advance(far)
    assert message_ids.next_id() < far


async def test_release_gives_the_number_back(message_ids):
    """No id is made after it; twice does no harm."""
    await message_ids.claim()
    await message_ids.release()
    await message_ids.release()

    with pytest.raises(Unavailable):
        message_ids.next_id()


async def test_keep_renews_again_and_again(message_ids, machine):
    """Until it is cancelled."""
    message_ids._renew_interval_s = 0.01
    await message_ids.claim()
    first = message_ids._lease.until_ms

    keeping = asyncio.create_task(message_ids.keep())
    async with asyncio.timeout(5):
        while message_ids._lease.until_ms <= first:
            machine.passed_s += 0.02
            await asyncio.sleep(0.005)

    keeping.cancel()
    await asyncio.wait([keeping])


async def test_a_lease_that_is_found_dead_is_renewed_at_once(message_ids, machine):
    """By what needs an id, after a suspend of hours: not by a timer that slept too."""
    await message_ids.claim()
    keeping = asyncio.create_task(message_ids.keep())
    await asyncio.sleep(0)
    machine.passed_s += 1_200
    with pytest.raises(Unavailable) as refused:
        message_ids.next_id()
    assert refused.value.retry_after_s == NO_LEASE_RETRY_DELAY_S

    async with asyncio.timeout(0.9):
        while not message_ids.is_ready:
            await asyncio.sleep(0.005)
    assert message_ids.next_id()
    keeping.cancel()
    await asyncio.wait([keeping])
