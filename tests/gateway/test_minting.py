"""The generator lease and the clock that mints, on the real table: no id without a live lease, none that repeats."""

import asyncio
import sqlite3
import time
from dataclasses import replace

import pytest

from backends.telemetry import value_of
from gateway.minting import LEASE_MARGIN_MS, RENEW_S, RETRY_S, Minting
from schemas.errors import Unavailable
from schemas.ids import first_id_at, unix_ms_of


class Clock:
    """The wall clock, and how wrong it is."""

    def __init__(self):
        self.ahead_s = 0.0

    def __call__(self):
        return time.time() + self.ahead_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def minting(backends, clock):
    generators = type(backends.generators)(backends._database, clock=clock)  # the process's clock is one: it measures with the same
    return Minting(generators, "test", clock=clock)


async def test_before_a_generator_is_leased(minting):
    """Not ready, and nothing minted; what was seen counts later."""
    seen = first_id_at(int(time.time() * 1_000) + 500)
    assert (minting.ready, minting.generator) == (False, -1)
    with pytest.raises(Unavailable):
        minting.mint()
    assert minting.advance(seen)

    await minting.claim()

    assert minting.ready
    assert minting.mint() > seen


async def test_it_never_mints_past_its_lease(minting, clock):
    """Some seconds before the end it stops; a renewal finds another generator, and ids go on increasing."""
    await minting.claim()
    last = minting.mint()
    clock.ahead_s = 900 - LEASE_MARGIN_MS / 1_000
    assert not minting.ready
    with pytest.raises(Unavailable):
        minting.mint()

    clock.ahead_s = 0.0
    minting._lease = replace(minting._lease, until_ms=0)
    first_generator = minting.generator
    assert await minting.renew() == RENEW_S
    assert minting.mint() > last
    assert minting.generator != first_generator


async def test_a_renewal_keeps_the_generator(minting):
    """And moves its end."""
    await minting.claim()
    before = minting._lease
    await asyncio.sleep(0.002)

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
    """While the lease lives it goes on minting."""
    await minting.claim()
    failures = value_of("knchat_lease_failures_total")
    await backends.close()

    assert await minting.renew() == RETRY_S
    assert minting.mint()
    assert value_of("knchat_lease_failures_total") == failures + 1
    await minting.release()
    assert not minting.ready


async def test_a_wrong_clock_does_not_mint(minting, clock):
    """Over a second from the database's: soon looked at again, and good when it is right."""
    clock.ahead_s = -3.0
    await minting.claim()
    with pytest.raises(Unavailable):
        minting.mint()
    clock.ahead_s = 0.0

    assert await minting.renew() == RENEW_S
    assert minting.mint()


async def test_it_mints_by_the_database_s_clock(minting, clock):
    """A clock that is a little wrong is put right."""
    clock.ahead_s = -0.8
    await minting.claim()

    assert abs(unix_ms_of(minting.mint()) - time.time() * 1_000) < 400


async def test_ids_too_far_ahead_are_not_followed(minting):
    """Over a second: false, and nothing changed."""
    await minting.claim()
    far = first_id_at(int(time.time() * 1_000) + 2_000)

    assert not minting.advance(far)
    assert minting.mint() < far


async def test_release_gives_the_number_back(minting):
    """Nothing is minted after it; twice does no harm."""
    await minting.claim()
    await minting.release()
    await minting.release()

    with pytest.raises(Unavailable):
        minting.mint()


async def test_keep_renews_for_ever(minting, monkeypatch):
    """Again and again, until it is cancelled."""
    monkeypatch.setattr("gateway.minting.RENEW_S", 0.01)
    await minting.claim()
    first = minting._lease.until_ms

    keeping = asyncio.create_task(minting.keep())
    async with asyncio.timeout(5):
        while minting._lease.until_ms <= first:
            await asyncio.sleep(0.005)

    keeping.cancel()
    await asyncio.wait([keeping])
