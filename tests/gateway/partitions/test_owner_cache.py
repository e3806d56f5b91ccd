"""Who owns a partition, asked through the small cache."""

import asyncio
import sqlite3
from contextlib import closing

import pytest

from backends.coordination import PartitionOwner
from gateway.partitions.owner_cache import TTL_S, OwnerCache
from tests.support.clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def owner_cache(backends, clock):
    return OwnerCache(backends.owners, clock=clock)


async def test_an_answer_is_believed_for_a_while(owner_cache, backends, clock):
    """Also that none is known; then, or when told to forget it, it asks again."""
    assert await owner_cache.url_of(3) is None
    await backends.owners.own([PartitionOwner(3, "ws://one/v1/socket", 1)])
    assert await owner_cache.url_of(3) is None
    clock.now_s += TTL_S
    assert await owner_cache.url_of(3) == "ws://one/v1/socket"

    await backends.owners.own([PartitionOwner(3, "ws://two/v1/socket", 2)])
    assert await owner_cache.url_of(3) == "ws://one/v1/socket"
    owner_cache.forget([2, 3])
    assert await owner_cache.url_of(3) == "ws://two/v1/socket"


async def test_a_crowd_asks_once(owner_cache, backends, monkeypatch):
    """One who gives up waiting does not take the answer from the others."""
    await backends.owners.own([PartitionOwner(3, "ws://one/v1/socket", 1)])
    questions, let_go, ask = [], asyncio.Event(), backends.owners.owner_of

    async def slow(partition):
        questions.append(partition)
        await let_go.wait()
        return await ask(partition)

    monkeypatch.setattr(backends.owners, "owner_of", slow)
    impatient, *others = [asyncio.create_task(owner_cache.url_of(3)) for _ in range(50)]
    await asyncio.sleep(0)
    impatient.cancel()
    let_go.set()

    assert set(await asyncio.gather(*others)) == {"ws://one/v1/socket"}
    assert questions == [3]


async def test_an_unavailable_database(owner_cache, backends, settings):
    """None is known then."""
    await backends.owners.own([PartitionOwner(3, "ws://one/v1/socket", 1)])
    with closing(sqlite3.connect(settings.data / "data.db", isolation_level=None)) as connection:
        connection.execute("ALTER TABLE owners RENAME TO away")
        assert await owner_cache.url_of(3) is None
        connection.execute("ALTER TABLE away RENAME TO owners")
