"""What clients get wrong, over TCP: each mistake gets the error or close code of its own, and
no other client is affected.
"""

import asyncio
import json
import time
from dataclasses import replace

import pytest
import websockets

from backends.settings import Settings
from backends.wiring import Backends
from schemas.topics import (
    COMMANDS,
    QUERIES,
)
from tests.gateway.people import ANN, BEN, CHAT, JSON, MSGPACK, SEND, Person, appended, http

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


async def no_other_is_affected(other, backends):
    """Another session goes on, and nothing was published."""
    assert await appended(backends, COMMANDS) == 0
    assert await appended(backends, QUERIES) == 0
    assert (await other.ask({"type": "ping", "id": 99}))["type"] == "pong"


@pytest.mark.parametrize(
    ("payload", "code"), [row[1:] for row in CLOSED], ids=[row[0] for row in CLOSED]
)
async def test_what_ends_a_session(person, backends, payload, code):
    """The close code that the protocol names; nothing is stored and no other client notices."""
    other = await person(BEN)
    ann = await person(ANN)

    await ann.say(payload)

    assert await ann.ended() == code
    await no_other_is_affected(other, backends)


async def test_fragments_over_the_limit(person, backends):
    """The sum counts: 1009."""
    other, ann = await person(BEN), await person(ANN)

    await ann.socket.send(["x" * 30_000] * 3)

    assert await ann.ended() == 1009
    await no_other_is_affected(other, backends)


async def test_bad_utf_8(person, backends):
    """1007."""
    other, ann = await person(BEN), await person(ANN)

    await ann.socket.send(b'{"type":"ping","x":"\xff"}', text=True)

    assert await ann.ended() == 1007
    await no_other_is_affected(other, backends)


TOLD = [
    ("an unknown type", {"type": "nonsense", "id": 1}, "unknown_type"),
    ("a field of the wrong type", {**SEND, "text": 5}, "malformed"),
    ("an id that is no number", {**SEND, "to": "abc"}, "malformed"),
    ("a reply to what is no number", {**SEND, "reply_to": "x"}, "malformed"),
    (
        "a time in the wrong format",
        {"type": "history", "id": 1, "chat": CHAT, "before": "yesterday"},
        "malformed",
    ),
    (
        "a stranger's chat",
        {"type": "send", "id": 1, "key": "k", "chat": "d-22-33", "text": "hi"},
        "unknown_chat",
    ),
    ("a stranger's history", {"type": "history", "id": 1, "chat": "d-22-33"}, "unknown_chat"),
    (
        "a stranger's digest",
        {"type": "digest", "id": 1, "chat": "d-22-33", "from": "1", "to": "2"},
        "unknown_chat",
    ),
    ("empty text", {**SEND, "text": ""}, "malformed"),
    ("too much text", {**SEND, "text": "x" * 4_097}, "too_large"),
    ("a frame as large as may be", {**SEND, "text": "x" * 65_400}, "too_large"),
]


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])
@pytest.mark.parametrize(("frame", "code"), [row[1:] for row in TOLD], ids=[row[0] for row in TOLD])
async def test_what_is_told_and_the_session_stays(person, backends, frame, code, subprotocol):
    """The error that the protocol names, final; nothing is stored and no other client notices."""
    other = await person(BEN)
    ann = await person(ANN, subprotocol=subprotocol)

    error = await ann.ask(frame)

    assert (error["type"], error["code"], error["temporary"]) == ("error", code, False)
    assert (await ann.ask({"type": "ping", "id": 2}))["type"] == "pong"
    await no_other_is_affected(other, backends)


async def test_a_reused_key(person, backends):
    """`key_reused`: nothing of the second is in the log."""
    ann = await person(ANN)
    await ann.ask(SEND)

    error = await ann.ask({**SEND, "id": 2, "text": "other"})

    assert (error["code"], error["temporary"]) == ("key_reused", False)
    assert await appended(backends, COMMANDS) == 1


async def test_the_wrong_hellos(gateway, backends, person, token):
    """Each token that is not right, each field that is not: the code that the protocol names, and
    no client gets in.
    """
    other = await person(BEN)
    good = token(ANN)
    head, body, signature = good.split(".")
    rows = [
        ({"token": "nonsense"}, 4401),
        ({"token": f"{head}.{body}.{signature[:-4]}AAAA"}, 4401),
        ({"token": f"{head}.{token(BEN).split('.')[1]}.{signature}"}, 4401),
        ({"token": token(ANN, "other")}, 4401),
        ({"token": token(ANN, token_s=5, issued_ms=int(time.time() * 1_000) - 60_000)}, 4004),
        ({"token": token(ANN, issued_ms=int(time.time() * 1_000) + 70_000)}, 4006),
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

    await no_other_is_affected(other, backends)


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


async def test_no_hello(start, backends, timing):
    """4404 when its time is over."""
    gateway = await start(timing=replace(timing, hello_timeout_s=0.2))
    ann = Person(ANN, "phone", gateway, backends)
    await ann.open()

    assert await ann.ended() == 4404


async def test_the_wrong_address(start, settings):
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
    """`rate_limited` when the user's budget is used up, over all sessions; a session that says too
    much a second is read later.
    """
    gateway = await start(user_units=3, user_units_per_s=1, frames_per_second=50)
    ann, tablet = await person(ANN, at=gateway), await person(ANN, "tablet", at=gateway)
    replies = [
        await each.ask({**SEND, "key": f"k{number}"})
        for number, each in enumerate((ann, tablet, ann, tablet))
    ]

    assert [reply["type"] for reply in replies] == ["ok", "ok", "ok", "error"]
    assert (replies[3]["code"], replies[3]["temporary"]) == ("rate_limited", True)
    assert 0 < replies[3]["retry_after_ms"] <= 1_000
    assert ann.welcome["limits"]["frames_per_second"] == 50
    began_s = time.monotonic()
    await ann.say([{"type": "ping"}] * 64)
    assert (await ann.ask({"type": "ping", "id": 2}))["type"] == "pong"
    assert time.monotonic() - began_s > 0.1
    assert (await tablet.ask({"type": "ping", "id": 1}))["type"] == "pong"


async def test_the_budget_that_is_announced_is_the_one_there_is(start, person):
    """`welcome.limits`: so many units at once and no more; after the time that is told the refused
    frame is taken.
    """
    gateway = await start(user_units=7, user_units_per_s=10)
    ann = await person(ANN, at=gateway)
    limits = ann.welcome["limits"]
    assert (limits["units"], limits["units_per_s"], limits["send_per_minute"]) == (7, 10, 600)

    await ann.say([{**SEND, "id": n, "key": f"k{n}"} for n in range(1, limits["units"] + 3)])
    replies = {}
    while len(replies) < limits["units"] + 2:
        reply = await ann.hear()
        if "re" in reply:
            replies[reply["re"]] = reply
    refused = [n for n, reply in replies.items() if reply["type"] == "error"]
    assert 1 <= len(refused) <= 2  # what came back meanwhile is another one
    assert {replies[n]["code"] for n in refused} == {"rate_limited"}

    await asyncio.sleep(max(replies[n]["retry_after_ms"] for n in refused) / 1_000)
    assert (await ann.ask({**SEND, "id": 99, "key": "k99"}))["type"] == "ok"
