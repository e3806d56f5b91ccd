"""The index is made again from the log, beside whatever goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.log import ProducerRecord
from backends.search import Entry, Wanted
from functions.domain.replaying import replay, replay_history
from schemas import chat_pb2 as pb
from schemas.errors import Unavailable
from schemas.topics import HISTORY_RETRIES, MESSAGES
from tests.support.events import event_of


@pytest.fixture
def tell(backends, event_targets):
    """Appends outcomes of these commands to the log, a record each."""

    async def of(*commands, topic=MESSAGES):
        await backends.appends.append(
            [
                ProducerRecord(
                    topic,
                    event_of(
                        pb.Outcomes(schema=1, outcomes=[pb.Outcome(command=command)]),
                        id=f"e{command.id}",
                    ),
                )
                for command in commands
            ]
        )

    return of


@pytest.fixture
def found(backends, event_targets):
    async def of(word):
        wanted = Wanted(user=event_targets.ALICE, terms=(word,), directs=True, limit=256)
        return [message for _, message in (await backends.search.find(wanted)).places]

    return of


async def test_an_empty_index_holds_all_that_the_log_does(tell, found, backends, event_targets):
    """Both topics, edits and deletions too; how far it is, is told."""
    commands = [event_targets.text(f"words {number}") for number in range(40)]
    commands.append(
        pb.Command(
            id=event_targets.mint(),
            user=event_targets.ALICE,
            device="d",
            key="c",
            chat=event_targets.CHAT,
            delete=pb.Delete(message=commands[3].id),
        )
    )
    await tell(*commands)
    last = event_targets.text("words at last")
    await tell(last, topic=HISTORY_RETRIES)
    told = []
    done = await replay(backends, on_progress=lambda progress: told.append(progress.entries))

    assert (done.records, done.all_records, done.entries, done.foreign) == (42, 42, 42, 0)
    assert told[-1] == 42
    kept = [command.id for command in commands[:40] if command is not commands[3]]
    assert await found("words") == [last.id, *reversed(kept)]


async def test_it_changes_nothing_that_is_newer(tell, found, backends, event_targets):
    """Again and again, beside `index`."""
    message = event_targets.text("old words")
    await tell(message)
    newer = Entry(
        chat=message.chat,
        message=message.id,
        version=event_targets.mint(),
        sender=message.user,
        text="new words",
    )
    await backends.search.write([newer])
    for _ in range(2):
        await replay(backends)

    assert await found("new words") == [message.id]
    assert await found("old") == []


async def test_it_can_begin_later(tell, found, backends, event_targets):
    """From a time on, by the log's clock."""
    await tell(event_targets.text("some words"))
    done = await replay(backends, since_ms=backends.clock.now_ms() + 60_000)

    assert (done.records, done.entries) == (0, 0)
    assert await found("words") == []


async def test_what_is_not_ours_is_counted_and_passed_over(tell, found, backends, event_targets):
    """It is no outcome, or not signed by us."""
    message = event_targets.text("good words")
    foreign = event_of(pb.Commands(schema=1, commands=[event_targets.text("bad words")]))
    await backends.appends.append([ProducerRecord(MESSAGES, foreign)])
    await tell(message)
    done = await replay(backends)

    assert (done.records, done.entries, done.foreign) == (2, 1, 1)
    assert await found("words") == [message.id]


async def test_an_index_that_does_not_answer_ends_it(tell, backends, event_targets, monkeypatch):
    """It is run again: what was written stays."""

    async def write(_entries):
        raise Unavailable("no index")

    await tell(event_targets.text("x"))
    monkeypatch.setattr(backends.search, "write", write)
    with pytest.raises(Unavailable):
        await replay(backends)


async def test_history_holds_what_the_log_has_dropped(found, backends, event_targets):
    """Texts as they are now, deletions, and from whom messages are hidden; events of groups are
    left out. However long a chat is.
    """
    commands = [event_targets.text(f"words {number}") for number in range(300)]
    first, second, third, fourth = commands[:4]
    fourth.send.file.CopyFrom(pb.File(id=9, name="a.png", type="image/png", bytes=5))

    def change(**body):
        return pb.Command(
            id=event_targets.mint(),
            user=event_targets.ALICE,
            device="d",
            key="c",
            chat=event_targets.CHAT,
            **body,
        )

    event = pb.GroupEvent(kind="renamed", name="words", users=[event_targets.ALICE])
    changes = [
        change(edit=pb.Edit(message=first.id, text="other words")),
        change(delete=pb.Delete(message=second.id)),
        change(delete=pb.Delete(message=third.id, for_me=True)),
        pb.Command(id=event_targets.mint(), user=1, chat="g-5", group_event=event),
        event_targets.text("words of others", chat="d-5-6", sender=5),
    ]
    outcomes = [pb.Outcome(command=command) for command in [*commands, *changes]]
    assert (await event_targets.post("persist", outcomes)).status == 200
    done = await replay_history(backends)

    assert (done.chats, done.entries) == (3, 301)
    assert await found("other words") == [first.id]
    wanted = Wanted(user=event_targets.BOB, terms=("words",), directs=True, limit=256)
    ids = [message for _, message in (await backends.search.find(wanted)).places]
    assert ids == [command.id for command in reversed(commands)][:256]
    filed = await backends.search.find(replace(wanted, terms=(), has_file=True))
    assert filed.places == [(event_targets.CHAT, fourth.id)]
    assert third.id not in await found("words")
    assert second.id not in await found("words")
