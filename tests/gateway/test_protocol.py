"""The whole gateway over TCP, on the real embedded backends: the protocol as a client sees it."""

import asyncio
import secrets
import time

import pytest

from backends.log import ProducerRecord
from backends.telemetry.metrics import value_of
from gateway.sessions.protocol import HELLO_TIMEOUT_S, QUERY_TIMEOUT_S
from gateway.sessions.timers import TICK_S
from schemas import chat_pb2 as pb
from schemas.ids import first_id_at, unix_ms_of
from schemas.topics import (
    ANSWERS_GIVEN,
    COMMANDS,
    MESSAGES,
    OUTCOMES_DECIDED,
    QUERIES,
    SESSION_DELIVERIES,
    user_partition,
)
from tests.gateway.faults import broken
from tests.gateway.people import (
    ANN,
    BEN,
    CHAT,
    JSON,
    MSGPACK,
    SEND,
    Person,
    appended,
    deliver,
    event,
    id_now,
    message,
    payloads,
)

# ---- the road of a message -----------------------------------------------------------------------


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK, None])
async def test_hello(person, gateway, subprotocol):
    """`welcome` says who, until when, how and what; then `live`."""
    ann = await person(ANN, subprotocol=subprotocol, id=5)

    welcome = ann.welcome
    assert (
        welcome["type"],
        welcome["re"],
        welcome["user"],
        welcome["device"],
        welcome["result"],
    ) == ("welcome", 5, "11", "phone", "new")
    assert welcome["limits"] == {
        "frame_bytes": 65_536,
        "text_bytes": 4_096,
        "send_per_minute": 6_000,
        "frames_per_second": 500,
    }
    assert welcome["ping_s"] == 30
    assert {"send", "history", "ping"} <= set(welcome["features"])
    assert "history_lag_s" not in welcome
    assert await ann.until_live() == []
    assert ann.cursor == welcome["cursor"]


async def test_the_first_hello_hears_how_far_history_is_behind(make, backends):
    """Of those who come back after a crash, and are there before the gateway is ready."""
    now = time.time()
    backends.reads.clock = lambda: now - 300
    await backends.appends.append(
        [ProducerRecord(MESSAGES, event(OUTCOMES_DECIDED, pb.Outcomes(schema=1)), 0)]
    )
    gateway = make()
    ann = Person(ANN, "phone", gateway, backends)
    starting = asyncio.create_task(gateway.start())
    async with asyncio.timeout(5):
        while not gateway.port:
            await asyncio.sleep(0)

    await ann.connect()
    await ann.leave()

    assert 299 < ann.welcome["history_lag_s"] < 310
    await starting


async def test_history_that_is_hardly_behind_is_not_reloaded(person, gateway):
    """What was written a moment ago is not committed yet, on any busy day; and
    it is pushed anyway.
    """
    gateway._context.history_lag.seconds = 5.2
    ann = await person(ANN)
    gateway._context.history_lag.seconds = 11.26
    ben = await person(BEN)

    assert "history_lag_s" not in ann.welcome
    assert 11.2 < ben.welcome["history_lag_s"] < 20


@pytest.mark.parametrize(("ring_bytes", "said"), [(2**20, True), (2**26, False)])
async def test_history_that_is_further_behind_than_a_short_ring_reaches(
    make, backends, ring_bytes, said
):
    """What the replay buffer has let go is not pushed, and history does not hold it yet: the client
    must look again, after seconds even.
    """
    waiting = pb.Outcomes(
        schema=1,
        outcomes=[pb.Outcome(command=pb.Command(id=first_id_at(int(time.time() * 1_000) - 4_000)))],
    )
    await backends.appends.append([ProducerRecord(MESSAGES, event(OUTCOMES_DECIDED, waiting), 0)])
    for _ in range(300):
        await deliver(backends, message(id_now(), ANN, ANN, "x" * 4_000))
    gateway = make(ring_bytes=ring_bytes)
    await gateway.start()
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()
    await ann.leave()

    assert ("history_lag_s" in ann.welcome) is said


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])
async def test_a_send_is_in_the_log_when_ok_comes(person, backends, subprotocol):
    """With the id and time that are told; the repeat gets the same."""
    ann = await person(ANN, subprotocol=subprotocol)
    send = {"type": "send", "id": 1, "key": "k", "to": "22", "text": "salut"}

    ok = await ann.ask(send)
    (commands,) = await payloads(backends, COMMANDS, pb.Commands)
    again = await ann.ask({**send, "id": 2})

    (command,) = commands.commands
    assert (command.id, command.user, command.device, command.key, command.chat) == (
        int(ok["message"]),
        ANN,
        "phone",
        "k",
        CHAT,
    )
    assert command.send.text == "salut"
    assert {**again, "re": 1, "duplicate": None} == {**ok, "duplicate": None}
    assert again["duplicate"] is True
    assert "duplicate" not in ok
    assert await appended(backends, COMMANDS) == 1


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])
async def test_a_delivery_reaches_both_sides(person, backends, subprotocol):
    """The receiver and the sender's own devices, who are told which device it was."""
    ann = await person(ANN, subprotocol=subprotocol)
    tablet = await person(ANN, "tablet")
    ben = await person(BEN)
    number = id_now()

    await deliver(backends, message(number, ANN, BEN))

    pushes = [await each.hear("message") for each in (ann, tablet, ben)]
    assert [
        (push["n"], push["message"], push["sender"], push["chat"], push["text"]) for push in pushes
    ] == [(1, str(number), "11", CHAT, "hi")] * 3
    assert [push.get("device") for push in pushes] == ["phone", "phone", None]


