"""`send`, `message`, `refused`, `mark`, `receipt`, `unread` (protocol.md section 2)."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.server import Server
from tests.conformance.protocol.sockets import TIMEOUT_S, Socket

RECEIPTS = "GET /v1/chats/{chat}/receipts"


def _key() -> str:
    return f"k-{secrets.token_hex(8)}"


def id_at(unix_s: float) -> str:
    """The first id of that time: ids are milliseconds since 2024, with 22 bits behind them."""
    return str((int(unix_s * 1_000) - 1_704_067_200_000) << 22)


@case()
async def a_message_reaches_all_devices_of_both(at: Server) -> None:
    """`ok` with id and time; `message` to both, `device` on the sender's own devices only."""
    ann, tablet = await at.connect(at.ann), await at.connect(at.ann, "tablet")
    ben = await at.connect(at.ben)
    key, text = _key(), "Grüße 👋\u200d"
    ok = await ann.done("send", to=at.ben.user, key=key, text=text)
    check({"message", "time"} <= ok.keys(), "message and time", ok)
    check("duplicate" not in ok, "no duplicate", ok)
    told = {
        "chat": at.chat(at.ann, at.ben),
        "message": ok["message"],
        "sender": at.ann.user,
        "time": ok["time"],
        "key": key,
        "text": text,
    }
    for socket in (ann, tablet):
        has(await socket.hear("message", message=ok["message"]), "echo", **told, device="phone")
    push = await ben.hear("message", message=ok["message"])
    has(push, "message", **told, device=None, reply_to=None)


@case()
async def a_repeated_key_is_answered_with_the_same_id(at: Server) -> None:
    """`duplicate: true`; the key with another text is key_reused."""
    ann, key = await at.connect(at.ann), _key()
    first = await ann.done("send", to=at.ben.user, key=key, text="once")
    again = await ann.done("send", to=at.ben.user, key=key, text="once")
    has(again, "second ok", message=first["message"], time=first["time"], duplicate=True)
    await ann.refused("send", "key_reused", to=at.ben.user, key=key, text="else")


@case()
async def a_reply_names_its_message_and_sorts_after_it(at: Server) -> None:
    """`reply_to` comes with push and page."""
    ann, ben = await at.connect(at.ann), await at.connect(at.ben)
    first = await ann.done("send", to=at.ben.user, key=_key(), text="tea?")
    await ben.hear("message", message=first["message"])
    chat = at.chat(at.ann, at.ben)
    reply = await ben.done("send", chat=chat, key=_key(), text="yes", reply_to=first["message"])
    check(int(reply["message"]) > int(first["message"]), "a greater id", reply)
    push = await ann.hear("message", message=reply["message"])
    has(push, "message", reply_to=first["message"])
    page: dict[str, Any] = {}
    while page.get("last") != reply["message"]:
        page = await ann.ask("history", chat=chat, limit=1)
    has(page["messages"][0], "message in history", reply_to=first["message"])


@case()
async def a_message_to_myself(at: Server) -> None:
    """A chat with oneself is allowed, and pushes once."""
    ann = await at.connect(at.ann)
    ok = await ann.done("send", to=at.ann.user, key=_key(), text="note")
    push = await ann.hear("message", message=ok["message"])
    has(push, "message", chat=f"d-{at.ann.user}-{at.ann.user}", device="phone")


@case()
async def a_message_to_nobody_is_refused(at: Server) -> None:
    """`ok` first, then `refused` unknown_user to the sender's devices."""
    ann, tablet = await at.connect(at.ann), await at.connect(at.ann, "tablet")
    key = _key()
    ok = await ann.done("send", to="4611686018427387904", key=key, text="hello?")
    for socket in (ann, tablet):
        push = await socket.hear("refused", key=key)
        has(push, "refused", message=ok["message"], code="unknown_user")


