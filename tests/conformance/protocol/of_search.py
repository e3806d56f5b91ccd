"""Searching messages: words, phrases, filters, highlights; only what I may see (protocol.md section
1).
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import Failed, check, expect, has
from tests.conformance.protocol.of_files import png, uploaded
from tests.conformance.protocol.of_groups import LEAVE, MEMBER, made
from tests.conformance.protocol.server import Server, User

SEARCH = "GET /v1/search/messages"
WITHIN_S = 5.0
"""So late a message, an edit or a deletion may be found."""


async def _ids(at: Server, token: str, **query: object) -> list[str]:
    answer = await at.http.call(SEARCH, token=token, query=query)
    return [str(message["message"]) for message in answer["messages"]]


async def _until(at: Server, user: User, ids: list[str], **query: object) -> None:
    """Returns when just these are found."""
    token, found = await at.token(user), None
    try:
        async with asyncio.timeout(WITHIN_S + 1):
            while found != ids:
                if found is not None:
                    await asyncio.sleep(0.1)
                found = await _ids(at, token, **query)
    except TimeoutError:
        raise Failed(f"search for {query}: expected {ids}, came {found}") from None


def _key() -> str:
    return f"f-{secrets.token_hex(8)}"


@case()
async def messages_are_found(at: Server) -> None:
    """By parts of words in any case and phrases, newest first, as in pages, with highlights."""
    one, other, stranger = await at.new_user(), await at.new_user(), await at.new_user()
    ann, ben = await at.connect(one), await at.connect(other)
    chat, token, word = at.chat(one, other), await at.token(one), f"w{secrets.token_hex(6)}"
    sent: list[dict[str, Any]] = [
        await socket.done("send", to=to.user, key=_key(), text=text)
        for socket, to, text in (
            (ann, other, f"Red  wine {word} 🙂 {word.upper()}x"),
            (ben, one, f"wine {word} red"),
        )
    ]
    first, second = (str(ok["message"]) for ok in sent)
    await _until(at, one, [second, first], q=word)
    await _until(at, other, [second, first], q=word[1:-1])
    expect("of a stranger", [], await _ids(at, await at.token(stranger), q=word))
    for q, ids in (
        (f'{word} "red wine"', [first]),
        (f"{word} from:{other.user}", [second]),
        (f"{word} in:{chat}", [second, first]),
        (f"{word} before:{second}", [first]),
        (f"{word} after:{first}", [second]),
        (f"{word} has:file", []),
        (f"{word} nowhere", []),
    ):
        expect(q, ids, await _ids(at, token, q=q))
    expect("chat", [second, first], await _ids(at, token, q=word, chat=chat))
    part = await at.http.call(SEARCH, token=token, query={"q": word, "limit": 1})
    expect("a part", ([second], True), ([m["message"] for m in part["messages"]], part["more"]))
    rest = await at.http.call(SEARCH, token=token, query={"q": word, "before": part["last"]})
    expect("the rest", ([first], False), ([m["message"] for m in rest["messages"]], rest["more"]))
    [found] = rest["messages"]
    text = found["text"]
    marked = [text[start:end] for start, end in found["highlights"]]
    expect("highlights", [word, word.upper()], marked)
    page = await at.http.call("GET /v1/chats/{chat}/messages", chat=chat, token=token)
    has(found, "a message as in pages", **page["messages"][-1])


@case()
async def changes_are_followed(at: Server) -> None:
    """An edit is found and its old text no longer, what is deleted for all or for me is not."""
    one, other = await at.new_user(), await at.new_user()
    ann, chat = await at.connect(one), at.chat(one, other)
    word, new = f"w{secrets.token_hex(6)}", f"x{secrets.token_hex(6)}"
    ids = [
        str((await ann.done("send", to=other.user, key=_key(), text=f"{word} {n}"))["message"])
        for n in range(3)
    ]
    await _until(at, one, ids[::-1], q=word)
    await ann.done("edit", chat=chat, message=ids[0], key=_key(), text=f"now {new}")
    await ann.done("delete", chat=chat, message=ids[1], key=_key(), **{"for": "all"})
    await ann.done("delete", chat=chat, message=ids[2], key=_key(), **{"for": "me"})
    await _until(at, one, [], q=word)
    await _until(at, one, [ids[0]], q=new)
    await _until(at, other, [ids[2]], q=word)


@case()
async def messages_with_files_are_found(at: Server) -> None:
    """By has:file, with a text or without, and shown with their file."""
    one, other = await at.new_user(), await at.new_user()
    ann, chat, file = await at.connect(one), at.chat(one, other), await uploaded(at, one, png())
    sent = [
        str((await ann.done("send", chat=chat, key=_key(), **brought))["message"])
        for brought in ({"file": file["file"]}, {"file": file["file"], "text": "a caption"})
    ]
    await ann.done("send", chat=chat, key=_key(), text="a caption alone")
    await _until(at, other, sent[::-1], q="has:file")
    await _until(at, other, sent[1:], q=f"caption has:file in:{chat}")
    answer = await at.http.call(SEARCH, token=await at.token(other), query={"q": "has:file"})
    for found in answer["messages"]:
        has(found["file"], "the file", file=file["file"], name=file["name"], type=file["type"])


@case()
async def a_group_is_searched_by_its_members(at: Server) -> None:
    """By one who came later from there on; by one who has left no longer."""
    one, other, later = await at.new_user(), await at.new_user(), await at.new_user()
    chat = (await made(at, one, other, history="from_join"))["chat"]
    ann, word, token = await at.connect(one), f"w{secrets.token_hex(6)}", await at.token(one)
    early = await ann.done("send", chat=chat, key=_key(), text=f"early {word}")
    await ann.hear("message", message=early["message"])
    await at.http.call(MEMBER, chat=chat, user=later.user, token=token, body={"role": "member"})
    late = await ann.done("send", chat=chat, key=_key(), text=f"late {word}")
    ids = [str(late["message"]), str(early["message"])]
    await _until(at, other, ids, q=word)
    await _until(at, later, ids[:1], q=word, chat=chat)
    expect("of all chats", ids[:1], await _ids(at, await at.token(later), q=word))
    theirs = await at.token(other)
    await at.http.call(LEAVE, chat=chat, user=other.user, token=theirs)
    expect("of who has left", [], await _ids(at, theirs, q=word))
    await at.http.refused(SEARCH, "not_member", token=theirs, query={"q": word, "chat": chat})


@case()
async def a_search_that_is_malformed(at: Server) -> None:
    """It names its field; chats of others are unknown."""
    one = await at.new_user()
    token = await at.token(one)
    for query, field in (
        ({}, "q"),
        ({"q": "x"}, "q"),
        ({"q": "x y"}, "q"),
        ({"q": "ok from:someone"}, "q"),
        ({"q": "ok has:wings"}, "q"),
        ({"q": "ok", "limit": 0}, "limit"),
        ({"q": "ok", "limit": 257}, "limit"),
        ({"q": "ok", "before": "noon"}, "before"),
        ({"q": "ok", "chat": "here"}, "chat"),
    ):
        await at.http.refused(SEARCH, "malformed", field=field, token=token, query=query)
    for query in ({"q": "ok", "chat": "d-5-6"}, {"q": "ok in:g-5"}):
        await at.http.refused(SEARCH, "unknown_chat", token=token, query=query)
    await at.http.refused(SEARCH, "unauthorized", query={"q": "ok"})
    answer = await at.http.call(SEARCH, token=token, query={"q": "ok"})
    check(answer == {"messages": [], "more": False}, "nothing", answer)
