"""A group from its beginning to its end, from client to client."""

import asyncio
import secrets
import time

from tests.journeys.conftest import new_user

TIMEOUT_S = 15


async def test_a_group_from_its_beginning_to_its_end(people, http, open_device):
    """Who is in it is told of each change and message, and reads what was said; who is not, not."""
    (ann, ben), cleo = people, new_user(http, "cleo")
    anns, bens, cleos = [await open_device(one, "phone") for one in (ann, ben, cleo)]

    body = {"key": "walks", "name": "Walks", "members": [ben.user], "history": "from_join"}
    made = ann.call("POST", "/v1/chats", device="phone", json=body)
    assert made.status_code == 201, made.text
    chat = made.json()["chat"]
    created = await bens.hear("message", chat=chat)
    assert created["event"] == {"kind": "created", "name": "Walks"}
    part = await bens.hear("chat", chat=chat)
    assert (part["part"], part["role"], part["members"], part["version"]) == (
        "group", "member", 2, "1",
    )  # fmt: skip

    first = await say(anns, chat, "before Cleo")
    assert (await bens.hear("message", message=first))["text"] == "before Cleo"
    members = f"/v1/chats/{chat}/members"
    ann.call("PUT", f"{members}/{cleo.user}", device="phone", json={"role": "member"})
    joined = await cleos.hear("message", chat=chat)
    assert joined["event"] == {"kind": "joined", "user": cleo.user, "role": "member"}
    assert (await cleos.hear("chat", chat=chat, part="member"))["user"] == cleo.user
    second = await say(bens, chat, "welcome", mentions=[cleo.user])
    assert (await cleos.hear("message", message=second))["mentions"] == [cleo.user]

    await until_stored(cleos, chat, second)
    page = await cleos.ask({"type": "history", "chat": chat})
    assert [one["message"] for one in page["messages"]] == [second, joined["message"]]
    [state] = (await cleos.ask({"type": "chats"}))["chats"]
    assert (state["chat"], state["kind"], state["newest"]) == (chat, "group", second)
    assert (state["unread"], state["mentions"]) == (1, 1)
    await cleos.ask({"type": "mark", "chat": chat, "read": second})
    assert (await bens.hear("receipt", chat=chat, user=cleo.user))["read"] == second
    unread = await cleos.hear("unread", chat=chat)
    assert (unread["unread"], unread["mentions"]) == (0, 0)
    receipts = ben.get(f"/v1/chats/{chat}/receipts").json()["receipts"]
    assert {one["user"]: one["read"] for one in receipts} == {
        ann.user: "0", ben.user: "0", cleo.user: second,
    }  # fmt: skip

    ann.call("DELETE", f"{members}/{cleo.user}", device="phone")
    assert (await cleos.hear("chat", chat=chat, part="deleted"))["version"] == "3"
    assert (await bens.hear("message", chat=chat, sender=ann.user))["chat"] == chat
    ok = await cleos.ask({"type": "send", "chat": chat, "key": "late", "text": "still here?"})
    assert (await cleos.hear("refused", message=ok["message"]))["code"] == "not_member"
    assert (await cleos.ask({"type": "history", "chat": chat}))["code"] == "not_member"
    assert (await cleos.ask({"type": "chats"}))["chats"] == []

    ann.call("DELETE", f"/v1/chats/{chat}", device="phone")
    await bens.hear("chat", chat=chat, part="deleted")
    assert ben.get(f"/v1/chats/{chat}").json()["code"] == "not_member"


async def say(device, chat, text, **more):
    """The id of a message that the log has."""
    frame = {"type": "send", "chat": chat, "key": secrets.token_hex(8), "text": text, **more}
    return (await device.ask(frame))["message"]


async def until_stored(device, chat, message):
    """History comes behind `ok`."""
    until_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until_s:
        page = await device.ask({"type": "history", "chat": chat, "limit": 1})
        if [one["message"] for one in page["messages"]] == [message]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("history does not hold the message")
