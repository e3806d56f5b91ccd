"""Members of groups: what each change tells, and what each role may (protocol.md sections 1 to
3).
"""

from __future__ import annotations

import secrets

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.of_files import png, uploaded
from tests.conformance.protocol.of_groups import ADD, GROUP, LEAVE, MEMBER, event_of, made
from tests.conformance.protocol.server import Server

PATCH = "PATCH /v1/chats/{chat}"


def _key() -> str:
    return f"m-{secrets.token_hex(8)}"


@case()
async def each_change_is_an_event(at: Server) -> None:
    """created, joined, role, renamed, avatar, history, left, removed: messages without a text,
    which count as read; the version of the group grows with each.
    """
    cem, dan = await at.new_user(), await at.new_user()
    ann, ben = await at.connect(at.ann), await at.connect(at.ben)
    owner = await at.token(at.ann)
    avatar = (await uploaded(at, at.ann, png(), purpose="avatar"))["file"]
    group = await made(at, at.ann, at.ben, avatar=avatar)
    chat = group["chat"]
    has(group, "group", avatar=avatar, version="1", members=2)
    created = await event_of(ben, chat, "created")
    has(created["event"], "created", name="A group")
    body = {"members": [cem.user, dan.user], "role": "reader"}
    added = (await at.http.call(ADD, chat=chat, token=owner, body=body))["members"]
    expect("roles", ["reader", "reader"], [each["role"] for each in added])
    joined = await event_of(ben, chat, "joined")
    both = sorted([cem.user, dan.user], key=int)
    has(joined["event"], "joined", users=both, role="reader", user=None)
    has(await ben.hear("chat", chat=chat, part="group", members=4), "chat", role="member")
    body = {"role": "member"}
    await at.http.call(MEMBER, chat=chat, user=cem.user, token=owner, body=body)
    has((await event_of(ben, chat, "role"))["event"], "role", user=cem.user, role="member")
    version = (await at.http.call(GROUP, chat=chat, token=owner))["version"]
    change = {"version": version, "name": "Another", "avatar": "", "history": "from_join"}
    changed = await at.http.call(PATCH, chat=chat, token=owner, body=change)
    has(changed, "group", name="Another", avatar=None, history="from_join")
    check(int(changed["version"]) > int(version), "a greater version", changed)
    has((await event_of(ben, chat, "renamed"))["event"], "renamed", name="Another")
    await event_of(ben, chat, "avatar")
    await event_of(ben, chat, "history")
    await at.http.call(LEAVE, chat=chat, user=cem.user, token=await at.token(cem))
    left = await event_of(ben, chat, "left")
    has(left, "left", sender=cem.user)
    await at.http.call(LEAVE, chat=chat, user=dan.user, token=owner)
    removed = await event_of(ben, chat, "removed")
    has(removed, "removed", sender=at.ann.user)
    has(removed["event"], "removed", user=dan.user)
    ids = [each["message"] for each in (created, joined, left, removed)]
    expect("order of events", sorted(ids, key=int), ids)
    page = {"last": ""}
    while page.get("last") != removed["message"]:
        page = await ann.ask("history", chat=chat)
    check(all("event" in each for each in page["messages"]), "events alone", page)
    states = (await ben.ask("chats"))["chats"]
    expect("unread", [0], [each["unread"] for each in states if each["chat"] == chat])


@case(once=True)
async def who_is_in_the_group_keeps_the_role(at: Server) -> None:
    """Adding again changes nothing; 100 users at most a call; an unknown one adds none."""
    token, cem = await at.token(at.ann), await at.new_user()
    chat = (await made(at, at.ann, at.ben))["chat"]
    body = {"members": [at.ben.user, cem.user], "role": "reader"}
    added = (await at.http.call(ADD, chat=chat, token=token, body=body))["members"]
    roles = {each["user"]: each["role"] for each in added}
    expect("roles", {at.ben.user: "member", cem.user: "reader"}, roles)
    before = await at.http.call(GROUP, chat=chat, token=token)
    await at.http.call(ADD, chat=chat, token=token, body=body)
    expect("group", before, await at.http.call(GROUP, chat=chat, token=token))
    many = {"members": [str(number) for number in range(1, 102)]}
    await at.http.refused(ADD, "malformed", field="members", chat=chat, token=token, body=many)
    dan = await at.new_user()
    some = {"members": [dan.user, "5"]}
    await at.http.refused(ADD, "unknown_user", chat=chat, token=token, body=some)
    expect("group", before, await at.http.call(GROUP, chat=chat, token=token))
    one = {"role": "nonsense"}
    await at.http.refused(
        MEMBER, "malformed", field="role", chat=chat, user=dan.user, token=token, body=one
    )
    await at.http.refused(LEAVE, "unknown_user", chat=chat, user=dan.user, token=token)


