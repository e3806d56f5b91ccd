"""The suite of the `GeneratorLeases` port, over all databases.

No test waits for a lease: those of no or negative length end at once.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest
import sqlalchemy as sa

from backends.clock import Clock, elapsed_s
from backends.coordination.generators import COOLDOWN_MS, GENERATORS, SqlGeneratorLeases
from schemas.errors import Refused, Unavailable


@pytest.fixture
def clock(database):
    """Of the process: 90 s slow where the database has one of its own."""
    slow_s = 0 if database.dialect == "sqlite" else 90
    return Clock(alone=database.dialect == "sqlite", wall=lambda: time.time() - slow_s)


@pytest.fixture
async def generators(database, clock):
    return SqlGeneratorLeases(database, clock)


@pytest.fixture
async def only_one(database, clock):
    """All numbers but 77 are leased to others, for long."""
    others = (
        sa.update(GENERATORS)
        .where(GENERATORS.c.generator != 77)
        .values(holder="others", until_ms=1 << 60)
    )
    await database.write(lambda connection: connection.execute(others))
    return SqlGeneratorLeases(database, clock)


def now_ms():
    return time.time() * 1_000


async def test_a_lease_names_its_holder_and_ends_in_time(generators):
    """By the database's clock, which on this machine is our own."""
    began = now_ms()
    lease = await generators.claim("gateway-0", lease_s=60)

    assert 0 <= lease.generator < 4_096
    assert lease.holder.startswith("gateway-0")
    assert began + 60_000 - 5 <= lease.until_ms <= now_ms() + 60_000 + 5
    assert lease.reading.asked_s <= lease.reading.answered_s <= elapsed_s()


async def test_a_process_learns_the_databases_clock(generators, clock):
    """At each claim and renewal, however wrong its own is."""
    lease = await generators.claim("slow")
    clock.synchronise(lease.reading)
    assert clock.now_ms() == pytest.approx(now_ms(), abs=500)
    assert lease.until_ms == pytest.approx(now_ms() + 900_000, abs=5_000)

    renewed = await generators.renew(lease)
    assert renewed.reading.store_ms == pytest.approx(now_ms(), abs=500)


async def test_claims_at_once_get_different_numbers(generators):
    """One holder may be several processes."""
    leases = await asyncio.gather(*(generators.claim("same") for _ in range(40)))

    assert len({lease.generator for lease in leases}) == 40
    assert len({lease.holder for lease in leases}) == 40


CLAIMER = """
import asyncio, sys
from backends.settings import Settings
from backends.wiring import Backends

async def main():
    backends = Backends(Settings.from_env())
    sys.stdin.readline()
    for _ in range(int(sys.argv[1])):
        claims = [backends.generators.claim("process") for _ in range(4)]
        print(*[lease.generator for lease in await asyncio.gather(*claims)])
    await backends.close()

asyncio.run(main())
"""


def claimed_by(processes, times, environ):
    """The numbers that so many processes got who each claimed four at once, so many times."""
    command = [sys.executable, "-c", CLAIMER, str(times)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, env=environ, **pipes) for _ in range(processes)]
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    numbers = [
        int(word) for process in running for word in process.communicate(timeout=60)[0].split()
    ]
    assert [process.returncode for process in running] == [0] * processes
    return numbers


def test_processes_that_claim_at_once_get_different_numbers(tmp_path):
    """Several processes may share a data folder; here they also make it together."""
    numbers = claimed_by(3, 15, {"KNCHAT_DATA": str(tmp_path / "new")})

    assert len(numbers) == len(set(numbers)) == 180


def test_gateways_that_claim_on_one_server_at_once_get_different_numbers(postgres):
    """Eight processes on PostgreSQL: rows that another has locked are passed over, so none waits
    and none shares.
    """
    numbers = claimed_by(8, 8, postgres.environ(postgres.empty()))

    assert len(numbers) == len(set(numbers)) == 256


async def test_the_last_free_number_goes_to_one_of_many(only_one):
    """Claims at once for the one number that is left: all but one are told that there is none."""
    claims = await asyncio.gather(
        *(only_one.claim("rival") for _ in range(12)), return_exceptions=True
    )

    assert sorted(type(claim).__name__ for claim in claims) == ["Lease"] + ["Unavailable"] * 11


async def test_a_lent_number_is_not_lent_again(only_one):
    """Not while its lease runs."""
    assert (await only_one.claim("first")).generator == 77
    with pytest.raises(Unavailable):
        await only_one.claim("second")


async def test_a_number_rests_after_its_lease(only_one):
    """Its holder may have minted ids a second ahead of the database's clock, so it is not leased in
    that time.
    """
    lease = await only_one.claim("first", lease_s=0)
    with pytest.raises(Unavailable):
        await only_one.claim("second")

    assert (await only_one.renew(lease)).generator == 77


async def test_a_number_whose_lease_and_rest_are_over_is_lent_again(only_one):
    """And its old holder is told so; nothing that it says touches the new lease."""
    old = await only_one.claim("pod", lease_s=-COOLDOWN_MS // 1_000)
    new = await only_one.claim("pod")
    with pytest.raises(Refused):
        await only_one.renew(old)
    await only_one.release(old)

    assert new.generator == 77
    assert (await only_one.renew(new)).generator == 77


async def test_a_renewed_lease_is_the_same_for_longer(generators):
    """Also when the answer of an earlier renewal was lost."""
    lease = await generators.claim("pod", lease_s=10)
    lost = await generators.renew(lease, lease_s=100)
    renewed = await generators.renew(lease, lease_s=200)

    assert (renewed.generator, renewed.holder) == (lease.generator, lease.holder)
    assert lease.until_ms < lost.until_ms < renewed.until_ms


async def test_a_released_number_rests_before_it_is_lent_again(only_one, database):
    """The rest begins with the release, not with the end of the lease."""
    lease = await only_one.claim("first", lease_s=900)
    await only_one.release(lease)
    with pytest.raises(Unavailable):
        await only_one.claim("second")
    rested = (
        sa.update(GENERATORS)
        .where(GENERATORS.c.generator == 77)
        .values(until_ms=GENERATORS.c.until_ms - COOLDOWN_MS)
    )
    await database.write(lambda connection: connection.execute(rested))

    assert (await only_one.claim("second")).generator == 77


async def test_a_released_lease_cannot_be_renewed(only_one):
    """Its holder has said that it mints no more."""
    lease = await only_one.claim("first")
    await only_one.release(lease)
    with pytest.raises(Refused):
        await only_one.renew(lease)
