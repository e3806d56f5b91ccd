"""What was acknowledged and dropped on the way is found and done again, once; what is whole, young,
under way or not ours is left alone.
"""

from __future__ import annotations

import logging
import sqlite3

from backends import chats
from backends.groups import Change, Group
from backends.log import ProducerRecord
from backends.settings import Settings
from backends.wiring import Backends
from functions.runtime.context import use_backends
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.ids import LATEST
from schemas.topics import COMMANDS, DEAD_LETTERS, HISTORY_RETRIES, MESSAGES, RETRIES
from tests.functions.audit.line import Line, embedded
from tests.support.until import until

MANY = 1_000


async def test_a_thousand_events_dropped_between_log_and_persist_are_in_history_once(line):
    """Its group has gone past them, and it never saw them."""
    said = line.commands(MANY)
    await line.log(said)
    await line.decide(said)
    await line.persist(said[::10])
    await line.commit(COMMANDS, RETRIES, MESSAGES)
    tally = await line.audit()

    assert await line.history() == [command.id for command in reversed(said)]
    assert (tally.of("repaired"), tally.of("missing"), tally.whole) == ({"messages": 900}, {}, True)
    assert tally.of("sound") == {"commands": 1000, "messages": 100}
    [state] = await line.backends.chats.unread(line.event_targets.BOB, [line.event_targets.CHAT])
    assert (state.newest, state.unread) == (said[-1].id, 999)
    assert (await line.audit(since_ms=0)).of("sound") == {"commands": 1000, "messages": 1000}


async def test_a_thousand_commands_dropped_between_log_and_send_are_in_history_once(line):
    """They are appended to chat-retries again, one by one, and go their way."""
    said = line.commands(MANY)
    await line.log(said)
    await line.decide(said[:10])
    await line.commit(COMMANDS, RETRIES, MESSAGES)
    tally = await line.audit()
    assert (tally.of("repaired"), tally.whole) == ({"commands": 990, "messages": 10}, True)

    async with line.dispatching(RETRIES, MESSAGES):

        async def all_there():
            return len(await line.history()) >= MANY

        await until(all_there, within_s=60)
    assert await line.history() == [command.id for command in reversed(said)]
    again = await line.audit()
    assert (again.of("sound"), again.of("repaired")) == ({"commands": 990, "messages": 990}, {})


async def test_what_was_said_in_a_group_is_repaired_too(line):
    """And an event that a function has left when it died goes its way."""
    people = line.event_targets
    created = Change(people.ALICE, "phone", (line.commands(1)[0].id,))
    group = Group("g-77", "Walks", "", "all", 0, 0, 0)
    await line.backends.groups.create(group, [people.BOB], created, key="k")
    said = line.commands(5, chat="g-77")
    await line.log(said)
    await line.decide(said)
    await line.commit(COMMANDS, RETRIES, MESSAGES)
    tally = await line.audit()

    assert (tally.of("repaired"), tally.whole) == ({"messages": 5}, True)
    assert await line.backends.chats.heads(["g-77"]) == {"g-77": said[-1].id}
    assert await line.backends.groups.unpublished(limit=9) == []
    assert (await line.audit(since_ms=0)).of("sound") == {"commands": 5, "messages": 5}


async def test_the_next_audit_goes_on_where_the_last_one_was(line):
    """What was audited is not read again; without repair nothing counts as audited."""
    said = line.commands(20)
    await line.log(said)
    await line.decide(said)
    await line.commit(COMMANDS, RETRIES, MESSAGES)

    for _ in range(2):
        told = await line.audit(repair=False)
        assert (told.of("missing"), told.whole) == ({"messages": 20}, False)
    assert await line.history() == []
    assert (await line.audit()).of("repaired") == {"messages": 20}
    assert not (await line.audit()).counts


