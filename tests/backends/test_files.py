"""The suite of the `Files` port, over all databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from backends.accounts import Profile
from backends.accounts.sql import SqlAccounts
from backends.configuration.current import Configuration
from backends.files import CLAIM_MS, File, Grant, Limits
from backends.files.sql import SqlFiles
from backends.groups import Change, Group
from backends.groups.sql import SqlGroups
from schemas.configuration import Values
from schemas.errors import Refused
from schemas.ids import LATEST, direct_chat, first_id_at, random_id

NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000
ROOM = Limits(files=100, bytes=1_000_000)
ANN, BOB, EVE = 11, 12, 13
CHAT = direct_chat(ANN, BOB)
MESSAGE = first_id_at(NOW_MS) + 1


@pytest.fixture
async def stored(database):
    return SqlFiles(database)


@pytest.fixture
async def groups(database):
    accounts = SqlAccounts(database)
    for user in (ANN, BOB, EVE):
        await accounts.register(Profile(user, f"user{user}", f"User {user}", 1), "no password")
    return SqlGroups(database, Configuration(None, Values(), clock=lambda: 0.0))


def new(**fields):
    """A file of Ann's that was just announced."""
    known = {
        "id": random_id(),
        "owner": ANN,
        "name": 'a "b".png',
        "declared": "image/png",
        "type": "image/png",
        "bytes": 1_000,
        "purpose": "message",
        "state": "pending",
        "created_ms": NOW_MS,
        "idle_since_ms": NOW_MS,
    }
    return File(**{**known, **fields})


async def kept(stored, state="complete", **fields):
    """A file of Ann's that is complete."""
    file = new(**fields)
    await stored.add(file, ROOM)
    claimed = await stored.claim(file.id, now_ms=NOW_MS)
    done = replace(claimed, state=state)
    assert await stored.settle(done)
    return done


def by(number):
    return Change(ANN, "phone", tuple(range(number, number + 3)))


def grant(file, chat=CHAT, message=MESSAGE, owner=ANN):
    return Grant(file.id, owner, chat, message)


async def test_a_file_comes_back_as_it_was_written(stored):
    """Of those asked for, the ones that there are."""
    file = new()
    await stored.add(file, ROOM)

    assert await stored.find([file.id, 1, LATEST + 1]) == {file.id: file}
    assert await stored.find([]) == {}


async def test_an_owner_keeps_no_more_than_the_limits(stored):
    """Files that are not uploaded count too; removed ones do not."""
    first = new(bytes=600)
    await stored.add(first, Limits(files=2, bytes=1_000))
    for limits in (Limits(files=1, bytes=10_000), Limits(files=9, bytes=1_000)):
        with pytest.raises(Refused) as refused:
            await stored.add(new(bytes=401), limits)
        assert refused.value.code == "too_many"
    await stored.add(new(bytes=401, owner=BOB), Limits(files=1, bytes=1_000))
    await stored.remove([first.id])

    await stored.add(new(bytes=1_000), Limits(files=1, bytes=1_000))
    assert await stored.find([first.id]) == {}


async def test_of_many_at_once_as_many_are_kept_as_the_limits_allow(stored, groups):
    """Two do not both take the last place."""
    added = await asyncio.gather(
        *(stored.add(new(), Limits(files=3, bytes=10_000)) for _ in range(8)),
        return_exceptions=True,
    )

    assert sum(one is None for one in added) == 3
    assert {one.code for one in added if one is not None} == {"too_many"}


