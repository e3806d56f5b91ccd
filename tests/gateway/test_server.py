"""The whole gateway over TCP, on the real embedded backends: the protocol as a client sees it."""

import asyncio
import json
import sqlite3
import time
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import replace

import pytest
import websockets

from backends.log import Record
from backends.settings import Settings
from backends.telemetry import value_of
from backends.wiring import Backends
from gateway.delivery import Delivery
from schemas import chat_pb2 as pb
from schemas import wire
from schemas.errors import Malformed, Unavailable
from schemas.ids import first_id_at
from schemas.topics import (
    ANSWERS_GIVEN,
    COMMANDS,
    DELIVERIES,
    MESSAGES,
    OUTCOMES_DECIDED,
    QUERIES,
    SESSION_DELIVERIES,
    TOPICS,
)
from tests.gateway.faults import broken
from tests.gateway.people import JSON, MSGPACK, Person, deliver, event, id_now, message

ANN, BEN = 11, 22
CHAT = "d-11-22"


async def appended(backends, topic):
    """How many records the topic has."""
    bounds = await backends.reads.bounds(topic, range(TOPICS[topic].partitions))
    return sum(each.end for each in bounds.values())


async def payloads(backends, topic, kind):
    """What lies in a topic."""
    return [
        wire.parse(wire.from_kafka(record.headers, record.value), kind)
        for partition in range(TOPICS[topic].partitions)
        for record in await backends.reads.read(topic, partition, 0, max_records=1_000)
    ]


async def http(gateway, path):
    """Status, headers and body of a plain GET."""

    def get():
        request = f"http://127.0.0.1:{gateway.port}{path}"
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    return await asyncio.to_thread(get)


# ---- the road of a message ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK, None])
async def test_hello(person, gateway, subprotocol):
    """`welcome` says who, until when, how and what; then `live`."""
    ann = await person(ANN, subprotocol=subprotocol, id=5)

    welcome = ann.welcome
    assert (welcome["type"], welcome["re"], welcome["user"], welcome["device"], welcome["result"]) == ("welcome", 5, "11", "phone", "new")
    assert welcome["limits"] == {"frame_bytes": 65_536, "text_bytes": 4_096, "send_per_minute": 6_000}
    assert welcome["ping_s"] == 30
    assert {"send", "history", "ping"} <= set(welcome["features"])
    assert "history_lag_s" not in welcome
    assert await ann.until_live() == []
    assert ann.cursor == welcome["cursor"]


async def test_the_first_hello_hears_how_far_history_is_behind(make, backends):
    """Of those who come back after a crash, and are there before the gateway is ready."""
    now = time.time()
    backends.reads.clock = lambda: now - 300
    await backends.appends.append([Record(MESSAGES, event(OUTCOMES_DECIDED, pb.Outcomes(schema=1)), 0)])
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


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])
async def test_a_send_is_in_the_log_when_ok_comes(person, backends, subprotocol):
    """With the id and time that are told; the repeat gets the same."""
    ann = await person(ANN, subprotocol=subprotocol)
    send = {"type": "send", "id": 1, "key": "k", "to": "22", "text": "salut"}

    ok = await ann.ask(send)
    (commands,) = await payloads(backends, COMMANDS, pb.Commands)
    again = await ann.ask({**send, "id": 2})

    (command,) = commands.commands
    assert (command.id, command.user, command.device, command.key, command.chat) == (int(ok["message"]), ANN, "phone", "k", CHAT)
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
    assert [(push["n"], push["message"], push["sender"], push["chat"], push["text"]) for push in pushes] == [
        (1, str(number), "11", CHAT, "hi")
    ] * 3
    assert [push.get("device") for push in pushes] == ["phone", "phone", None]


async def test_frames_without_an_id_are_done_in_silence(person, backends):
    """No `ok`, but errors are told."""
    ann = await person(ANN)
    await ann.until_live()
    await ann.say({"type": "send", "key": "k", "to": "22", "text": "hi"}, {"type": "mark", "chat": CHAT, "read": "5"}, {"type": "ping"})
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
    await ann.say([{"type": "send", "id": number, "key": f"k{number}", "to": "22", "text": "hi"} for number in range(1, 65)])
    while len(oks) < 64:
        oks.append(await ann.hear("ok"))

    assert [ok["re"] for ok in oks] == list(range(1, 65))
    assert [int(ok["message"]) for ok in oks] == sorted({int(ok["message"]) for ok in oks})


