"""`report_failed`: what failed by an outage is tried again without end, a sender without an outcome
gets `failed`, and there is never a dead letter of its own.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.dead_letters import event_of
from backends.log import ProducerRecord
from backends.wiring import Backends
from functions.events.report_failed import RECENT_MS
from functions.runtime.context import use_backends
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.ids import first_id_at
from schemas.topics import (
    COMMANDS,
    DEAD_LETTERS,
    DELIVERIES,
    HISTORY_RETRIES,
    MESSAGES,
    RETRIES,
    user_partition,
)

UNAVAILABLE = {"knativeerrordest": "http://send.chat.svc.cluster.local", "knativeerrorcode": "503"}
REFUSED = {**UNAVAILABLE, "knativeerrorcode": "422", "reason": "bug-keyerror"}
SILENT = {"knativeerrordest": "http://persist.chat.svc.cluster.local"}


@pytest.fixture
def event_targets(event_targets, backends, monkeypatch):
    """Ids are of the present: an old command's sender is told nothing."""
    minted = iter(range(1, 1_000_000))
    monkeypatch.setattr(
        event_targets, "mint", lambda: first_id_at(backends.clock.now_ms()) + next(minted)
    )
    return event_targets


@pytest.fixture
def dead_lettered(backends, event_targets):
    """The events as the dispatcher delivers them once they lie in chat-dead-letters."""

    async def letters(*events):
        appended = [ProducerRecord(DEAD_LETTERS, event, 1) for event in events]
        begin = (await backends.reads.bounds(DEAD_LETTERS, [1]))[1].end
        await backends.appends.append(appended)
        return [
            event_of(record)
            for record in await backends.reads.read(DEAD_LETTERS, 1, begin, max_records=len(events))
        ]

    return letters


@pytest.fixture
def die(dead_lettered, event_targets):
    """One dead letter of this payload, as `report_failed` gets it, and its answer."""

    async def died(payload, extensions=REFUSED, **changes):
        (letter,) = await dead_lettered(
            event_targets.event(payload, extensions=extensions, **changes)
        )
        return letter, await event_targets.post("report_failed", letter)

    return died


@pytest.fixture
def later(backends, monkeypatch):
    """An hour goes by, by the clock."""

    def gone():
        now_ms = backends.clock.now_ms
        monkeypatch.setattr(type(backends.clock), "now_ms", lambda _: now_ms() + RECENT_MS + 1)

    return gone


async def nothing_follows(topics):
    return not any(
        [
            await topics.events(topic)
            for topic in (DELIVERIES, RETRIES, HISTORY_RETRIES, COMMANDS, MESSAGES)
        ]
    )


@pytest.mark.parametrize("extensions", [UNAVAILABLE, REFUSED], ids=["unavailable", "refused"])
async def test_a_dead_batch_is_tried_again_one_by_one(
    extensions, people, event_targets, topics, die
):
    """Each command gets an event of its own, which `send` takes."""
    commands = [event_targets.text(f"number {n}") for n in range(3)]
    _, answer = await die(commands, extensions)

    assert answer.status == 200
    assert not await topics.events(DELIVERIES)
    retries = [event for _, event in await topics.events(RETRIES)]
    assert sorted(cloudevents.parse(event, pb.Commands).commands[0].id for event in retries) == [
        command.id for command in commands
    ]
    assert {len(cloudevents.parse(event, pb.Commands).commands) for event in retries} == {1}
    for event in retries:
        assert (await event_targets.post("send", event)).status == 200
    assert sorted(outcome.command.id for outcome in await topics.items(MESSAGES)) == [
        command.id for command in commands
    ]


@pytest.mark.parametrize(
    "extensions",
    [UNAVAILABLE, {"knativeerrordest": "http://send"}, {**UNAVAILABLE, "knativeerrorcode": "502"}],
    ids=str,
)
async def test_a_command_whose_store_is_unavailable_is_retried_without_end(
    extensions, people, event_targets, topics, die
):
    """However often: no sender is told `failed`, its name does not grow, what the dispatcher has
    added is gone.
    """
    command = event_targets.text()
    payload, names = [command], []
    for _ in range(3):
        _, answer = await die(payload, extensions, id=names[-1] if names else "e")
        assert answer.status == 200
        names.append((await topics.events(RETRIES))[-1][1].id)
    events = [event for _, event in await topics.events(RETRIES)]

    assert names == [f"e.{command.id}"] * 3
    assert [(event.source, dict(event.extensions)) for event in events] == [
        ("/functions/report_failed", {})
    ] * 3
    assert not await topics.events(DELIVERIES)


