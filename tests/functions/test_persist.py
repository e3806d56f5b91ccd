"""`persist`: what was accepted is in history, once; watermarks move; the reader's devices hear what
is unread.
"""

from __future__ import annotations

import asyncio

import pytest

from backends.wiring import Backends
from functions.runtime.context import Timing, use_backends
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.errors import Unavailable
from schemas.ids import LATEST, direct_chat
from schemas.topics import DEAD_LETTERS, DELIVERIES, user_partition


@pytest.fixture
def page(backends, event_targets):
    """Ids of the newest page of Alice's and Bob's chat."""

    async def ids(chat=event_targets.CHAT):
        return [
            message.id
            for message in (
                await backends.chats.page(chat, direction="before", anchor=LATEST, limit=256)
            ).messages
        ]

    return ids


def accepted(*commands):
    return [pb.Outcome(command=command) for command in commands]


async def test_accepted_messages_are_in_history(backends, event_targets, page):
    """With everything that the command said."""
    command = event_targets.text("hello", key="k-1")
    command.send.reply_to = 77
    answer = await event_targets.post("persist", accepted(command))

    assert answer.status == 200
    ((message,), *_) = [
        (
            await backends.chats.page(
                event_targets.CHAT, direction="before", anchor=LATEST, limit=10
            )
        ).messages
    ]
    assert (message.id, message.chat, message.sender, message.key) == (
        command.id,
        event_targets.CHAT,
        event_targets.ALICE,
        "k-1",
    )
    assert (message.text, message.reply_to, message.version) == ("hello", 77, command.id)


async def test_refused_messages_are_not(event_targets, page):
    """An outcome that was refused leaves nothing in history."""
    await event_targets.post(
        "persist", [pb.Outcome(command=event_targets.text(), refused="unknown_user")]
    )

    assert await page() == []


async def test_a_repeated_event_keeps_one_row(event_targets, page):
    """Knative may post a record twice, and out of order; history shows each message once."""
    first, second = event_targets.text("one"), event_targets.text("two")
    await event_targets.post("persist", accepted(second))
    await event_targets.post("persist", accepted(first, second))
    await event_targets.post("persist", accepted(first))

    assert await page() == [second.id, first.id]


async def test_a_read_mark_tells_the_reader_what_is_unread(backends, event_targets, topics):
    """Others' messages above the mark count, one's own do not; only the
    reader's partition is told.
    """
    said = [event_targets.text(f"number {n}") for n in range(5)]
    own = event_targets.text("mine", sender=event_targets.BOB)
    await event_targets.post("persist", accepted(*said, own))
    answer = await event_targets.post(
        "persist", accepted(event_targets.mark(user=event_targets.BOB, read=said[1].id))
    )

    assert answer.status == 200
    ((partition, _),) = await topics.events(DELIVERIES)
    assert partition == user_partition(event_targets.BOB, 12)
    unread = pb.Unread(chat=event_targets.CHAT, unread=3, read=said[1].id, upto=said[4].id)
    assert await topics.items(DELIVERIES) == [pb.Delivery(users=[event_targets.BOB], unread=unread)]
    ((state,), _) = await backends.chats.states(event_targets.BOB, after=None, limit=10)
    assert (state.read, state.received, state.unread) == (said[1].id, said[1].id, 3)


async def test_a_read_mark_tells_how_many_name_the_reader(event_targets, topics):
    """Of those that are unread still."""
    said = [event_targets.text(f"number {n}") for n in range(3)]
    for command in said[1:]:
        command.send.mentions.extend([event_targets.ALICE, event_targets.BOB])
    mark = event_targets.mark(user=event_targets.BOB, read=said[1].id)
    await event_targets.post("persist", accepted(*said, mark))

    [told] = await topics.items(DELIVERIES)
    assert (told.unread.unread, told.unread.mentions) == (1, 1)


async def test_a_received_mark_changes_no_count(backends, event_targets, topics):
    """Received moves, read does not, and no count is told."""
    said = event_targets.text()
    await event_targets.post("persist", accepted(said))
    await event_targets.post(
        "persist", accepted(event_targets.mark(user=event_targets.BOB, received=said.id))
    )

    assert not await topics.events(DELIVERIES)
    ((state,), _) = await backends.chats.states(event_targets.BOB, after=None, limit=10)
    assert (state.read, state.received, state.unread) == (0, said.id, 1)


