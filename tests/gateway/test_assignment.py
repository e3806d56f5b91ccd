"""Gateways that share the partitions: who comes to the wrong one, who is moved, and what happens
meanwhile.
"""

import asyncio
import itertools
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest

from backends.coordination import PartitionOwner
from backends.log import Evicted
from gateway.deliveries.reader import DeliveryReader
from gateway.sessions.close import Close
from schemas.errors import Malformed, Unavailable
from schemas.topics import COMMANDS, DELIVERIES, user_partition
from tests.gateway.people import SEND, Person, appended, deliver, http, id_now, message
from tests.support.until import until

PATIENCE_S = 10
ALL = range(12)
USERS = {user_partition(user, 12): user for user in range(1, 400)}
"""A user of each partition."""


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr("gateway.partitions.assignment.POLL_INTERVAL_S", 0.05)
    monkeypatch.setattr("gateway.partitions.assignment.RETRY_DELAY_S", 0.05)


@pytest.fixture
def gateways(start):
    """Gateways of one group, each under a name of its own."""
    numbers = itertools.count()

    async def start_one(**changed):
        return await start(**{"gateway_name": f"gateway-{next(numbers)}", **changed})

    return start_one


@pytest.fixture
async def person(backends):
    """People who have said hello at a gateway that the test names."""
    people = []

    async def connect(user, device="phone", *, at, **hello):
        people.append(Person(user, device, at, backends))
        await people[-1].connect(**hello)
        return people[-1]

    yield connect
    for made in people:
        await made.leave()


def mine(gateway):
    """The partitions that it owns and serves."""
    return {partition for partition in ALL if gateway._assignment.is_served(partition)}


def settled(*gateways):
    """Whether these serve all partitions among them."""
    return sorted(partition for gateway in gateways for partition in mine(gateway)) == list(ALL)


async def owned(backends, *gateways):
    """When all the world knows who owns what."""
    async with asyncio.timeout(PATIENCE_S):
        for gateway in gateways:
            for partition in mine(gateway):
                while (
                    owner := await backends.owners.owner_of(partition)
                ) is None or owner.url != gateway.url:
                    await asyncio.sleep(0.005)


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


@pytest.fixture
async def two(gateways, backends):
    """Two that have settled; the second has partitions of which each first one
    below is a user's.
    """
    first, second = await gateways(), await gateways()
    await until(lambda: settled(first, second))
    await owned(backends, first, second)
    return first, second


async def test_who_comes_to_the_wrong_one_is_told_the_right_one(two, person):
    """`moved` with its whole URL, then 4001; there it works."""
    first, second = two
    user = USERS[min(mine(second))]
    lost = await person(user, at=first)

    assert lost.welcome == {"type": "moved", "url": second.url}
    assert await lost.ended() == 4001
    found = await person(user, at=SimpleNamespace(url=lost.welcome["url"]))
    assert found.welcome["type"] == "welcome"