async def test_frames_without_an_id_are_done_in_silence(person, backends):
    """No `ok`, but errors are told."""
    ann = await person(ANN)
    await ann.until_live()
    await ann.say(
        {"type": "send", "key": "k", "to": "22", "text": "hi"},
        {"type": "mark", "chat": CHAT, "read": "5"},
        {"type": "ping"},
    )
    assert (await ann.hear())["type"] == "pong"
    await ann.say({"type": "send", "key": "k2", "to": "22", "text": ""})
    error = await ann.hear()

    assert (error["type"], error["code"], "re" in error) == ("error", "malformed", False)
    ok = await ann.ask({"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"})
    assert ok["duplicate"] is True


async def test_an_array_is_taken_in_order(person):
    """Also when `hello` is its first element."""
    ann = await person(ANN)
    oks = []
    await ann.say(
        [
            {"type": "send", "id": number, "key": f"k{number}", "to": "22", "text": "hi"}
            for number in range(1, 65)
        ]
    )
    while len(oks) < 64:
        oks.append(await ann.hear("ok"))

    assert [ok["re"] for ok in oks] == list(range(1, 65))
    assert [int(ok["message"]) for ok in oks] == sorted({int(ok["message"]) for ok in oks})


async def test_what_comes_with_hello_is_done_after_welcome(gateway, backends, token):
    """A client need not wait for `welcome`."""
    ann = Person(ANN, "phone", gateway, backends)
    await ann.open()
    await ann.say(
        [{"type": "hello", "token": token(ANN), "device": "phone"}, {"type": "ping", "id": 1}]
    )
    await ann.say({"type": "ping", "id": 2})

    assert [(await ann.hear())["type"] for _ in range(4)] == ["welcome", "live", "pong", "pong"]
    await ann.leave()


async def test_mark(person, backends):
    """Held for a second, the newest wins, everybody who asked is told."""
    ann = await person(ANN)
    await ann.say(
        {"type": "mark", "id": 1, "chat": CHAT, "received": "9"},
        {"type": "mark", "id": 2, "chat": CHAT, "read": "7"},
        {"type": "mark", "id": 3, "chat": CHAT, "read": "5"},
    )

    assert [(await ann.hear("ok"))["re"] for _ in range(3)] == [1, 2, 3]
    (commands,) = await payloads(backends, COMMANDS, pb.Commands)
    assert [(each.mark.read, each.mark.received, each.key) for each in commands.commands] == [
        (7, 9, "")
    ]


async def test_a_mark_in_the_future(person, backends):
    """An id more than a second ahead is malformed; one a little ahead may be from another clock."""
    ann = await person(ANN)
    now_ms = int(time.time() * 1_000)

    read = await ann.ask(
        {"type": "mark", "id": 1, "chat": CHAT, "read": str(first_id_at(now_ms + 2_500))}
    )
    received = await ann.ask(
        {"type": "mark", "id": 2, "chat": CHAT, "received": str(first_id_at(now_ms + 2_500))}
    )
    assert [(each["code"], each["details"]["field"]) for each in (read, received)] == [
        ("malformed", "read"),
        ("malformed", "received"),
    ]
    assert (
        await ann.ask(
            {"type": "mark", "id": 3, "chat": CHAT, "read": str(first_id_at(now_ms + 300))}
        )
    )["type"] == "ok"


