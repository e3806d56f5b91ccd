"""Groups: which calls the client makes, and what it makes of their answers."""

from __future__ import annotations

import pytest
from starlette.responses import JSONResponse

from knchat_client import Group, Member, Mine, Refused
from tests.clients.python.scripted import ALICE, BOB, problem

CHAT = "g-7"
GROUP = {
    "chat": CHAT,
    "name": "Walks",
    "members": 2,
    "role": "owner",
    "history": "all",
    "created": "2026-01-31T23:59:59.000Z",
    "version": "1",
}
MEMBER = {"user": BOB, "role": "member", "joined": "2026-01-31T23:59:59.000Z", "version": "1"}


async def test_a_group_is_made_and_read(server, make_client):
    """A field that is left out is none."""
    client = await make_client()
    server.refuse["/v1/chats"] = JSONResponse(GROUP, 201)
    server.refuse[f"/v1/chats/{CHAT}"] = JSONResponse(GROUP | {"avatar": "a"})

    assert await client.create_group("Walks", [BOB]) == Group(**GROUP)
    assert (await client.group(CHAT)).avatar == "a"
    assert server.calls[-2:] == [("POST", "/v1/chats"), ("GET", f"/v1/chats/{CHAT}")]


async def test_members_are_read_part_by_part(server, make_client):
    """And each change of them is a call."""
    client = await make_client()
    members = f"/v1/chats/{CHAT}/members"
    server.refuse[members] = JSONResponse({"members": [MEMBER]})
    assert await client.members(CHAT) == [Member(**MEMBER)]
    server.refuse[members] = JSONResponse({"members": [MEMBER]})
    assert await client.add_members(CHAT, [BOB]) == [Member(**MEMBER)]
    await client.remove_member(CHAT, BOB)
    await client.leave_group(CHAT)
    await client.delete_group(CHAT)

    assert server.calls[-4:] == [
        ("POST", members),
        ("DELETE", f"{members}/{BOB}"),
        ("DELETE", f"{members}/{ALICE}"),
        ("DELETE", f"/v1/chats/{CHAT}"),
    ]


async def test_a_refusal_says_why(server, make_client):
    """With the server's code."""
    client = await make_client()
    server.refuse[f"/v1/chats/{CHAT}"] = problem(403, "not_member")
    with pytest.raises(Refused) as refused:
        await client.group(CHAT)

    assert refused.value.code == "not_member"


async def test_what_i_want_of_a_chat_is_read_and_changed(server, make_client):
    """A chat of which nothing was set has version 0."""
    client = await make_client()
    server.refuse[f"/v1/chats/{CHAT}/mine"] = JSONResponse({"chat": CHAT, "version": "0"})
    assert await client.mine(CHAT) == Mine(chat=CHAT, version="0")
    server.refuse[f"/v1/chats/{CHAT}/mine"] = JSONResponse(
        {"chat": CHAT, "version": "1", "pinned": True, "archived": "9"}
    )
    mine = await client.set_mine(CHAT, version="0", pinned=True, archived=True)

    assert mine == Mine(chat=CHAT, version="1", pinned=True, archived="9")
