"""The suite of the `Groups` port, over all databases."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest

from backends.configuration.current import Configuration
from backends.groups import Change, Group, Member
from backends.groups.sql import SqlGroups
from schemas.configuration import Groups, Values
from schemas.errors import Refused, Unavailable
from schemas.ids import first_id_at, random_id, unix_ms_of
from tests.support.avatars import avatar_of, idle_since

IDS = itertools.count(first_id_at(1_800_000_000_000))
OWNER, ADMIN, MEMBER, READER, STRANGER = range(1_001, 1_006)


def by(user, device="phone"):
    return Change(user, device, tuple(next(IDS) for _ in range(3)))


def new_group(name="Walks", history="all"):
    return Group(f"g-{random_id()}", name, "", history, 0, 0, 0)


@pytest.fixture
async def groups(database):
    return SqlGroups(database, Configuration(None, Values(), clock=lambda: 0.0))


@pytest.fixture
async def walks(groups):
    """A group with a user of each role."""
    group, _ = await groups.create(new_group(), [ADMIN, MEMBER], by(OWNER), key=f"k{random_id()}")
    await groups.set_role(group.chat, ADMIN, "admin", by(OWNER))
    await groups.add(group.chat, [READER], by(ADMIN), role="reader")
    await groups.mark_published([event.id for event in await groups.unpublished(limit=99)])
    return group.chat


async def told(groups):
    """What is to be published: who, what, about whom, and the group's version."""
    return [
        (event.user, event.group_event.kind, [*event.group_event.users], event.group_event.version)
        for event in await groups.unpublished(limit=99)
    ]


async def refusal(call):
    with pytest.raises(Refused) as error:
        await call
    return error.value.code


async def test_a_group_comes_back_as_it_was_made(groups):
    """With its members, their roles, and the event that tells of it."""
    asked, change = new_group(history="from_join"), by(OWNER)
    group, is_new = await groups.create(asked, [MEMBER, OWNER, MEMBER], change, key="k")
    event = change.ids[0]

    assert is_new
    assert group == Group(asked.chat, "Walks", "", "from_join", 2, event, 1)
    mine = await groups.membership(group.chat, MEMBER)
    assert (mine.group, mine.member) == (group, Member(MEMBER, "member", event, 1))
    assert mine.begins == event
    assert (await groups.membership(group.chat, OWNER)).member.role == "owner"
    assert [one.group for one in await groups.memberships(MEMBER)] == [group]
    (command,) = await groups.unpublished(limit=9)
    assert (command.id, command.chat, command.user, command.device) == (
        event, group.chat, OWNER, "phone",
    )  # fmt: skip
    assert (command.group_event.kind, command.group_event.name) == ("created", "Walks")


async def test_a_repeated_key_makes_no_second_group(groups):
    """It finds the same one; other contents under it are refused; two at once make one."""
    asked, twice = [new_group(), new_group()], f"k{random_id()}"
    made = await asyncio.gather(
        *(groups.create(group, [MEMBER], by(OWNER), key=twice) for group in asked)
    )

    assert made[0][0] == made[1][0]
    assert sorted(is_new for _, is_new in made) == [False, True]
    assert len(await groups.unpublished(limit=9)) == 1
    other = new_group("Other")
    assert await refusal(groups.create(other, [MEMBER], by(OWNER), key=twice)) == "key_reused"
    assert (await groups.create(other, [MEMBER], by(MEMBER), key=twice))[1]


async def test_a_change_needs_the_newest_version(groups, walks, database):
    """Each thing that is other than before is an event; nothing else is."""
    avatar = await avatar_of(database, ADMIN)
    version = (await groups.membership(walks, OWNER)).group.version
    mine = await groups.change(
        walks, by(ADMIN), version=version, name="Runs", avatar=avatar, history="all"
    )

    assert (mine.group.name, mine.group.avatar) == ("Runs", avatar)
    assert mine.group.version == version + 1
    assert mine.member.role == "admin"
    assert await told(groups) == [
        (ADMIN, "renamed", [], version + 1),
        (ADMIN, "avatar", [], version + 1),
    ]
    assert await refusal(groups.change(walks, by(OWNER), version=version, name="Swims")) == "stale"
    same = await groups.change(walks, by(OWNER), version=version + 1, name="Runs")
    assert same.group == mine.group


