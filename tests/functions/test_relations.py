"""Contacts, blocks and privacy over HTTP, and how both sides hear of a contact."""

from __future__ import annotations

import asyncio

import pytest

from functions.domain.audit import Audit
from functions.domain.audit_log import Scope
from functions.events.persist import keep
from functions.runtime.context import Timing, current_context, use_backends
from schemas import chat_pb2 as pb
from schemas.errors import Unavailable
from schemas.ids import LATEST, direct_chat
from schemas.topics import DELIVERIES
from tests.functions.callers import Caller, problem


@pytest.fixture
async def ben(backends):
    return await (await Caller(backends).register("ben")).log_in()


async def act(caller, other, action, version="0"):
    return await caller.call(
        "PUT", f"/v1/contacts/{other.user}", {"action": action, "version": version}
    )


async def told(topics):
    """Who was told what of whom."""
    return {
        (str(delivery.users[0]), str(one.user), one.state, one.version)
        for delivery in await topics.items(DELIVERIES)
        for one in [delivery.contact]
        if delivery.HasField("contact")
    }


async def test_an_invitation_is_accepted(ann, ben, topics):
    """Both see it, and both are told each time."""
    invited = await act(ann, ben, "invite")
    listed = await ben.get("/v1/contacts")
    accepted = await act(ben, ann, "accept", "1")

    assert invited.json() == {"user": ben.user, "state": "invited", "version": "1"}
    assert listed.json() == {
        "contacts": [{"user": ann.user, "state": "invited_me", "version": "1"}]
    }
    assert accepted.json() == {"user": ann.user, "state": "contact", "version": "2"}
    assert await told(topics) == {
        (ann.user, ben.user, "invited", 1),
        (ben.user, ann.user, "invited_me", 1),
        (ann.user, ben.user, "contact", 2),
        (ben.user, ann.user, "contact", 2),
    }


async def test_what_is_refused(ann, ben, backends):
    """Older versions, actions that do not fit, oneself, and users who do not exist."""
    await act(ann, ben, "invite")
    missing = Caller(backends)
    missing.user = "4711"

    assert problem(await act(ann, ben, "invite")) == (409, "stale", "version")
    assert problem(await act(ann, ben, "accept", "1")) == (400, "malformed", "action")
    assert problem(await act(ann, ben, "hug", "1")) == (400, "malformed", "action")
    assert problem(await act(ann, ann, "invite")) == (400, "malformed", "user")
    assert problem(await act(ann, missing, "invite")) == (404, "unknown_user", "user")
    assert problem(await ann.call("PUT", f"/v1/blocks/{ann.user}")) == (400, "malformed", "user")
    assert problem(await ann.call("PUT", "/v1/blocks/4711")) == (404, "unknown_user", "user")
    assert problem(await ann.get("/v1/contacts", after="x")) == (400, "malformed", "after")


async def test_blocks(ann, ben):
    """Listed until they are ended; repeats are no mistakes. Invitations stop both ways."""
    for _ in range(2):
        assert (await ann.call("PUT", f"/v1/blocks/{ben.user}")).status_code == 204
    listed = await ann.get("/v1/blocks")
    refused = [problem(await act(ben, ann, "invite")), problem(await act(ann, ben, "invite"))]
    for _ in range(2):
        assert (await ann.call("DELETE", f"/v1/blocks/{ben.user}")).status_code == 204

    assert listed.json() == {"blocks": [{"user": ben.user}]}
    assert [one[:2] for one in refused] == [(403, "forbidden"), (403, "blocked")]
    assert (await ann.get("/v1/blocks")).json() == {"blocks": []}


@pytest.mark.parametrize("blocker", [0, 1])
async def test_blocked_people_do_not_add_each_other_to_groups(ann, ben, blocker):
    """Nor strangers those who hear contacts alone."""
    code = ("blocked", "forbidden")[blocker]
    people = (ann, ben)
    group = {"key": "k", "name": "Walks", "members": [ben.user]}
    made = await ann.call("POST", "/v1/chats", {**group, "members": []})
    place = f"/v1/chats/{made.json()['chat']}/members"
    await people[blocker].call("PUT", f"/v1/blocks/{people[1 - blocker].user}")
    refused = [
        await ann.call("POST", "/v1/chats", {**group, "key": "k2"}),
        await ann.call("POST", place, {"members": [ben.user]}),
        await ann.call("PUT", f"{place}/{ben.user}", {"role": "member"}),
    ]
    await people[blocker].call("DELETE", f"/v1/blocks/{people[1 - blocker].user}")
    privacy = {"who_may_write": "contacts", "receipts": True, "last_seen": "none", "version": "0"}
    await ben.call("PUT", "/v1/me/privacy", privacy)

    assert [problem(one) for one in refused] == [(403, code, "members")] * 3
    answer = await ann.call("POST", place, {"members": [ben.user]})
    assert problem(answer) == (403, "forbidden", "members")
    await act(ann, ben, "invite")
    await act(ben, ann, "accept", "1")
    assert (await ann.call("POST", place, {"members": [ben.user]})).status_code == 200


