"""`send` and `persist` in groups: who may write, who is told what, and what history keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends import rosters
from backends.groups import Change, Group
from backends.settings import Settings
from backends.wiring import Backends
from functions.domain import group_commands
from functions.events import persist
from functions.runtime.context import use_backends
from schemas import chat_pb2 as pb
from schemas.topics import DELIVERIES, MESSAGES, RETRIES
from tests.support.configured import configure

OWNER, MEMBER, READER, FORMER, STRANGER = range(101, 106)
CHAT = "g-77"


@pytest.fixture
def change(event_targets):
    """Makes changes by a user."""

    def by(user):
        return Change(user, "phone", tuple(event_targets.mint() for _ in range(3)))

    return by


@pytest.fixture
async def group(backends, change):
    """A group with a user of each kind; its members see what came after they joined."""
    asked = Group(CHAT, "Walks", "", "from_join", 0, 0, 0)
    await backends.groups.create(asked, [MEMBER, FORMER], change(OWNER), key="k")
    await backends.groups.add(CHAT, [READER], change(OWNER), role="reader")
    await backends.groups.remove(CHAT, FORMER, change(OWNER))
    events = await backends.groups.unpublished(limit=9)
    await backends.groups.mark_published([event.id for event in events])
    return events


async def told(topics):
    """What each user is told, by kind."""
    found = {}
    for delivery in await topics.items(DELIVERIES):
        for user in delivery.users:
            found.setdefault(user, []).append(delivery.WhichOneof("body"))
    return found


async def test_a_message_is_told_to_all_members(group, event_targets, topics):
    """The outcome says how many they were."""
    command = event_targets.text("hi", sender=MEMBER, chat=CHAT)
    answer = await event_targets.post("send", [command])

    assert answer.status == 200
    assert await told(topics) == {user: ["message"] for user in (OWNER, MEMBER, READER)}
    (outcome,) = await topics.items(MESSAGES)
    assert (outcome.command, outcome.refused, outcome.members) == (command, "", 3)


@pytest.mark.parametrize(
    ("user", "code"),
    [(READER, "forbidden"), (FORMER, "not_member"), (STRANGER, "unknown_chat")],
)
async def test_others_are_refused(group, event_targets, topics, user, code):
    """Only strangers are not told that the group exists."""
    command = event_targets.text("hi", sender=user, chat=CHAT)
    await event_targets.post("send", [command])

    assert await told(topics) == {user: ["refused"]}
    (outcome,) = await topics.items(MESSAGES)
    assert outcome.refused == code


async def test_no_user_is_refused_by_memory(group, event_targets, topics, backends, change):
    """Who has just joined, or may write now, may; whatever `send` knew a moment ago."""
    await event_targets.post("send", [event_targets.text("hi", sender=OWNER, chat=CHAT)])
    await backends.groups.add(CHAT, [STRANGER], change(OWNER))
    await backends.groups.set_role(CHAT, READER, "member", change(OWNER))
    for user in (STRANGER, READER):
        await event_targets.post("send", [event_targets.text("me", sender=user, chat=CHAT)])

    assert {outcome.refused for outcome in await topics.items(MESSAGES)} == {""}


async def test_admins_delete_and_pin_what_others_have_written(
    group, event_targets, topics, backends, change
):
    """Members do neither; no user changes what the group itself has told."""
    message = event_targets.text("hi", sender=OWNER, chat=CHAT)
    await event_targets.post("send", [message])
    await event_targets.post("persist", await topics.items(MESSAGES))
    await event_targets.post("persist", [pb.Outcome(command=group[0])])

    async def became(user, **body):
        command = pb.Command(
            id=event_targets.mint(), user=user, device="d", key="x", chat=CHAT, **body
        )
        await event_targets.post("send", [command])
        outcomes = {one.command.id: one.refused for one in await topics.items(MESSAGES)}
        return outcomes[command.id]

    pin, delete = pb.Pin(message=message.id), pb.Delete(message=message.id)
    assert await became(MEMBER, pin=pin) == "forbidden"
    assert await became(MEMBER, delete=delete) == "forbidden"
    assert await became(OWNER, delete=pb.Delete(message=group[0].id)) == "forbidden"
    await backends.groups.set_role(CHAT, MEMBER, "admin", change(OWNER))
    assert await became(MEMBER, pin=pin) == ""
    assert await became(MEMBER, delete=delete) == ""


async def test_a_pin_is_an_event_of_its_group(group, event_targets, topics, backends):
    """Under the pin's id: told beside the change, and kept; none of what was refused."""
    message = event_targets.text("hi", sender=OWNER, chat=CHAT)
    await event_targets.post("send", [message])
    await event_targets.post("persist", await topics.items(MESSAGES))
    pin, unpin, refused = (
        pb.Command(
            id=event_targets.mint(),
            user=user,
            device="d",
            key=op,
            chat=CHAT,
            **{op: pb.Pin(message=message.id)},
        )
        for user, op in ((OWNER, "pin"), (OWNER, "unpin"), (MEMBER, "pin"))
    )
    await event_targets.post("send", [pin, unpin, refused])
    await event_targets.post("persist", await topics.items(MESSAGES))

    assert (await told(topics))[READER] == ["message", "changed", "message", "changed", "message"]
    page = await backends.chats.page(CHAT, direction="before", anchor=1 << 62, limit=9)
    assert [(one.id, one.event) for one in page.messages] == [
        (command.id, f'{{"kind":"{kind}","message":{message.id}}}')
        for command, kind in ((unpin, "unpinned"), (pin, "pinned"))
    ] + [(message.id, "")]
    assert await backends.chats.pins(CHAT) == []


