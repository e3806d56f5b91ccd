"""A gateway goes by the configuration as it is: sessions that are open, and those that come."""

from __future__ import annotations

import asyncio

import pytest

from backends.configuration.current import Timing
from schemas.errors import Unavailable
from tests.gateway.people import ANN, BEN, CHAT, SEND
from tests.support.configured import configure
from tests.support.until import until

PING = {"type": "ping", "id": 1}


@pytest.fixture
async def ann(person):
    """Live, at a gateway whose configuration a test changes."""
    ann = await person(ANN)
    await ann.until_live()
    return ann


async def test_texts_may_be_as_long_as_is_set(ann, person, backends):
    """For open sessions at once; new ones are announced it."""
    await configure(backends, "messages", text_bytes=4)
    refused = await ann.ask({**SEND, "text": "12345"})
    assert (refused["code"], refused["details"]) == ("too_large", {"field": "text"})
    assert (await ann.ask({**SEND, "id": 2, "text": "1234"}))["type"] == "ok"
    ben = await person(BEN)
    assert (ann.welcome["limits"]["text_bytes"], ben.welcome["limits"]["text_bytes"]) == (4_096, 4)

    await configure(backends, "messages")
    assert (await ann.ask({**SEND, "id": 3, "key": "k3", "text": "12345"}))["type"] == "ok"


async def test_a_user_may_spend_as_much_as_is_set(ann, person, backends):
    """Open sessions draw from it at once, with the time after which there is enough."""
    await configure(backends, "limits", user_units=2, user_units_per_s=1)
    asked = [await ann.ask({**SEND, "id": n, "key": f"k{n}"}) for n in range(1, 4)]
    assert [answer.get("code") for answer in asked] == [None, None, "rate_limited"]
    assert 0 < asked[2]["retry_after_ms"] <= 1_000
    assert (await person(BEN)).welcome["limits"]["send_per_minute"] == 60

    await configure(backends, "limits")
    assert (await ann.ask({**SEND, "id": 4, "key": "k4"}))["type"] == "ok"


async def test_a_session_may_say_as_much_as_is_set(ann, person, backends):
    """What is beyond is read later, and nothing is lost."""
    await configure(backends, "limits", frames_per_second=5)
    began_s = asyncio.get_running_loop().time()
    await ann.say(*({**PING, "id": n} for n in range(1, 11)))
    for number in range(1, 11):
        assert (await ann.hear("pong"))["re"] == number

    assert asyncio.get_running_loop().time() - began_s >= 0.7
    assert (await person(BEN)).welcome["limits"]["frames_per_second"] == 5


async def test_a_user_has_as_many_sessions_as_is_set(ann, person, backends):
    """Those that are open stay."""
    tablet = await person(ANN, "tablet")
    await configure(backends, "limits", sessions_per_user=2)
    third = await person(ANN, "third")

    assert third.welcome is None
    assert third.socket.close_code == 4429
    await configure(backends, "limits", sessions_per_user=1)
    for open_one in (ann, tablet):
        assert (await open_one.ask(PING))["type"] == "pong"
    await configure(backends, "limits")
    assert (await person(ANN, "third")).welcome["type"] == "welcome"


async def test_typing_is_told_as_is_set(ann, person, backends):
    """Switched off, and on again."""
    ben = await person(BEN)
    await ben.until_live()
    await configure(backends, "signals", typing=False)
    await ann.say({"type": "typing", "chat": CHAT})
    await ann.ask(PING)
    await configure(backends, "signals")
    await ann.say({"type": "typing", "chat": CHAT})

    assert (await ben.hear("typing"))["user"] == str(ANN)
    assert (await ben.ask({**PING, "id": 9}))["type"] == "pong"


async def test_deliveries_are_kept_as_long_as_is_set(gateway, backends):
    """From then on."""
    buffer = gateway._context.feed.replay_buffer
    assert buffer.kept_ms == 900_000
    await configure(backends, "retention", resume_s=10)

    assert buffer.kept_ms == 10_000


async def test_a_gateway_begins_with_what_is_stored(start, backends, person):
    """And with its settings where the database does not answer; then it follows it."""
    await configure(backends, "messages", text_bytes=7)
    first = await start()
    assert (await person(ANN, at=first)).welcome["limits"]["text_bytes"] == 7

    class Unreachable:
        async def versions(self):
            raise Unavailable("the database does not answer")

    stored, backends.stored_configuration = backends.stored_configuration, Unreachable()
    second = await start(text_bytes=11)
    assert (await person(BEN, at=second)).welcome["limits"]["text_bytes"] == 11
    backends.stored_configuration = stored
    backends.configuration._timing = Timing(interval_s=0.01)
    await until(lambda: second._context.rules.text_bytes == 7)