async def test_what_comes_with_hello_is_done_after_welcome(gateway, backends, token):
    """A client need not wait for `welcome`."""
    ann = Person(ANN, "phone", gateway, backends)
    await ann.open()
    await ann.say([{"type": "hello", "token": token(ANN), "device": "phone"}, {"type": "ping", "id": 1}])
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
    assert [(each.mark.read, each.mark.received, each.key) for each in commands.commands] == [(7, 9, "")]


async def test_a_mark_in_the_future(person, backends):
    """An id more than a second ahead is malformed; one a little ahead may be from another clock."""
    ann = await person(ANN)
    now_ms = int(time.time() * 1_000)

    read = await ann.ask({"type": "mark", "id": 1, "chat": CHAT, "read": str(first_id_at(now_ms + 2_500))})
    received = await ann.ask({"type": "mark", "id": 2, "chat": CHAT, "received": str(first_id_at(now_ms + 2_500))})
    assert [(each["code"], each["details"]["field"]) for each in (read, received)] == [("malformed", "read"), ("malformed", "received")]
    assert (await ann.ask({"type": "mark", "id": 3, "chat": CHAT, "read": str(first_id_at(now_ms + 300))}))["type"] == "ok"


async def test_a_question_and_its_answer(person, backends):
    """Asked through chat-queries, answered through session-deliveries."""
    ann = await person(ANN)
    await ann.say({"type": "history", "id": 7, "chat": CHAT, "before": "2026-01-31T23:59:59.000Z", "limit": 5})
    async with asyncio.timeout(5):
        while not (asked := await payloads(backends, QUERIES, pb.Queries)):
            await asyncio.sleep(0.01)
    (query,) = asked[0].queries
    assert (query.user, query.session, query.re, query.history.limit) == (ANN, ann.welcome["session"], 7, 5)

    page = pb.Page(chat=CHAT, messages=[pb.HistoryMessage(message=message(5, ANN, BEN).message, version=5)], more_before=True)
    answers = pb.Answers(schema=1, answers=[pb.Answer(session=query.session, re=7, page=page)])
    await backends.appends.append([Record(SESSION_DELIVERIES, event(ANSWERS_GIVEN, answers), 0)])
    reply = await ann.hear("page")

    assert (reply["re"], reply["first"], reply["last"], reply["more_before"], reply["more_after"]) == (7, "5", "5", True, False)
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
    """The send waits; when the log is back it is in there once, and `ok` comes without anybody's doing."""
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
    texts = [each.key for commands in await payloads(backends, COMMANDS, pb.Commands) for each in commands.commands]
    assert sorted(texts) == ["first", "k"]


# ---- coming back -------------------------------------------------------------------------------------------------------------------------


async def test_resume_brings_exactly_what_was_missed(person, backends):
    """From the last cursor on, at the same gateway."""
    ann = await person(ANN)
    numbers = [id_now() + number for number in range(5)]
    await deliver(backends, *(message(number, BEN, ANN) for number in numbers[:2]))
    seen = [await ann.hear("message") for _ in range(2)]
    await ann.leave()
    await deliver(backends, *(message(number, BEN, ANN) for number in numbers[2:]))

    again = await person(ANN, resume=seen[-1]["cursor"])
    missed = await again.until_live()

    assert again.welcome["result"] == "resumed"
    assert [(push["n"], push["message"]) for push in missed] == [(number - 1, str(numbers[number])) for number in (2, 3, 4)]


async def test_resume_at_a_gateway_that_started_later(person, start, backends, settings):
    """It has read its ring back; keys hold as well."""
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


async def test_seen_moves_the_clock(person):
    """The next id is greater than any the client knows."""
    seen = first_id_at(int(time.time() * 1_000) + 800)

    ann = await person(ANN, seen=str(seen))
    ok = await ann.ask({"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"})

    assert int(ok["message"]) > seen


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
    numbers = [id_now() + number for number in range(600)]
    for begin in range(0, 600, 30):
        await deliver(backends, *(message(number, BEN, ANN, "x" * 4_000) for number in numbers[begin : begin + 30]))
    quick = [await fast.hear("message") for _ in numbers]
    assert [push["message"] for push in quick] == [str(number) for number in numbers]
    assert value_of("knchat_pauses_total") > pauses

    slow.socket.transport.resume_reading()
    pushes = [await slow.hear("message") for _ in numbers]

    assert [(push["n"], push["message"]) for push in pushes] == [(n, str(number)) for n, number in enumerate(numbers, start=1)]
    await slow.leave()
    await fast.leave()


