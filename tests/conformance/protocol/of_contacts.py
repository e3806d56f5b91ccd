"""Contacts, blocks, privacy and requests (protocol.md sections 1 and 3)."""

from __future__ import annotations

import asyncio
import secrets

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.server import Server, User
from tests.conformance.protocol.sockets import Socket

CONTACT, BLOCK, PRIVACY = "PUT /v1/contacts/{user}", "PUT /v1/blocks/{user}", "PUT /v1/me/privacy"
WITHIN_S = 7.0
"""A block counts within 5 s; the rest is for the way."""


async def _act(at: Server, me: User, other: User, action: str, version: str) -> dict[str, str]:
    body = {"action": action, "version": version}
    token = await at.token(me)
    return dict(await at.http.call(CONTACT, user=other.user, token=token, body=body))


async def _until_refused(socket: Socket, to: User, code: str) -> None:
    """Sends until that is refused with this code; `ok` comes in any case."""
    until = asyncio.get_running_loop().time() + WITHIN_S
    while True:
        key = f"b-{secrets.token_hex(8)}"
        ok = await socket.done("send", to=to.user, key=key, text="let me in")
        answer = await socket.hear(key=key)
        if answer["type"] == "refused":
            has(answer, "refused", message=ok["message"], code=code)
            return
        now = asyncio.get_running_loop().time()
        check(now < until, f"{code} within {WITHIN_S:.0f} s", "messages that pass")


async def _until_passed(socket: Socket, to: User) -> None:
    until = asyncio.get_running_loop().time() + WITHIN_S
    while True:
        key = f"b-{secrets.token_hex(8)}"
        await socket.done("send", to=to.user, key=key, text="thanks")
        if (await socket.hear(key=key))["type"] == "message":
            return
        now = asyncio.get_running_loop().time()
        check(now < until, f"a message within {WITHIN_S:.0f} s", "refusals")


@case(once=True)
async def an_invitation_is_accepted(at: Server) -> None:
    """invited and invited_me, then contact on both sides, with a push to each; then none."""
    one, other = await at.new_user(), await at.new_user()
    ann, ben = await at.connect(one), await at.connect(other)
    invited = await _act(at, one, other, "invite", "0")
    has(invited, "contact", user=other.user, state="invited")
    has(await ann.hear("contact", user=other.user), "push", **invited)
    theirs = await ben.hear("contact", user=one.user)
    has(theirs, "push", state="invited_me")
    accepted = await _act(at, other, one, "accept", theirs["version"])
    has(accepted, "contact", user=one.user, state="contact")
    mine = await ann.hear("contact", user=other.user, state="contact")
    check(int(mine["version"]) > int(invited["version"]), "a greater version", mine)
    await ben.hear("contact", user=one.user, state="contact")
    for user, wanted in ((one, other), (other, one)):
        listed = await at.http.call("GET /v1/contacts", token=await at.token(user))
        expect("contacts", [wanted.user], [each["user"] for each in listed["contacts"]])
    token = await at.token(one)
    body = {"action": "remove", "version": "0"}
    await at.http.refused(CONTACT, "stale", user=other.user, token=token, body=body)
    removed = await _act(at, one, other, "remove", mine["version"])
    has(removed, "contact", state="none")
    await ben.hear("contact", user=one.user, state="none")
    expect("contacts", [], (await at.http.call("GET /v1/contacts", token=token))["contacts"])


@case(once=True)
async def invitations_end_without_a_contact(at: Server) -> None:
    """Cancelled by who invites, declined by who is invited: none on both sides."""
    for action, ends in (("cancel", 0), ("decline", 1)):
        pair = (await at.new_user(), await at.new_user())
        ben = await at.connect(pair[1])
        mine = await _act(at, *pair, "invite", "0")
        theirs = await ben.hear("contact", user=pair[0].user)
        versions = (mine["version"], theirs["version"])
        ended = await _act(at, pair[ends], pair[1 - ends], action, versions[ends])
        has(ended, action, state="none")
        await ben.hear("contact", user=pair[0].user, state="none")


@case(once=True)
async def crossing_invitations_become_a_contact(at: Server) -> None:
    """Both invite, and neither has seen the other's yet."""
    one, other = await at.new_user(), await at.new_user()
    await _act(at, one, other, "invite", "0")
    has(await _act(at, other, one, "invite", "0"), "contact", state="contact")


@case(once=True)
async def contacts_that_are_refused(at: Server) -> None:
    """An action that the state does not allow, an unknown user, myself."""
    one, other = await at.new_user(), await at.new_user()
    token = await at.token(one)
    for code, field, user, body in (
        ("malformed", "action", other.user, {"action": "accept", "version": "0"}),
        ("malformed", "action", other.user, {"action": "nonsense", "version": "0"}),
        ("malformed", "version", other.user, {"action": "invite"}),
        ("malformed", "user", one.user, {"action": "invite", "version": "0"}),
        ("malformed", "user", "x", {"action": "invite", "version": "0"}),
        ("unknown_user", None, "5", {"action": "invite", "version": "0"}),
    ):
        await at.http.refused(CONTACT, code, field=field, user=user, token=token, body=body)


