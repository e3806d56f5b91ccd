"""`history`, `chats`, `digest`: the same over the socket and over HTTP (protocol.md sections 1 to
3).
"""

from __future__ import annotations

import hashlib
import secrets
from functools import reduce
from operator import xor
from typing import Any

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.of_messages import id_at
from tests.conformance.protocol.server import Server, User
from tests.conformance.protocol.sockets import Socket

MESSAGES = 5


async def _written(at: Server, count: int = MESSAGES) -> tuple[Socket, User, str, list[str]]:
    """A fresh chat with so many messages in history: the socket of one side, the other user, the
    chat, the ids.
    """
    one, other = await at.new_user(), at.ben
    socket = await at.connect(one)
    ids = []
    for number in range(count):
        key = f"h-{number}-{secrets.token_hex(4)}"
        ok = await socket.done("send", to=other.user, key=key, text=f"text {number}")
        ids.append(ok["message"])
    chat = at.chat(one, other)
    while len((await socket.ask("history", chat=chat))["messages"]) < count:
        pass
    return socket, one, chat, ids


def _ids(page: dict[str, Any]) -> list[str]:
    return [message["message"] for message in page["messages"]]


@case()
async def pages_hold_what_was_sent(at: Server) -> None:
    """Newest first, with first and last; over HTTP the same object."""
    socket, one, chat, ids = await _written(at)
    page = await socket.ask("history", chat=chat)
    expect("ids", ids[::-1], _ids(page))
    has(page, "page", type="page", first=ids[0], last=ids[-1], more_before=False, more_after=False)
    has(
        page["messages"][-1],
        "message in history",
        chat=chat,
        sender=one.user,
        text="text 0",
        version=ids[0],
        reactions=[],
    )
    same = await at.http.call("GET /v1/chats/{chat}/messages", chat=chat, token=await at.token(one))
    expect("over HTTP", {name: page[name] for name in same}, same)


@case()
async def pages_begin_before_after_and_around(at: Server) -> None:
    """`before` and `after` exclude their id, `around` includes it; limit cuts."""
    socket, one, chat, ids = await _written(at)
    token = await at.token(one)
    for query, wanted, more in (
        ({"before": ids[2]}, ids[:2], (False, True)),
        ({"after": ids[2]}, ids[3:], (True, False)),
        ({"after": "0", "limit": 2}, ids[:2], (False, True)),
        ({"before": ids[4], "limit": 2}, ids[2:4], (True, True)),
        ({"around": ids[2], "limit": 3}, ids[1:4], (True, True)),
        ({"limit": 1}, ids[4:], (True, False)),
    ):
        page = await socket.ask("history", chat=chat, **query)
        expect(f"ids of {query}", wanted[::-1], _ids(page))
        expect(f"more of {query}", more, (page["more_before"], page["more_after"]))
        same = await at.http.call(
            "GET /v1/chats/{chat}/messages", chat=chat, token=token, query=query
        )
        expect(f"HTTP with {query}", wanted[::-1], _ids(same))


@case()
async def a_time_stands_for_the_first_id_of_its_millisecond(at: Server) -> None:
    """A message lies in exactly one of before and after its time."""
    socket, _, chat, ids = await _written(at, 2)
    (message, *_) = (await socket.ask("history", chat=chat))["messages"]
    before = _ids(await socket.ask("history", chat=chat, before=message["time"]))
    after = _ids(await socket.ask("history", chat=chat, after=message["time"]))
    expect("all of them", ids, sorted(before + after, key=int))
    check(ids[-1] in after, "the message after its own time", after)
    empty = await socket.ask("history", chat=chat, before="2024-01-01T00:00:00Z")
    has(empty, "page before all", messages=[], first=None, last=None, more_after=True)


@case()
async def history_that_is_malformed(at: Server) -> None:
    """Two positions, a limit outside 1 to 256, what is no id or time."""
    socket, chat = await at.connect(at.ann), at.chat(at.ann, at.ben)
    token = await at.token(at.ann)
    for field, query in (
        ("after", {"before": "1", "after": "1"}),
        ("limit", {"limit": 0}),
        ("limit", {"limit": 257}),
        ("before", {"before": "yesterday"}),
        ("around", {"around": str(2**63)}),
        ("after", {"after": "2026-13-01T00:00:00Z"}),
    ):
        await socket.refused("history", "malformed", field=field, chat=chat, **query)
        await at.http.refused(
            "GET /v1/chats/{chat}/messages",
            "malformed",
            field=field,
            chat=chat,
            token=token,
            query=query,
        )
    await socket.refused("history", "malformed", field="limit", chat=chat, limit="5")
    await socket.refused("history", "malformed", field="chat")
    await at.http.refused(
        "GET /v1/chats/{chat}/messages", "malformed", field="chat", chat="x", token=token
    )
    await at.http.refused(
        "GET /v1/chats/{chat}/messages", "unknown_chat", chat="d-5-6", token=token
    )


