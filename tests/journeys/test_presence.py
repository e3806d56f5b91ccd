"""Typing and presence, from device to device: on one gateway, and with `--real` on two."""

import asyncio

import pytest

from schemas.ids import direct_chat
from tests.journeys.conftest import new_user
from tests.journeys.test_gateways import users_apart

REMOVED_S = 5
"""A removal counts within that."""


@pytest.fixture
def apart(http, people):
    """Two users, of different gateways where this server has more than one."""
    return users_apart(http) or people


async def watch(device, *users):
    """Watches these; the `ok` and the first `presence` of each."""
    reply = await device.ask({"type": "watch", "users": [user.user for user in users]})
    assert reply["type"] == "ok"
    return {user.user: await device.hear("presence", user=user.user) for user in users}


async def test_who_watches_sees_others_come_change_and_go(apart, open_device):
    """What is declared, and after ten seconds that the user has gone."""
    ann, ben = apart
    phone = await open_device(ann, "phone")
    ben.log_in("tablet")
    privacy = {"who_may_write": "everyone", "receipts": True, "last_seen": "everyone"}
    shown = {"json": {**privacy, "version": "0"}, "device": "tablet"}
    assert ben.call("PUT", "/v1/me/privacy", **shown).status_code == 200
    assert (await watch(phone, ben))[ben.user]["state"] == "offline"

    tablet = await open_device(ben, "tablet", packed=True)
    assert (await phone.hear("presence"))["state"] == "online"
    declared = {"type": "presence", "state": "busy", "text": "in a meeting"}
    assert (await tablet.ask(declared))["type"] == "ok"
    busy = await phone.hear("presence")
    assert (busy["user"], busy["state"], busy["text"]) == (ben.user, "busy", "in a meeting")
    assert not {"n", "cursor"} & busy.keys()

    await tablet.ask({"type": "presence", "state": "invisible"})
    hidden = await phone.hear("presence")
    await tablet.ask({"type": "presence", "state": "online"})
    assert (hidden["state"], (await phone.hear("presence"))["state"]) == ("offline", "online")
    await tablet.close()
    gone = await phone.hear("presence")

    assert gone["state"] == "offline"
    assert gone["last_seen"] > hidden["last_seen"]


async def test_a_line_that_was_cut_is_no_news(apart, open_device):
    """A device that is back within ten seconds was never away."""
    ann, ben = apart
    phone, tablet = await open_device(ann, "phone"), await open_device(ben, "tablet")
    assert (await watch(phone, ben))[ben.user]["state"] == "online"
    for _ in range(3):
        tablet.cut()
        await tablet.connect(resume=tablet.cursor)
        await asyncio.sleep(1)
    await tablet.ask({"type": "presence", "state": "away"})

    assert (await phone.hear("presence"))["state"] == "away"


async def test_the_other_side_sees_that_i_am_typing(apart, open_device):
    """On each device, and not on my own; what comes after it is told as always."""
    ann, ben = apart
    mine = [await open_device(ann, "phone"), await open_device(ann, "desk")]
    theirs = [await open_device(ben, "phone"), await open_device(ben, "desk", packed=True)]
    chat = direct_chat(int(ann.user), int(ben.user))
    await mine[0].say({"type": "typing", "chat": chat})
    for device in theirs:
        assert await device.hear("typing") == {"type": "typing", "chat": chat, "user": ann.user}

    await mine[0].send(ben, "what I typed")
    for device in (*theirs, mine[1]):
        await device.hear("message")
        # Each has heard of the log-in of the other one, too.
        kinds = [frame["type"] for frame in device.pushes]
        assert [kind for kind in kinds if kind != "device"] == ["message"]
        assert [frame["n"] for frame in device.pushes] == [*range(1, len(kinds) + 1)]
    assert all(frame["type"] != "typing" for frame in mine[1]._waiting)


async def test_what_is_over_is_not_told_to_a_device_that_comes_back(apart, open_device):
    """Neither typing nor presence is in the log: a resume has the message alone."""
    ann, ben = apart
    phone, tablet = await open_device(ann, "phone"), await open_device(ben, "tablet")
    chat = direct_chat(int(ann.user), int(ben.user))
    await watch(tablet, ann)
    cursor = tablet.cursor
    tablet.cut()
    await phone.say({"type": "typing", "chat": chat})
    await phone.ask({"type": "presence", "state": "busy"})
    await phone.send(ben, "now")
    await asyncio.sleep(2)
    await tablet.connect(resume=cursor or None)
    if not tablet.pushes:
        await tablet.hear("message")

    assert {frame["type"] for frame in tablet.pushes} == {"message"}
    assert all(frame["type"] not in {"typing", "presence"} for frame in tablet._waiting)
    page = await phone.ask({"type": "history", "chat": chat})
    assert [message["text"] for message in page["messages"]] == ["now"]


async def test_members_who_look_at_a_group_see_who_is_typing(apart, http, open_device):
    """On any gateway; who has not looked at it does not, nor who was removed."""
    ann, ben = apart
    cleo = new_user(http, "cleo")
    anns, bens, cleos = [await open_device(one, "phone") for one in (ann, ben, cleo)]
    body = {"key": "walks", "name": "Walks", "members": [ben.user, cleo.user]}
    made = ann.call("POST", "/v1/chats", device="phone", json={**body, "history": "all"})
    assert made.status_code == 201, made.text
    chat = made.json()["chat"]
    assert (await bens.ask({"type": "history", "chat": chat}))["type"] == "page"
    await anns.say({"type": "typing", "chat": chat})
    assert await bens.hear("typing") == {"type": "typing", "chat": chat, "user": ann.user}

    member = f"/v1/chats/{chat}/members/{ben.user}"
    assert ann.call("DELETE", member, device="phone").status_code == 204
    await cleos.ask({"type": "history", "chat": chat})
    await asyncio.sleep(REMOVED_S)
    await anns.say({"type": "typing", "chat": chat})
    assert (await cleos.hear("typing"))["user"] == ann.user
    await anns.say({"type": "typing", "chat": direct_chat(int(ann.user), int(ben.user))})

    assert (await bens.hear("typing"))["chat"] != chat