@pytest.mark.parametrize(
    "extensions", [UNAVAILABLE, SILENT, {**SILENT, "knativeerrorcode": "504"}], ids=str
)
async def test_what_history_could_not_take_is_retried_without_end(
    extensions, people, backends, event_targets, topics, die
):
    """Whole, by a topic of its own: chat-messages is the public log.

    What was not acknowledged to be written is written at last.
    """
    outcome = pb.Outcome(command=event_targets.text())
    died, answer = await die([outcome], extensions)
    ((_, event),) = await topics.events(HISTORY_RETRIES)

    assert answer.status == 200
    assert (event.id, event.type, event.data, dict(event.extensions)) == (
        died.id,
        died.type,
        died.data,
        {},
    )
    assert event.time is not None
    assert not await topics.events(MESSAGES)
    assert (await event_targets.post("persist", event)).status == 200
    page = await backends.chats.page(
        event_targets.CHAT, direction="before", anchor=(1 << 63) - 1, limit=10
    )
    assert [message.id for message in page.messages] == [outcome.command.id]


@pytest.mark.parametrize("code", ["422", "400", "500"])
async def test_what_history_can_never_take_is_left_alone(code, event_targets, topics, die):
    """It waits for a re-drive, once the bug is mended."""
    _, answer = await die(
        [pb.Outcome(command=event_targets.text())], {**SILENT, "knativeerrorcode": code}
    )

    assert answer.status == 200
    assert await nothing_follows(topics)


async def test_the_sender_of_a_dead_command_is_told(event_targets, topics, die):
    """`failed` goes to the sender's devices only, with the key to send again with."""
    command = event_targets.text(key="k-7")
    _, answer = await die([command])

    assert answer.status == 200
    ((partition, _),) = await topics.events(DELIVERIES)
    assert partition == user_partition(event_targets.ALICE, 12)
    assert await topics.items(DELIVERIES) == [
        pb.Delivery(users=[event_targets.ALICE], failed=pb.Failed(message=command.id, key="k-7"))
    ]
    assert not await topics.events(RETRIES)


async def test_a_sender_is_told_once(event_targets, topics, die):
    """The topic may be read again, from its beginning."""
    letter, _ = await die([event_targets.text()])
    for _ in range(3):
        assert (await event_targets.post("report_failed", letter)).status == 200

    assert len(await topics.items(DELIVERIES)) == 1


@pytest.mark.parametrize("outcome", ["accepted", "refused"])
async def test_a_command_with_an_outcome_is_not_reported_failed(
    outcome, people, event_targets, topics, die
):
    """It was re-driven, or another try of it had been through."""
    command = (
        event_targets.text() if outcome == "accepted" else event_targets.text(chat="d-1001-4711")
    )
    assert (await event_targets.post("send", [command])).status == 200
    before = await topics.items(DELIVERIES)
    _, answer = await die([command])

    assert answer.status == 200
    assert await topics.items(DELIVERIES) == before


async def test_an_outcome_of_another_is_none_of_it(people, event_targets, topics, die):
    """Many things are told to a sender meanwhile."""
    assert (
        await event_targets.post("send", [event_targets.text() for _ in range(20)])
    ).status == 200
    command = event_targets.text()
    await die([command])

    assert [
        delivery.failed.message
        for delivery in await topics.items(DELIVERIES)
        if delivery.HasField("failed")
    ] == [command.id]


@pytest.mark.parametrize("payload", ["batch", "unavailable", "refused", "outcomes"])
async def test_reading_old_dead_letters_again_does_nothing(
    payload, event_targets, topics, dead_lettered, later
):
    """What was dead-lettered more than an hour ago is neither told nor retried nor written: its
    source was deleted and made again.
    """
    items = {
        "batch": [event_targets.text(), event_targets.text()],
        "outcomes": [pb.Outcome(command=event_targets.text())],
    }.get(payload, [event_targets.text()])
    (letter,) = await dead_lettered(
        event_targets.event(items, extensions=REFUSED if payload == "refused" else UNAVAILABLE)
    )
    later()
    answer = await event_targets.post("report_failed", letter)

    assert answer.status == 200
    assert await nothing_follows(topics)