async def test_a_message_names_members(group, event_targets, topics, backends, change):
    """Those who are by now, whatever `send` knew a moment ago; others are refused."""
    await event_targets.post("send", [event_targets.text("hi", sender=OWNER, chat=CHAT)])
    await backends.groups.add(CHAT, [STRANGER], change(OWNER))
    named = event_targets.text("you", sender=OWNER, chat=CHAT)
    named.send.mentions.extend([READER, STRANGER])
    former = event_targets.text("and you", sender=OWNER, chat=CHAT)
    former.send.mentions.extend([MEMBER, FORMER])
    await event_targets.post("send", [named, former])
    await event_targets.post("persist", await topics.items(MESSAGES))

    outcomes = {one.command.id: one.refused for one in await topics.items(MESSAGES)}
    assert (outcomes[named.id], outcomes[former.id]) == ("", "unknown_user")
    page = await backends.chats.page(CHAT, direction="before", anchor=1 << 62, limit=1)
    assert page.messages[0].mentions == (READER, STRANGER)
    [state] = await backends.chats.group_states(READER, {CHAT: 0})
    assert (state.unread, state.mentions) == (2, 1)


async def test_a_group_that_is_none_is_unknown(people, event_targets, topics):
    """And the direct chats of the same batch go on."""
    await event_targets.post("send", [event_targets.text(chat="g-1"), event_targets.text("hello")])

    assert [outcome.refused for outcome in await topics.items(MESSAGES)] == ["unknown_chat", ""]


async def test_a_member_is_told_nothing_from_before(group, event_targets, topics, backends, change):
    """What history does not show is not pushed either."""
    early = event_targets.text("early", sender=OWNER, chat=CHAT)
    await backends.groups.add(CHAT, [STRANGER], change(OWNER))
    await event_targets.post("send", [early])

    assert STRANGER not in await told(topics)


async def test_a_member_is_told_no_change_from_before(
    group, event_targets, topics, backends, change
):
    """Nor does that member change what was there before."""
    early = event_targets.text("early", sender=OWNER, chat=CHAT)
    await event_targets.post("send", [early])
    await event_targets.post("persist", await topics.items(MESSAGES))
    await backends.groups.add(CHAT, [STRANGER], change(OWNER))
    edit, react = (
        pb.Command(id=event_targets.mint(), user=user, device="d", key="x", chat=CHAT, **{op: body})
        for user, op, body in (
            (OWNER, "edit", pb.Edit(message=early.id, text="new")),
            (STRANGER, "react", pb.React(message=early.id, emoji="👍")),
        )
    )
    await event_targets.post("send", [edit, react])

    assert (await told(topics))[MEMBER] == ["message", "changed"]
    assert (await told(topics))[STRANGER] == ["refused"]
    outcomes = {one.command.id: one.refused for one in await topics.items(MESSAGES)}
    assert (outcomes[edit.id], outcomes[react.id]) == ("", "unknown_message")


@pytest.mark.parametrize(("members", "body"), [(1_000, "message"), (1_001, "newer")])
async def test_up_to_a_thousand_members_the_body_goes_out_once_a_partition(
    event_targets, topics, backends, change, members, body
):
    """Above it a pointer does; each member is told once."""
    others = [*range(1_001, 1_000 + members)]
    asked = Group(CHAT, "Walks", "", "all", 0, 0, 0)
    await backends.groups.create(asked, others, change(OWNER), key="k")
    await event_targets.post("send", [event_targets.text("hi", sender=OWNER, chat=CHAT)])

    deliveries = await topics.items(DELIVERIES)
    to_others = [one for one in deliveries if one.HasField(body)]
    assert len(to_others) == await backends.reads.partitions(DELIVERIES)
    assert sorted(user for one in deliveries for user in one.users) == [OWNER, *others]
    (outcome,) = await topics.items(MESSAGES)
    assert (outcome.members, outcome.refused) == (members, "")


