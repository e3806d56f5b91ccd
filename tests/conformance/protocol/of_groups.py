"""Groups: their calls, the messages in them, and what members are told (protocol.md sections 1 to
3).
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.of_files import png, uploaded
from tests.conformance.protocol.of_messages import RECEIPTS, counted
from tests.conformance.protocol.server import Server, User
from tests.conformance.protocol.sockets import Socket

GROUP, MEMBER = "GET /v1/chats/{chat}", "PUT /v1/chats/{chat}/members/{user}"
ADD, LEAVE = "POST /v1/chats/{chat}/members", "DELETE /v1/chats/{chat}/members/{user}"
WITHIN_S = 7.0
"""A removal counts within 5 s; the rest is for the way."""


def _key() -> str:
    return f"g-{secrets.token_hex(8)}"


async def made(at: Server, owner: User, *members: User, **more: Any) -> dict[str, Any]:
    """A new group of these."""
    body = {"key": _key(), "name": "A group", "members": [each.user for each in members], **more}
    token = await at.token(owner)
    return dict(await at.http.call("POST /v1/chats", token=token, body=body))


async def _until_refused(socket: Socket, chat: str, code: str) -> None:
    """Sends until that is refused: a removal counts within 5 s."""
    until = asyncio.get_running_loop().time() + WITHIN_S
    while True:
        key = _key()
        await socket.done("send", chat=chat, key=key, text="let me in")
        answer = await socket.hear(key=key)
        if answer["type"] == "refused":
            has(answer, "refused", chat=chat, code=code)
            return
        now = asyncio.get_running_loop().time()
        check(now < until, f"{code} within {WITHIN_S:.0f} s", "messages that pass")


async def event_of(socket: Socket, chat: str, kind: str) -> dict[str, Any]:
    """The next event of this kind that the group tells; several may come in any order."""

    def is_it(message: dict[str, Any]) -> bool:
        return bool(message.get("event", {}).get("kind") == kind)

    message = await socket.hear("message", chat=chat, where=is_it)
    check("text" not in message, "an event without a text", message)
    return message


@case()
async def a_group_is_made_once(at: Server) -> None:
    """201 with the group; a repeat of the key: 200, the same; members get `chat` and an event."""
    ann, ben = await at.connect(at.ann), await at.connect(at.ben)
    body = {"key": _key(), "name": "A group", "members": [at.ben.user], "history": "all"}
    token = await at.token(at.ann)
    group = await at.http.call("POST /v1/chats", token=token, body=body)
    has(group, "group", name="A group", members=2, role="owner", history="all")
    again = await at.http.raw("POST", "/v1/chats", token=token, json=body)
    expect("status of the repeat", 200, again.status_code)
    expect("chat of the repeat", group["chat"], again.json()["chat"])
    await at.http.refused("POST /v1/chats", "key_reused", token=token, body={**body, "name": "B"})
    part = await ben.hear("chat", chat=group["chat"], part="group")
    has(part, "chat", name="A group", role="member", members=2)
    has(await event_of(ann, group["chat"], "created"), "event", sender=at.ann.user)
    for field, change in (
        ("key", {"key": "a b"}),
        ("name", {"name": ""}),
        ("name", {"name": "a\u202eb"}),
        ("members", {"members": ["x"]}),
        ("history", {"history": "some"}),
    ):
        bad = {**body, "key": _key(), **change}
        await at.http.refused("POST /v1/chats", "malformed", field=field, token=token, body=bad)
    unknown = {**body, "key": _key(), "members": ["5"]}
    await at.http.refused("POST /v1/chats", "unknown_user", token=token, body=unknown)


@case()
async def a_message_reaches_all_members(at: Server) -> None:
    """Each device of each; pages and the list of chats show it; a stranger gets nothing."""
    cem = await at.new_user()
    sockets = [await at.connect(user) for user in (at.ann, at.ben, cem)]
    avatar = (await uploaded(at, at.ann, png(), purpose="avatar"))["file"]
    group = await made(at, at.ann, at.ben, cem, avatar=avatar)
    chat = group["chat"]
    ok = await sockets[1].done("send", chat=chat, key=_key(), text="hello, all")
    for socket in sockets:
        push = await socket.hear("message", message=ok["message"])
        has(push, "message", chat=chat, sender=at.ben.user, text="hello, all")
    state = await counted(sockets[2], chat, newest=ok["message"], unread=1)
    wanted = {"kind": "group", "name": "A group", "avatar": avatar, "role": "member", "members": 3}
    has(state, "state", others=None, **wanted)
    page = await sockets[2].ask("history", chat=chat)
    expect("newest of the page", ok["message"], page["last"])
    dan = await at.new_user()
    stranger, token = await at.connect(dan), await at.token(dan)
    for unknown in (chat, "g-5"):
        key = _key()
        await stranger.done("send", chat=unknown, key=key, text="x")
        has(await stranger.hear("refused", key=key), "refused", code="unknown_chat")
        await stranger.refused("history", "unknown_chat", chat=unknown)
        await at.http.refused(GROUP, "unknown_chat", chat=unknown, token=token)


@case()
async def mentions_in_a_group(at: Server) -> None:
    """Of members; another user is refused unknown_user."""
    cem = await at.new_user()
    ann, ben = await at.connect(at.ann), await at.connect(at.ben)
    chat = (await made(at, at.ann, at.ben))["chat"]
    ok = await ann.done("send", chat=chat, key=_key(), text="ben?", mentions=[at.ben.user])
    has(await ben.hear("message", message=ok["message"]), "message", mentions=[at.ben.user])
    await counted(ben, chat, newest=ok["message"], unread=1, mentions=1)
    key = _key()
    await ann.done("send", chat=chat, key=key, text="cem?", mentions=[cem.user])
    has(await ann.hear("refused", key=key), "refused", chat=chat, code="unknown_user")


@case()
async def pins_in_a_group(at: Server) -> None:
    """By admins and the owner: `changed`, and an event among the messages; members: forbidden."""
    ann, ben = await at.connect(at.ann), await at.connect(at.ben)
    chat = (await made(at, at.ann, at.ben))["chat"]
    ok = await ben.done("send", chat=chat, key=_key(), text="read me")
    for kind, event in (("pin", "pinned"), ("unpin", "unpinned")):
        change = {"chat": chat, "message": ok["message"]}
        key = _key()
        await ben.done(kind, **change, key=key)
        has(await ben.hear("refused", key=key), "refused", chat=chat, code="forbidden")
        version = (await ann.done(kind, **change, key=_key()))["version"]
        has(await ben.hear("changed", version=version), "changed", op=kind, by=at.ann.user)
        told = await event_of(ben, chat, event)
        has(told, "event", message=version, sender=at.ann.user)
        has(told["event"], "event", message=ok["message"])
    page = await ben.ask("history", chat=chat, limit=1)
    while page["last"] != version:
        page = await ben.ask("history", chat=chat, limit=1)
    has(page["messages"][0]["event"], "event", kind="unpinned", message=ok["message"])


@case(once=True)
async def marks_in_a_group(at: Server) -> None:
    """`receipt` to members and GET to all, but for who hides receipts: neither is told then."""
    cem, dan = await at.new_user(), await at.new_user()
    token, theirs = await at.token(at.ann), await at.token(dan)
    privacy = await at.http.call("GET /v1/me/privacy", token=theirs)
    body = {**privacy, "receipts": False}
    await at.http.call("PUT /v1/me/privacy", token=theirs, body=body)
    chat = (await made(at, at.ann, cem, dan))["chat"]
    ann, reader, hider = [await at.connect(user) for user in (at.ann, cem, dan)]
    ok = await ann.done("send", chat=chat, key=_key(), text="hello, all")
    for socket, user in ((reader, cem), (hider, dan)):
        await socket.hear("message", message=ok["message"])
        await socket.done("mark", chat=chat, read=ok["message"])
        await socket.hear("receipt", user=user.user, read=ok["message"])
        has(await socket.hear("unread", chat=chat), "unread", unread=0, read=ok["message"])
    has(await ann.hear("receipt", user=cem.user), "receipt", chat=chat, read=ok["message"])
    await ann.silent("receipt", within_s=0.5, user=dan.user)
    await hider.silent("receipt", within_s=0.1, user=cem.user)
    mine = {"user": cem.user, "received": ok["message"], "read": ok["message"]}
    found: list[dict[str, Any]] = []
    while mine not in found:
        found = (await at.http.call(RECEIPTS, chat=chat, token=token))["receipts"]
    users = sorted((at.ann.user, cem.user), key=int)
    expect("users of the receipts", users, [each["user"] for each in found])
    found = (await at.http.call(RECEIPTS, chat=chat, token=theirs))["receipts"]
    expect("users shown to who hides", [dan.user], [each["user"] for each in found])


@case()
async def a_member_who_is_removed_sees_nothing_later(at: Server) -> None:
    """`chat` with part deleted; then not_member, for pages too."""
    cem = await at.new_user()
    ann, theirs = await at.connect(at.ann), await at.connect(cem)
    chat = (await made(at, at.ann, cem))["chat"]
    await theirs.hear("chat", chat=chat, part="group")
    token = await at.token(at.ann)
    await at.http.call(LEAVE, chat=chat, user=cem.user, token=token)
    await theirs.hear("chat", chat=chat, part="deleted")
    event = await event_of(ann, chat, "removed")
    has(event["event"], "event", user=cem.user)
    await ann.done("send", chat=chat, key=_key(), text="without cem")
    await theirs.refused("history", "not_member", chat=chat)
    await _until_refused(theirs, chat, "not_member")
    await at.http.refused(GROUP, "not_member", chat=chat, token=await at.token(cem))
    await theirs.silent("message", within_s=0.3, chat=chat, text="without cem")


@case()
async def roles(at: Server) -> None:
    """Readers do not write, members do not change the group, admins do; the owner hands over before
    leaving, and deletes.
    """
    cem, dan = await at.new_user(), await at.new_user()
    reader, ann = await at.connect(cem), await at.connect(at.ann)
    group = await made(at, at.ann, cem)
    chat, owner, theirs = group["chat"], await at.token(at.ann), await at.token(cem)
    changed = await at.http.call(
        MEMBER, chat=chat, user=cem.user, token=owner, body={"role": "reader"}
    )
    has(changed, "member", user=cem.user, role="reader")
    await reader.hear("chat", chat=chat, part="member", role="reader")
    key = _key()
    await reader.done("send", chat=chat, key=key, text="x")
    has(await reader.hear("refused", key=key), "refused", code="forbidden")
    now = await at.http.call(GROUP, chat=chat, token=theirs)
    change = {"version": now["version"], "name": "Another"}
    patch = "PATCH /v1/chats/{chat}"
    await at.http.refused(patch, "forbidden", chat=chat, token=theirs, body=change)
    await at.http.refused(ADD, "forbidden", chat=chat, token=theirs, body={"members": [dan.user]})
    await at.http.call(MEMBER, chat=chat, user=cem.user, token=owner, body={"role": "admin"})
    now = await at.http.call(GROUP, chat=chat, token=theirs)
    avatar = (await uploaded(at, cem, png(), purpose="avatar"))["file"]
    change = {"version": now["version"], "name": "Another", "avatar": avatar}
    has(await at.http.call(patch, chat=chat, token=theirs, body=change), "group", name="Another")
    await ann.hear("chat", chat=chat, part="group", name="Another", avatar=avatar)
    await at.http.refused(patch, "stale", chat=chat, token=theirs, body=change)
    has((await event_of(ann, chat, "renamed"))["event"], "event", name="Another")
    added = await at.http.call(ADD, chat=chat, token=theirs, body={"members": [dan.user]})
    expect("added", [dan.user], [each["user"] for each in added["members"]])
    delete = "DELETE /v1/chats/{chat}"
    await at.http.refused(delete, "forbidden", chat=chat, token=theirs)
    await at.http.refused(LEAVE, "forbidden", chat=chat, user=at.ann.user, token=owner)
    await at.http.call(MEMBER, chat=chat, user=cem.user, token=owner, body={"role": "owner"})
    await at.http.call(LEAVE, chat=chat, user=at.ann.user, token=owner)
    listed = await at.http.call(
        "GET /v1/chats/{chat}/members", chat=chat, token=theirs, query={"limit": 1}
    )
    check("after" in listed, "after", listed)
    await at.http.call(
        "GET /v1/chats/{chat}/members",
        chat=chat,
        token=theirs,
        query={"limit": 1, "after": listed["after"]},
    )
    await at.http.call(delete, chat=chat, token=theirs)
    await at.http.refused(GROUP, "not_member", chat=chat, token=theirs)


@case()
async def history_from_joining_on(at: Server) -> None:
    """A member who comes later sees nothing earlier."""
    cem = await at.new_user()
    ann = await at.connect(at.ann)
    chat = (await made(at, at.ann, at.ben, history="from_join"))["chat"]
    early = await ann.done("send", chat=chat, key=_key(), text="early")
    await ann.hear("message", message=early["message"])
    token = await at.token(at.ann)
    await at.http.call(MEMBER, chat=chat, user=cem.user, token=token, body={"role": "member"})
    late = await ann.done("send", chat=chat, key=_key(), text="late")
    theirs, ids = await at.connect(cem), list[str]()
    while late["message"] not in ids:
        page = await theirs.ask("history", chat=chat)
        ids = [each["message"] for each in page["messages"]]
    check(early["message"] not in ids, "nothing early", ids)
    expect("more before", False, page["more_before"])
