"""`typing`, `watch`, `unwatch` and `presence`: best effort, without `n` and cursor (protocol.md
section 2).
"""

from __future__ import annotations

import asyncio
import secrets

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.server import Server


@case()
async def typing_reaches_the_other_side(at: Server) -> None:
    """All sessions of the other user, none of mine; a chat of others is unknown_chat."""
    ann, tablet = await at.connect(at.ann), await at.connect(at.ann, "tablet")
    ben, chat = await at.connect(at.ben), at.chat(at.ann, at.ben)
    await ann.say({"type": "typing", "chat": chat})
    told = await ben.hear("typing", chat=chat)
    expect("user who types", at.ann.user, told["user"])
    check(not {"n", "cursor"} & told.keys(), "neither n nor cursor", told)
    await tablet.silent("typing", within_s=0.3)
    await ann.refused("typing", "unknown_chat", chat="d-5-6")
    await ann.refused("typing", "malformed", field="chat", chat="nonsense")


@case()
async def typing_is_told_every_two_seconds(at: Server) -> None:
    """At most so often, whatever a client says."""
    one = await at.new_user()
    ann, ben, chat = await at.connect(one), await at.connect(at.ben), at.chat(one, at.ben)
    for _ in range(5):
        await ann.say({"type": "typing", "chat": chat})
    await ben.hear("typing", chat=chat)
    await ben.silent("typing", within_s=0.5, chat=chat)
    await asyncio.sleep(2)
    await ann.say({"type": "typing", "chat": chat})
    await ben.hear("typing", chat=chat)


@case()
async def typing_reaches_members_who_look_at_the_group(at: Server) -> None:
    """Who typed, marked or asked for history there; no other member, and of no stranger."""
    cem, stranger = await at.new_user(), await at.new_user()
    body = {"key": f"g-{secrets.token_hex(8)}", "name": "A group"}
    body |= {"members": [at.ben.user, cem.user], "history": "all"}
    group = await at.http.call("POST /v1/chats", token=await at.token(at.ann), body=body)
    chat = group["chat"]
    ann, ben, cems = [await at.connect(user) for user in (at.ann, at.ben, cem)]
    strangers = await at.connect(stranger)
    await ben.ask("history", chat=chat)
    for socket in (strangers, ann):
        await socket.say({"type": "typing", "chat": chat})
    told = await ben.hear("typing", chat=chat)
    expect("user who types", at.ann.user, told["user"])
    check(not {"n", "cursor"} & told.keys(), "neither n nor cursor", told)
    await ben.silent("typing", within_s=0.5)
    await cems.silent("typing", within_s=0.1)


@case()
async def who_watches_is_told(at: Server) -> None:
    """`ok`, how each is, and what changes; invisible is shown as offline; `unwatch` ends it."""
    one, other = await at.new_user(), await at.new_user()
    ann, ben = await at.connect(one), await at.connect(other)
    await ann.done("watch", users=[other.user])
    first = await ann.hear("presence", user=other.user)
    has(first, "presence", state="online")
    check(not {"n", "cursor"} & first.keys(), "neither n nor cursor", first)
    await ben.done("presence", state="busy", text="in a meeting")
    has(await ann.hear("presence", state="busy"), "presence", text="in a meeting")
    await ben.done("presence", state="away")
    await ann.hear("presence", user=other.user, state="away")
    await ben.done("presence", state="invisible")
    await ann.hear("presence", user=other.user, state="offline")
    await ann.done("unwatch", users=[other.user])
    await ben.done("presence", state="online")
    await ann.silent("presence", within_s=1.2, user=other.user, state="online")


@case()
async def presence_that_is_malformed(at: Server) -> None:
    """A state that there is not, users that are none."""
    ann = await at.connect(at.ann)
    await ann.refused("presence", "malformed", field="state", state="nonsense")
    await ann.refused("presence", "malformed", field="state")
    await ann.refused("presence", "malformed", field="text", state="busy", text="x" * 129)
    for kind in ("watch", "unwatch"):
        await ann.refused(kind, "malformed", field="users", users=["x"])
        await ann.refused(kind, "malformed", field="users")


@case()
async def the_hundred_and_first_is_too_many(at: Server) -> None:
    """100 users may be watched by a session."""
    ann = await at.connect(at.ann)
    users = [str(secrets.randbits(61) + 1) for _ in range(100)]
    await ann.done("watch", users=users)
    await ann.refused("watch", "too_many", users=[at.ben.user])
    await ann.done("unwatch", users=users)
    await ann.done("watch", users=[at.ben.user])


@case()
async def a_session_in_the_background_is_told_no_presence(at: Server) -> None:
    """`watch` gets its `ok` there, and nothing follows."""
    one = await at.new_user()
    await at.connect(at.ben)
    back = await at.connect(one, background=True)
    await back.done("watch", users=[at.ben.user])
    await back.silent("presence", within_s=1.5)


@case(slow=True, once=True)
async def who_goes_is_offline_after_ten_seconds(at: Server) -> None:
    """A socket that is back before that was never away; by `last_seen` everyone is told when the
    user was last there, a stranger is not by `contacts`.
    """
    one, other = await at.new_user(), await at.new_user()
    ann, ben = await at.connect(one), await at.connect(other)
    token = await at.token(other)
    was = await at.http.call("GET /v1/me/privacy", token=token)
    change = {**was, "last_seen": "everyone"}
    changed = await at.http.call("PUT /v1/me/privacy", token=token, body=change)
    await ann.done("watch", users=[other.user])
    await ann.hear("presence", state="online")
    await ben.close()
    ben = await at.connect(other)
    await ann.silent("presence", within_s=11, state="offline")
    await ben.close()
    gone = await ann.hear("presence", user=other.user, state="offline")
    check("last_seen" in gone, "last_seen", gone)
    change = {**changed, "last_seen": "contacts"}
    await at.http.call("PUT /v1/me/privacy", token=token, body=change)
    await ann.done("unwatch", users=[other.user])
    await asyncio.sleep(5)
    await ann.done("watch", users=[other.user])
    gone = await ann.hear("presence", user=other.user)
    has(gone, "presence", state="offline", last_seen=None)