@case(once=True)
async def the_list_of_contacts_goes_on(at: Server) -> None:
    """By user id; `after` leads on; so does the list of blocks."""
    one, others = await at.new_user(), [await at.new_user() for _ in range(3)]
    token = await at.token(one)
    for other in others:
        await _act(at, one, other, "invite", "0")
        await at.http.call(BLOCK, user=other.user, token=token)
    wanted = sorted((other.user for other in others), key=int)
    for name, field in (("GET /v1/contacts", "contacts"), ("GET /v1/blocks", "blocks")):
        found: list[str] = []
        more: dict[str, object] = {"limit": 2}
        while True:
            part = await at.http.call(name, token=token, query=more)
            found += [each["user"] for each in part[field]]
            if "after" not in part:
                break
            more = {"limit": 2, "after": part["after"]}
        expect(name, wanted, found)
        query = {"limit": 257}
        await at.http.refused(name, "malformed", field="limit", token=token, query=query)


@case(once=True)
async def a_block(at: Server) -> None:
    """Within 5 s what the blocked user sends is forbidden, what I send is blocked; afterwards all
    passes again; invitations are refused alike.
    """
    one, other = await at.new_user(), await at.new_user()
    ann, ben = await at.connect(one), await at.connect(other)
    token, theirs = await at.token(one), await at.token(other)
    await at.http.call(BLOCK, user=other.user, token=token)
    await at.http.call(BLOCK, user=other.user, token=token)
    listed = await at.http.call("GET /v1/blocks", token=token)
    expect("blocks", [{"user": other.user}], listed["blocks"])
    await _until_refused(ben, one, "forbidden")
    await _until_refused(ann, other, "blocked")
    body = {"action": "invite", "version": "0"}
    await at.http.refused(CONTACT, "blocked", user=other.user, token=token, body=body)
    await at.http.refused(CONTACT, "forbidden", user=one.user, token=theirs, body=body)
    await at.http.call("DELETE /v1/blocks/{user}", user=other.user, token=token)
    await at.http.call("DELETE /v1/blocks/{user}", user=other.user, token=token)
    await _until_passed(ben, one)
    for code, user in (("unknown_user", "5"), ("malformed", one.user), ("malformed", "x")):
        await at.http.refused(BLOCK, code, user=user, token=token)


@case(once=True)
async def privacy(at: Server) -> None:
    """Defaults, a change by version, stale; `contacts` lets no stranger write, who is told
    forbidden as by a block.
    """
    one, other = await at.new_user(), await at.new_user()
    token, ben = await at.token(one), await at.connect(other)
    was = await at.http.call("GET /v1/me/privacy", token=token)
    has(was, "defaults", who_may_write="everyone", receipts=True, last_seen="contacts")
    change = {**was, "who_may_write": "contacts"}
    changed = await at.http.call(PRIVACY, token=token, body=change)
    has(changed, "privacy", who_may_write="contacts")
    expect("read again", changed, await at.http.call("GET /v1/me/privacy", token=token))
    await at.http.refused(PRIVACY, "stale", token=token, body=change)
    for field, value in (
        ("who_may_write", "friends"),
        ("receipts", "yes"),
        ("last_seen", 5),
        ("version", None),
    ):
        body = {**changed, field: value}
        await at.http.refused(PRIVACY, "malformed", field=field, token=token, body=body)
    await _until_refused(ben, one, "forbidden")


@case(once=True)
async def receipts_are_hidden_both_ways(at: Server) -> None:
    """receipts: false: within 5 s my marks are not told, nor others' to me."""
    one, other = await at.new_user(), await at.new_user()
    ann, ben, chat = await at.connect(one), await at.connect(other), at.chat(one, other)
    token = await at.token(one)
    was = await at.http.call("GET /v1/me/privacy", token=token)
    await at.http.call(PRIVACY, token=token, body={**was, "receipts": False})
    await asyncio.sleep(5)
    ok = await ben.done("send", to=one.user, key=f"p-{secrets.token_hex(8)}", text="x")
    await ann.done("mark", chat=chat, read=ok["message"])
    await ann.hear("receipt", user=one.user, read=ok["message"])
    await ben.done("mark", chat=chat, received=ok["message"])
    await ben.hear("receipt", user=other.user, received=ok["message"])
    await ben.silent("receipt", within_s=0.5, user=one.user)
    await ann.silent("receipt", within_s=0.1, user=other.user)


