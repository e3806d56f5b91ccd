"""The suite of the `Owners` port, over all databases."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.coordination import PartitionOwner
from backends.coordination.owners import SqlPartitionOwners


@pytest.fixture
async def owners(database):
    return SqlPartitionOwners(database)


async def test_no_gateway_owns_a_partition_at_first(owners):
    """Until a gateway says so."""
    await owners.own([])

    assert await owners.owner_of(900) is None


async def test_a_gateway_owns_several_partitions(owners):
    """All that it was assigned, in one call."""
    mine = [
        PartitionOwner(partition, "wss://one/v1/socket", generation=7) for partition in (1, 2, 3)
    ]
    await owners.own(mine)

    assert [await owners.owner_of(partition) for partition in (1, 2, 3)] == mine


@given(
    writes=st.permutations(
        [PartitionOwner(5, f"wss://{generation}", generation) for generation in (1, 2, 3)] * 2
    ),
    calls=st.booleans(),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
async def test_the_newest_generation_wins_in_any_order(owners, writes, calls):
    """A gateway that was slow to say that it owned a partition takes it from no other."""
    if calls:
        await owners.own(writes)
    else:
        for one in writes:
            await owners.own([one])

    assert await owners.owner_of(5) == PartitionOwner(5, "wss://3", 3)


async def test_the_newest_generation_wins_among_many_at_once(owners):
    """Gateways that write the same partitions side by side, in any order: none waits for another
    crosswise, and the newest stays.
    """
    partitions = range(12)

    def mine(generation):
        return [
            PartitionOwner(partition, f"wss://{generation}", generation)
            for partition in random.sample(partitions, len(partitions))
        ]

    await asyncio.gather(
        *(owners.own(mine(generation)) for generation in random.sample(range(40), 40))
    )

    assert {await owners.owner_of(partition) for partition in partitions} == {
        PartitionOwner(partition, "wss://39", 39) for partition in partitions
    }


async def test_the_owner_may_change_its_url(owners):
    """The same generation again is no older one."""
    await owners.own([PartitionOwner(6, "wss://old", 4)])
    await owners.own([PartitionOwner(6, "wss://new", 4)])

    assert await owners.owner_of(6) == PartitionOwner(6, "wss://new", 4)