@case()
async def a_send_that_is_malformed(at: Server) -> None:
    """`error malformed` names the field; nothing happened, and the socket stays."""
    ann, chat = await at.connect(at.ann), at.chat(at.ann, at.ben)
    good = {"to": at.ben.user, "key": _key(), "text": "x"}
    for field, change in (
        ("key", {"key": None}),
        ("key", {"key": "a b"}),
        ("key", {"key": ""}),
        ("key", {"key": "k" * 65}),
        ("key", {"key": "k\n"}),
        ("key", {"key": 5}),
        ("to", {"chat": chat}),
        ("chat", {"to": None}),
        ("to", {"to": "x"}),
        ("to", {"to": "0"}),
        ("to", {"to": 5}),
        ("chat", {"to": None, "chat": "d-2-1"}),
        ("chat", {"to": None, "chat": f"d-0-{at.ann.user}"}),
        ("text", {"text": None}),
        ("text", {"text": ""}),
        ("text", {"text": "a\0b"}),
        ("text", {"text": 5}),
        ("file", {"text": None, "file": "x"}),
        ("reply_to", {"reply_to": "x"}),
        ("reply_to", {"reply_to": str(2**63)}),
    ):
        await ann.refused("send", "malformed", field=field, **good | change)
    ok = await ann.done("send", **good)
    check("duplicate" not in ok, "the key unused so far", ok)