@case()
async def marks_in_a_small_group_are_told_to_all(at: Server) -> None:
    """`receipt` to every member, `unread` to the devices of who has read."""
    cem = await at.new_user()
    ann, ben, third = [await at.connect(user) for user in (at.ann, at.ben, cem)]
    chat = (await made(at, at.ann, at.ben, cem))["chat"]
    ids = []
    for text in "12":
        ids.append((await ann.done("send", chat=chat, key=_key(), text=text))["message"])
        await ben.hear("message", message=ids[-1])
    await ben.done("mark", chat=chat, read=ids[0])
    for socket in (ann, ben, third):
        receipt = await socket.hear("receipt", chat=chat, user=at.ben.user)
        has(receipt, "receipt", read=ids[0], received=ids[0])
    count: dict[str, object] = {"upto": "0"}
    while int(str(count["upto"])) < int(ids[1]):
        await ben.done("mark", chat=chat, read=ids[0])
        count = await ben.hear("unread", chat=chat)
    has(count, "unread", unread=1, read=ids[0])
    await ann.silent("unread", within_s=0.2, chat=chat)


@case()
async def admins_delete_for_all_and_pin(at: Server) -> None:
    """What another member wrote, and in a group no other member may; a reader marks and deletes for
    itself.
    """
    cem = await at.new_user()
    ann, ben, third = [await at.connect(user) for user in (at.ann, at.ben, cem)]
    group = await made(at, at.ann, at.ben, cem)
    chat, owner = group["chat"], await at.token(at.ann)
    number = (await third.done("send", chat=chat, key=_key(), text="mine"))["message"]
    await ben.hear("message", message=number)
    place = {"chat": chat, "message": number}
    for kind, fields in (("delete", {"for": "all"}), ("edit", {"text": "x"}), ("pin", {})):
        key = _key()
        await ben.done(kind, key=key, **place, **fields)
        has(await ben.hear("refused", key=key), kind, chat=chat, code="forbidden")
    body = {"role": "admin"}
    await at.http.call(MEMBER, chat=chat, user=at.ben.user, token=owner, body=body)
    await ben.hear("chat", chat=chat, part="member", role="admin")
    await ben.done("pin", key=_key(), **place)
    has(await third.hear("changed", op="pin", **place), "changed", by=at.ben.user)
    found: list[dict[str, str]] = []
    while not found:
        pins = "GET /v1/chats/{chat}/pins"
        found = (await at.http.call(pins, chat=chat, token=owner))["pins"]
    has(found[0], "pin", message=number, by=at.ben.user)
    body = {"role": "reader"}
    await at.http.call(MEMBER, chat=chat, user=cem.user, token=owner, body=body)
    await third.hear("chat", chat=chat, part="member", role="reader")
    for kind, fields in (("react", {"emoji": "\U0001f44d"}), ("edit", {"text": "x"})):
        key = _key()
        await third.done(kind, key=key, **place, **fields)
        has(await third.hear("refused", key=key), kind, chat=chat, code="forbidden")
    await third.done("mark", chat=chat, read=number)
    await ann.hear("receipt", chat=chat, user=cem.user, read=number)
    await third.done("delete", key=_key(), **place, **{"for": "me"})
    has(await third.hear("changed", op="delete", **place), "changed", **{"for": "me"})
    await ben.done("delete", key=_key(), **place, **{"for": "all"})
    for socket in (ann, ben, third):
        gone = await socket.hear("changed", op="delete", **place, **{"for": None})
        has(gone, "changed", by=at.ben.user)
