"""Partitions that change hands: what the sessions of both sides notice."""

import asyncio
import time
from dataclasses import replace

from gateway.sessions.close import Close
from schemas.topics import COMMANDS
from tests.gateway.partitions.sharing import ALL, TIMEOUT_S, USERS, mine, owned, settled
from tests.gateway.people import SEND, appended, deliver, http, id_now, message
from tests.support.until import until


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


async def test_while_the_new_owner_fills_the_old_one_serves_on(
    gateways, make, person, backends, slow
):
    """Pushes and answers as if nothing were; a hello at the new one waits for it, at the
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


async def test_a_hello_waits_only_so_long_for_a_filling(gateways, make, person, slow, timing):
    """Close 4006 then."""
    await gateways()
    slow.begin()
    second = make(gateway_name="other", timing=replace(timing, start_timeout_s=0.1))
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
        await until(
            lambda gateway=gateway: gateway._context.delivery_reader.followed == mine(gateway)
        )
        assert set(gateway._context.feed.replay_buffer._partitions) == mine(gateway)


async def test_a_partition_that_comes_back_while_it_is_left(gateways, make, person, backends, slow):
    """No client notices anything."""
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


async def test_a_new_owner_that_does_not_come(gateways, make, person, slow, timing):
    """After a while the sessions are told to come back some time."""
    first = await gateways(timing=replace(timing, handover_timeout_s=0.2))
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
    second._settings = replace(second._settings, drain_s=TIMEOUT_S)
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


async def test_a_client_that_comes_during_a_drain_is_sent_on(two, person, backends):
    """To the one that has taken over."""
    first, second = two
    stays, comes = [USERS[partition] for partition in sorted(mine(second))[:2]]
    await person(stays, at=second)
    second._settings = replace(second._settings, drain_s=TIMEOUT_S)
    second._context.assignment._handover.begin = lambda *_: None  # else it would be over before
    stopping = asyncio.create_task(second.drain_and_stop())
    await until(lambda: settled(first))
    await owned(backends, first)
    second._context.assignment._owner_cache.forget(ALL)

    late = await person(comes, at=second)

    assert late.welcome == {"type": "moved", "url": first.url}
    second._context.hub.close_all(Close(1012, "enough"))
    await stopping