# ---- bad input ---------------------------------------------------------------------------------------------------------------------------

SEND = {"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"}
CLOSED = [
    ("not JSON", "not json", 4400),
    ("half a frame", '{"type":"send"', 4400),
    ("no object", "5", 4400),
    ("no type", "{}", 4400),
    ("a type that is no text", '{"type":5}', 4400),
    ("too many in an array", json.dumps([{"type": "ping"}] * 65), 4400),
    ("binary on JSON", b"\x80", 4400),
    ("1 MB", json.dumps({**SEND, "text": "x" * 2**20}), 1009),
    ("a byte over the limit", "x" * 65_537, 1009),
    ("hello again", json.dumps({"type": "hello", "token": "t", "device": "phone"}), 4404),
]


async def nobody_is_affected(other, backends):
    """Another session goes on, and nothing was published."""
    assert await appended(backends, COMMANDS) == 0
    assert await appended(backends, QUERIES) == 0
    assert (await other.ask({"type": "ping", "id": 99}))["type"] == "pong"


@pytest.mark.parametrize(("payload", "code"), [row[1:] for row in CLOSED], ids=[row[0] for row in CLOSED])
async def test_what_ends_a_session(person, backends, payload, code):
    """The close code that the protocol names; nothing is stored and nobody else notices."""
    other = await person(BEN)
    ann = await person(ANN)

    await ann.say(payload)

    assert await ann.ended() == code
    await nobody_is_affected(other, backends)


async def test_fragments_over_the_limit(person, backends):
    """The sum counts: 1009."""
    other, ann = await person(BEN), await person(ANN)

    await ann.socket.send(["x" * 30_000] * 3)

    assert await ann.ended() == 1009
    await nobody_is_affected(other, backends)


async def test_bad_utf_8(person, backends):
    """1007."""
    other, ann = await person(BEN), await person(ANN)

    await ann.socket.send(b'{"type":"ping","x":"\xff"}', text=True)

    assert await ann.ended() == 1007
    await nobody_is_affected(other, backends)


TOLD = [
    ("an unknown type", {"type": "nonsense", "id": 1}, "unknown_type"),
    ("a field of the wrong type", {**SEND, "text": 5}, "malformed"),
    ("an id that is no number", {**SEND, "to": "abc"}, "malformed"),
    ("a reply to what is no number", {**SEND, "reply_to": "x"}, "malformed"),
    ("a time in the wrong format", {"type": "history", "id": 1, "chat": CHAT, "before": "yesterday"}, "malformed"),
    ("a stranger's chat", {"type": "send", "id": 1, "key": "k", "chat": "d-22-33", "text": "hi"}, "unknown_chat"),
    ("a stranger's history", {"type": "history", "id": 1, "chat": "d-22-33"}, "unknown_chat"),
    ("a stranger's digest", {"type": "digest", "id": 1, "chat": "d-22-33", "from": "1", "to": "2"}, "unknown_chat"),
    ("empty text", {**SEND, "text": ""}, "malformed"),
    ("too much text", {**SEND, "text": "x" * 4_097}, "too_large"),
    ("a frame as large as may be", {**SEND, "text": "x" * 65_400}, "too_large"),
]


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])
@pytest.mark.parametrize(("frame", "code"), [row[1:] for row in TOLD], ids=[row[0] for row in TOLD])
async def test_what_is_told_and_the_session_stays(person, backends, frame, code, subprotocol):
    """The error that the protocol names, final; nothing is stored and nobody else notices."""
    other = await person(BEN)
    ann = await person(ANN, subprotocol=subprotocol)

    error = await ann.ask(frame)

    assert (error["type"], error["code"], error["temporary"]) == ("error", code, False)
    assert (await ann.ask({"type": "ping", "id": 2}))["type"] == "pong"
    await nobody_is_affected(other, backends)


async def test_a_reused_key(person, backends):
    """`key_reused`: nothing of the second is in the log."""
    ann = await person(ANN)
    await ann.ask(SEND)

    error = await ann.ask({**SEND, "id": 2, "text": "other"})

    assert (error["code"], error["temporary"]) == ("key_reused", False)
    assert await appended(backends, COMMANDS) == 1


