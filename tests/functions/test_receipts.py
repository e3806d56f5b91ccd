"""Who is told how far others have come: by `send` in groups, and over HTTP in all chats."""

from __future__ import annotations

import pytest

from backends.groups import Change, Group
from backends.relations import Privacy
from functions.domain import group_commands
from schemas import chat_pb2 as pb
from schemas.ids import UserId, direct_chat
from schemas.topics import DELIVERIES
from tests.functions.callers import Caller, problem
from tests.functions.conftest import ALICE, BOB, CAROL, NOW_MS

GROUP = "g-77"


@pytest.fixture
async def group(people, backends, event_targets):
    """Of Alice, Bob and Carol."""
    ids = tuple(event_targets.mint() for _ in range(3))
    asked = Group(GROUP, "Walks", "", "all", 0, 0, 0)
    await backends.groups.create(asked, [BOB, CAROL], Change(ALICE, "phone", ids), key="k")


async def told(event_targets, topics, command):
    """Who hears of a mark."""
    assert (await event_targets.post("send", [command])).status == 200
    return {
        user
        for one in await topics.items(DELIVERIES)
        if one.HasField("receipt")
        for user in one.users
    }


@pytest.mark.parametrize(
    ("hiding", "heard"), [(ALICE, {ALICE}), (BOB, {ALICE, CAROL}), (None, {ALICE, BOB, CAROL})]
)
async def test_a_group_hears_of_marks_by_privacy(
    group, backends, event_targets, topics, hiding, heard
):
    """Who hides receipts tells none and is told none; one's own devices hear all."""
    if hiding is not None:
        await backends.relations.change_privacy(
            hiding, Privacy(receipts=False, version=1), now_ms=NOW_MS
        )
    mark = event_targets.mark(user=ALICE, chat=GROUP, read=5)

    assert await told(event_targets, topics, mark) == heard


@pytest.mark.parametrize(("by", "whom"), [(ALICE, BOB), (BOB, ALICE)])
async def test_a_block_hides_marks_in_groups_too(group, backends, event_targets, topics, by, whom):
    """Whoever has blocked the other."""
    await backends.relations.block(by, whom, now_ms=NOW_MS)
    mark = event_targets.mark(user=ALICE, chat=GROUP, read=5)

    assert await told(event_targets, topics, mark) == {ALICE, CAROL}


async def test_a_large_group_asks(group, event_targets, topics, monkeypatch):
    """No other member is told, and whether they show receipts is not looked up."""
    monkeypatch.setattr(group_commands, "MAX_WITH_RECEIPTS", 2)
    mark = event_targets.mark(user=ALICE, chat=GROUP, read=5)

    assert await told(event_targets, topics, mark) == {ALICE}


# ---- over HTTP -----------------------------------------------------------------------------------


@pytest.fixture
async def callers(backends):
    """Three users who are logged in, in the order of their ids."""
    made = [await (await Caller(backends).register()).log_in() for _ in range(3)]
    return sorted(made, key=lambda one: int(one.user))


@pytest.fixture
async def ours(callers, event_targets):
    """Their group, in which the second has received message 9 and read 7."""
    first, *others = callers
    body = {"key": "k", "name": "Walks", "members": [one.user for one in others]}
    chat = (await first.call("POST", "/v1/chats", body)).json()["chat"]
    await mark(event_targets, callers[1], chat)
    return chat


async def mark(event_targets, caller, chat, received=9, read=7):
    command = event_targets.mark(user=int(caller.user), chat=chat, received=received, read=read)
    await event_targets.post("persist", [pb.Outcome(command=command)])


async def receipts(caller, chat, **query):
    answer = await caller.get(f"/v1/chats/{chat}/receipts", **query)
    assert answer.status_code == 200, answer.text
    return [(one["user"], one["received"], one["read"]) for one in answer.json()["receipts"]]


async def hide(caller):
    body = {"who_may_write": "everyone", "receipts": False, "last_seen": "none", "version": "0"}
    assert (await caller.call("PUT", "/v1/me/privacy", body)).status_code == 200


async def test_each_member_sees_how_far_the_others_are(callers, ours):
    """By their ids; who has marked nothing is at 0."""
    one, two, three = (caller.user for caller in callers)

    for caller in callers:
        assert await receipts(caller, ours) == [(one, "0", "0"), (two, "9", "7"), (three, "0", "0")]


async def test_who_hides_receipts_is_not_listed_and_sees_no_others(callers, ours):
    """Neither who has blocked the caller, or is blocked."""
    one, two, three = callers
    await hide(two)
    assert [user for user, *_ in await receipts(one, ours)] == [one.user, three.user]
    assert await receipts(two, ours) == [(two.user, "9", "7")]
    await one.call("PUT", f"/v1/blocks/{three.user}")

    assert [user for user, *_ in await receipts(one, ours)] == [one.user]
    assert [user for user, *_ in await receipts(three, ours)] == [three.user]


async def test_receipts_come_in_parts(callers, ours):
    """`after` is that of the part before; a part may be empty of what is shown."""
    one, two, three = callers
    await hide(two)
    path, parts, after = f"/v1/chats/{ours}/receipts", [], {}
    while after is not None:
        answer = (await one.get(path, limit=1, **after)).json()
        parts.append([each["user"] for each in answer["receipts"]])
        after = {"after": answer["after"]} if "after" in answer else None

    assert parts == [[one.user], [], [three.user]]
    for field, value in (("after", "0"), ("after", "x"), ("limit", "0"), ("limit", "257")):
        assert problem(await one.get(path, **{field: value})) == (400, "malformed", field)


async def test_a_direct_chat_has_receipts_too(callers, event_targets):
    """So a device that comes new knows what the others were told."""
    one, two, three = callers
    chat = direct_chat(UserId(int(one.user)), UserId(int(two.user)))
    await mark(event_targets, two, chat, received=5, read=0)

    assert await receipts(one, chat) == [(one.user, "0", "0"), (two.user, "5", "0")]
    assert await receipts(one, chat, after=one.user) == [(two.user, "5", "0")]
    strange = await three.get(f"/v1/chats/{chat}/receipts")
    assert problem(strange) == (404, "unknown_chat", "chat")


async def test_receipts_are_the_members_own(callers, ours, backends):
    """A stranger is told nothing, a former member that it is one."""
    stranger = await (await Caller(backends).register()).log_in()
    one, _, three = callers
    await three.call("DELETE", f"/v1/chats/{ours}/members/{three.user}")
    path = f"/v1/chats/{ours}/receipts"

    assert problem(await stranger.get(path)) == (404, "unknown_chat", "chat")
    assert problem(await three.get(path)) == (403, "not_member", "chat")
    assert [user for user, *_ in await receipts(one, ours)] == [
        caller.user for caller in callers[:2]
    ]