@embedded
async def test_what_is_whole_is_left_alone(line, topics_of, caplog):
    """Nothing is appended, nothing is said."""
    said = line.commands(30)
    await line.log(said)
    await line.decide(said, in_one=7)
    await line.persist(said)
    mark = line.event_targets.mark(
        user=line.event_targets.BOB, chat=line.event_targets.CHAT, read=said[3].id
    )
    await line.log([mark])
    await line.decide([mark])
    await line.persist([mark])
    await line.commit(COMMANDS, RETRIES, MESSAGES)
    before = await topics_of(line.backends).events(RETRIES)
    with caplog.at_level(logging.INFO):
        tally = await line.audit()

    assert tally.counts == {
        ("commands", "sound"): 31,
        ("messages", "sound"): 30,
        ("marks", "sound"): 1,
    }
    assert await topics_of(line.backends).events(RETRIES) == before
    assert "audit" not in caplog.text


@embedded
async def test_changes_that_were_dropped_are_in_force_again(line):
    """An edit, a reaction and a deletion; of one for me alone no version tells."""
    said = line.commands(3)
    await line.log(said)
    await line.decide(said)
    await line.persist(said)
    alice, bob = line.event_targets.ALICE, line.event_targets.BOB
    bodies = [
        (alice, {"edit": pb.Edit(message=said[0].id, text="new")}),
        (bob, {"react": pb.React(message=said[0].id, emoji="👍")}),
        (alice, {"delete": pb.Delete(message=said[1].id)}),
        (bob, {"delete": pb.Delete(message=said[2].id, for_me=True)}),
    ]
    changes = [
        pb.Command(
            id=said[-1].id + number,
            user=user,
            device="phone",
            key=f"c{number}",
            chat=line.event_targets.CHAT,
            **body,
        )
        for number, (user, body) in enumerate(bodies, 1)
    ]
    await line.log(changes)
    await line.decide(changes)
    await line.persist(changes[1:2])
    await line.commit(COMMANDS, RETRIES, MESSAGES)
    tally = await line.audit()

    assert (tally.of("repaired"), tally.whole) == ({"changes": 2}, True)
    assert tally.of("sound") == {"commands": 7, "messages": 3, "changes": 1}
    places = [(line.event_targets.CHAT, one.id) for one in said[:2]]
    edited, deleted = (await line.backends.chats.find(places)).values()
    assert {edited.text, deleted.text} == {"new", ""}


@embedded
async def test_an_edit_that_raced_a_deletion_is_whole(line):
    """Two processes may accept both; the deletion wins, though the edit is newer."""
    [said] = line.commands(1)
    changes = [
        pb.Command(
            id=said.id + number,
            user=line.event_targets.ALICE,
            device="phone",
            key=f"c{number}",
            chat=line.event_targets.CHAT,
            **body,
        )
        for number, body in enumerate(
            (
                {"delete": pb.Delete(message=said.id)},
                {"edit": pb.Edit(message=said.id, text="new")},
            ),
            1,
        )
    ]
    await line.decide([said])
    await line.persist([said])
    for change in changes:
        await line.decide([change])
        use_backends(None)
        use_backends(line.backends)  # a process that remembers nothing
    await line.persist(changes)
    await line.commit(MESSAGES)

    tally = await line.audit()
    assert (tally.of("sound"), tally.whole) == ({"messages": 1, "changes": 2}, True)


@embedded
async def test_what_is_young_or_under_way_is_left_out(line):
    """A record that its function's group has not passed will still be done; one of this moment may
    be.
    """
    said = line.commands(10)
    await line.log(said, in_one=5)
    tally = await line.audit()
    assert (dict(tally.counts), tally.under_way, tally.whole) == ({}, 2, True)

    await line.commit(COMMANDS)
    assert not (await line.audit(until_ms=line.backends.clock.now_ms() - 60_000)).counts
    assert (await line.audit()).of("repaired") == {"commands": 10}


