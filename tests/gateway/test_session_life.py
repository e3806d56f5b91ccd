"""The whole gateway over TCP: what ends a session, and what keeps it."""

import asyncio
import time

from backends.telemetry.metrics import value_of
from gateway.sessions.questions import QUERY_TIMEOUT_S
from gateway.sessions.timers import TICK_S
from schemas import chat_pb2 as pb
from schemas.topics import (
    COMMANDS,
    user_partition,
)
from tests.gateway.people import (
    ANN,
    BEN,
    SEND,
    Person,
    appended,
    deliver,
)


async def test_replaced_and_too_many(start, person):
    """4409 for the older session of a device, 4429 for one device too many."""
    gateway = await start(sessions_per_user=2)
    older = await person(ANN, at=gateway)
    newer = await person(ANN, at=gateway)
    await person(ANN, "tablet", at=gateway)
    third = await person(ANN, "third", at=gateway)

    assert await older.ended() == 4409
    assert third.welcome is None
    assert third.socket.close_code == 4429
    assert (await newer.ask({"type": "ping", "id": 1}))["type"] == "pong"


async def test_a_new_device_takes_the_place_of_a_dead_one(start, person):
    """Of a user's 2 sessions one has vanished without a word: it is asked, does not answer, and
    ends with 4002; the other stays.
    """
    gateway = await start(sessions_per_user=2)
    dead = await person(ANN, "dead", at=gateway)
    alive = await person(ANN, "alive", at=gateway)
    dead.socket.transport.pause_reading()
    third = await person(ANN, "third", at=gateway)

    assert third.welcome["type"] == "welcome"
    assert (await alive.ask({"type": "ping", "id": 1}))["type"] == "pong"
    dead.socket.transport.resume_reading()
    assert await dead.ended() == 4002


async def test_a_hello_that_comes_late_does_not_replace_a_newer_session(
    gateway, person, backends, token
):
    """A phone opened a second WebSocket while its first hello was stuck: the first one ends,
    whichever hello comes first.
    """
    early = Person(ANN, "phone", gateway, backends)
    await early.open()
    later = await person(ANN)
    await early.say({"type": "hello", "token": token(ANN), "device": "phone"})

    assert await early.ended() == 4409
    assert (await later.ask({"type": "ping", "id": 1}))["type"] == "pong"


async def test_a_token_ends_while_connected(person):
    """`expiring`, and 4004 within a second of the end; a refresh carries on."""
    ann = await person(ANN, token_s=6)
    began = time.monotonic()
    assert (await ann.hear("expiring"))["at"] == ann.welcome["expires"]

    assert await ann.ended() == 4004
    assert time.monotonic() - began < 7.5


async def test_refresh(person, token):
    """Only a good token of the same user and device; what is wrong changes nothing."""
    ann = await person(ANN, token_s=60)
    issued_ms = int(time.time() * 1_000)

    for wrong in (
        "nonsense",
        token(BEN),
        token(ANN, "tablet"),
        token(ANN, token_s=5, issued_ms=issued_ms - 60_000),
    ):
        error = await ann.ask({"type": "refresh", "id": 1, "token": wrong})
        assert (error["type"], error["code"]) == ("error", "unauthorized")
    ok = await ann.ask({"type": "refresh", "id": 2, "token": token(ANN, token_s=3_600)})
    assert ok["expires"] > ann.welcome["expires"]
    await ann.say({"type": "refresh", "token": token(ANN)})
    assert (await ann.ask({"type": "ping", "id": 3}))["type"] == "pong"


async def test_a_revoked_device(person, backends, token):
    """Closed 4403 at once; its older tokens do not let it in again, a newer one does."""
    now_ms = int(time.time() * 1_000)
    ann = await person(ANN, issued_ms=now_ms - 1_000)
    tablet = await person(ANN, "tablet")
    await deliver(
        backends, pb.Delivery(users=[ANN], revoked=pb.Revoked(device="phone", before_ms=now_ms))
    )

    assert await ann.ended() == 4403
    again = await person(ANN, issued_ms=now_ms - 1)
    assert (again.welcome, again.socket.close_code) == (None, 4403)
    back = await person(ANN, issued_ms=now_ms)
    assert back.welcome["type"] == "welcome"
    await back.say({"type": "refresh", "id": 1, "token": token(ANN, issued_ms=now_ms - 1)})
    assert await back.ended() == 4403
    assert (await tablet.ask({"type": "ping", "id": 1}))["type"] == "pong"


async def test_a_failed_command_may_be_sent_again(person, backends):
    """The `failed` push, and the repeat of its key is appended under the same id."""
    ann = await person(ANN)
    ok = await ann.ask(SEND)
    await deliver(
        backends, pb.Delivery(users=[ANN], failed=pb.Failed(message=int(ok["message"]), key="k"))
    )
    failed = await ann.hear("failed")

    again = await ann.ask({**SEND, "id": 2})

    assert (failed["message"], failed["key"], failed["n"]) == (ok["message"], "k", 1)
    assert (again["message"], again["duplicate"]) == (ok["message"], True)
    assert await appended(backends, COMMANDS) == 2


async def test_heartbeats_over_tcp(start, person):
    """An idle client that answers pings stays; one that is silent is closed 4002."""
    gateway = await start(ping_s=1)
    alive = await person(ANN, at=gateway)
    silent = await person(BEN, at=gateway)
    silent.socket.transport.pause_reading()
    waiting = asyncio.create_task(alive.ended())
    closes = value_of("knchat_closes_total", code="4002")
    async with asyncio.timeout(8):
        while value_of("knchat_closes_total", code="4002") == closes:
            await asyncio.sleep(0.05)

    assert not waiting.done()
    waiting.cancel()
    silent.socket.transport.resume_reading()
    assert await silent.ended() == 4002


async def test_a_question_without_an_answer_is_planned_to_be_told(person, gateway):
    """Its session's next visit is no later than 10 s from now, however long the heartbeat is."""
    ann = await person(ANN)
    await ann.until_live()
    (connection,) = gateway._context.hub.by_partition()[user_partition(ANN, 12)]
    gateway._context.run_timers(gateway._context.clock.elapsed_s() + 6)
    planned = connection.timer_tick
    await ann.say({"type": "chats", "id": 1})
    await ann.ask({"type": "ping", "id": 2})

    assert connection.timer_tick < planned
    assert (
        connection.timer_tick <= (gateway._context.clock.elapsed_s() + QUERY_TIMEOUT_S) / TICK_S + 1
    )


async def test_a_shorter_token_is_planned_to_end(person, gateway, token):
    """A refresh may bring the end nearer."""
    ann = await person(ANN)
    await ann.until_live()
    (connection,) = gateway._context.hub.by_partition()[user_partition(ANN, 12)]
    await ann.ask({"type": "refresh", "id": 1, "token": token(ANN, token_s=20)})

    assert connection.timer_tick <= (gateway._context.clock.elapsed_s() + 20) / TICK_S