@case()
async def the_list_of_chats(at: Server) -> None:
    """Newest first, with the newest message, unread and watermarks; `after` leads on."""
    one, ids, others = await at.new_user(), [], [await at.new_user() for _ in range(3)]
    for other in others:
        socket = await at.connect(other)
        for text in ("1", "2"):
            ok = await socket.done("send", to=one.user, key=f"c-{secrets.token_hex(4)}", text=text)
        ids.append(ok["message"])
    mine = await at.connect(one)
    chats: list[dict[str, Any]] = []
    while len(chats) < len(others) or [state["unread"] for state in chats] != [2] * len(others):
        chats = (await mine.ask("chats"))["chats"]
    expect("newest", ids[::-1], [state["newest"] for state in chats])
    has(
        chats[0],
        "state",
        chat=at.chat(one, others[-1]),
        kind="direct",
        others=[others[-1].user],
        read="0",
        received="0",
    )
    has(chats[0]["newest_message"], "newest message", message=ids[-1], text="2")
    token, parts, after = await at.token(one), [], {}
    while True:
        part = await mine.ask("chats", limit=1, **after)
        same = await at.http.call("GET /v1/chats", token=token, query={"limit": 1, **after})
        expect("over HTTP", same["chats"], part["chats"])
        total = None if after else {"chats": len(others), "mentions": 0}
        expect("totals", [total] * 2, [each.get("total") for each in (part, same)])
        parts += part["chats"]
        if "after" not in part:
            break
        after = {"after": part["after"]}
    expect("all parts", chats, parts)
    for field, query in (("limit", {"limit": 0}), ("after", {"after": "nonsense"})):
        await mine.refused("chats", "malformed", field=field, **query)
        await at.http.refused("GET /v1/chats", "malformed", field=field, token=token, query=query)


@case()
async def a_digest_proves_a_range(at: Server) -> None:
    """Count, and XOR of the first 8 bytes of SHA-256("message:version"); both ends inclusive."""
    socket, one, chat, ids = await _written(at)
    for first, last in ((0, 4), (1, 3), (2, 2)):
        edges = {"from": ids[first], "to": ids[last]}
        parts = [
            int.from_bytes(hashlib.sha256(f"{each}:{each}".encode()).digest()[:8])
            for each in ids[first : last + 1]
        ]
        wanted = {"count": len(parts), "hash": f"{reduce(xor, parts):016x}"}
        has(await socket.ask("digest", chat=chat, **edges), "digest", type="digest", **wanted)
        same = await at.http.call(
            "GET /v1/chats/{chat}/digest", chat=chat, token=await at.token(one), query=edges
        )
        expect("over HTTP", wanted, same)
    empty = await socket.ask("digest", chat=chat, **{"from": "0", "to": "1"})
    has(empty, "digest of nothing", count=0, hash="0" * 16)


@case()
async def a_digest_that_is_malformed(at: Server) -> None:
    """An end is missing or no id, or the range is the wrong way round."""
    socket, chat = await at.connect(at.ann), at.chat(at.ann, at.ben)
    token = await at.token(at.ann)
    for field, query in (
        ("from", {"to": "1"}),
        ("to", {"from": "1"}),
        ("from", {"from": "x", "to": "1"}),
        ("from", {"from": "2", "to": "1"}),
    ):
        await socket.refused("digest", "malformed", field=field, chat=chat, **query)
        await at.http.refused(
            "GET /v1/chats/{chat}/digest",
            "malformed",
            field=field,
            chat=chat,
            token=token,
            query=query,
        )
    await at.http.refused(
        "GET /v1/chats/{chat}/digest",
        "unknown_chat",
        chat="d-5-6",
        token=token,
        query={"from": "1", "to": id_at(1_800_000_000)},
    )


@case(once=True)
async def a_page_ends_at_48_kib(at: Server) -> None:
    """`more_before` tells of what was cut; over HTTP there is no such end."""
    one = await at.new_user()
    socket = await at.connect(one)
    size = min(int(socket.welcome["limits"]["text_bytes"]), 4_096)
    for number in range(14):
        key = f"l-{number}-{secrets.token_hex(4)}"
        await socket.done("send", to=at.ben.user, key=key, text="x" * size)
    chat, token, whole = at.chat(one, at.ben), await at.token(one), []
    while len(whole) < 14:
        whole = _ids(await at.http.call("GET /v1/chats/{chat}/messages", chat=chat, token=token))
    page = await socket.ask("history", chat=chat)
    if size * 14 > 48 * 1024:
        check(len(page["messages"]) < 14, "less than all", len(page["messages"]))
        expect("more_before", True, page["more_before"])
    expect("the newest", whole[: len(page["messages"])], _ids(page))


@case(slow=True, once=True)
async def a_chat_of_more_than_1024_messages(at: Server) -> None:
    """A digest holds at most so many, else it is malformed; unread is told up to 999."""
    one, count, part = await at.new_user(), 1_025, 41
    socket, chat = await at.connect(one), at.chat(one, at.ben)
    for first in range(1, count + 1, part):
        numbers = range(first, first + part)
        body = {"type": "send", "to": at.ben.user, "text": "x"}
        await socket.say([{**body, "id": 10_000 + n, "key": f"n-{n}-{one.user}"} for n in numbers])
        for number in numbers:
            expect("reply", "ok", (await socket.hear(re=10_000 + number))["type"])
    token, newest = await at.token(at.ben), ""
    while newest != f"n-{count}-{one.user}":
        name, query = "GET /v1/chats/{chat}/messages", {"limit": 1}
        page = await at.http.call(name, chat=chat, token=token, query=query)
        newest = next((each["key"] for each in page["messages"]), "")
    edges = {"from": "0", "to": str(2**62)}
    await socket.refused("digest", "malformed", field="to", chat=chat, **edges)
    state = (await at.http.call("GET /v1/chats", token=token, query={"limit": 1}))["chats"][0]
    has(state, "state", chat=chat, unread=999)