@embedded
async def test_a_command_that_was_handed_on_is_audited_where_it_lies(line):
    """`send` has set it aside; its copy in chat-retries is not done with yet."""
    said = line.commands(3)
    await line.log(said)
    await line.commit(COMMANDS)
    await line.log(said[1:], RETRIES, in_one=1)
    tally = await line.audit()

    assert tally.of("repaired") == {"commands": 1}
    assert tally.examples == [f"commands repaired {said[0].id}"]


@embedded
async def test_an_outcome_that_goes_round_is_audited_where_it_lies(line):
    """History was unavailable for longer than the dispatcher tries: its copy in
    chat-history-retries is not done with yet, then dropped.
    """
    said = line.commands(3)
    await line.decide(said)
    await line.commit(MESSAGES)
    again = [
        ProducerRecord(HISTORY_RETRIES, line.event_targets.event([pb.Outcome(command=command)]))
        for command in said[1:]
    ]
    await line.backends.appends.append(again)
    tally = await line.audit()
    assert (tally.of("repaired"), tally.under_way) == ({"messages": 1}, 2)

    await line.commit(HISTORY_RETRIES)
    assert (await line.audit()).of("repaired") == {"messages": 2}
    assert await line.history() == [command.id for command in reversed(said)]


@embedded
async def test_marks_that_were_dropped_move(line, topics_of):
    """And the reader's devices hear what is unread, as from `persist`."""
    said = line.commands(3)
    await line.persist(said)
    mark = line.event_targets.mark(
        user=line.event_targets.BOB, chat=line.event_targets.CHAT, read=said[1].id
    )
    await line.decide([mark])
    await line.commit(MESSAGES)
    tally = await line.audit()

    assert tally.of("repaired") == {"marks": 1}
    [state] = await line.backends.chats.unread(line.event_targets.BOB, [line.event_targets.CHAT])
    assert (state.read, state.received, state.unread) == (said[1].id, said[1].id, 1)


@embedded
async def test_half_a_write_is_made_whole_and_never_brings_back_what_was(line):
    """The row is there in a newer version, and the chat is not among the people's: `put` decides
    what stays.
    """
    said = line.commands(2)
    await line.decide(said)
    await line.persist(said)
    await line.backends.chats.change(
        [
            chats.Change(
                "edit",
                line.event_targets.CHAT,
                said[0].id,
                said[1].id + 9,
                line.event_targets.ALICE,
                "as it is now",
            )
        ]
    )
    with sqlite3.connect(line.backends.settings.data / "data.db") as data:
        data.execute("DELETE FROM chat_states")
    data.close()
    await line.commit(MESSAGES)
    tally = await line.audit()

    assert tally.of("repaired") == {"messages": 2}
    page = await line.backends.chats.page(
        line.event_targets.CHAT, direction="before", anchor=LATEST, limit=9
    )
    assert [message.text for message in page.messages] == [said[1].send.text, "as it is now"]
    assert (await line.backends.chats.states(line.event_targets.BOB, after=None, limit=9))[0][
        0
    ].newest == said[1].id


@embedded
async def test_what_died_is_told_and_not_repaired(line, topics_of):
    """What was refused for good was told, or waits for an operator.

    What was given up, or was a batch, is tried again.
    """
    alone, *batch = line.commands(3)
    (given_up,) = line.commands(1)
    (refused,) = impossible = [line.commands(1, chat="d-2-1")[0]]
    await line.log([alone, given_up], in_one=1)
    await line.log(batch)
    for commands, code in (([alone], "422"), (batch, "422"), ([given_up], "503")):
        dead = {"knativeerrordest": "http://send", "knativeerrorcode": code}
        await line.backends.appends.append(
            [ProducerRecord(DEAD_LETTERS, line.event_targets.event(commands, extensions=dead))]
        )
    outcomes = [pb.Outcome(command=command) for command in impossible]
    await line.backends.appends.append(
        [ProducerRecord(MESSAGES, line.event_targets.event(outcomes))]
    )
    assert (await line.event_targets.post("persist", outcomes)).status == 200
    await line.commit(COMMANDS, RETRIES, MESSAGES)
    tally = await line.audit()

    assert tally.of("dead") == {"commands": 1, "messages": 1}
    assert tally.of("repaired") == {"commands": 3}
    assert tally.whole is False
    assert f"messages dead {refused.id}" in tally.examples
    assert {item.id for item in await topics_of(line.backends).items(RETRIES)} == {
        command.id for command in [*batch, given_up]
    }


