"""Typing and presence at a gateway that listens, from WebSocket to WebSocket."""

import pytest

from backends.groups import Change, Group
from backends.relations import Privacy
from gateway.timing import Timing
from schemas.ids import direct_chat
from tests.gateway.people import ANN, BEN, CHAT, MSGPACK, Person

CEM = 33
GROUP = "g-5"
WATCH_BEN = {"type": "watch", "id": 1, "users": [str(BEN)]}


@pytest.fixture
def timing():
    """Users who are gone for a moment are offline."""
    return Timing(offline_after_s=0.5)


async def test_users_see_each_other_come_and_go(person, backends):
    """A `watch` right behind `hello` is answered like any other."""
    privacy = Privacy(last_seen="everyone", version=1)
    await backends.relations.change_privacy(BEN, privacy, now_ms=backends.clock.now_ms())
    ann = await person(ANN)
    assert (await ann.ask(WATCH_BEN))["type"] == "ok"
    assert await ann.hear("presence") == {
        "type": "presence",
        "user": str(BEN),
        "state": "offline",
    }
    ben = await person(BEN, subprotocol=MSGPACK)
    assert (await ann.hear("presence"))["state"] == "online"
    await ben.say({"type": "watch", "users": [str(ANN)]})
    assert (await ben.hear("presence"))["state"] == "online"
    await ben.leave()

    gone = await ann.hear("presence")
    assert (gone["state"], gone["last_seen"][-1]) == ("offline", "Z")


async def test_what_is_said_with_hello_counts(gateway, backends, token):
    """Whom a session watches, and that a user is not to be seen."""
    ben = Person(BEN, "desk", gateway, backends)
    await ben.open()
    hello = {"type": "hello", "token": token(BEN, "desk"), "device": "desk"}
    await ben.say([hello, {"type": "presence", "state": "invisible"}])
    ann = Person(ANN, "phone", gateway, backends)
    await ann.open()
    await ann.say([{"type": "hello", "token": token(ANN), "device": "phone"}, WATCH_BEN])
    assert (await ann.hear("ok"))["re"] == 1
    assert (await ann.hear("presence"))["state"] == "offline"
    await ben.say([{"type": "presence", "state": "busy"}, {"type": "typing", "chat": CHAT}])

    told = {frame["type"]: frame for frame in [await ann.hear(), await ann.hear()]}
    assert told["typing"] == {"type": "typing", "chat": CHAT, "user": str(BEN)}
    assert told["presence"]["state"] == "busy"
    await ann.leave()
    await ben.leave()


async def test_errors_are_told_without_a_number(person):
    """As of any frame; the session goes on."""
    ann = await person(ANN)
    await ann.say({"type": "typing", "chat": "d-5-6"}, {"type": "watch", "users": ["x"]})

    assert (await ann.hear("error"))["code"] == "unknown_chat"
    assert (await ann.hear("error"))["code"] == "malformed"
    assert (await ann.ask({"type": "watch", "id": 2, "users": []}))["type"] == "ok"


@pytest.mark.parametrize(
    "look", [{"type": "mark", "read": "5"}, {"type": "history"}, {"type": "typing"}], ids=str
)
async def test_who_looks_at_a_group_hears_who_is_typing_there(person, backends, look):
    """By a mark, a question for history, or typing; who does nothing there does not."""
    group = Group(GROUP, "Walks", "", "all", 0, 0, 0)
    await backends.groups.create(group, [BEN, CEM], Change(ANN, "phone", (1,)), key="k")
    ann, ben, cem = [await person(user) for user in (ANN, BEN, CEM)]
    await ben.say({**look, "chat": GROUP, "id": 2}, {"type": "ping", "id": 3})
    while (await ben.hear("pong"))["re"] != 3:
        pass
    await ann.say({"type": "typing", "chat": GROUP})

    assert await ben.hear("typing") == {"type": "typing", "chat": GROUP, "user": str(ANN)}
    await ann.say({"type": "typing", "chat": direct_chat(ANN, CEM)})
    assert (await cem.hear("typing"))["chat"] != GROUP
