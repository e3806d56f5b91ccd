"""Gateways that share the partitions: which one serves a user, and what the owners table says."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest

from backends.coordination import PartitionOwner
from backends.log import Evicted
from schemas.errors import Malformed, Unavailable
from schemas.topics import DELIVERIES
from tests.gateway.partitions.sharing import ALL, TIMEOUT_S, USERS, mine, owned, settled
from tests.gateway.people import deliver, http, id_now, message
from tests.support.until import until


async def test_they_share_the_partitions(gateways, backends):
    """Who is alone serves all; each is ready; owners are written down; one that has nothing is
    ready too.
    """
    first = await gateways()
    assert mine(first) == set(ALL)
    second = await gateways()
    await until(lambda: settled(first, second))
    await owned(backends, first, second)

    assert len(mine(first)) == len(mine(second)) == 6
    others = [await gateways() for _ in range(11)]
    await until(lambda: settled(first, second, *others))
    (idle,) = [gateway for gateway in (first, second, *others) if not mine(gateway)]
    assert (await http(idle, "/readyz"))[0] == 200


async def test_one_that_has_started_is_written_down(gateways, backends, monkeypatch):
    """Who logs in as soon as it says `ready` is not sent to the owner of before, who may be gone
    for good; also where SQL is slow.
    """
    own = backends.owners.own
    await own([PartitionOwner(partition, "ws://gone/v1/socket", 1) for partition in ALL])

    async def slowly(owners):
        await asyncio.sleep(0.1)
        await own(owners)

    monkeypatch.setattr(backends.owners, "own", slowly)
    gateway = await gateways()

    assert {(await backends.owners.owner_of(partition)).url for partition in ALL} == {gateway.url}


async def test_a_client_of_another_one_is_told_which(two, person):
    """`moved` with its whole URL, then 4001; there it works."""
    first, second = two
    user = USERS[min(mine(second))]
    lost = await person(user, at=first)

    assert lost.welcome == {"type": "moved", "url": second.url}
    assert await lost.ended() == 4001
    found = await person(user, at=SimpleNamespace(url=lost.welcome["url"]))
    assert found.welcome["type"] == "welcome"


async def test_an_owner_that_is_not_known(two, person, backends, settings):
    """None announced, this one itself, or an unavailable database: 4006, and never a loop."""
    first, second = two
    partition = min(mine(second))
    await backends.owners.own([PartitionOwner(partition, first.url, 2**60)])
    first._context.assignment._owner_cache.forget([partition])
    itself = await person(USERS[partition], at=first)
    with closing(sqlite3.connect(settings.data / "data.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM owners")
        first._context.assignment._owner_cache.forget([partition])
        none = await person(USERS[partition], at=first)
        connection.execute("ALTER TABLE owners RENAME TO away")
        first._context.assignment._owner_cache.forget([partition])
        away = await person(USERS[partition], at=first)
        connection.execute("ALTER TABLE away RENAME TO owners")

    assert [each.welcome for each in (itself, none, away)] == [None] * 3
    assert [each.socket.close_code for each in (itself, none, away)] == [4006] * 3


async def test_one_that_lost_its_place_ends(gateways):
    """Another process under its name is the gateway now."""
    first = await gateways(gateway_name="one")
    watching = asyncio.create_task(first.watch())
    await gateways(gateway_name="one")

    with pytest.raises(Evicted):
        await watching


async def test_recreated_topics(gateways, person, backends, timing, monkeypatch):
    """Every session ends with 1012; a cursor of before leads to `reset`, one of now is good."""
    gateway = await gateways(timing=replace(timing, epoch_interval_s=0.05))
    ann = await person(USERS[0], at=gateway)
    await ann.until_live()
    epoch = backends.reads.epoch

    async def other(topic):
        return f"{await epoch(topic)}-2"

    monkeypatch.setattr(backends.reads, "epoch", other)
    assert await ann.ended() == 1012
    again = await person(USERS[0], at=gateway, resume=ann.cursor)
    await again.until_live()

    assert again.welcome["result"] == "reset"
    assert again.cursor.startswith(await backends.reads.epoch(DELIVERIES))
    assert (await person(USERS[0], at=gateway, resume=again.cursor)).welcome["result"] == "resumed"


async def test_an_event_loop_that_stalled(gateways, person, backends):
    """It ends its sessions before it pushes anything, and goes on."""
    gateway = await gateways()
    ann = await person(USERS[0], at=gateway)
    await ann.until_live()
    clock = gateway._context.stall_detector._clock
    gateway._context.stall_detector._clock = lambda: clock() + 11
    await deliver(backends, message(id_now(), 1_000, USERS[0]))

    assert await ann.hear() is None
    assert ann.socket.close_code == 1012
    back = await person(USERS[0], at=gateway, resume=ann.cursor)
    assert [frame["type"] for frame in await back.until_live()] == ["message"]


async def test_an_unavailable_database_while_partitions_are_taken_over(
    gateways, person, backends, settings
):
    """Users are served all the same; ownership is written down when it is there again."""
    first = await gateways()
    second = None
    with closing(sqlite3.connect(settings.data / "data.db", isolation_level=None)) as connection:
        connection.execute("ALTER TABLE owners RENAME TO away")
        second = await gateways()
        await until(lambda: settled(first, second))
        ann = await person(USERS[min(mine(second))], at=second)
        connection.execute("ALTER TABLE away RENAME TO owners")
    await owned(backends, first, second)

    assert ann.welcome["type"] == "welcome"


async def test_what_a_stale_owner_wrote_does_not_stay(monkeypatch, gateways, backends, timing):
    """It took itself for the owner for a moment more, and wrote last: the owner's own word comes
    again, when the log answers.
    """
    asked = []

    async def ping():
        asked.append(await backends.owners.owner_of(3))
        if len(asked) < 3:
            raise Unavailable("away")

    first = await gateways(timing=replace(timing, announce_interval_s=0.1, loss_timeout_s=0.1))
    await owned(backends, first)
    stale = PartitionOwner(3, "ws://stale/v1/socket", 2**60)  # by a clock that is far ahead
    await backends.owners.own([stale])
    monkeypatch.setattr(backends.reads, "ping", ping)
    await owned(backends, first)

    assert asked[:3] == [stale] * 3


async def test_what_was_written_by_a_clock_ahead_does_not_stay(gateways, backends):
    """A new owner outdoes it at once."""
    await backends.owners.own(
        [PartitionOwner(partition, "ws://gone/v1/socket", 2**60) for partition in ALL]
    )
    first = await gateways()

    await owned(backends, first)


async def test_a_topic_that_has_grown_ends_a_gateway(monkeypatch, gateways, backends, timing):
    """In words: what functions write for other partitions than all compute with would not be
    read.
    """
    partitions = backends.reads.partitions
    first = await gateways(timing=replace(timing, epoch_interval_s=0.05))

    async def grown(topic):
        return await partitions(topic) + 12 * (topic == DELIVERIES)

    monkeypatch.setattr(backends.reads, "partitions", grown)
    with pytest.raises(Malformed, match="chat-deliveries has 24 partitions"):
        await asyncio.wait_for(first.watch(), TIMEOUT_S)