async def test_the_wrong_hellos(gateway, backends, person, token):
    """Each token that is not right, each field that is not: the code that the protocol names, and nobody gets in."""
    other = await person(BEN)
    good = token(ANN)
    head, body, signature = good.split(".")
    rows = [
        ({"token": "nonsense"}, 4401),
        ({"token": f"{head}.{body}.{signature[:-4]}AAAA"}, 4401),
        ({"token": f"{head}.{token(BEN).split('.')[1]}.{signature}"}, 4401),
        ({"token": token(ANN, "other")}, 4401),
        ({"token": token(ANN, token_s=5, issued_ms=int(time.time() * 1_000) - 60_000)}, 4004),
        ({"token": good, "seen": str(first_id_at(int(time.time() * 1_000) + 5_000))}, 4400),
        ({"token": good, "seen": "9" * 19}, 4400),
        ({"token": good, "seen": "x"}, 4400),
        ({"token": 5}, 4400),
        ({}, 4400),
    ]
    for fields, code in rows:
        ann = Person(ANN, "phone", gateway, backends)
        await ann.open()
        await ann.say({"type": "hello", "device": "phone", **fields})
        assert (await ann.ended(), fields) == (code, fields)

    await nobody_is_affected(other, backends)


async def test_another_installation_s_token(gateway, tmp_path, person, backends):
    """Rightly signed, with a key that is not ours: 4401."""
    foreign = Backends(Settings(data=tmp_path / "foreign"))
    stranger = Person(ANN, "phone", gateway, foreign)
    await stranger.connect()

    assert stranger.welcome is None
    assert stranger.socket.close_code == 4401
    await foreign.close()


@pytest.mark.parametrize("first", [SEND, {"type": "ping"}, {"type": "nonsense"}])
async def test_something_else_before_hello(gateway, backends, first):
    """4404."""
    ann = Person(ANN, "phone", gateway, backends)
    await ann.open()
    await ann.say(first)

    assert await ann.ended() == 4404
    assert await appended(backends, COMMANDS) == 0


async def test_no_hello(gateway, backends, monkeypatch):
    """4404 when its time is over."""
    monkeypatch.setattr("gateway.session.HELLO_S", 0.2)
    ann = Person(ANN, "phone", gateway, backends)
    await ann.open()

    assert await ann.ended() == 4404


async def test_the_wrong_door(start, settings):
    """Origin 403, subprotocol 400, path 404, no upgrade 400: JSON, in the one shape."""
    gateway = await start(allowed_origins=("https://app.example",))

    async def refused(url, **options):
        with pytest.raises(websockets.InvalidStatus) as refusal:
            await websockets.connect(url, **options)
        response = refusal.value.response
        assert set(json.loads(response.body)) == {"code", "message", "details"}
        return response.status_code, json.loads(response.body)["code"]

    assert await refused(gateway.url, origin="https://evil.example") == (403, "forbidden")
    assert await refused(gateway.url, subprotocols=["other"]) == (400, "malformed")
    assert await refused(gateway.url.replace("/v1/socket", "/v2/socket")) == (404, "not_found")
    status, _, body = await http(gateway, "/v1/socket")
    assert (status, json.loads(body)["code"]) == (400, "malformed")
    async with websockets.connect(gateway.url, origin="https://app.example") as socket:
        assert socket.subprotocol is None


async def test_too_fast(start, person):
    """`rate_limited` when the user's minute is used up, over all sessions; 4005 for too many frames a second."""
    gateway = await start(send_per_minute=3, frames_per_second=50)
    ann, tablet = await person(ANN, at=gateway), await person(ANN, "tablet", at=gateway)
    replies = [await each.ask({**SEND, "key": f"k{number}"}) for number, each in enumerate((ann, tablet, ann, tablet))]

    assert [reply["type"] for reply in replies] == ["ok", "ok", "ok", "error"]
    assert (replies[3]["code"], replies[3]["temporary"]) == ("rate_limited", True)
    assert 10_000 < replies[3]["retry_after_ms"] <= 20_000
    await ann.say([{"type": "ping"}] * 51)
    assert await ann.ended() == 4005
    assert (await tablet.ask({"type": "ping", "id": 1}))["type"] == "pong"


# ---- the life of a session ---------------------------------------------------------------------------------------------------------------


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


async def test_a_token_ends_while_connected(person):
    """`expiring`, and 4004 within a second of the end; a refresh carries on."""
    ann = await person(ANN, token_s=2)
    began = time.monotonic()
    assert (await ann.hear("expiring"))["at"] == ann.welcome["expires"]

    assert await ann.ended() == 4004
    assert time.monotonic() - began < 3.5