async def test_what_was_said_before_joining_is_refused_for_good(
    group, event_targets, topics, backends, change
):
    """A replay does not make messages of what a stranger and a former member have said."""

    def early():
        return event_targets.mint() - (5_000 << 22)

    said = [
        event_targets.text("hi", sender=user, chat=CHAT, id=early()) for user in (STRANGER, FORMER)
    ]
    for user in (STRANGER, FORMER):
        await event_targets.post("send", said)
        await backends.groups.add(CHAT, [user], change(OWNER))
    await event_targets.post("send", said)

    refused = [outcome.refused for outcome in await topics.items(MESSAGES)]
    assert refused == ["unknown_chat", *["not_member"] * 5]
    assert set(await told(topics)) == {STRANGER, FORMER}


async def test_a_name_of_who_joined_later_is_refused_for_good(
    group, event_targets, topics, backends, change
):
    """A message names members of its moment."""
    late = event_targets.mint() + (5_000 << 22)
    naming = event_targets.text("you", sender=OWNER, chat=CHAT)
    naming.send.mentions.append(STRANGER)
    await event_targets.post("send", [naming])
    await backends.groups.add(CHAT, [STRANGER], replace(change(OWNER), ids=(late,)))
    await event_targets.post("send", [naming])

    refused = [outcome.refused for outcome in await topics.items(MESSAGES)]
    assert refused == ["unknown_user"] * 2


async def test_large_groups_get_a_pointer(group, event_targets, topics, monkeypatch):
    """The sender's devices get the message itself."""
    monkeypatch.setattr(group_commands, "MAX_WITH_BODY", 2)
    await event_targets.post("send", [event_targets.text("hi", sender=MEMBER, chat=CHAT)])

    assert await told(topics) == {OWNER: ["newer"], READER: ["newer"], MEMBER: ["message"]}


@pytest.mark.parametrize(("limit", "users"), [(32, {OWNER, MEMBER, READER}), (2, {READER})])
async def test_receipts_are_told_in_small_groups(
    group, event_targets, topics, backends, limit, users
):
    """A reader may mark too; in larger groups only one's own devices hear it."""
    await configure(backends, "groups", receipts_members=limit)
    await event_targets.post("send", [event_targets.mark(user=READER, chat=CHAT, read=5)])

    assert await told(topics) == {user: ["receipt"] for user in users}


async def test_an_event_of_the_group_is_told_and_kept(group, event_targets, topics, backends):
    """As a message, with the group as it is now; the one who was removed hears only that."""
    created, joined, removed = group
    await event_targets.post("send", [removed, joined, created])

    assert await told(topics) == {
        OWNER: ["message", "chat"] * 3,
        MEMBER: ["message", "chat"] * 3,
        READER: ["message", "chat", "message", "chat", "chat", "chat"],
        FORMER: ["chat"],
    }
    parts = [
        (list(delivery.users), delivery.chat)
        for delivery in await topics.items(DELIVERIES)
        if delivery.HasField("chat")
    ]
    assert {part.version for _, part in parts if not part.HasField("member")} == {3}
    assert [part.deleted for users, part in parts if users == [FORMER]] == [True]
    assert {
        part.group.role for users, part in parts if users == [READER] and part.HasField("group")
    } == {"reader"}
    outcomes = await topics.items(MESSAGES)
    await event_targets.post("persist", outcomes)
    page = await backends.chats.page(CHAT, direction="before", anchor=1 << 62, limit=9)
    assert [message.id for message in page.messages] == [removed.id, joined.id, created.id]
    assert page.messages[0].event == f'{{"kind":"removed","users":[{FORMER}],"version":3}}'


async def test_a_deleted_group_is_told_to_all_who_were_in_it(
    group, event_targets, topics, backends, change
):
    """No message of it is left to show."""
    await backends.groups.delete(CHAT, change(OWNER))
    await event_targets.post("send", await backends.groups.unpublished(limit=9))

    assert await told(topics) == {user: ["chat"] for user in (OWNER, MEMBER, READER)}


