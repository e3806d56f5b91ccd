"""Changes of messages: `edit`, `delete`, `react`, `pin`, `changed` (protocol.md sections 2, 3)."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Any

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.of_messages import id_at
from tests.conformance.protocol.server import Server
from tests.conformance.protocol.sockets import Socket

CHANGES = ("edit", "delete", "react", "unreact", "pin", "unpin")


def _key() -> str:
    return f"c-{secrets.token_hex(8)}"


async def _sent(socket: Socket, to: str, text: str = "a text") -> str:
    return str((await socket.done("send", to=to, key=_key(), text=text))["message"])


async def _message(
    socket: Socket, chat: str, number: str, fits: Callable[[dict[str, Any] | None], bool]
) -> dict[str, Any] | None:
    """A message as history has it, as soon as that fits."""
    while True:
        page = await socket.ask("history", chat=chat, around=number, limit=1)
        found = next((each for each in page["messages"] if each["message"] == number), None)
        if fits(found):
            return found


def _fields(kind: str) -> dict[str, str]:
    return {
        "edit": {"text": "another"},
        "delete": {"for": "all"},
        "react": {"emoji": "👍"},
        "unreact": {"emoji": "👍"},
    }.get(kind, {})


@case()
async def an_edit(at: Server) -> None:
    """`ok` with message and version; `changed` to both; pages show the text, and `edited`."""
    ann, ben, chat = await at.connect(at.ann), await at.connect(at.ben), at.chat(at.ann, at.ben)
    number, key = await _sent(ann, at.ben.user), _key()
    edit = {"chat": chat, "message": number, "key": key, "text": "a better text"}
    ok = await ann.done("edit", **edit)
    has(ok, "ok", message=number, duplicate=None)
    check(int(ok["version"]) > int(number), "a version above the message", ok)
    for socket in (ann, ben):
        has(
            await socket.hear("changed", message=number, op="edit"),
            "changed",
            chat=chat,
            version=ok["version"],
            by=at.ann.user,
            text="a better text",
        )
    has(await ann.done("edit", **edit), "the same key again", version=ok["version"], duplicate=True)
    await ann.refused("edit", "key_reused", **edit | {"text": "yet another"})
    shown = await _message(ben, chat, number, lambda each: each is not None and "edited" in each)
    has(
        shown or {},
        "the message",
        text="a better text",
        edited=ok["version"],
        version=ok["version"],
    )


@case()
async def a_deletion_for_all_is_final(at: Server) -> None:
    """Without text and reactions from then on; a later edit, reaction or pin is unknown_message."""
    ann, ben, chat = await at.connect(at.ann), await at.connect(at.ben), at.chat(at.ann, at.ben)
    number = await _sent(ann, at.ben.user)
    await ben.done("react", chat=chat, message=number, key=_key(), emoji="👍")
    ok = await ann.done("delete", chat=chat, message=number, key=_key(), **{"for": "all"})
    for socket in (ann, ben):
        changed = await socket.hear("changed", message=number, op="delete")
        has(changed, "changed", version=ok["version"], by=at.ann.user, **{"for": None})
    shown = await _message(ben, chat, number, lambda each: each is not None and "deleted" in each)
    has(shown or {}, "the message", text=None, deleted=ok["version"], reactions=[])
    for kind in ("edit", "react", "pin"):
        key = _key()
        await ann.done(kind, chat=chat, message=number, key=key, **_fields(kind))
        has(await ann.hear("refused", key=key), kind, chat=chat, code="unknown_message")


@case()
async def a_deletion_for_me(at: Server) -> None:
    """`changed` with `for: me` to my devices alone; it is in none of my pages, and in theirs."""
    ann, ben, chat = await at.connect(at.ann), await at.connect(at.ben), at.chat(at.ann, at.ben)
    tablet = await at.connect(at.ben, "tablet")
    number = await _sent(ann, at.ben.user)
    await ben.done("delete", chat=chat, message=number, key=_key(), **{"for": "me"})
    for socket in (ben, tablet):
        has(await socket.hear("changed", message=number), "changed", op="delete", **{"for": "me"})
    await _message(ben, chat, number, lambda each: each is None)
    await _message(ann, chat, number, lambda each: each is not None and "text" in each)
    await ann.silent("changed", within_s=0.3, message=number)


@case()
async def a_message_of_another_user_stays(at: Server) -> None:
    """An edit and a deletion for all are refused `forbidden`."""
    ann, ben, chat = await at.connect(at.ann), await at.connect(at.ben), at.chat(at.ann, at.ben)
    number = await _sent(ann, at.ben.user, "mine")
    for kind in ("edit", "delete"):
        key = _key()
        await ben.done(kind, chat=chat, message=number, key=key, **_fields(kind))
        has(await ben.hear("refused", key=key), kind, chat=chat, code="forbidden")
    shown = await _message(ben, chat, number, lambda each: each is not None)
    has(shown or {}, "the message", text="mine", edited=None, deleted=None)


@case()
async def reactions(at: Server) -> None:
    """One count for spellings of an emoji; users in order; `unreact` takes it away; the digest goes
    by the version.
    """
    ann, ben, chat = await at.connect(at.ann), await at.connect(at.ben), at.chat(at.ann, at.ben)
    number = await _sent(ann, at.ben.user)
    await ann.done("react", chat=chat, message=number, key=_key(), emoji="\u2764")
    ok = await ben.done("react", chat=chat, message=number, key=_key(), emoji="\u2764\ufe0f")
    for socket in (ann, ben):
        changed = await socket.hear("changed", message=number, op="react", by=at.ben.user)
        has(changed, "changed", emoji="\u2764\ufe0f", version=ok["version"])
    # Either may be written first.
    shown = await _message(
        ann,
        chat,
        number,
        lambda each: (
            each is not None
            and each["version"] == ok["version"]
            and sum(one["count"] for one in each["reactions"]) > 1
        ),
    )
    users = sorted((at.ann.user, at.ben.user), key=int)
    reacted = {"emoji": "\u2764\ufe0f", "count": 2, "users": users}
    expect("reactions", [reacted], (shown or {})["reactions"])
    parts = hashlib.sha256(f"{number}:{ok['version']}".encode()).digest()[:8]
    digest = await ann.ask("digest", chat=chat, **{"from": number, "to": number})
    has(digest, "digest", count=1, hash=parts.hex())
    away = await ben.done("unreact", chat=chat, message=number, key=_key(), emoji="\u2764")
    await ann.hear("changed", message=number, op="unreact", version=away["version"])
    shown = await _message(
        ann, chat, number, lambda each: each is not None and each["version"] == away["version"]
    )
    expect(
        "reactions", [{**reacted, "count": 1, "users": [at.ann.user]}], (shown or {})["reactions"]
    )


@case()
async def a_fourth_emoji_of_one_user(at: Server) -> None:
    """Refused too_many; all are told that it is taken away."""
    ann, ben, chat = await at.connect(at.ann), await at.connect(at.ben), at.chat(at.ann, at.ben)
    number = await _sent(ann, at.ben.user)
    for emoji in "👍😀🎉":
        await ben.done("react", chat=chat, message=number, key=_key(), emoji=emoji)
        await ann.hear("changed", message=number, op="react", emoji=emoji)
    key = _key()
    ok = await ben.done("react", chat=chat, message=number, key=key, emoji="🔥")
    has(await ben.hear("refused", key=key), "refused", chat=chat, code="too_many")
    changed = await ann.hear("changed", message=number, version=ok["version"])
    has(changed, "changed", op="unreact", emoji="🔥", by=at.ben.user)


@case()
async def pins(at: Server) -> None:
    """Both may pin; the newest pin first; `unpin` takes it away."""
    one = await at.new_user()
    ann, ben, chat = await at.connect(one), await at.connect(at.ben), at.chat(one, at.ben)
    numbers = [await _sent(ann, at.ben.user) for _ in range(2)]
    for socket, number, user in ((ann, numbers[0], one), (ben, numbers[1], at.ben)):
        await socket.done("pin", chat=chat, message=number, key=_key())
        has(await ann.hear("changed", message=number), "changed", op="pin", by=user.user)
    token, found = await at.token(one), []
    name = "GET /v1/chats/{chat}/pins"
    while len(found) < 2:
        found = (await at.http.call(name, chat=chat, token=token))["pins"]
    expect("pins", [*reversed(numbers)], [each["message"] for each in found])
    expect("by", [at.ben.user, one.user], [each["by"] for each in found])
    await ann.done("unpin", chat=chat, message=numbers[1], key=_key())
    while len(found) != 1:
        found = (await at.http.call(name, chat=chat, token=token))["pins"]
    await at.http.refused(name, "unknown_chat", chat="d-5-6", token=token)


@case(once=True)
async def a_message_with_twenty_emoji(at: Server) -> None:
    """A 21st is refused too_many, by whomever; one that is there is not."""
    ann, number, chat = await at.connect(at.ann), "", ""
    emoji = [chr(code) for code in range(0x1F600, 0x1F615)]
    users = [await at.new_user() for _ in range(6)]
    everyone = [each.user for each in users]
    body = {"key": _key(), "name": "Emoji", "members": everyone}
    chat = (await at.http.call("POST /v1/chats", token=await at.token(at.ann), body=body))["chat"]
    number = (await ann.done("send", chat=chat, key=_key(), text="well?"))["message"]
    for index, user in enumerate(users):
        socket = await at.connect(user)
        for each in emoji[3 * index : 3 * index + 3]:
            await socket.done("react", chat=chat, message=number, key=_key(), emoji=each)
            await ann.hear("changed", message=number, op="react", emoji=each)
    for each in emoji[18:20]:
        await ann.done("react", chat=chat, message=number, key=_key(), emoji=each)
        await ann.hear("changed", message=number, op="react", emoji=each)
    key = _key()
    await ann.done("react", chat=chat, message=number, key=key, emoji=emoji[20])
    has(await ann.hear("refused", key=key), "the 21st", chat=chat, code="too_many")
    ok = await ann.done("react", chat=chat, message=number, key=_key(), emoji=emoji[0])
    shown = await _message(
        ann, chat, number, lambda each: each is not None and each["version"] == ok["version"]
    )
    found = {each["emoji"]: each["count"] for each in (shown or {})["reactions"]}
    expect("reactions", dict.fromkeys(emoji[:20], 1) | {emoji[0]: 2}, found)


@case(once=True)
async def a_chat_with_fifty_pins(at: Server) -> None:
    """The 51st is refused too_many; all are told that it is taken away."""
    one = await at.new_user()
    ann, chat = await at.connect(one), at.chat(one, at.ben)
    numbers = [await _sent(ann, at.ben.user) for _ in range(51)]
    for number in numbers[:50]:
        await ann.done("pin", chat=chat, message=number, key=_key())
        await ann.hear("changed", message=number, op="pin")
    key = _key()
    ok = await ann.done("pin", chat=chat, message=numbers[50], key=key)
    has(await ann.hear("refused", key=key), "the 51st", chat=chat, code="too_many")
    has(await ann.hear("changed", version=ok["version"]), "changed", op="unpin")
    token, found = await at.token(one), []
    while len(found) < 50:
        found = (await at.http.call("GET /v1/chats/{chat}/pins", chat=chat, token=token))["pins"]
    expect("pins", numbers[:50][::-1], [each["message"] for each in found])


@case()
async def a_change_of_what_another_device_wrote(at: Server) -> None:
    """Messages are the user's, not the device's; the key is one for all devices."""
    phone, tablet = await at.connect(at.ann), await at.connect(at.ann, "tablet")
    chat, number = at.chat(at.ann, at.ben), await _sent(phone, at.ben.user)
    edit = {"chat": chat, "message": number, "key": _key(), "text": "by the tablet"}
    ok = await tablet.done("edit", **edit)
    has(await phone.hear("changed", message=number), "changed", version=ok["version"])
    has(await phone.done("edit", **edit), "the same key", version=ok["version"], duplicate=True)


@case()
async def a_deletion_counts_unread_again(at: Server) -> None:
    """`unread` to those who have not read it."""
    one = await at.new_user()
    ann, ben, chat = await at.connect(one), await at.connect(at.ben), at.chat(one, at.ben)
    numbers = [await _sent(ann, at.ben.user) for _ in range(2)]
    for number in numbers:
        await _message(ben, chat, number, lambda each: each is not None)
    await ann.done("delete", chat=chat, message=numbers[0], key=_key(), **{"for": "all"})
    has(await ben.hear("unread", chat=chat), "unread", unread=1, upto=numbers[1])


@case()
async def a_change_that_is_malformed(at: Server) -> None:
    """The field is named; a chat of others is unknown_chat; a message from the future is
    unknown_message.
    """
    ann, chat = await at.connect(at.ann), at.chat(at.ann, at.ben)
    good = {"chat": chat, "message": await _sent(ann, at.ben.user)}
    future = id_at(time.time() + 3_600)
    for kind in CHANGES:
        whole = {**good, "key": _key(), **_fields(kind)}
        for field in ("chat", "message", "key", *_fields(kind)):
            await ann.refused(kind, "malformed", field=field, **whole | {field: None})
            await ann.refused(kind, "malformed", field=field, **whole | {field: ""})
            await ann.refused(kind, "malformed", field=field, **whole | {field: 5})
        await ann.refused(kind, "malformed", field="message", **whole | {"message": "0"})
        await ann.refused(kind, "unknown_chat", **whole | {"chat": "d-5-6"})
        await ann.done(kind, **whole | {"message": future})
        has(await ann.hear("refused", key=whole["key"]), kind, code="unknown_message")
    for emoji in ("x", "👍👍", "1", "\u200d", "👍" * 20):
        await ann.refused("react", "malformed", field="emoji", **good, key=_key(), emoji=emoji)
    limit = int(ann.welcome["limits"]["text_bytes"])
    await ann.refused("edit", "too_large", field="text", **good, key=_key(), text="x" * (limit + 1))