async def test_the_list_is_the_newest_first_in_parts(stored):
    """Of one owner; what was made at once is in some order that stays."""
    files = [new(created_ms=NOW_MS + number // 2) for number in range(5)]
    for file in files:
        await stored.add(file, ROOM)
    await stored.add(new(owner=BOB), ROOM)
    expected = sorted(files, key=lambda file: (file.created_ms, file.id), reverse=True)

    first, more = await stored.of_owner(ANN, after=None, limit=3)
    place = (first[-1].created_ms, first[-1].id)
    rest, no_more = await stored.of_owner(ANN, after=place, limit=3)

    assert ([*first, *rest], more, no_more) == (expected, True, False)


async def test_one_call_completes_a_file(stored):
    """Another takes over when that one has not ended for long; the first has lost then."""
    file = new()
    await stored.add(file, ROOM)
    claims = await asyncio.gather(*(stored.claim(file.id, now_ms=NOW_MS) for _ in range(3)))
    [first] = [claim for claim in claims if claim is not None]
    assert first == replace(file, attempt=1)
    assert await stored.claim(file.id, now_ms=NOW_MS + CLAIM_MS - 1) is None
    second = await stored.claim(file.id, now_ms=NOW_MS + CLAIM_MS)

    done = replace(second, state="complete", type="image/gif", safe=True, width=7, height=5)
    assert not await stored.settle(replace(done, attempt=1))
    assert await stored.settle(done)
    assert not await stored.settle(done)
    assert await stored.find([file.id]) == {file.id: done}
    assert done.key == f"files/{file.id}-2"
    assert done.spare_keys == [f"uploads/{file.id}", f"files/{file.id}-1"]
    assert await stored.claim(file.id, now_ms=NOW_MS + DAY_MS) is None


async def test_a_claim_that_was_given_up_keeps_no_one_waiting(stored):
    """Unless it is lost already."""
    file = new()
    await stored.add(file, ROOM)
    first = await stored.claim(file.id, now_ms=NOW_MS)
    await stored.give_up(first)
    second = await stored.claim(file.id, now_ms=NOW_MS + 1)
    await stored.give_up(first)

    assert second.attempt == 2
    assert await stored.claim(file.id, now_ms=NOW_MS + 2) is None


async def test_the_other_one_of_a_chat_may_read_what_was_sent(stored):
    """And no one else, and only from then on."""
    file = await kept(stored)
    assert not await stored.may_read(file, BOB)
    granted = await stored.grant([grant(file)])

    assert granted == {file.id: file}
    assert [await stored.may_read(file, user) for user in (ANN, BOB, EVE)] == [True, True, False]


@pytest.mark.parametrize(
    ("fields", "owner"),
    [
        ({"state": "held"}, ANN),
        ({"purpose": "avatar"}, ANN),
        ({}, BOB),
    ],
)
async def test_only_complete_files_of_the_sender_are_granted(stored, fields, owner):
    """Nothing is written for the others, and each is looked at by itself."""
    file, good = await kept(stored, **fields), await kept(stored)

    assert await stored.grant([grant(file, owner=owner), grant(good)]) == {good.id: good}
    assert await stored.grant([Grant(random_id(), ANN, CHAT, MESSAGE)]) == {}
    assert await stored.grant([]) == {}


async def test_a_file_that_is_not_complete_is_read_by_no_one(stored):
    """Not even by its owner; an avatar by all, once it is."""
    held = await kept(stored, state="held")
    pending = new(purpose="avatar")
    await stored.add(pending, ROOM)
    avatar = await kept(stored, purpose="avatar")

    assert not await stored.may_read(held, ANN)
    assert not await stored.may_read(pending, EVE)
    assert await stored.may_read(avatar, EVE)


@pytest.mark.parametrize("history", ["all", "from_join"])
async def test_members_of_a_group_read_what_they_see_there(stored, groups, history):
    """Who joined later only where history is for all; who has left no longer."""
    chat = f"g-{random_id()}"
    first = first_id_at(NOW_MS)
    group = Group(chat, "Group", "", history, 0, first, 0)
    await groups.create(group, [BOB], by(first), key=f"k{chat}")
    file = await kept(stored)
    await stored.grant([grant(file, chat, first + 10)])
    assert [await stored.may_read(file, user) for user in (BOB, EVE)] == [True, False]

    await groups.add(chat, [EVE], by(first + 20))
    await groups.remove(chat, BOB, by(first + 30))
    assert [await stored.may_read(file, user) for user in (BOB, EVE)] == [False, history == "all"]

    await groups.delete(chat, by(first + 40))
    assert not await stored.may_read(file, EVE)


async def test_a_deleted_message_takes_back_what_it_brought(stored):
    """Whichever other message has brought the file still lets its chat read it; the same command
    once more brings nothing back.
    """
    file, other = await kept(stored), direct_chat(ANN, EVE)
    await stored.grant([grant(file), grant(file, other, MESSAGE + 1)])
    await stored.withdraw([(CHAT, MESSAGE), (CHAT, MESSAGE + 5)], now_ms=NOW_MS)
    await stored.grant([grant(file)])

    assert [await stored.may_read(file, user) for user in (BOB, EVE)] == [False, True]
    assert await stored.remove_idle(before_ms=NOW_MS + DAY_MS, limit=9) == 0
    await stored.withdraw([(other, MESSAGE + 1)], now_ms=NOW_MS)
    assert await stored.remove_idle(before_ms=NOW_MS, limit=9) == 0
    assert await stored.remove_idle(before_ms=NOW_MS + 1, limit=9) == 1
    assert await stored.grant([grant(file)]) == {}


async def test_what_nothing_refers_to_is_removed(stored):
    """Whatever its state, at most so many at once."""
    sent = await kept(stored)
    await stored.grant([grant(sent)])
    idle = [await kept(stored, state=state) for state in ("complete", "held", "complete")]
    young = new(idle_since_ms=NOW_MS + 5)
    await stored.add(young, ROOM)

    assert await stored.remove_idle(before_ms=NOW_MS + 5, limit=2) == 2
    assert await stored.remove_idle(before_ms=NOW_MS + 5, limit=2) == 1
    assert await stored.remove_idle(before_ms=NOW_MS + 5, limit=2) == 0
    left = await stored.find([file.id for file in (sent, young, *idle)])
    assert left.keys() == {sent.id, young.id}


async def test_a_file_is_sent_or_removed_but_not_both(stored):
    """However the two meet."""
    for _ in range(10):
        file = await kept(stored)
        granted, removed = await asyncio.gather(
            stored.grant([grant(file)]), stored.remove_idle(before_ms=NOW_MS + 1, limit=9)
        )
        assert (len(granted), removed) in {(1, 0), (0, 1)}


async def test_what_the_store_may_still_hold_is_known(stored):
    """Uploads of what was checked, and all of what was removed, until they are forgotten."""
    pending, complete, removed = new(), await kept(stored), await kept(stored)
    await stored.add(pending, ROOM)
    await stored.remove([removed.id])
    assert await stored.leftovers(before_ms=NOW_MS, limit=9) == []
    found = await stored.leftovers(before_ms=NOW_MS + 1, limit=9)
    assert {file.id: file.state for file in found} == {
        complete.id: "complete",
        removed.id: "removed",
    }
    assert len(await stored.leftovers(before_ms=NOW_MS + 1, limit=1)) == 1

    await stored.forget(found)
    assert await stored.leftovers(before_ms=NOW_MS + 1, limit=9) == []
    assert (await stored.find([complete.id])).keys() == {complete.id}
    await stored.remove([complete.id])
    assert [file.id for file in await stored.leftovers(before_ms=NOW_MS + 1, limit=9)] == [
        complete.id
    ]


async def test_a_held_file_waits_for_a_verdict(stored):
    """One verdict, of a file that is held."""
    good, bad = await kept(stored, state="held"), await kept(stored, state="held", created_ms=1)
    assert [file.id for file in await stored.held(limit=9)] == [bad.id, good.id]
    assert [file.id for file in await stored.held(limit=1)] == [bad.id]

    assert await stored.judge(good.id, good=True)
    assert await stored.judge(bad.id, good=False)
    assert not await stored.judge(good.id, good=False)
    assert not await stored.judge(random_id(), good=True)
    assert (await stored.find([good.id, bad.id])).keys() == {good.id}
    assert await stored.held(limit=9) == []
    assert [file.id for file in await stored.leftovers(before_ms=NOW_MS, limit=9)] == [bad.id]


async def test_previews_that_are_due_are_known_until_they_are_finished(stored, groups):
    """Those of complete files, the oldest first; `settle` says which are due."""
    old, young = new(created_ms=NOW_MS), new(created_ms=NOW_MS + 5)
    held = new(created_ms=NOW_MS + 1)
    for file, state in ((young, "complete"), (old, "complete"), (held, "held")):
        await stored.add(file, ROOM)
        claimed = await stored.claim(file.id, now_ms=NOW_MS)
        assert await stored.settle(replace(claimed, state=state, previews="due"))

    async def due(before_ms=NOW_MS + 9, limit=9):
        return [file.id for file in await stored.due_previews(before_ms=before_ms, limit=limit)]

    assert await due() == [old.id, young.id]
    assert await due(limit=1) == [old.id]
    assert await due(before_ms=NOW_MS + 5) == [old.id]
    assert await stored.finish_previews(old.id, "made")
    assert await stored.finish_previews(young.id, "none")
    assert await due() == []
    assert (await stored.find([old.id]))[old.id].previews == "made"
    await stored.remove([old.id])
    assert not await stored.finish_previews(old.id, "made")
    assert not await stored.finish_previews(random_id(), "made")


def test_a_removed_file_names_its_previews():
    """So that who removes it deletes them too."""
    avatar = new(purpose="avatar", state="removed")

    names = ("64", "192", "512")
    assert {avatar.preview_key(name) for name in names} <= set(avatar.spare_keys)
    assert new(state="removed", id=7).spare_keys[-1] == "previews/7-thumbnail"
    assert new(state="complete").spare_keys[1:] == []