async def test_reading_is_counted_from_joining_on(group, event_targets, topics, backends):
    """`persist` tells the reader what is unread now, without asking who is in the group."""
    messages = [event_targets.text(str(n), sender=OWNER, chat=CHAT) for n in range(5)]
    await event_targets.post("send", messages)
    mark = event_targets.mark(user=READER, chat=CHAT, read=messages[1].id)
    await event_targets.post("send", [mark])
    await event_targets.post("persist", await topics.items(MESSAGES))

    (unread,) = [d.unread for d in await topics.items(DELIVERIES) if d.HasField("unread")]
    assert (unread.chat, unread.unread, unread.read, unread.upto) == (
        CHAT, 3, messages[1].id, messages[4].id,
    )  # fmt: skip


@pytest.mark.parametrize(("limit", "users"), [(32, {OWNER, MEMBER, READER}), (2, set())])
async def test_a_deletion_for_all_is_counted_in_small_groups(
    group, event_targets, topics, monkeypatch, limit, users
):
    """Each member's messages from joining on; the others learn it from the list of chats."""
    monkeypatch.setattr(persist, "MAX_WITH_UNREAD", limit)
    messages = [event_targets.text(str(n), sender=MEMBER, chat=CHAT) for n in range(3)]
    await event_targets.post("send", messages)
    await event_targets.post("persist", await topics.items(MESSAGES))
    delete = pb.Command(
        id=event_targets.mint(),
        user=MEMBER,
        device="d",
        key="x",
        chat=CHAT,
        delete=pb.Delete(message=messages[1].id),
    )
    await event_targets.post("send", [delete])
    outcomes = await topics.items(MESSAGES)
    await event_targets.post("persist", [one for one in outcomes if one.command == delete])

    unread = {
        user: one.unread.unread
        for one in await topics.items(DELIVERIES)
        if one.HasField("unread")
        for user in one.users
    }
    assert unread == {user: 0 if user == MEMBER else 2 for user in users}


# ---- what is remembered --------------------------------------------------------------------------


@pytest.fixture
def clock():
    class Clock:
        now_s = 100.0

        def __call__(self):
            return self.now_s

    return Clock()


@pytest.fixture
async def unavailable(tmp_path):
    """Groups whose database cannot be opened."""
    (tmp_path / "unavailable" / "data.db").mkdir(parents=True)
    opened = Backends(Settings(data=tmp_path / "unavailable"))
    yield opened.groups
    await opened.close()


async def test_a_removal_is_known_within_five_seconds(group, backends, clock, change):
    """Until then what SQL said serves on, without a question."""
    remembered = rosters.Rosters(clock)
    before = (await remembered.of({CHAT: 0}, backends.groups))[CHAT]
    await backends.groups.remove(CHAT, MEMBER, change(OWNER))
    clock.now_s += rosters.FRESH_TTL_S - 0.01
    still = (await remembered.of({CHAT: 0}, backends.groups))[CHAT]
    clock.now_s += 0.01
    after = (await remembered.of({CHAT: 0}, backends.groups))[CHAT]

    assert still is before
    assert MEMBER in before.members
    assert MEMBER not in after.members
    assert rosters.FRESH_TTL_S + 1 <= 5


async def test_a_change_that_is_told_is_never_decided_by_an_older_roster(
    group, backends, clock, change
):
    """Whatever is remembered."""
    remembered = rosters.Rosters(clock)
    version = (await remembered.of({CHAT: 0}, backends.groups))[CHAT].group.version
    await backends.groups.remove(CHAT, MEMBER, change(OWNER))

    after = (await remembered.of({CHAT: version + 1}, backends.groups))[CHAT]
    assert (after.group.version, MEMBER in after.members) == (version + 1, False)


async def test_what_sql_said_serves_on_while_it_is_unavailable(group, backends, unavailable, clock):
    """For 15 minutes; then, and for a group that was not asked for, it is unknown."""
    remembered = rosters.Rosters(clock)
    first = (await remembered.of({CHAT: 0}, backends.groups))[CHAT]
    clock.now_s += rosters.STALE_TTL_S - 1
    later = await remembered.of({CHAT: 0, "g-2": 0}, unavailable)
    clock.now_s += 1

    assert later == {CHAT: first, "g-2": None}
    assert await remembered.of({CHAT: 0}, unavailable) == {CHAT: None}


async def test_a_command_waits_while_its_group_is_unknown(event_targets, topics_of, tmp_path):
    """In chat-retries, alone; those of the batch that can be decided are."""
    (tmp_path / "data.db").mkdir()
    opened = Backends(Settings(data=tmp_path))
    use_backends(opened)
    command = event_targets.text("hi", sender=MEMBER, chat=CHAT)
    answer = await event_targets.post("send", [command, event_targets.text(chat="d-1-1", sender=1)])

    assert answer.status == 200
    assert (await topics_of(opened).items(RETRIES))[0] == command
    use_backends(None)
    await opened.close()