@case(once=True)
async def a_first_message_of_a_stranger_is_a_request(at: Server) -> None:
    """`request: true` in the list of chats until I answer; not in the sender's."""
    one, other = await at.new_user(), await at.new_user()
    ann, ben = await at.connect(one), await at.connect(other)
    await ben.done("send", to=one.user, key=f"q-{secrets.token_hex(8)}", text="hello, stranger")
    chats: list[dict[str, object]] = []
    while not chats:
        chats = (await ann.ask("chats"))["chats"]
    expect("request", True, chats[0].get("request"))
    check("request" not in (await ben.ask("chats"))["chats"][0], "no request", "one")
    await ann.done("send", to=other.user, key=f"q-{secrets.token_hex(8)}", text="hello")
    while "request" in (await ann.ask("chats"))["chats"][0]:
        pass


@case(once=True)
async def a_request_is_answered_by_a_reaction_or_by_accepting(at: Server) -> None:
    """What I want of the chat and marks answer nothing."""
    for answer in ("react", "accept"):
        one, other = await at.new_user(), await at.new_user()
        ann, ben, chat = await at.connect(one), await at.connect(other), at.chat(one, other)
        ok = await ben.done("send", to=one.user, key=f"q-{secrets.token_hex(8)}", text="hello")
        await ann.done("mark", chat=chat, read=ok["message"])
        await ann.hear("unread", chat=chat)
        expect("request", True, (await ann.ask("chats"))["chats"][0].get("request"))
        if answer == "react":
            key = f"q-{secrets.token_hex(8)}"
            await ann.done("react", chat=chat, message=ok["message"], key=key, emoji="👍")
        else:
            await _act(at, other, one, "invite", "0")
            theirs = await ann.hear("contact", user=other.user)
            await _act(at, one, other, "accept", theirs["version"])
        while "request" in (await ann.ask("chats"))["chats"][0]:
            pass


@case(once=True)
async def who_hears_contacts_alone(at: Server) -> None:
    """Invitations still come; a contact may write, until it ends."""
    one, other = await at.new_user(), await at.new_user()
    token, ben = await at.token(one), await at.connect(other)
    was = await at.http.call("GET /v1/me/privacy", token=token)
    await at.http.call(PRIVACY, token=token, body={**was, "who_may_write": "contacts"})
    await _until_refused(ben, one, "forbidden")
    await _act(at, other, one, "invite", "0")
    accepted = await _act(at, one, other, "accept", "1")
    has(accepted, "contact", state="contact")
    await _until_passed(ben, one)
    await _act(at, one, other, "remove", accepted["version"])
    await _until_refused(ben, one, "forbidden")


@case(once=True)
async def a_block_hides_the_moment(at: Server) -> None:
    """Within 5 s neither is told of typing and marks, and each sees the other one as offline."""
    one, other = await at.new_user(), await at.new_user()
    ann, ben, chat = await at.connect(one), await at.connect(other), at.chat(one, other)
    ok = await ben.done("send", to=one.user, key=f"h-{secrets.token_hex(8)}", text="hello")
    await ann.hear("message", message=ok["message"])
    for me, you in ((ann, other), (ben, one)):
        await me.done("watch", users=[you.user])
        await me.hear("presence", user=you.user, state="online")
        me.forget()
    await at.http.call(BLOCK, user=other.user, token=await at.token(one))
    for me, you in ((ann, other), (ben, one)):
        gone = await me.hear("presence", user=you.user, state="offline")
        check("last_seen" not in gone, "no last_seen", gone)
    await asyncio.sleep(5)
    for me in (ann, ben):
        await me.say({"type": "typing", "chat": chat})
    await ann.done("mark", chat=chat, read=ok["message"])
    await ann.hear("receipt", user=one.user)
    await ben.silent("receipt", within_s=0.5, user=one.user)
    for me in (ann, ben):
        await me.silent("typing", within_s=0.1, chat=chat)


@case(once=True)
async def a_block_keeps_both_out_of_groups(at: Server) -> None:
    """Who may not write to a user may not add that one: blocked, or forbidden."""
    one, other = await at.new_user(), await at.new_user()
    token, theirs = await at.token(one), await at.token(other)
    await at.http.call(BLOCK, user=other.user, token=token)
    for code, asking, added in (("blocked", token, other), ("forbidden", theirs, one)):
        body = {"key": f"g-{secrets.token_hex(8)}", "name": "A group"}
        whole = {**body, "members": [added.user]}
        await at.http.refused("POST /v1/chats", code, token=asking, body=whole)
        chat = (await at.http.call("POST /v1/chats", token=asking, body=body))["chat"]
        add, put = "POST /v1/chats/{chat}/members", "PUT /v1/chats/{chat}/members/{user}"
        more = {"members": [added.user]}
        await at.http.refused(add, code, chat=chat, token=asking, body=more)
        role = {"role": "member"}
        await at.http.refused(put, code, chat=chat, user=added.user, token=asking, body=role)