async def test_a_group_refers_to_its_avatar(groups, walks, database):
    """To one of the user who changes it, that is complete and made ready; until it has another, or
    ends.
    """
    first, second, theirs = [await avatar_of(database, user) for user in (ADMIN, OWNER, OWNER)]
    due = await avatar_of(database, OWNER, previews="due")
    version = (await groups.membership(walks, OWNER)).group.version
    await groups.change(walks, by(ADMIN), version=version, avatar=first)
    assert await idle_since(database, first) == 0

    wrong = groups.change(walks, by(ADMIN), version=version + 1, avatar=theirs)
    assert await refusal(wrong) == "not_found"
    with pytest.raises(Unavailable):
        await groups.change(walks, by(OWNER), version=version + 1, avatar=due)
    change = by(OWNER)
    await groups.change(walks, change, version=version + 1, avatar=second)
    assert await idle_since(database, first) == unix_ms_of(change.ids[0])
    assert await idle_since(database, second) == 0

    await groups.delete(walks, by(OWNER))
    assert await idle_since(database, second) > 1
    made = replace(new_group(), avatar=theirs)
    assert await refusal(groups.create(made, [], by(MEMBER), key="m")) == "not_found"
    await groups.create(made, [], by(OWNER), key="o")
    assert await idle_since(database, theirs) == 0


async def test_events_of_a_group_are_in_the_order_of_its_versions(groups, walks, database):
    """Also when the clock of the one who comes later is behind."""
    late = Change(OWNER, "phone", (1, 2, 3))
    version = (await groups.membership(walks, OWNER)).group.version
    await groups.change(walks, by(OWNER), version=version, name="A")
    avatar = await avatar_of(database, OWNER)
    await groups.change(walks, late, version=version + 1, name="B", avatar=avatar)
    events = await groups.unpublished(limit=9)

    assert [event.group_event.kind for event in events] == ["renamed", "renamed", "avatar"]
    assert [event.group_event.version for event in events] == [
        version + 1,
        version + 2,
        version + 2,
    ]


MAY_SET = {
    # who: (whom, what as); None: a user who is in the group not yet
    OWNER: {
        *((None, role) for role in ("reader", "member", "admin")),
        *((READER, role) for role in ("member", "admin", "owner")),
        *((MEMBER, role) for role in ("reader", "admin", "owner")),
        *((ADMIN, role) for role in ("reader", "member", "owner")),
    },
    ADMIN: {(None, "reader"), (None, "member"), (READER, "member"), (MEMBER, "reader")},
    MEMBER: set(),
    READER: set(),
}


@pytest.mark.parametrize("who", MAY_SET, ids=["owner", "admin", "member", "reader"])
async def test_roles_are_given_by_greater_ones(groups, walks, who):
    """All pairs of a role that asks and one that is given, that make a difference."""
    for role in ("reader", "member", "admin", "owner"):
        for whom in (None, READER, MEMBER, ADMIN, OWNER):
            user = random_id() if whom is None else whom
            was = await groups.member(walks, user)
            if whom == who or (was is not None and was.role == role):
                continue
            allowed = (whom, role) in MAY_SET[who]
            call = (
                groups.add(walks, [user], by(who), role=role)
                if whom is None
                else groups.set_role(walks, user, role, by(who))
            )
            if not allowed:
                assert await refusal(call) == "forbidden", (whom, role)
                continue
            await call
            assert (await groups.member(walks, user)).role == role
            if role == "owner":  # back
                assert (await groups.member(walks, who)).role == "admin"
                await groups.set_role(walks, who, "owner", by(user))
            if was is not None:
                await groups.set_role(walks, user, was.role, by(OWNER))


async def test_who_is_added_is_told_once(groups, walks):
    """One event for all that one call adds; who is in already stays what it is."""
    one, other = sorted((random_id(), random_id()))
    added = await groups.add(walks, [other, ADMIN, one], by(OWNER))
    again = await groups.add(walks, [other], by(OWNER), role="reader")

    assert {(member.user, member.role) for member in added} == {
        (one, "member"), (other, "member"), (ADMIN, "admin"),
    }  # fmt: skip
    assert [member.role for member in again] == ["member"]
    version = (await groups.membership(walks, OWNER)).group
    assert version.members == 6
    assert await told(groups) == [(OWNER, "joined", [one, other], version.version)]


async def test_a_former_member_is_remembered(groups, walks):
    """To strangers the group does not exist; who was removed or left is told so."""
    await groups.remove(walks, MEMBER, by(ADMIN))
    await groups.remove(walks, MEMBER, by(ADMIN))
    await groups.remove(walks, READER, by(READER))
    await groups.remove(walks, READER, by(READER))

    assert await refusal(groups.membership(walks, STRANGER)) == "unknown_chat"
    assert await refusal(groups.membership(walks, MEMBER)) == "not_member"
    assert await refusal(groups.add(walks, [STRANGER], by(MEMBER))) == "not_member"
    assert await refusal(groups.add(walks, [STRANGER], by(STRANGER))) == "unknown_chat"
    assert await refusal(groups.remove(walks, STRANGER, by(OWNER))) == "unknown_user"
    assert await refusal(groups.set_role(walks, MEMBER, "reader", by(OWNER))) == "unknown_user"
    pairs = [(walks, user) for user in (OWNER, MEMBER, READER, STRANGER)]
    assert await groups.former(pairs) == {(walks, MEMBER), (walks, READER)}
    assert await groups.memberships(MEMBER) == []
    assert [kind for _, kind, _, _ in await told(groups)] == ["removed", "left"]
    assert (await groups.membership(walks, OWNER)).group.members == 2