async def test_a_question_and_its_answer(person, backends):
    """Asked through chat-queries, answered through session-deliveries."""
    ann = await person(ANN)
    await ann.say(
        {"type": "history", "id": 7, "chat": CHAT, "before": "2026-01-31T23:59:59.000Z", "limit": 5}
    )
    async with asyncio.timeout(5):
        while not (asked := await payloads(backends, QUERIES, pb.Queries)):
            await asyncio.sleep(0.01)
    (query,) = asked[0].queries
    assert (query.user, query.session, query.history.limit) == (ANN, ann.welcome["session"], 5)

    page = pb.Page(
        chat=CHAT,
        messages=[pb.HistoryMessage(message=message(5, ANN, BEN).message, version=5)],
        more_before=True,
    )
    answers = pb.Answers(
        schema=1, answers=[pb.Answer(session=query.session, re=query.re, page=page)]
    )
    await backends.appends.append(
        [ProducerRecord(SESSION_DELIVERIES, event(ANSWERS_GIVEN, answers), 0)]
    )
    reply = await ann.hear("page")

    assert (
        reply["re"],
        reply["first"],
        reply["last"],
        reply["more_before"],
        reply["more_after"],
    ) == (7, "5", "5", True, False)
    assert reply["messages"][0]["text"] == "hi"


async def test_a_question_that_cannot_be_passed_on(person, backends, settings):
    """`unavailable` at once; the next one goes through again."""
    ann = await person(ANN)
    with broken(settings.data, "records"):
        error = await ann.ask({"type": "chats", "id": 1})
    assert (error["code"], error["temporary"]) == ("unavailable", True)

    await ann.say({"type": "chats", "id": 1})
    async with asyncio.timeout(5):
        while await appended(backends, QUERIES) < 1:
            await asyncio.sleep(0.01)


async def test_a_log_that_is_away_acknowledges_nothing(person, backends, settings):
    """The send waits; when the log is back it is in there once, and `ok` comes without anybody's
    doing.
    """
    ann = await person(ANN)
    await ann.ask({"type": "send", "id": 1, "key": "first", "to": "22", "text": "hi"})
    failures = value_of("knchat_publish_failures_total")
    with broken(settings.data, "records"):
        await ann.say({"type": "send", "id": 2, "key": "k", "to": "22", "text": "hi"})
        async with asyncio.timeout(5):
            while value_of("knchat_publish_failures_total") == failures:
                await asyncio.sleep(0.01)
        assert (await ann.ask({"type": "ping", "id": 3}))["type"] == "pong"
    ok = await ann.hear("ok")

    assert ok["re"] == 2
    texts = [
        each.key
        for commands in await payloads(backends, COMMANDS, pb.Commands)
        for each in commands.commands
    ]
    assert sorted(texts) == ["first", "k"]


# ---- coming back ---------------------------------------------------------------------------------


async def test_resume_brings_exactly_what_was_missed(person, backends):
    """From the last cursor on, at the same gateway."""
    ann = await person(ANN)
    first = id_now()
    numbers = [first + number for number in range(5)]
    await deliver(backends, *(message(number, BEN, ANN) for number in numbers[:2]))
    seen = [await ann.hear("message") for _ in range(2)]
    await ann.leave()
    await deliver(backends, *(message(number, BEN, ANN) for number in numbers[2:]))

    again = await person(ANN, resume=seen[-1]["cursor"])
    missed = await again.until_live()

    assert again.welcome["result"] == "resumed"
    assert [(push["n"], push["message"]) for push in missed] == [
        (number - 1, str(numbers[number])) for number in (2, 3, 4)
    ]


async def test_resume_at_a_gateway_that_started_later(person, start, backends, settings):
    """It has read its replay buffer back; keys hold as well."""
    first = await start()
    ann = await person(ANN, at=first)
    await ann.until_live()
    ok = await ann.ask({"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"})
    await first.drain_and_stop()
    assert await ann.ended() == 1012
    number = id_now()
    await deliver(backends, message(number, BEN, ANN))

    later = await start()
    again = await person(ANN, at=later, resume=ann.cursor, seen=ok["message"])
    missed = await again.until_live()

    assert again.welcome["result"] == "resumed"
    assert [push["message"] for push in missed] == [str(number)]
    repeat = await again.ask({"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"})
    assert (repeat["message"], repeat["duplicate"]) == (ok["message"], True)
    fresh = await again.ask({"type": "send", "id": 2, "key": "k2", "to": "22", "text": "hi"})
    assert int(fresh["message"]) > int(ok["message"])