async def test_one_count_is_told_for_many_marks(event_targets, topics):
    """Several marks of one user and chat in one event lead to one `unread`."""
    said = [event_targets.text(f"number {n}") for n in range(3)]
    await event_targets.post(
        "persist",
        accepted(
            *said,
            *(event_targets.mark(user=event_targets.BOB, read=command.id) for command in said),
        ),
    )

    assert [delivery.unread.unread for delivery in await topics.items(DELIVERIES)] == [0]


async def test_counts_are_made_side_by_side_and_never_fail_the_event(
    backends, event_targets, topics, monkeypatch
):
    """A reader whose count fails, or is late, is left out: the watermarks are written, the others
    are told.
    """
    others = range(2_000, 2_100)
    said = {
        user: event_targets.text(sender=user, chat=direct_chat(event_targets.ALICE, user))
        for user in others
    }
    await event_targets.post("persist", accepted(*said.values()))
    use_backends(backends, Timing(counts_timeout_s=1.5))
    unread, never = backends.chats.unread, asyncio.Event()

    async def slow(user, chats):
        await asyncio.sleep(0.045)  # a read of the store, which the test is about
        if user == 2_001:
            await never.wait()
        if user == 2_002:
            raise Unavailable("no node answers")
        return await unread(user, chats)

    monkeypatch.setattr(backends.chats, "unread", slow)
    answer = await event_targets.post(
        "persist",
        accepted(
            *(
                event_targets.mark(user=user, chat=said[user].chat, read=said[user].id)
                for user in others
            )
        ),
    )

    assert answer.status == 200
    assert {user for delivery in await topics.items(DELIVERIES) for user in delivery.users} == set(
        others
    ) - {2_001, 2_002}
    ((state,), _) = await backends.chats.states(2_001, after=None, limit=10)
    assert state.read == said[2_001].id


async def test_an_impossible_row_is_dead_lettered_alone(event_targets, topics, page):
    """The others are written; the dead letter says who failed and why, and report_failed leaves it
    where it is.
    """
    newer = pb.Command(id=event_targets.mint(), user=event_targets.ALICE, chat=event_targets.CHAT)
    broken = event_targets.text(chat="d-2-1")
    good = [event_targets.text(f"number {n}") for n in range(5)]
    answer = await event_targets.post("persist", accepted(*good[:2], newer, broken, *good[2:]))

    assert answer.status == 200
    assert await page() == [command.id for command in reversed(good)]
    letters = [event for _, event in await topics.events(DEAD_LETTERS)]
    reasons = {
        event.extensions["reason"]: cloudevents.parse(event, pb.Outcomes).outcomes[0].command
        for event in letters
    }
    assert reasons == {"malformed-body": newer, "malformed-chat": broken}
    assert {
        (event.extensions["knativeerrordest"], event.extensions["knativeerrorcode"])
        for event in letters
    } == {("/functions/persist", "422")}
    for letter in letters:
        assert (await event_targets.post("report_failed", letter)).status == 200
    assert not await topics.events(DELIVERIES)


async def test_a_row_that_only_the_store_refuses_is_found_among_many(
    backends, event_targets, topics, page, monkeypatch
):
    """The store says only that something in the batch is impossible: the halves are tried until it
    is known what.
    """
    from schemas.errors import Malformed  # noqa: PLC0415 - one test needs it

    good, bad = (
        [event_targets.text(f"number {n}") for n in range(20)],
        event_targets.text("not for this store"),
    )
    put = backends.chats.put

    async def picky(messages):
        if any(message.id == bad.id for message in messages):
            raise Malformed("no such bucket", field="id")
        await put(messages)

    monkeypatch.setattr(backends.chats, "put", picky)
    answer = await event_targets.post("persist", accepted(*good[:13], bad, *good[13:]))

    assert answer.status == 200
    assert await page() == [command.id for command in reversed(good)]
    assert [outcome.command.id for outcome in await topics.items(DEAD_LETTERS)] == [bad.id]


async def test_an_unavailable_store_is_tried_again(settings, event_targets):
    """503: the dispatcher keeps the event for half an hour."""
    (settings.data / "data.db").mkdir()
    opened = Backends(settings)
    use_backends(opened)
    answer = await event_targets.post("persist", accepted(event_targets.text()))
    use_backends(None)
    await opened.close()

    assert answer.status == 503