@case()
async def the_longest_text(at: Server) -> None:
    """limits.text_bytes bytes pass; one more is too_large, and so is a JSON string above 40,960."""
    ann, ben = await at.connect(at.ann), await at.connect(at.ben)
    limit = int(ann.welcome["limits"]["text_bytes"])
    text = "é" * (limit // 2)
    ok = await ann.done("send", to=at.ben.user, key=_key(), text=text)
    expect("text", text, (await ben.hear("message", message=ok["message"]))["text"])
    await ann.refused(
        "send", "too_large", field="text", to=at.ben.user, key=_key(), text=text + "é"
    )
    if limit * 6 > 40_960:
        await ann.refused(
            "send", "too_large", field="text", to=at.ben.user, key=_key(), text="\1" * limit
        )


@case()
async def a_chat_of_others_is_unknown(at: Server) -> None:
    """unknown_chat before `ok`, whether it exists or not."""
    ann, ben = await at.connect(at.ann), await at.connect(at.ben)
    cem = await at.new_user()
    await ben.done("send", to=cem.user, key=_key(), text="between us")
    for chat in (at.chat(at.ben, cem), "d-5-6"):
        await ann.refused("send", "unknown_chat", chat=chat, key=_key(), text="x")
        await ann.refused("mark", "unknown_chat", chat=chat, read="1")
        await ann.refused("history", "unknown_chat", chat=chat)
        await ann.refused("digest", "unknown_chat", chat=chat, **{"from": "0", "to": "1"})
    await ann.refused("history", "unknown_chat", chat="g-5")


@case()
async def marks_are_told_to_both(at: Server) -> None:
    """`receipt` to my devices and the other user's; `unread` to mine; read implies received."""
    ann, tablet = await at.connect(at.ann), await at.connect(at.ann, "tablet")
    ben, chat = await at.connect(at.ben), at.chat(at.ann, at.ben)
    oks = [await ben.done("send", to=at.ann.user, key=_key(), text="x") for _ in range(3)]
    ids = [ok["message"] for ok in oks]
    for each in ids:
        await ann.hear("message", message=each)
    await ann.done("mark", chat=chat, received=ids[2], read=ids[0])
    for socket in (ann, tablet, ben):
        receipt = await socket.hear("receipt", user=at.ann.user, received=ids[2])
        has(receipt, "receipt", chat=chat, read=ids[0])
    for socket in (ann, tablet):
        push = await socket.hear("unread", read=ids[0])
        has(push, "unread", chat=chat, unread=2)
        check(int(push["upto"]) >= int(ids[2]), "upto the newest", push)
    await ann.done("mark", chat=chat, read=ids[2])
    receipt = await ben.hear("receipt", user=at.ann.user, read=ids[2])
    has(receipt, "receipt", received=ids[2])
    has(await ann.hear("unread", read=ids[2]), "unread", unread=0)
    users = sorted((at.ann.user, at.ben.user), key=int)
    token, found = await at.token(at.ben), {"receipts": [{}]}
    mine = {"user": at.ann.user, "received": ids[2], "read": ids[2]}
    while mine not in found["receipts"]:
        found = await at.http.call(RECEIPTS, chat=chat, token=token)
    expect("users of the receipts", users, [each["user"] for each in found["receipts"]])
    part = await at.http.call(RECEIPTS, chat=chat, token=token, query={"limit": 1})
    expect("the first part", users[:1], [each["user"] for each in part["receipts"]])
    query = {"after": part["after"], "limit": 1}
    part = await at.http.call(RECEIPTS, chat=chat, token=token, query=query)
    expect("the second part", users[1:], [each["user"] for each in part["receipts"]])
    await at.http.refused(RECEIPTS, "unknown_chat", chat="d-5-6", token=token)


@case()
async def read_implies_received(at: Server) -> None:
    """A mark of `read` alone moves both."""
    one = await at.new_user()
    ann, ben, chat = await at.connect(one), await at.connect(at.ben), at.chat(one, at.ben)
    ok = await ben.done("send", to=one.user, key=_key(), text="x")
    await ann.done("mark", chat=chat, read=ok["message"])
    has(await ben.hear("receipt", user=one.user), "receipt", received=ok["message"])


@case()
async def a_stale_mark_is_no_news(at: Server) -> None:
    """It gets its `ok`; receipts move forward only, so nothing of it is told."""
    one = await at.new_user()
    ann, ben, chat = await at.connect(one), await at.connect(at.ben), at.chat(one, at.ben)
    oks = [await ben.done("send", to=one.user, key=_key(), text=text) for text in "12"]
    ids = [ok["message"] for ok in oks]
    await ann.done("mark", chat=chat, read=ids[1])
    await ben.hear("receipt", user=one.user, read=ids[1])
    await ann.done("mark", chat=chat, read=ids[0])
    await ben.silent("receipt", within_s=0.5, user=one.user)
    state: dict[str, object] = {}
    while state.get("read") != ids[1]:
        state = next(iter((await ann.ask("chats"))["chats"]), {})
    has(state, "state", unread=0, received=ids[1])


async def counted(socket: Socket, chat: str, **expected: Any) -> dict[str, Any]:
    """The chat's state in the list, as soon as it is as expected: each message, and what it counts
    for, is written by itself.
    """
    until = asyncio.get_running_loop().time() + TIMEOUT_S
    while True:
        states = (await socket.ask("chats"))["chats"]
        state: dict[str, Any] = next((each for each in states if each["chat"] == chat), {})
        if expected.items() <= state.items():
            return state
        if asyncio.get_running_loop().time() > until:
            has(state, f"state within {TIMEOUT_S:.0f} s", **expected)
        await asyncio.sleep(0.05)


@case()
async def mentions(at: Server) -> None:
    """In the message, its push and the lists; counted as long as they are unread and there."""
    one = await at.new_user()
    ann, ben, chat = await at.connect(at.ann), await at.connect(one), at.chat(at.ann, one)
    users = sorted((at.ann.user, one.user), key=int)
    oks = [
        await ann.done("send", to=one.user, key=_key(), text="you", mentions=named)
        for named in ([one.user], [*users, one.user], [at.ann.user])
    ]
    for ok, named in zip(oks, ([one.user], users, [at.ann.user]), strict=True):
        has(await ben.hear("message", message=ok["message"]), "message", mentions=named)
    state = await counted(ben, chat, newest=oks[2]["message"], unread=3, mentions=2)
    has(state["newest_message"], "newest message", mentions=[at.ann.user])
    await ben.done("mark", chat=chat, read=oks[0]["message"])
    read = await ben.hear("unread", read=oks[0]["message"])
    has(read, "unread", unread=2, mentions=1)
    await ann.done("delete", chat=chat, message=oks[1]["message"], key=_key(), **{"for": "all"})
    has(await ben.hear("unread", unread=1), "unread", mentions=0)
    for wrong in (["x"], ["0"], ["5"], [one.user] * 33, [5], one.user):
        refused = await ann.ask("send", to=one.user, key=_key(), text="x", mentions=wrong)
        has(refused, "error", code="malformed")


@case()
async def a_mark_that_is_malformed(at: Server) -> None:
    """Neither watermark, no id, or one more than a second in the future."""
    ann, chat = await at.connect(at.ann), at.chat(at.ann, at.ben)
    future = id_at(time.time() + 60)
    for field, change in (
        ("read", {}),
        ("read", {"read": "x"}),
        ("received", {"received": 5}),
        ("received", {"received": str(2**63)}),
        ("read", {"read": future}),
        ("received", {"received": future}),
    ):
        await ann.refused("mark", "malformed", field=field, chat=chat, **change)
    await ann.refused("mark", "malformed", field="chat", chat="x-1", read="1")
    await ann.refused("mark", "malformed", field="chat", read="1")