async def test_lists_come_in_parts(ann, backends):
    """`after` of one part asks for the next."""
    others = sorted([(await Caller(backends).register()).user for _ in range(3)], key=int)
    for other in others:
        await ann.call("PUT", f"/v1/contacts/{other}", {"action": "invite", "version": "0"})
        await ann.call("PUT", f"/v1/blocks/{other}")
    for path, field in (("/v1/contacts", "contacts"), ("/v1/blocks", "blocks")):
        first = (await ann.get(path, limit=2)).json()
        rest = (await ann.get(path, limit=2, after=first["after"])).json()

        assert [one["user"] for one in first[field] + rest[field]] == others
        assert "after" not in rest


async def test_privacy(ann):
    """As given until it is changed; all of it is given at once."""
    before = await ann.get("/v1/me/privacy")
    change = {"who_may_write": "contacts", "receipts": False, "last_seen": "none", "version": "0"}
    changed = await ann.call("PUT", "/v1/me/privacy", change)

    assert before.json() == {
        "who_may_write": "everyone",
        "receipts": True,
        "last_seen": "contacts",
        "version": "0",
    }
    assert changed.json() == (await ann.get("/v1/me/privacy")).json() == {**change, "version": "1"}
    for version in ("0", str(LATEST)):
        answer = await ann.call("PUT", "/v1/me/privacy", {**change, "version": version})
        assert problem(answer) == (409, "stale", "version")
    for field, value in (("receipts", 1), ("last_seen", "friends"), ("who_may_write", None)):
        answer = await ann.call("PUT", "/v1/me/privacy", {**change, field: value})
        assert problem(answer) == (400, "malformed", field)


async def test_a_log_that_is_away_delays_no_call_for_long(ann, ben, backends, topics, monkeypatch):
    """Both sides are told when it is back, without another call."""
    append, tries = backends.appends.append, []

    async def unavailable(records, **more):
        tries.append(records)
        if len(tries) < 4:
            raise Unavailable("the log does not answer")
        return await append(records, **more)

    use_backends(backends, Timing(relay_timeout_s=0.0))
    monkeypatch.setattr(backends.appends, "append", unavailable)

    assert (await act(ann, ben, "invite")).status_code == 200
    async with asyncio.timeout(10):
        await current_context().contact_notices._publishing
    assert len(await told(topics)) == 2


@pytest.mark.parametrize("by", ["the repeat", "another call", "the audit"])
async def test_what_a_process_did_not_tell_is_told_by_the_next(ann, ben, backends, topics, by):
    """It died between the database and the log."""
    await backends.relations.change_contact(
        int(ann.user), int(ben.user), "invite", version=0, now_ms=backends.clock.now_ms()
    )
    match by:
        case "the repeat":
            assert problem(await act(ann, ben, "invite"))[1] == "stale"
        case "another call":
            other = await Caller(backends).register()
            assert (await act(ann, other, "invite")).status_code == 200
        case "the audit":
            scope = Scope(until_ms=backends.clock.now_ms(), rate=1_000)
            await Audit(backends, scope, keep=keep).run()

    assert {
        (ann.user, ben.user, "invited", 1),
        (ben.user, ann.user, "invited_me", 1),
    } <= await told(topics)
    assert not await backends.relations.unpublished(limit=9)


@pytest.fixture
def saying(ann, ben, event_targets):
    """Puts commands of one of the two into history; and whether the chat is a request of one."""
    chat = direct_chat(int(ann.user), int(ben.user))

    class Saying:
        async def text(self, sender):
            command = event_targets.text(sender=int(sender.user), chat=chat)
            await event_targets.post("persist", [pb.Outcome(command=command)])
            return command.id

        async def change(self, user, **body):
            command = pb.Command(
                id=event_targets.mint(), user=int(user.user), chat=chat, key="k", **body
            )
            answer = await event_targets.post("persist", [pb.Outcome(command=command)])
            assert answer.status == 200

        async def is_request(self, caller):
            [state] = (await caller.get("/v1/chats")).json()["chats"]
            return state.get("request")

    return Saying()


async def test_a_strangers_chat_is_a_request_until_it_is_answered(ann, ben, saying):
    """Who began it sees none; an answer lasts."""
    first = await saying.text(ann)
    await saying.change(ben, mark=pb.Mark(read=first))
    await act(ann, ben, "invite")
    assert (await saying.is_request(ann), await saying.is_request(ben)) == (None, True)
    await saying.text(ben)
    await saying.text(ann)

    assert await saying.is_request(ben) is None


async def test_who_accepts_has_answered(ann, ben, saying):
    """Also where the contact is removed again."""
    await saying.text(ann)
    await act(ann, ben, "invite")
    before = await saying.is_request(ben)
    await act(ben, ann, "accept", "1")
    accepted = await saying.is_request(ben)
    await act(ben, ann, "remove", "2")

    assert (before, accepted, await saying.is_request(ben)) == (True, None, None)


async def test_who_reacts_has_answered(ann, ben, saying):
    """And keeps the answer without the emoji."""
    first = await saying.text(ann)
    await saying.change(ben, react=pb.React(message=first, emoji="\U0001f44d"))
    reacted = await saying.is_request(ben)
    await saying.change(ben, unreact=pb.React(message=first, emoji="\U0001f44d"))

    assert (reacted, await saying.is_request(ben)) == (None, None)


async def test_who_takes_a_reaction_away_has_answered(ann, ben, saying):
    """Also where there was none, or it is not there yet."""
    first = await saying.text(ann)
    before = await saying.is_request(ben)
    await saying.change(ben, unreact=pb.React(message=first, emoji="\U0001f44d"))

    assert (before, await saying.is_request(ben)) == (True, None)