async def test_refresh(person, token):
    """Only a good token of the same user and device; what is wrong changes nothing."""
    ann = await person(ANN, token_s=60)
    issued_ms = int(time.time() * 1_000)

    for wrong in ("nonsense", token(BEN), token(ANN, "tablet"), token(ANN, token_s=5, issued_ms=issued_ms - 60_000)):
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
    await deliver(backends, pb.Delivery(users=[ANN], revoked=pb.Revoked(device="phone", before_ms=now_ms)))

    assert await ann.ended() == 4403
    again = await person(ANN, issued_ms=now_ms - 1)
    assert (again.welcome, again.socket.close_code) == (None, 4403)
    back = await person(ANN, issued_ms=now_ms)
    assert back.welcome["type"] == "welcome"
    await back.say({"type": "refresh", "id": 1, "token": token(ANN, issued_ms=now_ms - 1)})
    assert await back.ended() == 4403
    assert (await tablet.ask({"type": "ping", "id": 1}))["type"] == "pong"


async def test_a_lost_command_may_be_sent_again(person, backends):
    """The `lost` push, and the repeat of its key is appended under the same id."""
    ann = await person(ANN)
    ok = await ann.ask(SEND)
    await deliver(backends, pb.Delivery(users=[ANN], lost=pb.Lost(message=int(ok["message"]), key="k")))
    lost = await ann.hear("lost")

    again = await ann.ask({**SEND, "id": 2})

    assert (lost["message"], lost["key"], lost["n"]) == (ok["message"], "k", 1)
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


# ---- the gateway's own life --------------------------------------------------------------------------------------------------------------