async def test_an_owner_that_is_not_known(two, person, backends, settings):
    """Nobody written down, this one itself, or a database that is away: 4006, and never a loop."""
    first, second = two
    partition = min(mine(second))
    await backends.owners.own([PartitionOwner(partition, first.url, 2**60)])
    first._assignment._owner_cache.forget([partition])
    itself = await person(USERS[partition], at=first)
    with closing(sqlite3.connect(settings.data / "data.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM owners")
        first._assignment._owner_cache.forget([partition])
        nobody = await person(USERS[partition], at=first)
        connection.execute("ALTER TABLE owners RENAME TO away")
        first._assignment._owner_cache.forget([partition])
        away = await person(USERS[partition], at=first)
        connection.execute("ALTER TABLE away RENAME TO owners")

    assert [each.welcome for each in (itself, nobody, away)] == [None] * 3
    assert [each.socket.close_code for each in (itself, nobody, away)] == [4006] * 3


async def test_sessions_go_with_their_partitions(gateways, person, backends):
    """When another gateway joins, those of its partitions are moved to it and go on where they
    were; the others stay.
    """
    first = await gateways()
    people = {partition: await person(user, at=first) for partition, user in USERS.items()}
    for each in people.values():
        await each.until_live()
    second = await gateways()
    await until(lambda: settled(first, second))

    for partition in mine(second):
        moved = await people[partition].hear("moved")
        assert moved["url"] == second.url
        assert await people[partition].ended() == 4001
        number = id_now()
        await deliver(backends, message(number, 1_000, USERS[partition]))
        back = await person(USERS[partition], at=second, resume=people[partition].cursor)
        assert back.welcome["result"] == "resumed"
        assert (await back.hear("message"))["message"] == str(number)
    for partition in mine(first):
        number = id_now()
        await deliver(backends, message(number, 1_000, USERS[partition]))
        assert (await people[partition].hear("message"))["message"] == str(number)


@pytest.fixture
def slow(monkeypatch):
    """Fillings that a test lets go on, and which partitions they were asked for."""
    open_, slow = DeliveryReader.open, SimpleNamespace(let_go=asyncio.Event(), asked=[])

    async def wait(delivery, partitions, wanted):
        slow.asked.append(set(partitions))
        await slow.let_go.wait()
        return await open_(delivery, partitions, wanted)

    def begin():
        monkeypatch.setattr(DeliveryReader, "open", wait)

    slow.begin = begin
    return slow


async def test_while_the_new_owner_fills_the_old_one_serves_on(
    gateways, make, person, backends, slow
):
    """Pushes and answers as if nothing were; whoever says hello at the new one waits for it, at the
    old one is told to come later.
    """
    first = await gateways()
    people = {partition: await person(user, at=first) for partition, user in USERS.items()}
    slow.begin()
    second = make(gateway_name="other")
    starting = asyncio.create_task(second.start())
    await until(lambda: slow.asked)
    (partition, *_) = sorted(slow.asked[0])
    ann = people[partition]
    number = id_now()
    await deliver(backends, message(number, 1_000, ann.user))
    assert (await ann.hear("message"))["message"] == str(number)
    assert (await ann.ask(SEND))["type"] == "ok"
    assert (await person(ann.user, "tablet", at=first)).socket.close_code == 4006
    waiting = asyncio.create_task(person(ann.user, "tablet", at=second))
    assert (await http(second, "/readyz"))[0] == 503

    slow.let_go.set()
    await starting

    assert (await waiting).welcome["result"] == "new"
    assert (await ann.hear("moved"))["url"] == second.url
    assert await ann.ended() == 4001


async def test_a_hello_does_not_wait_for_ever_for_a_filling(
    gateways, make, person, slow, monkeypatch
):
    """Close 4006 then."""
    monkeypatch.setattr("gateway.sessions.connection.START_TIMEOUT_S", 0.1)
    await gateways()
    slow.begin()
    second = make(gateway_name="other")
    starting = asyncio.create_task(second.start())
    await until(lambda: slow.asked)
    early = await person(USERS[min(slow.asked[0])], at=second)
    slow.let_go.set()
    await starting

    assert (early.welcome, early.socket.close_code) == (None, 4006)


async def test_a_share_that_changes_while_it_is_filled(gateways, make, backends, slow):
    """What is no longer mine is not taken over, what has come is; nothing is left of the first
    filling.
    """
    first = await gateways()
    slow.begin()
    second, third = make(gateway_name="second"), make(gateway_name="third")
    starting = asyncio.create_task(second.start())
    await until(lambda: slow.asked)
    also = asyncio.create_task(third.start())
    await until(lambda: len(slow.asked) == 2)
    slow.let_go.set()
    await asyncio.gather(starting, also)
    await until(lambda: settled(first, second, third))
    await owned(backends, first, second, third)

    for gateway in (first, second, third):
        assert len(mine(gateway)) == 4
        await until(lambda gateway=gateway: gateway._delivery_reader.followed == mine(gateway))
        assert set(gateway._context.hub.replay_buffer._partitions) == mine(gateway)


async def test_a_partition_that_comes_back_while_it_is_left(gateways, make, person, backends, slow):
    """Nobody notices anything."""
    first = await gateways()
    people = {partition: await person(user, at=first) for partition, user in USERS.items()}
    slow.begin()
    second = make(gateway_name="second")
    starting = asyncio.create_task(second.start())
    await until(lambda: len(mine(first)) == 6)
    starting.cancel()
    await second.drain_and_stop()
    await until(lambda: mine(first) == set(ALL))
    await owned(backends, first)

    for partition, each in people.items():
        number = id_now()
        await deliver(backends, message(number, 1_000, USERS[partition]))
        assert (await each.hear("message"))["message"] == str(number)


async def test_a_new_owner_that_does_not_come(gateways, make, person, slow, monkeypatch):
    """After a while the sessions are told to come back some time."""
    monkeypatch.setattr("gateway.partitions.assignment.HANDOVER_TIMEOUT_S", 0.2)
    first = await gateways()
    people = {partition: await person(user, at=first) for partition, user in USERS.items()}
    slow.begin()
    starting = asyncio.create_task(make(gateway_name="second").start())
    await until(lambda: slow.asked)

    for partition in slow.asked[0]:
        assert await people[partition].ended() == 4006
    slow.let_go.set()
    await starting


async def test_a_planned_stop_hands_its_clients_over(two, person, backends):
    """`drain`, then `moved` to the one that has taken over, and 4001, all long before the time is
    over; `ok`s are told before.
    """
    first, second = two
    user = USERS[min(mine(second))]
    ann = await person(user, at=second)
    await ann.until_live()
    second._settings = replace(second._settings, drain_s=PATIENCE_S)
    began_s = time.monotonic()
    await ann.say({"type": "mark", "id": 1, "chat": f"d-{user}-1000", "read": "5"})
    stopping = asyncio.create_task(second.drain_and_stop())

    assert (await ann.hear())["type"] == "drain"
    heard = [await ann.hear() for _ in range(2)]
    assert {frame["type"] for frame in heard} == {"moved", "ok"}
    assert [frame["url"] for frame in heard if frame["type"] == "moved"] == [first.url]
    assert await ann.ended() == 4001
    await stopping
    assert time.monotonic() - began_s < 5
    assert await appended(backends, COMMANDS) == 1
    back = await person(user, at=first, resume=ann.cursor)
    assert back.welcome["result"] == "resumed"


async def test_who_comes_during_a_drain_is_sent_on(two, person, backends):
    """To the one that has taken over."""
    first, second = two
    stays, comes = [USERS[partition] for partition in sorted(mine(second))[:2]]
    await person(stays, at=second)
    second._settings = replace(second._settings, drain_s=PATIENCE_S)
    second._assignment._handover.begin = lambda *_: None  # else it would be over before
    stopping = asyncio.create_task(second.drain_and_stop())
    await until(lambda: settled(first))
    await owned(backends, first)
    second._assignment._owner_cache.forget(ALL)

    late = await person(comes, at=second)

    assert late.welcome == {"type": "moved", "url": first.url}
    second._context.hub.close_all(Close(1012, "enough"))
    await stopping


async def test_whoever_lost_its_place_ends(gateways):
    """Another process under its name is the gateway now."""
    first = await gateways(gateway_name="one")
    watching = asyncio.create_task(first.watch())
    await gateways(gateway_name="one")

    with pytest.raises(Evicted):
        await watching


async def test_a_log_made_anew(gateways, person, backends, monkeypatch):
    """Every session ends with 1012; a cursor of before leads to `reset`, one of now is good."""
    monkeypatch.setattr("gateway.partitions.assignment.EPOCH_INTERVAL_S", 0.05)
    gateway = await gateways()
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


async def test_a_gateway_that_stood_still(gateways, person, backends):
    """It ends its sessions before it pushes anything, and goes on."""
    gateway = await gateways()
    ann = await person(USERS[0], at=gateway)
    await ann.until_live()
    clock = gateway._stall_detector._clock
    gateway._stall_detector._clock = lambda: clock() + 11
    await deliver(backends, message(id_now(), 1_000, USERS[0]))

    assert await ann.hear() is None
    assert ann.socket.close_code == 1012
    back = await person(USERS[0], at=gateway, resume=ann.cursor)
    assert [frame["type"] for frame in await back.until_live()] == ["message"]


async def test_a_database_that_is_away_while_partitions_are_taken_over(
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


async def test_what_a_stale_owner_wrote_does_not_stay(monkeypatch, gateways, backends):
    """It took itself for the owner for a moment more, and wrote last: the owner's own word comes
    again, when the log answers.
    """
    asked = []

    async def ping():
        asked.append(await backends.owners.owner_of(3))
        if len(asked) < 3:
            raise Unavailable("away")

    monkeypatch.setattr("gateway.partitions.assignment.ANNOUNCE_INTERVAL_S", 0.1)
    monkeypatch.setattr("gateway.partitions.assignment.LOSS_TIMEOUT_S", 0.1)
    first = await gateways()
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


async def test_a_topic_that_has_grown_ends_a_gateway(monkeypatch, gateways, backends):
    """In words: what functions write for other partitions than everybody computes with would reach
    nobody.
    """
    partitions = backends.reads.partitions
    monkeypatch.setattr("gateway.partitions.assignment.EPOCH_INTERVAL_S", 0.05)
    first = await gateways()

    async def grown(topic):
        return await partitions(topic) + 12 * (topic == DELIVERIES)

    monkeypatch.setattr(backends.reads, "partitions", grown)
    with pytest.raises(Malformed, match="chat-deliveries has 24 partitions"):
        await asyncio.wait_for(first.watch(), PATIENCE_S)
