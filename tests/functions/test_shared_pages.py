"""Pages of large groups: one reading of the store for all members who ask, and who may see what."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from backends.chats import Change as MessageChange
from backends.chats import HistoryMessage
from backends.groups import Change, Group
from backends.rosters import Rosters
from functions.domain.reading import read_page
from functions.domain.shared_pages import MESSAGES, SharedPages
from schemas.errors import Refused
from schemas.ids import LATEST
from tests.functions.history.asked import ids

OWNER, MEMBER, LATE, FORMER, STRANGER = range(101, 106)
CHAT = "g-77"


@pytest.fixture
def by(event_targets):
    """A change of a group by its owner."""
    return lambda: Change(OWNER, "phone", tuple(event_targets.mint() for _ in range(3)))


@pytest.fixture
async def group(backends, by):
    """A group whose members see what came after they joined."""
    asked = Group(CHAT, "Walks", "", "from_join", 0, 0, 0)
    await backends.groups.create(asked, [MEMBER, FORMER], by(), key="k")
    await backends.groups.remove(CHAT, FORMER, by())


@pytest.fixture
def say(backends, event_targets):
    """Puts messages into history; their ids."""

    async def put(count):
        made = [event_targets.mint() for _ in range(count)]
        await backends.chats.put(
            [HistoryMessage(id_, CHAT, OWNER, f"k{id_}", "hi", 0, id_) for id_ in made]
        )
        return made

    return put


@pytest.fixture
def reads(backends, monkeypatch):
    """What pages were read from the store."""
    read, page = [], backends.chats.page

    async def counted(chat, **asked):
        read.append(asked)
        return await page(chat, **asked)

    monkeypatch.setattr(backends.chats, "page", counted)
    return read


@pytest.fixture
def ask(backends, group):
    """Asks as a user; to this process any group is large, and nothing read counts any more."""
    shared = SharedPages(backends, Rosters(backends.clock.elapsed_s), ttl_s=0.0, large=1)

    async def page(user, *, direction="before", anchor=LATEST, limit=50):
        return await read_page(
            backends, user, CHAT, direction, anchor, limit, max_bytes=None, shared=shared
        )

    return page


async def test_all_members_who_ask_at_once_are_one_read(backends, by, say, reads):
    """Of a group that is large; the others are read for each."""
    shared = SharedPages(backends, Rosters(backends.clock.elapsed_s), ttl_s=60.0)
    members = [*range(1_001, 2_000)]
    for chat, more in ((CHAT, [2_000]), ("g-78", [])):
        asked = Group(chat, "Walks", "", "all", 0, 0, 0)
        await backends.groups.create(asked, [*members, *more], by(), key=chat)
    said = await say(3)

    async def page(user, chat):
        return await read_page(backends, user, chat, "after", said[0], 50, shared=shared)

    pages = await asyncio.gather(*(page(user, CHAT) for user in members[:40]))
    assert [ids(page) for page in pages] == [said[:0:-1]] * 40
    assert {(page.more_before, page.more_after) for page in pages} == {(True, False)}
    assert len(reads) == 1
    assert pages[0] == await page(members[50], CHAT)
    assert len(reads) == 1
    await asyncio.gather(*(page(user, "g-78") for user in members[:40]))
    assert len(reads) == 41


async def test_what_is_new_is_in_the_next_page(say, ask):
    """What was read counts for a moment only."""
    [first] = await say(1)
    before = await ask(MEMBER)
    [later] = await say(1)

    assert (ids(before), ids(await ask(MEMBER))) == ([first], [later, first])


async def test_what_a_member_has_hidden_is_hidden_from_that_member_alone(
    backends, say, ask, event_targets
):
    """Though all get the page of one reading."""
    said = await say(3)
    hide = MessageChange("hide", CHAT, said[1], event_targets.mint(), MEMBER)
    await backends.chats.change([hide])

    assert ids(await ask(OWNER)) == said[::-1]
    assert ids(await ask(MEMBER)) == [said[2], said[0]]


async def test_each_member_sees_what_came_after_joining(backends, by, say, ask):
    """And the others of the same page all of it."""
    early = await say(2)
    [late] = await backends.groups.add(CHAT, [LATE], by())
    said = await say(2)

    assert ids(await ask(MEMBER)) == [*said[::-1], *early[::-1]]
    page = await ask(LATE)
    assert (ids(page), page.more_before) == (said[::-1], False)
    assert late.joined < said[0]


@pytest.mark.parametrize(("user", "code"), [(FORMER, "not_member"), (STRANGER, "unknown_chat")])
async def test_others_are_refused(say, ask, user, code):
    """As for any page."""
    await say(1)
    await ask(OWNER)
    with pytest.raises(Refused) as refused:
        await ask(user)

    assert refused.value.code == code


async def test_who_has_just_joined_is_not_refused_by_memory(backends, by, say, ask):
    """A roster may be remembered from before."""
    await say(1)
    await ask(OWNER)
    await backends.groups.add(CHAT, [STRANGER], by())
    [later] = await say(1)

    assert ids(await ask(STRANGER)) == [later]


async def test_every_page_is_that_of_the_store(backends, say, ask):
    """Whatever is asked for: out of what is remembered, or beyond it."""
    said = await say(MESSAGES + 20)
    anchors = [0, said[0], said[1], said[18], said[19], said[20], said[21], said[-2], said[-1]]
    for direction, anchor, limit in itertools.product(
        ("before", "after", "around"), [*anchors, LATEST], (1, 2, MESSAGES - 1, MESSAGES, 256)
    ):
        expected = await read_page(backends, MEMBER, CHAT, direction, anchor, limit, max_bytes=None)
        found = await ask(MEMBER, direction=direction, anchor=anchor, limit=limit)

        assert found == expected, (direction, anchor, limit)


async def test_a_store_that_fails_fails_all_who_ask_and_is_asked_again(
    backends, say, ask, monkeypatch
):
    """A failure is not remembered."""
    [said] = await say(1)
    with monkeypatch.context() as failing:

        async def page(_chat, **_asked):
            await asyncio.sleep(0)
            raise ConnectionError

        failing.setattr(backends.chats, "page", page)
        failures = await asyncio.gather(
            *(ask(user) for user in (OWNER, MEMBER)), return_exceptions=True
        )

    assert [type(failure) for failure in failures] == [ConnectionError] * 2
    assert ids(await ask(OWNER)) == [said]