@embedded
async def test_a_message_that_history_cannot_hold_is_dead_lettered_and_said_to_be_missing(
    line, topics_of
):
    """`persist` has never seen it: what it would have done with it is done now."""
    await line.backends.appends.append(
        [
            ProducerRecord(
                MESSAGES,
                line.event_targets.event(
                    [pb.Outcome(command=one) for one in line.commands(1, chat="d-2-1")]
                ),
            )
        ]
    )
    await line.commit(MESSAGES)
    tally = await line.audit()

    assert (tally.of("missing"), tally.whole) == ({"messages": 1}, False)
    ((_, letter),) = await topics_of(line.backends).events(DEAD_LETTERS)
    assert letter.extensions["knativeerrorcode"] == "422"


@embedded
async def test_rows_without_an_outcome_are_reported(line):
    """Between accepted messages of a chat lies one that no outcome has; one whose outcome is
    younger than the audit's end is no such.
    """
    first, unasked, young, last = said = line.commands(4)
    await line.decide([first, last])
    until_ms = line.backends.clock.now_ms() + 1
    await until(lambda: _passed(line.backends.clock, until_ms), within_s=60)
    await line.decide([young])
    await line.persist(said)
    await line.commit(MESSAGES)
    tally = await line.audit(until_ms=until_ms)

    assert (tally.of("missing"), tally.whole) == ({"unasked": 1}, False)
    assert tally.examples == [f"unasked missing {unasked.id}"]
    assert len(await line.history()) == 4


async def _passed(clock, until_ms):
    return clock.now_ms() > until_ms


@embedded
async def test_an_outcome_that_seems_older_than_its_command_counts(line):
    """Two machines date the records, and one of their clocks was set."""
    said = line.commands(5)
    await line.decide(said)
    at_ms = line.backends.clock.now_ms()
    await until(lambda: _passed(line.backends.clock, at_ms + 20), within_s=60)
    await line.log(said)
    await line.commit(COMMANDS, RETRIES)
    tally = await line.audit(scope={"skew_ms": 0})

    assert tally.counts == {("commands", "sound"): 5}


@embedded
async def test_what_we_did_not_sign_is_not_appended_again(line, topics_of, tmp_path):
    """A forged command was refused and must not become a true one by the audit's signature."""
    forged = line.commands(2)
    await line.log(forged)
    await line.decide(line.commands(1))
    await line.commit(COMMANDS, RETRIES, MESSAGES)
    await line.backends.close()
    strict = Line(
        Backends(Settings(data=tmp_path, event_keys=(b"0123456789abcdef",))), line.event_targets
    )
    tally = await strict.audit()
    appended = await topics_of(strict.backends).events(RETRIES)
    await strict.backends.close()

    assert tally.of("missing") == {"commands": 2, "messages": 1}
    assert appended == []


@embedded
async def test_what_is_no_event_of_ours_is_passed_over(line):
    """Its function has set it aside."""
    await line.backends.appends.append(
        [
            ProducerRecord(COMMANDS, cloudevents.Event("1", "/x", "foreign", b"{}")),
            ProducerRecord(MESSAGES, cloudevents.Event("2", "/x", "y", b"")),
        ]
    )
    await line.commit(COMMANDS, MESSAGES)

    assert (await line.audit()).counts == {}
