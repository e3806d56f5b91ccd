"""Who is told how far others have come: by `send` in groups, and over HTTP in all chats."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.groups import Change, Group
from backends.relations import HiddenReceipts, Privacy
from backends.settings import Settings
from backends.wiring import Backends
from functions.domain import group_receipts
from functions.runtime.context import use_backends
from schemas import chat_pb2 as pb
from schemas.errors import Unavailable
from schemas.ids import UserId, direct_chat
from schemas.topics import DELIVERIES, MESSAGES, RETRIES
from tests.functions.callers import Caller, problem
from tests.functions.conftest import ALICE, BOB, CAROL, NOW_MS
from tests.support.configured import configure

GROUP = "g-77"


@pytest.fixture
async def group(people, backends, event_targets):
    """Of Alice, Bob and Carol."""
    ids = tuple(event_targets.mint() for _ in range(3))
    asked = Group(GROUP, "Walks", "", "all", 0, 0, 0)
    await backends.groups.create(asked, [BOB, CAROL], Change(ALICE, "phone", ids), key="k")


async def told(event_targets, topics, *commands):
    """Who hears of a mark."""
    assert (await event_targets.post("send", list(commands))).status == 200
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
    """Whichever of the two has blocked the other."""
    await backends.relations.block(by, whom, now_ms=NOW_MS)
    mark = event_targets.mark(user=ALICE, chat=GROUP, read=5)

    assert await told(event_targets, topics, mark) == {ALICE, CAROL}


@pytest.mark.parametrize(
    ("section", "values"), [("groups", {"receipts_members": 2}), ("signals", {"receipts": False})]
)
async def test_a_large_group_asks(group, backends, event_targets, topics, section, values):
    """No other member is told, and whether they show receipts is not looked up; nor where
    receipts are switched off.
    """
    await configure(backends, section, **values)
    mark = event_targets.mark(user=ALICE, chat=GROUP, read=5)

    assert await told(event_targets, topics, mark) == {ALICE}


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


async def test_a_change_of_privacy_counts_within_five_seconds(group, backends):
    """Until then what SQL said serves on, without a question; other members are asked for."""
    clock, roster = Clock(), (await backends.groups.rosters({GROUP: -1}))[GROUP]
    remembered = group_receipts.GroupReceipts(backends.relations, clock)
    before = await remembered.hidden({GROUP: roster})
    await backends.relations.change_privacy(BOB, Privacy(receipts=False, version=1), now_ms=NOW_MS)
    clock.now_s += group_receipts.FRESH_TTL_S - 0.01
    still = await remembered.hidden({GROUP: roster})
    smaller = replace(roster, members={ALICE: roster.members[ALICE], BOB: roster.members[BOB]})
    other = await remembered.hidden({GROUP: smaller})
    clock.now_s += 0.01
    after = await remembered.hidden({GROUP: roster})

    assert still == before == {GROUP: HiddenReceipts(frozenset(), frozenset())}
    assert other == after == {GROUP: HiddenReceipts(frozenset({BOB}), frozenset())}
    assert group_receipts.FRESH_TTL_S + group_receipts.QUERY_TIMEOUT_S <= 5


async def test_what_was_said_serves_on_while_sql_is_unavailable(group, backends, tmp_path):
    """For 15 minutes; then, and of a group that was not asked for, it is unknown, and SQL is asked
    once a second.
    """
    (tmp_path / "unavailable" / "data.db").mkdir(parents=True)
    opened = Backends(Settings(data=tmp_path / "unavailable"))
    clock, roster = Clock(), (await backends.groups.rosters({GROUP: -1}))[GROUP]
    remembered = group_receipts.GroupReceipts(backends.relations, clock)
    first = await remembered.hidden({GROUP: roster})
    remembered._relations = opened.relations  # it becomes unavailable
    clock.now_s += group_receipts.STALE_TTL_S - 1
    later = await remembered.hidden({GROUP: roster, "g-2": roster})
    remembered._relations = backends.relations
    clock.now_s += group_receipts.COOLDOWN_S / 2
    during = await remembered.hidden({"g-2": roster})
    clock.now_s += group_receipts.COOLDOWN_S / 2
    await opened.close()

    assert later == {**first, "g-2": None}
    assert during == {"g-2": None}
    assert await remembered.hidden({"g-2": roster}) == {"g-2": first[GROUP]}


async def test_a_mark_waits_while_it_is_unknown_who_hides_receipts(
    group, backends, event_targets, topics, monkeypatch
):
    """Alone in chat-retries; a message of the same batch goes on."""

    async def away(_users):
        raise Unavailable("no database")

    mark = event_targets.mark(user=ALICE, chat=GROUP, read=5)
    with monkeypatch.context() as patch:
        patch.setattr(backends.relations, "hidden_receipts", away)
        message = event_targets.text("hi", sender=ALICE, chat=GROUP)
        assert await told(event_targets, topics, mark, message) == set()
    ((_, retry),) = await topics.events(RETRIES)
    assert (await event_targets.post("send", retry)).status == 503  # it is left alone for a second
    use_backends(None)
    use_backends(backends)
    assert (await event_targets.post("send", retry)).status == 200
    outcomes = {one.command.id: one.refused for one in await topics.items(MESSAGES)}
    assert outcomes == {mark.id: "", message.id: ""}


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
