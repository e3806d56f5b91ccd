"""Typing and presence of users who are at different gateways, and of those who are handed over."""

import pytest

from backends.relations import Privacy
from gateway.timing import Timing
from schemas.ids import direct_chat
from tests.gateway.partitions.sharing import USERS, mine, settled
from tests.support.until import until


@pytest.fixture
def timing():
    """Owners are looked for and asked often, and users who are gone for a while are offline."""
    return Timing(
        owners_interval_s=0.05, retry_delay_s=0.05, offline_after_s=3.0, watch_renewal_s=1.0
    )


@pytest.fixture
def apart(two):
    """A user of the first gateway, and one of the second."""
    return tuple(USERS[min(mine(gateway))] for gateway in two)


async def test_users_of_two_gateways_see_each_other(two, apart, person, backends):
    """What is watched, what changes, and who types, through the log."""
    (first, second), (ann, ben) = two, apart
    privacy = Privacy(last_seen="everyone", version=1)
    await backends.relations.change_privacy(ben, privacy, now_ms=backends.clock.now_ms())
    anns, bens = await person(ann, at=first), await person(ben, at=second)
    assert (await anns.ask({"type": "watch", "id": 1, "users": [str(ben)]}))["type"] == "ok"
    assert await anns.hear("presence") == {
        "type": "presence",
        "user": str(ben),
        "state": "online",
    }
    await bens.say({"type": "presence", "state": "busy", "text": "a call"})
    busy = await anns.hear("presence")
    assert (busy["state"], busy["text"]) == ("busy", "a call")
    chat = direct_chat(ann, ben)
    await bens.say({"type": "typing", "chat": chat})

    assert await anns.hear("typing") == {"type": "typing", "chat": chat, "user": str(ben)}
    await bens.leave()
    gone = await anns.hear("presence")
    assert (gone["state"], "last_seen" in gone) == ("offline", True)


async def test_a_user_who_is_handed_over_was_never_away(two, apart, person):
    """The new owner is asked soon, and tells what changes from then on."""
    (first, second), (ann, ben) = two, apart
    anns, bens = await person(ann, at=first), await person(ben, at=second)
    await anns.say({"type": "watch", "users": [str(ben)]})
    assert (await anns.hear("presence"))["state"] == "online"

    await second.drain_and_stop()
    assert await bens.ended() in {1012, 4001}
    await until(lambda: settled(first))
    there = await person(ben, "desk", at=first)
    await there.say({"type": "presence", "state": "busy"})

    assert (await anns.hear("presence"))["state"] == "busy"