async def test_a_command_of_an_hour_ago_is_not_reported(backends, event_targets, topics, die):
    """Its sender has given it up, or sent it again: the audit decides what becomes of it."""
    _, answer = await die(
        [event_targets.text(id=first_id_at(backends.clock.now_ms() - RECENT_MS - 1_000))]
    )

    assert answer.status == 200
    assert not await topics.events(DELIVERIES)


@pytest.mark.parametrize(
    "forge",
    [
        lambda letter: replace(letter, extensions={}),
        lambda letter: replace(letter, extensions={**letter.extensions, "knativekafkaoffset": "7"}),
        lambda letter: replace(
            letter, extensions={**letter.extensions, "knativekafkapartition": "99"}
        ),
        lambda letter: replace(
            letter, extensions={**letter.extensions, "knativekafkapartition": "-1"}
        ),
        lambda letter: replace(
            letter,
            extensions={
                name: text for name, text in letter.extensions.items() if "dest" not in name
            },
        ),
        lambda letter: replace(letter, id="another"),
        lambda letter: replace(letter, data=letter.data + b"\x08\x01"),
    ],
)
async def test_what_is_no_dead_letter_is_not_reported(forge, event_targets, topics, dead_lettered):
    """An accepted command posted here, a copy of another event, a place where
    something else lies.
    """
    (letter,) = await dead_lettered(event_targets.event([event_targets.text()], extensions=REFUSED))
    answer = await event_targets.post("report_failed", forge(letter))

    assert answer.status == 200
    assert await nothing_follows(topics)


async def test_a_failed_mark_is_not_reported(event_targets, topics, die):
    """A dead mark has no key: it stays in the topic, its sender is not told."""
    _, answer = await die([event_targets.mark(read=1)])

    assert answer.status == 200
    assert not await topics.events(DELIVERIES)


async def test_its_own_dead_letters_are_tried_again(event_targets, topics, die):
    """They died because the log was unavailable.

    What `send` had said of it is overwritten, and `send` will say it again.
    """
    _, answer = await die(
        [event_targets.text()],
        {
            "knativeerrordest": "http://report-lost",
            "knativeerrorcode": "503",
            "reason": "bug-keyerror",
        },
    )

    assert answer.status == 200
    assert len(await topics.events(RETRIES)) == 1


async def test_other_functions_dead_letters_are_left_alone(event_targets, topics, die):
    """Those of `history`, and of all other functions, wait for a re-drive."""
    for payload, changes in (
        ([pb.Query(user=event_targets.ALICE)], {}),
        ([event_targets.text()], {"type": "dev.knative.kafka.event"}),
    ):
        _, answer = await die(payload, UNAVAILABLE, **changes)

        assert answer.status == 200
    assert await nothing_follows(topics)


@pytest.mark.parametrize(
    "data", [b"", b"12345", b"\x08\x01", b"\x08\x01\xff", b"\x08\x01\x12\x02\x09\x01"], ids=repr
)
async def test_what_cannot_be_read_is_counted(data, event_targets, topics, die):
    """Garbage under the type of commands: 200, and nothing is appended."""
    _, answer = await die([event_targets.text()], data=data)

    assert answer.status == 200
    assert await nothing_follows(topics)


async def test_a_command_without_a_user_is_counted(event_targets, topics, die):
    """There is no sender to report to."""
    command = event_targets.text()
    command.ClearField("user")
    _, answer = await die([command])

    assert answer.status == 200
    assert not await topics.events(DELIVERIES)


@pytest.mark.parametrize("count", [1, 2])
async def test_an_unavailable_log_is_tried_again(count, settings, event_targets, tmp_path):
    """503 is the one other answer."""
    (tmp_path / "unavailable" / "log.db").mkdir(parents=True)
    opened = Backends(replace(settings, data=tmp_path / "unavailable"))
    use_backends(opened)
    place = {"knativekafkapartition": "0", "knativekafkaoffset": "0"}
    answer = await event_targets.post(
        "report_failed",
        event_targets.event(
            [event_targets.text() for _ in range(count)], extensions={**UNAVAILABLE, **place}
        ),
    )
    use_backends(None)
    await opened.close()

    assert answer.status == 503