async def test_who_comes_back_sees_from_then_on(groups, walks):
    """As a new member."""
    before = (await groups.membership(walks, MEMBER)).member
    await groups.remove(walks, MEMBER, by(OWNER))
    await groups.add(walks, [MEMBER], by(OWNER), role="reader")
    after = (await groups.membership(walks, MEMBER)).member

    assert (after.role, after.joined > before.joined) == ("reader", True)


@pytest.mark.parametrize(
    ("who", "whom", "allowed"),
    [
        *((OWNER, ADMIN, True), (ADMIN, MEMBER, True), (ADMIN, OWNER, False)),
        *((MEMBER, READER, False), (READER, MEMBER, False), (ADMIN, ADMIN, True)),
        *((OWNER, OWNER, False), (READER, READER, True)),
    ],
)
async def test_members_are_removed_by_greater_roles(groups, walks, who, whom, allowed):
    """Each may leave but the owner."""
    call = groups.remove(walks, whom, by(who))
    if allowed:
        await call
        assert await groups.member(walks, whom) is None
    else:
        assert await refusal(call) == "forbidden"


async def test_a_deleted_group_has_former_members_only(groups, walks):
    """The owner may, and may say it again; one event names all who were in it."""
    assert await refusal(groups.delete(walks, by(ADMIN))) == "forbidden"
    version = (await groups.membership(walks, OWNER)).group.version
    await groups.delete(walks, by(OWNER))
    await groups.delete(walks, by(OWNER))

    assert await refusal(groups.membership(walks, OWNER)) == "not_member"
    assert await refusal(groups.delete(walks, by(ADMIN))) == "not_member"
    ((_, kind, users, told_version),) = await told(groups)
    assert (kind, sorted(users), told_version) == (
        "deleted", sorted([OWNER, ADMIN, MEMBER, READER]), version + 1,
    )  # fmt: skip
    assert (await groups.rosters({walks: 0}))[walks].members == {}


async def test_members_come_in_parts(groups, walks):
    """In the order of their ids."""
    everyone = sorted([OWNER, ADMIN, MEMBER, READER])
    first, more = await groups.members(walks, after=0, limit=3)
    rest, no_more = await groups.members(walks, after=first[-1].user, limit=3)

    assert [member.user for member in [*first, *rest]] == everyone
    assert (more, no_more) == (True, False)


async def test_a_roster_comes_only_when_the_group_has_changed(groups, walks):
    """What never existed is left out."""
    roster = (await groups.rosters({walks: 0, "g-1": 0}))[walks]

    assert {user: member.role for user, member in roster.members.items()} == {
        OWNER: "owner", ADMIN: "admin", MEMBER: "member", READER: "reader",
    }  # fmt: skip
    assert await groups.rosters({walks: roster.group.version}) == {walks: None}
    await groups.remove(walks, MEMBER, by(OWNER))
    fresh = (await groups.rosters({walks: roster.group.version}))[walks]
    assert MEMBER not in fresh.members


async def test_changes_at_once_are_all_kept(groups, walks):
    """None overlaps another: versions count them, and so do the members."""
    users = [random_id() for _ in range(8)]
    await asyncio.gather(*(groups.add(walks, [user], by(OWNER)) for user in users))
    group = (await groups.membership(walks, OWNER)).group

    assert group.members == 12
    events = await told(groups)
    assert [version for *_, version in events] == list(range(group.version - 7, group.version + 1))


async def test_limits_are_those_of_the_configuration(database, walks):
    """Of members in a group, and of groups of a user, as they are at the call."""
    configuration = Configuration(None, Values(groups=Groups(members=5)), clock=lambda: 0.0)
    groups = SqlGroups(database, configuration)
    await groups.add(walks, [random_id()], by(OWNER))

    assert await refusal(groups.add(walks, [random_id()], by(OWNER))) == "too_many"
    five = [random_id() for _ in range(5)]
    assert await refusal(groups.create(new_group(), five, by(OWNER), key="six")) == "too_many"
    configuration.values = Values(groups=Groups(members=6, groups_per_user=1))
    assert await refusal(groups.create(new_group(), [], by(OWNER), key="two")) == "too_many"
    await groups.add(walks, [random_id()], by(OWNER))
    configuration.values = Values(groups=Groups(groups_per_user=2))
    await groups.create(new_group(), [], by(OWNER), key="two")


async def test_what_was_published_is_forgotten(groups, walks):
    """The rest stays, the oldest first."""
    await groups.remove(walks, MEMBER, by(OWNER))
    await groups.add(walks, [MEMBER], by(OWNER))
    first, second = await groups.unpublished(limit=9)
    await groups.mark_published([first.id])

    assert await groups.unpublished(limit=9) == [second]
    assert first.id < second.id
