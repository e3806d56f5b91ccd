"""History at any point in time, over the socket and over HTTP."""

import asyncio
import hashlib
from datetime import datetime, timedelta

TIMEOUT_S = 15


async def _written(device, to, texts):
    """Sends the texts and waits until history has them all; their ids."""
    ids = [(await device.send(to, text))["message"] for text in texts]
    chat = (
        f"d-{min(int(device.user.user), int(to.user))}-{max(int(device.user.user), int(to.user))}"
    )
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            page = await device.ask({"type": "history", "chat": chat})
            if page["messages"] and page["messages"][0]["message"] == ids[-1]:
                return chat, ids
            await asyncio.sleep(0.02)


async def test_pages_before_after_and_around_an_id(people, open_device):
    """before and after exclude their id, around includes it; newest first; the borders are told."""
    ann, ben = people
    phone = await open_device(ann, "phone")
    chat, ids = await _written(phone, ben, [str(n) for n in range(9)])

    before = await phone.ask({"type": "history", "chat": chat, "before": ids[4], "limit": 2})
    after = await phone.ask({"type": "history", "chat": chat, "after": ids[4], "limit": 2})
    around = await phone.ask({"type": "history", "chat": chat, "around": ids[4], "limit": 3})
    newest = await phone.ask({"type": "history", "chat": chat})

    assert [m["message"] for m in before["messages"]] == [ids[3], ids[2]]
    assert [m["message"] for m in after["messages"]] == [ids[6], ids[5]]
    assert ids[4] in [m["message"] for m in around["messages"]]
    assert len(around["messages"]) == 3
    assert [m["message"] for m in newest["messages"]] == ids[::-1]
    assert (
        before["more_before"],
        before["more_after"],
        newest["more_before"],
        newest["more_after"],
    ) == (True, True, False, False)
    assert (newest["first"], newest["last"]) == (ids[0], ids[-1])


async def test_pages_before_after_and_around_a_time(people, open_device):
    """A time stands for the first possible id of its millisecond: no counting, no lookup."""
    ann, ben = people
    phone = await open_device(ann, "phone")
    first = await phone.send(ben, "early")
    await asyncio.sleep(0.01)  # another millisecond, which the test is about
    chat, (second,) = await _written(phone, ben, ["late"])
    moment = first["time"]
    later = (
        (datetime.fromisoformat(moment) + timedelta(milliseconds=2))
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )

    before = await phone.ask({"type": "history", "chat": chat, "before": later})
    after = await phone.ask({"type": "history", "chat": chat, "after": later})
    around = await phone.ask({"type": "history", "chat": chat, "around": later, "limit": 2})

    assert [m["message"] for m in before["messages"]] == [first["message"]]
    assert [m["message"] for m in after["messages"]] == [second]
    assert [m["message"] for m in around["messages"]] == [second, first["message"]]


async def test_http_and_socket_tell_the_same_page(people, open_device):
    """One rule, over socket and HTTP."""
    ann, ben = people
    phone = await open_device(ann, "phone")
    chat, ids = await _written(phone, ben, ["a", "b", "c"])

    over_socket = await phone.ask({"type": "history", "chat": chat, "before": ids[2], "limit": 1})
    over_http = ann.get(f"/v1/chats/{chat}/messages", before=ids[2], limit=1)

    assert over_http.status_code == 200
    assert over_http.json() == {
        name: value for name, value in over_socket.items() if name not in {"type", "re"}
    }
    assert over_http.json()["messages"][0] == {
        "chat": chat,
        "message": ids[1],
        "sender": ann.user,
        "key": over_socket["messages"][0]["key"],
        "time": over_socket["messages"][0]["time"],
        "version": ids[1],
        "reactions": [],
        "text": "b",
    }


async def test_a_digest_proves_that_nothing_is_missing(people, open_device):
    """A client computes the same hash from what it holds."""
    ann, ben = people
    phone = await open_device(ann, "phone")
    chat, ids = await _written(phone, ben, ["a", "b", "c"])

    digest = await phone.ask({"type": "digest", "chat": chat, "from": ids[0], "to": ids[2]})

    mine = 0
    for message in ids:
        mine ^= int.from_bytes(hashlib.sha256(f"{message}:{message}".encode()).digest()[:8])
    assert (digest["count"], digest["hash"]) == (3, f"{mine:016x}")
    assert ann.get(f"/v1/chats/{chat}/digest", **{"from": ids[0], "to": ids[2]}).json() == {
        "count": 3,
        "hash": f"{mine:016x}",
    }


async def test_the_list_of_chats_shows_what_is_new(people, open_device):
    """Newest first, with the unread count and the newest message, over socket and HTTP."""
    ann, ben = people
    anns, bens = await open_device(ann, "phone"), await open_device(ben, "tablet")
    chat, ids = await _written(anns, ben, ["a", "b"])

    listed = await bens.ask({"type": "chats"})

    state = listed["chats"][0]
    assert (state["chat"], state["kind"], state["others"], state["newest"], state["unread"]) == (
        chat,
        "direct",
        [ann.user],
        ids[1],
        2,
    )
    assert state["newest_message"]["text"] == "b"
    assert ben.get("/v1/chats").json()["chats"] == listed["chats"]


async def test_a_strangers_chat_is_unknown(http, people, open_device):
    """Existence is not told."""
    ann, ben = people
    from tests.journeys.conftest import new_user  # noqa: PLC0415 - the test's third person

    eve = new_user(http, "eve")
    anns, eves = await open_device(ann, "phone"), await open_device(eve, "spy")
    chat, ids = await _written(anns, ben, ["secret"])

    answers = [
        await eves.ask({"type": "history", "chat": chat}),
        await eves.ask({"type": "send", "chat": chat, "key": "k", "text": "hello"}),
        await eves.ask({"type": "mark", "chat": chat, "read": ids[0]}),
        await eves.ask({"type": "digest", "chat": chat, "from": "0", "to": ids[0]}),
    ]

    assert {(answer["type"], answer["code"]) for answer in answers} == {("error", "unknown_chat")}
    assert eve.get(f"/v1/chats/{chat}/messages").json()["code"] == "unknown_chat"