async def test_probes_and_metrics(gateway, person, settings):
    """200 while all is well; what is missing is named; unknown paths are 404."""
    await person(ANN)

    assert (await http(gateway, "/livez"))[0] == 200
    assert (await http(gateway, "/readyz"))[0] == 200
    status, headers, body = await http(gateway, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert b"knchat_hellos_total" in body
    status, _, body = await http(gateway, "/nothing")
    assert (status, json.loads(body)["code"]) == (404, "not_found")
    with broken(settings.data, "records"):
        status, headers, body = await http(gateway, "/readyz")
    assert (status, json.loads(body)["code"], json.loads(body)["message"]) == (503, "starting", "not ready: log")
    assert headers["Retry-After"] == "1"


async def test_metrics_can_be_left_out(start):
    """404 then."""
    assert (await http(await start(metrics=False), "/metrics"))[0] == 404


async def test_a_part_that_fails_is_seen(start):
    """`watch` raises what it was, and /livez says so."""
    gateway = await start()
    watching = asyncio.create_task(gateway.watch())

    async def fail():
        raise RuntimeError("bug")

    gateway._part(fail())
    await asyncio.sleep(0.01)
    status, _, body = await http(gateway, "/livez")

    assert (status, json.loads(body)["code"]) == (503, "unavailable")
    watching.cancel()
    again = asyncio.create_task(gateway.watch())
    with pytest.raises(RuntimeError):
        await again


async def test_a_port_in_use(start, settings):
    """Said in one line."""
    first = await start()
    with pytest.raises(Unavailable) as error:
        await start(gateway_port=first.port)

    assert f"port {first.port}" in error.value.message


async def test_wrong_topics_stop_the_start(start, monkeypatch):
    """Before anybody is let in."""
    monkeypatch.setitem(TOPICS, DELIVERIES, replace(TOPICS[DELIVERIES], partitions=24))

    with pytest.raises(Malformed):
        await start()


async def listens(gateway):
    """Until the port is there."""
    async with asyncio.timeout(5):
        while not gateway.port:
            await asyncio.sleep(0.01)


async def not_ready(gateway):
    """What /readyz says is missing."""
    status, _, body = await http(gateway, "/readyz")
    problem = json.loads(body)
    assert (status, problem["code"]) == (503, "starting")
    return problem["message"].removeprefix("not ready: ").split(", ")


async def test_a_hello_waits_for_the_ring(make, backends, monkeypatch):
    """While the gateway starts it listens, is not ready, and keeps who comes; too long, and it is close 4006."""
    let_go = asyncio.Event()
    fill = Delivery.fill

    async def slow(delivery):
        await let_go.wait()
        await fill(delivery)

    monkeypatch.setattr(Delivery, "fill", slow)
    monkeypatch.setattr("gateway.conversation.START_S", 0.3)
    gateway = make()
    starting = asyncio.create_task(gateway.start())
    await listens(gateway)
    assert "ring" in await not_ready(gateway)
    early, waiting = (Person(ANN, device, gateway, backends) for device in ("early", "waiting"))
    await early.connect()
    assert (early.welcome, early.socket.close_code) == (None, 4006)

    connecting = asyncio.create_task(waiting.connect())
    await asyncio.sleep(0.05)
    let_go.set()
    await starting
    await connecting

    assert waiting.welcome["result"] == "new"
    await waiting.leave()


async def test_a_database_that_is_away_at_the_start(make, settings, backends, monkeypatch):
    """The gateway waits for it, and serves when it is there."""
    monkeypatch.setattr("gateway.server.AGAIN_S", 0.05)
    await backends.generators.claim("opens and migrates the database")
    gateway = make()
    with closing(sqlite3.connect(settings.data / "data.db", isolation_level=None)) as connection:
        connection.execute("ALTER TABLE generators RENAME TO away")
        starting = asyncio.create_task(gateway.start())
        await listens(gateway)
        assert await not_ready(gateway) == ["ring", "generator"]
        assert not starting.done()
        connection.execute("ALTER TABLE away RENAME TO generators")
    await asyncio.wait_for(starting, 5)

    assert (await http(gateway, "/readyz"))[0] == 200


async def test_drain(start, backends, token):
    """`drain`, then the socket stays usable; what is sent is acknowledged; then 1012, which arrives. Nobody new is let in."""
    gateway = await start(drain_s=1)
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()
    waiting = Person(BEN, "phone", gateway, backends)
    await waiting.open()

    stopping = asyncio.create_task(gateway.drain_and_stop())
    drain = await ann.hear("drain")
    ok = await ann.ask(SEND)
    await waiting.say({"type": "hello", "token": token(BEN), "device": "phone"})

    assert 0 <= drain["reconnect_after_ms"] <= 1_000
    assert ok["type"] == "ok"
    assert await waiting.ended() == 4006
    with pytest.raises(OSError, match="refused"):
        await websockets.connect(gateway.url)
    assert await ann.ended() == 1012
    await stopping
    assert await appended(backends, COMMANDS) == 1


async def test_a_mark_on_hold_is_published_before_the_end(start, backends):
    """Its `ok` comes before the close."""
    gateway = await start()
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()
    await ann.say({"type": "mark", "id": 1, "chat": CHAT, "read": "5"}, {"type": "ping", "id": 2})
    await ann.hear("pong")

    await gateway.drain_and_stop()

    assert (await ann.hear("ok"))["re"] == 1
    assert await appended(backends, COMMANDS) == 1


async def test_a_log_that_is_away_does_not_hold_up_the_end(start, backends, settings, monkeypatch):
    """After a while the gateway stops anyway, and nothing that was not confirmed is acknowledged."""
    monkeypatch.setattr("gateway.server.FLUSH_S", 0.2)
    gateway = await start()
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()
    await ann.ask(SEND)
    with broken(settings.data, "records"):
        await ann.say({**SEND, "id": 2, "key": "k2"}, {"type": "mark", "id": 3, "chat": CHAT, "read": "5"}, {"type": "ping", "id": 4})
        await ann.hear("pong")
        await gateway.drain_and_stop()

    assert await ann.hear("ok") is None
    assert ann.socket.close_code == 1012


async def test_old_things_are_forgotten_now_and_then(start, monkeypatch):
    """The tick does it."""
    monkeypatch.setattr("gateway.server.FORGET_S", 0.0)
    gateway = await start()
    gateway._desk.hub._revoked[1, "phone"] = (1, 1)
    async with asyncio.timeout(5):
        while gateway._desk.hub._revoked:
            await asyncio.sleep(0.05)


async def test_a_bug_in_a_conversation_is_its_own(person, gateway, caplog):
    """It is logged; the gateway and the session go on."""
    ann = await person(ANN)

    async def fail():
        raise RuntimeError("bug")

    gateway._desk.spawn(fail())
    assert (await ann.ask({"type": "ping", "id": 1}))["type"] == "pong"
    await asyncio.sleep(0)

    assert "a conversation failed" in [record.message for record in caplog.records]


async def test_drain_does_not_wait_for_nobody(start):
    """Without sessions it is over at once."""
    gateway = await start(drain_s=60)
    began = time.monotonic()

    await gateway.drain_and_stop()

    assert time.monotonic() - began < 5


async def test_its_url(start):
    """The setting, else made from host and port, whole."""
    made = await start()
    named = await start(public_url="wss://chat.example/v1/socket")

    assert made.url == f"ws://127.0.0.1:{made.port}/v1/socket"
    assert named.url == "wss://chat.example/v1/socket"