async def test_a_new_device_gets_the_last_minutes(person, backends):
    """Pushed before `live`, so that nothing falls between history and the first push."""
    number = id_now()
    await person(BEN)
    await deliver(backends, message(number, BEN, ANN))

    ann = await person(ANN)
    missed = await ann.until_live()
    lost = await person(ANN, "tablet", resume="some.thing")

    assert [push["message"] for push in missed] == [str(number)]
    assert lost.welcome["result"] == "reset"
    assert [push["message"] for push in await lost.until_live()] == [str(number)]


async def test_what_is_written_sorts_after_what_was_seen(person):
    """The next id of this client is greater than any it knows; nobody else's moves, and nobody else
    waits.
    """
    ben = await person(BEN)
    seen = first_id_at(int(time.time() * 1_000) + 800)
    coming = asyncio.create_task(person(ANN, seen=str(seen)))
    while not coming.done():
        began_ms = time.time() * 1_000
        ok = await ben.ask(
            {"type": "send", "id": 1, "key": secrets.token_hex(4), "to": "11", "text": "hi"}
        )
        assert unix_ms_of(int(ok["message"])) <= time.time() * 1_000 + 20
        assert int(ok["message"]) < seen or began_ms >= unix_ms_of(seen)
    ann = await coming
    ok = await ann.ask({"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"})

    assert int(ok["message"]) > seen


async def test_a_seen_far_ahead_is_not_followed(person):
    """Of a gateway whose clock was wrong, or made up: it is counted, and whoever says it is let in
    and writes with the true time.
    """
    counted = value_of("knchat_ids_ahead_total", where="hello")
    ann = await person(ANN, seen=str(first_id_at(int(time.time() * 1_000) + 300_000)))
    ok = await ann.ask({"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"})

    assert abs(unix_ms_of(int(ok["message"])) - time.time() * 1_000) < 5_000
    assert value_of("knchat_ids_ahead_total", where="hello") == counted + 1


async def test_a_slow_reader_misses_nothing(start, backends, token):
    """It is paused while it does not read, others are not; then it gets everything, in order."""
    gateway = await start(outbox_bytes=131_072)
    pauses = value_of("knchat_pauses_total")
    slow = Person(ANN, "slow", gateway, backends)
    await slow.open()
    slow.socket.transport.pause_reading()
    await slow.say({"type": "hello", "token": token(ANN, "slow"), "device": "slow"})
    fast = Person(ANN, "fast", gateway, backends)
    await fast.connect()
    first = id_now()
    numbers = [first + number for number in range(600)]
    for begin in range(0, 600, 30):
        await deliver(
            backends,
            *(message(number, BEN, ANN, "x" * 4_000) for number in numbers[begin : begin + 30]),
        )
    quick = [await fast.hear("message") for _ in numbers]
    assert [push["message"] for push in quick] == [str(number) for number in numbers]
    assert value_of("knchat_pauses_total") > pauses

    slow.socket.transport.resume_reading()
    pushes = [await slow.hear("message") for _ in numbers]

    assert [(push["n"], push["message"]) for push in pushes] == [
        (n, str(number)) for n, number in enumerate(numbers, start=1)
    ]
    await slow.leave()
    await fast.leave()


# ---- the life of a session -----------------------------------------------------------------------


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


async def test_a_question_that_nobody_answers_is_planned_to_be_told(person, gateway):
    """Its session's next visit is no later than 10 s from now, however long the heartbeat is."""
    ann = await person(ANN)
    await ann.until_live()
    (session,) = gateway._context.hub.by_partition()[user_partition(ANN, 12)]
    gateway._context.hub.tick(gateway._context.clock.elapsed_s() + HELLO_TIMEOUT_S + 1)
    planned = session.timer_tick
    await ann.say({"type": "chats", "id": 1})
    await ann.ask({"type": "ping", "id": 2})

    assert session.timer_tick < planned
    assert session.timer_tick <= (gateway._context.clock.elapsed_s() + QUERY_TIMEOUT_S) / TICK_S + 1


async def test_a_shorter_token_is_planned_to_end(person, gateway, token):
    """A refresh may bring the end nearer."""
    ann = await person(ANN)
    await ann.until_live()
    (session,) = gateway._context.hub.by_partition()[user_partition(ANN, 12)]
    await ann.ask({"type": "refresh", "id": 1, "token": token(ANN, token_s=20)})

    assert session.timer_tick <= (gateway._context.clock.elapsed_s() + 20) / TICK_S
