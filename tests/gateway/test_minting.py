"""The generator lease and the clock that mints, on the real table: no id without a live lease, none that repeats."""

import asyncio
import sqlite3

import pytest

from backends.telemetry.metrics import value_of
from gateway.minting import DEAD_RETRY_S, LEASE_MARGIN_S, RENEW_S, RETRY_S, Minting
from schemas.errors import Unavailable
from schemas.ids import first_id_at, unix_ms_of
from tests.clock import Machine


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def clock(machine):
    """As beside PostgreSQL: the database has the true time, whatever the machine's clock says."""
    return machine.clock(alone=False)


@pytest.fixture
def minting(backends, clock, machine):
    database = type(backends.generators)(backends._database, Machine.clock(TrueMachine(machine), alone=True))
    return Minting(database, "test", clock=clock)


class TrueMachine:
    """The database's: as much has passed there, and its clock is right."""

    def __init__(self, machine):
        self.wall, self.elapsed = machine.true_s, machine.elapsed


def now_ms(machine):
    return int(machine.true_s() * 1_000)


async def test_before_a_generator_is_leased(minting, machine):
    """Not ready, and nothing minted; what was seen counts later."""
    seen = first_id_at(now_ms(machine) + 500)
    assert (minting.ready, minting.generator) == (False, -1)
    with pytest.raises(Unavailable):
        minting.mint()
    assert minting.advance(seen)

    await minting.claim()

    assert minting.ready
    assert minting.mint() > seen


async def test_it_never_mints_past_its_lease(minting, machine):
    """Some seconds before the end it stops; a renewal finds another generator, and ids go on increasing."""
    await minting.claim()
    last = minting.mint()
    machine.passed_s += 900 - LEASE_MARGIN_S
    assert not minting.ready
    with pytest.raises(Unavailable):
        minting.mint()

    first_generator = minting.generator
    assert await minting.renew() == RENEW_S
    assert minting.mint() > last
    assert minting.generator != first_generator


async def test_a_renewal_keeps_the_generator(minting, machine):
    """And moves its end."""
    await minting.claim()
    before = minting._lease
    machine.passed_s += 1

    assert await minting.renew() == RENEW_S

    assert minting.generator == before.generator
    assert minting._lease.until_ms > before.until_ms


async def test_a_generator_that_somebody_else_has_is_given_up_at_once(minting, backends):
    """However long its lease: a database that lost its last minutes in a fail-over may have lent it again."""
    await minting.claim()
    before = minting._lease
    with sqlite3.connect(backends.settings.data / "data.db") as connection:
        connection.execute("UPDATE generators SET holder = 'other' WHERE generator = ?", (before.generator,))
    connection.close()

    assert await minting.renew() == RENEW_S
    assert minting.generator != before.generator
    assert minting.mint()


async def test_a_database_that_is_away_is_asked_again_soon(minting, backends):
    """While the lease lives it goes on minting; without one it is asked more often."""
    await minting.claim()
    failures = value_of("knchat_lease_failures_total")
    await backends.close()

    assert await minting.renew() == RETRY_S
    assert minting.mint()
    assert value_of("knchat_lease_failures_total") == failures + 1
    await minting.release()
    assert not minting.ready
    assert await minting.renew() == DEAD_RETRY_S


@pytest.mark.parametrize("step_s", [-90_000.0, -3_600.0, -20.0, -0.8, 10.0, 300.0, 3_600.0, 90_000.0])
async def test_a_wrong_clock_mints_by_the_database_s(minting, machine, step_s):
    """Whether it was wrong from the start or is set meanwhile, and set right again: ids have the true time, and increase."""
    machine.wrong_s = step_s
    await minting.claim()
    first = minting.mint()
    machine.passed_s += 5
    machine.wrong_s = 0.0
    second = minting.mint()
    machine.wrong_s = step_s
    third = minting.mint()
    assert await minting.renew() == RENEW_S
    fourth = minting.mint()

    assert first < second < third < fourth
    assert unix_ms_of(fourth) == pytest.approx(machine.true_s() * 1_000, abs=10)


async def test_a_database_that_falls_back_stops_nobody(minting, machine):
    """Ids go on increasing, and come back to its time where nobody has made any for so long."""
    await minting.claim()
    last = minting.mint()
    started_s, machine.true_s = machine.true_s, lambda: started_s() - 3_600
    for _ in range(3):
        minting._generators._clock = Machine.clock(TrueMachine(machine), alone=True)
        assert await minting.renew() == RENEW_S
        machine.passed_s += 60
        before, last = last, minting.mint()
        assert last > before


async def test_what_a_client_has_seen_moves_no_ids(minting, machine):
    """It says when all are greater; what lies far ahead is said to do so."""
    await minting.claim()
    seen = first_id_at(now_ms(machine) + 800)
    wait_ms = minting.greater_in_ms(seen)
    assert minting.mint() < seen
    assert minting.greater_in_ms(1) == 0

    machine.passed_s += wait_ms / 1_000
    assert minting.greater_in_ms(seen) == 0
    assert minting.mint() > seen
    assert minting.greater_in_ms(first_id_at(now_ms(machine) + 60_000)) == pytest.approx(60_001, abs=2)


async def test_ids_too_far_ahead_are_not_followed(minting, machine):
    """Over a second: false, and nothing changed."""
    await minting.claim()
    far = first_id_at(now_ms(machine) + 2_000)

    assert not minting.advance(far)
    assert minting.mint() < far


async def test_release_gives_the_number_back(minting):
    """Nothing is minted after it; twice does no harm."""
    await minting.claim()
    await minting.release()
    await minting.release()

    with pytest.raises(Unavailable):
        minting.mint()


async def test_keep_renews_for_ever(minting, machine, monkeypatch):
    """Again and again, until it is cancelled."""
    monkeypatch.setattr("gateway.minting.RENEW_S", 0.01)
    await minting.claim()
    first = minting._lease.until_ms

    keeping = asyncio.create_task(minting.keep())
    async with asyncio.timeout(5):
        while minting._lease.until_ms <= first:
            machine.passed_s += 0.02
            await asyncio.sleep(0.005)

    keeping.cancel()
    await asyncio.wait([keeping])


async def test_a_lease_that_is_found_dead_is_renewed_at_once(minting, machine):
    """By whoever wants to write, after a suspend of hours: not by a timer that slept too."""
    await minting.claim()
    keeping = asyncio.create_task(minting.keep())
    await asyncio.sleep(0)
    machine.passed_s += 1_200
    with pytest.raises(Unavailable) as refused:
        minting.mint()
    assert refused.value.retry_after_s == DEAD_RETRY_S

    async with asyncio.timeout(0.9):
        while not minting.ready:
            await asyncio.sleep(0.005)
    assert minting.mint()
    keeping.cancel()
    await asyncio.wait([keeping])
