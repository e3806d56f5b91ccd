"""What I want of a chat: muted, pinned, archived, a draft (protocol.md sections 1 and 3)."""

from __future__ import annotations

import secrets
from typing import Any

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.server import Server

GET, PUT = "GET /v1/chats/{chat}/mine", "PUT /v1/chats/{chat}/mine"
FAR = "2090-01-01T00:00:00.000Z"


@case()
async def mine_of_a_chat(at: Server) -> None:
    """Told to my devices alone; shown in the list of chats; an older version is stale."""
    one, other = await at.new_user(), await at.new_user()
    phone, tablet = await at.connect(one), await at.connect(one, "tablet")
    ben, chat, token = await at.connect(other), at.chat(one, other), await at.token(one)
    ok = await ben.done("send", to=one.user, key=f"m-{secrets.token_hex(8)}", text="x")
    await phone.hear("message", message=ok["message"])
    none = await at.http.call(GET, chat=chat, token=token)
    has(none, "mine", chat=chat, version="0", pinned=None, muted_until=None, draft=None)
    wanted = {"muted_until": FAR, "pinned": True, "draft": "not yet"}
    body = {"version": "0", **wanted}
    mine = await at.http.call(PUT, chat=chat, token=token, body=body)
    has(mine, "mine", **wanted)
    check(int(mine["version"]) > 0, "a greater version", mine)
    for socket in (phone, tablet):
        part = await socket.hear("chat", chat=chat, part="mine")
        has(part, "chat", version=mine["version"], **wanted)
    await ben.silent("chat", within_s=0.3, chat=chat)
    state: dict[str, Any] = {}
    while not state:
        state = next(iter((await phone.ask("chats"))["chats"]), {})
    has(state, "state", **wanted)
    await at.http.refused(PUT, "stale", chat=chat, token=token, body=body)
    body = {"version": mine["version"], "muted_until": "", "pinned": False, "draft": ""}
    cleared = await at.http.call(PUT, chat=chat, token=token, body=body)
    has(cleared, "mine", muted_until=None, pinned=None, draft=None)
    for field, change in (
        ("version", {"version": None}),
        ("muted_until", {"muted_until": "tomorrow"}),
        ("pinned", {"pinned": "yes"}),
        ("archived", {"archived": 1}),
    ):
        bad = {"version": cleared["version"], **change}
        await at.http.refused(PUT, "malformed", field=field, chat=chat, token=token, body=bad)
    await at.http.refused(
        PUT, "unknown_chat", chat="d-5-6", token=token, body={"version": "0", "pinned": True}
    )


@case()
async def a_draft_of_an_empty_chat(at: Server) -> None:
    """A direct chat without messages may have one, of up to text_bytes bytes."""
    one, other = await at.new_user(), await at.new_user()
    phone, chat, token = await at.connect(one), at.chat(one, other), await at.token(one)
    limit = int(phone.welcome["limits"]["text_bytes"])
    body = {"version": "0", "draft": "x" * (limit + 1)}
    await at.http.refused(PUT, "too_large", field="draft", chat=chat, token=token, body=body)
    body = {"version": "0", "draft": "x" * limit}
    mine = await at.http.call(PUT, chat=chat, token=token, body=body)
    has(await phone.hear("chat", chat=chat, part="mine"), "chat", draft="x" * limit)
    expect("read again", mine, await at.http.call(GET, chat=chat, token=token))
    has(mine, "mine", muted_until=None, pinned=None, archived=None)


@case()
async def an_archived_chat_comes_back(at: Server) -> None:
    """`archived` true or false lists those alone; a new message brings it back, unless the chat is
    muted.
    """
    one, other = await at.new_user(), await at.new_user()
    ann, ben, chat = await at.connect(one), await at.connect(other), at.chat(one, other)
    await ben.done("send", to=one.user, key=f"a-{secrets.token_hex(8)}", text="1")
    token = await at.token(one)

    async def listed(archived: str) -> list[str]:
        part = await at.http.call("GET /v1/chats", token=token, query={"archived": archived})
        return [state["chat"] for state in part["chats"]]

    while await listed("false") != [chat]:
        pass
    expect("archived chats", [], await listed("true"))
    body = {"version": "0", "archived": True}
    mine = await at.http.call(PUT, chat=chat, token=token, body=body)
    part = await ann.hear("chat", chat=chat, part="mine")
    expect("archived", mine["archived"], part["archived"])
    expect("archived chats", [chat], await listed("true"))
    expect("other chats", [], await listed("false"))
    await ben.done("send", to=one.user, key=f"a-{secrets.token_hex(8)}", text="2")
    while await listed("false") != [chat]:
        pass
    expect("archived chats", [], await listed("true"))
    body = {"version": mine["version"], "archived": True, "muted_until": FAR}
    await at.http.call(PUT, chat=chat, token=token, body=body)
    ok = await ben.done("send", to=one.user, key=f"a-{secrets.token_hex(8)}", text="3")
    state: dict[str, Any] = {}
    while state.get("newest") != ok["message"]:
        state = next(iter((await ann.ask("chats"))["chats"]), {})
    expect("archived chats", [chat], await listed("true"))


@case()
async def the_total_for_a_badge(at: Server) -> None:
    """Chats with something unread that are not muted, and what names me, in the muted ones too."""
    one, others = await at.new_user(), [await at.new_user() for _ in range(3)]
    ann, token, said = await at.connect(one), await at.token(one), []
    for other, mentions in zip(others, ({}, {}, {"mentions": [one.user]}), strict=True):
        ben, key = await at.connect(other), f"t-{secrets.token_hex(8)}"
        said.append(await ben.done("send", to=one.user, key=key, text="x", **mentions))

    async def total(**expected: int) -> None:
        while (part := await ann.ask("chats", limit=1))["total"] != expected:
            pass
        same = await at.http.call("GET /v1/chats", token=token, query={"limit": 1})
        expect("total over HTTP", part["total"], same["total"])

    await total(chats=3, mentions=1)
    body = {"version": "0", "muted_until": FAR}
    await at.http.call(PUT, chat=at.chat(one, others[2]), token=token, body=body)
    await total(chats=2, mentions=1)
    for other, ok, expected in (
        (others[0], said[0], {"chats": 1, "mentions": 1}),
        (others[2], said[2], {"chats": 1, "mentions": 0}),
    ):
        await ann.done("mark", chat=at.chat(one, other), read=ok["message"])
        await total(**expected)
