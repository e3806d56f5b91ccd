"""The whole gateway over TCP, on the real embedded backends: how a message travels."""

import asyncio
import time

import pytest

from backends.log import ProducerRecord
from backends.telemetry.metrics import value_of
from schemas import chat_pb2 as pb
from schemas.ids import first_id_at
from schemas.topics import (
    COMMANDS,
    MESSAGES,
    QUERIES,
    SESSION_DELIVERIES,
)
from tests.gateway.faults import broken
from tests.gateway.people import (
    ANN,
    BEN,
    CHAT,
    JSON,
    MSGPACK,
    Person,
    appended,
    deliver,
    id_now,
    message,
    payloads,
)
from tests.support.events import event_of


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
        "send_per_minute": 3_000,
        "frames_per_second": 250,
        "units": 2_000,
        "units_per_s": 50,
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
    await backends.appends.append([ProducerRecord(MESSAGES, event_of(pb.Outcomes(schema=1)), 0)])
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
    await backends.appends.append([ProducerRecord(MESSAGES, event_of(waiting), 0)])
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
    """Held for a second, the newest wins, all that asked are told."""
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
    await backends.appends.append([ProducerRecord(SESSION_DELIVERIES, event_of(answers), 0)])
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


async def test_an_unavailable_log_acknowledges_nothing(person, backends, settings):
    """The send waits; when the log is back it is in there once, and `ok` comes by itself."""
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
