"""`send`: which users get which deliveries, and what a bad command costs the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.wiring import Backends
from functions.runtime.context import use_backends
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.ids import direct_chat
from schemas.topics import (
    COMMANDS_ISSUED,
    DELIVERIES,
    MAX_RECORD_BYTES,
    MESSAGES,
    RETRIES,
    user_partition,
)
from tests.support.traces import TRACE


def test_samples_and_rooms_agree(event_targets):
    """The demo users of these tests lie in two partitions, so that grouping shows."""
    assert user_partition(event_targets.ALICE, 12) != user_partition(event_targets.BOB, 12)


async def test_a_message_is_delivered_to_both_and_then_decided(people, event_targets, topics):
    """Each partition gets one record for its people; the outcome carries the whole command."""
    command = event_targets.text("hello", device="laptop", key="k-1")
    answer = await event_targets.post("send", [command])

    assert answer.status == 200
    told = {
        partition: cloudevents.parse(event, pb.Deliveries).deliveries
        for partition, event in await topics.events(DELIVERIES)
    }
    assert set(told) == {
        user_partition(event_targets.ALICE, 12),
        user_partition(event_targets.BOB, 12),
    }
    for user in (event_targets.ALICE, event_targets.BOB):
        (delivery,) = told[user_partition(user, 12)]
        message = delivery.message
        assert list(delivery.users) == [user]
        assert (message.id, message.chat, message.sender, message.key, message.device) == (
            command.id,
            event_targets.CHAT,
            event_targets.ALICE,
            "k-1",
            "laptop",
        )
        assert message.body.text == "hello"
    assert await topics.items(MESSAGES) == [pb.Outcome(command=command)]


async def test_people_of_one_partition_share_one_delivery(people, backends, event_targets, topics):
    """The body travels once for all users of a partition."""
    neighbour = next(
        user
        for user in range(2000, 9000)
        if user_partition(user, 12) == user_partition(event_targets.ALICE, 12)
    )
    await backends.accounts.register(_profile(neighbour), "-")

    await event_targets.post(
        "send", [event_targets.text(chat=direct_chat(event_targets.ALICE, neighbour))]
    )

    ((_, event),) = await topics.events(DELIVERIES)
    (delivery,) = cloudevents.parse(event, pb.Deliveries).deliveries
    assert sorted(delivery.users) == sorted([event_targets.ALICE, neighbour])


async def test_a_batch_makes_one_record_per_partition(people, event_targets, topics):
    """256 commands are two records of deliveries and one of outcomes."""
    commands = [
        event_targets.text(
            f"number {n}", sender=event_targets.ALICE if n % 2 else event_targets.BOB
        )
        for n in range(256)
    ]
    answer = await event_targets.post("send", commands)

    assert answer.status == 200
    assert len(await topics.events(DELIVERIES)) == 2
    assert [outcome.command.id for outcome in await topics.items(MESSAGES)] == [
        command.id for command in commands
    ]
    assert len(await topics.events(MESSAGES)) == 1


async def test_people_are_told_before_it_is_decided(people, backends, event_targets, monkeypatch):
    """No outcome is in the log before its deliveries are durable: the port's `then` promises it."""
    order, append = [], backends.appends.append

    async def watched(records, *, then):
        await append(records, then=then)
        order.append(({record.topic for record in records}, {record.topic for record in then}))

    monkeypatch.setattr(backends.appends, "append", watched)
    await event_targets.post("send", [event_targets.text()])

    assert order == [({DELIVERIES}, {MESSAGES})]


async def test_a_repeated_event_makes_the_same_records(people, event_targets, topics):
    """Knative may post an event twice: its records have the same ids and bytes both times."""
    event = replace(
        event_targets.event([event_targets.text()]), time="2026-01-01T12:00:00Z", traceparent=TRACE
    )
    await event_targets.post("send", event)
    await event_targets.post("send", event)

    for topic in (DELIVERIES, MESSAGES):
        events = [event for _, event in await topics.events(topic)]
        assert len(events) == 2 * len({event.id for event in events})
        assert len({(event.id, event.data, event.time) for event in events}) == len(events) / 2


async def test_the_trace_goes_on(people, event_targets, topics):
    """What is appended belongs to the trace of the request, in the span of the function."""
    await event_targets.post("send", event_targets.event([event_targets.text()], traceparent=TRACE))

    written = {
        event.traceparent
        for topic in (DELIVERIES, MESSAGES)
        for _, event in await topics.events(topic)
    }
    assert len(written) == 1
    assert {(trace[:36], trace[52:]) for trace in written} == {(TRACE[:36], TRACE[52:])}
    assert TRACE not in written


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "strange",
        TRACE[:-1],
        f"ff{TRACE[2:]}",
        f"{TRACE}-more",
        f"{TRACE[:3]}{'0' * 32}{TRACE[35:]}",
        "é",
    ],
)
async def test_a_malformed_trace_is_replaced(malformed, people, event_targets, topics):
    """No event fails for its trace: a new one begins."""
    headers, body = cloudevents.to_http(event_targets.event([event_targets.text()]))
    answer = await event_targets.post_raw("send", {**dict(headers), "traceparent": malformed}, body)

    assert answer.status == 200
    (written,) = {
        event.traceparent
        for topic in (DELIVERIES, MESSAGES)
        for _, event in await topics.events(topic)
    }
    assert cloudevents.trace_of(written) == written
    assert written[:36] != TRACE[:36]


async def test_a_batch_too_large_for_a_record_is_split(people, event_targets, topics):
    """No record exceeds the limit, and nothing is left out."""
    commands = [event_targets.text("x" * 4096) for _ in range(200)]
    answer = await event_targets.post("send", commands)

    assert answer.status == 200
    events = [event for topic in (DELIVERIES, MESSAGES) for _, event in await topics.events(topic)]
    assert max(len(event.data) for event in events) <= MAX_RECORD_BYTES
    assert len({event.id for event in events}) == len(events) == 6
    assert sorted(outcome.command.id for outcome in await topics.items(MESSAGES)) == [
        command.id for command in commands
    ]


@pytest.mark.parametrize(
    ("chat", "code"),
    [("d-1001-4711", "unknown_user"), ("d-1002-1003", "unknown_chat"), ("g-5", "unknown_chat")],
    ids=["user", "chat", "group"],
)
async def test_what_may_not_be_sent_is_refused_to_its_sender(
    chat, code, people, event_targets, topics
):
    """A refusal is not an error: the event is done, the sender's devices are told, the outcome says
    why.
    """
    command = event_targets.text(chat=chat, key="k-9")
    answer = await event_targets.post("send", [command])

    assert answer.status == 200
    ((partition, _),) = await topics.events(DELIVERIES)
    refused = pb.Refused(chat=chat, message=command.id, key="k-9", code=code)
    assert partition == user_partition(event_targets.ALICE, 12)
    assert await topics.items(DELIVERIES) == [
        pb.Delivery(users=[event_targets.ALICE], refused=refused)
    ]
    assert await topics.items(MESSAGES) == [pb.Outcome(command=command, refused=code)]


async def test_a_note_to_oneself_is_told_once(people, event_targets, topics):
    """The chat with oneself has one member."""
    await event_targets.post(
        "send", [event_targets.text(chat=direct_chat(event_targets.ALICE, event_targets.ALICE))]
    )

    (delivery,) = await topics.items(DELIVERIES)
    assert list(delivery.users) == [event_targets.ALICE]


async def test_a_mark_is_a_receipt_for_both(people, event_targets, topics):
    """Read implies received; the reader's own devices are told as well as the other person."""
    command = event_targets.mark(read=77, received=5)
    answer = await event_targets.post("send", [command])

    assert answer.status == 200
    deliveries = await topics.items(DELIVERIES)
    assert sorted(user for delivery in deliveries for user in delivery.users) == [
        event_targets.ALICE,
        event_targets.BOB,
    ]
    assert {delivery.receipt.SerializeToString() for delivery in deliveries} == {
        pb.Receipt(
            chat=event_targets.CHAT, user=event_targets.BOB, received=77, read=77
        ).SerializeToString()
    }
    assert await topics.items(MESSAGES) == [pb.Outcome(command=command)]


async def test_a_refused_mark_is_not_pushed(people, event_targets, topics):
    """A watermark has no key by which a client could know it again."""
    answer = await event_targets.post("send", [event_targets.mark(chat="g-5", read=1)])

    assert answer.status == 200
    assert not await topics.events(DELIVERIES)
    assert [outcome.refused for outcome in await topics.items(MESSAGES)] == ["unknown_chat"]


POISON = {
    "no body": lambda command: command.ClearField("send"),
    "no user": lambda command: command.ClearField("user"),
    "no id": lambda command: command.ClearField("id"),
    "an id that no store holds": lambda command: setattr(command, "id", 2**63),
    "a reply to what is no id": lambda command: setattr(command.send, "reply_to", 2**63),
    "no chat": lambda command: command.ClearField("chat"),
    "a chat that is none": lambda command: setattr(command, "chat", "d-2-1"),
    "more than a batch": lambda command: setattr(command.send, "text", "x" * 300_000),
}


@pytest.fixture(params=POISON.values(), ids=POISON.keys())
def poison(request, event_targets):
    """A command that no gateway writes."""
    command = event_targets.text()
    request.param(command)
    return command


async def test_one_poison_command_harms_none_of_255_others(poison, people, event_targets, topics):
    """It goes alone to chat-retries; the others are told and decided as if it were not there."""
    good = [event_targets.text(f"number {n}") for n in range(255)]
    answer = await event_targets.post("send", [*good[:100], poison, *good[100:]])

    assert answer.status == 200
    assert [outcome.command.id for outcome in await topics.items(MESSAGES)] == [
        command.id for command in good
    ]
    ((_, event),) = await topics.events(RETRIES)
    assert event.type == COMMANDS_ISSUED.type
    assert cloudevents.parse(event, pb.Commands) == pb.Commands(schema=1, commands=[poison])


async def test_a_batch_of_poison_decides_nothing(people, event_targets, topics):
    """Each command is parked alone, and there is no outcome to write."""
    commands = [event_targets.text(chat="d-2-1"), event_targets.text(chat="x")]
    answer = await event_targets.post("send", commands)

    assert answer.status == 200
    assert sorted(command.id for command in await topics.items(RETRIES)) == [
        command.id for command in commands
    ]
    assert not await topics.events(MESSAGES)


async def test_a_poison_command_alone_is_refused_for_good(
    poison, people, event_targets, topics, reason
):
    """It is never appended again: it becomes a dead letter with a reason."""
    answer = await event_targets.post("send", [poison])

    assert answer.status == 422
    assert reason(answer).startswith("malformed")
    for topic in (DELIVERIES, MESSAGES, RETRIES):
        assert not await topics.events(topic)


async def test_a_bug_in_one_command_harms_no_other(people, event_targets, topics, monkeypatch):
    """Whatever a command raises, it alone is parked."""
    poison, good = event_targets.text("boom"), event_targets.text()

    def may_raise(command):
        if command.send.text == "boom":
            raise ZeroDivisionError
        return real(command)

    from functions.events import send  # noqa: PLC0415 - one of its rules gets a bug

    real = send.spec_of
    monkeypatch.setattr(send, "spec_of", may_raise)
    answer = await event_targets.post("send", [poison, good])

    assert answer.status == 200
    assert [outcome.command.id for outcome in await topics.items(MESSAGES)] == [good.id]
    assert [command.id for command in await topics.items(RETRIES)] == [poison.id]


@pytest.fixture
async def without_sql(settings):
    """Stores whose database cannot be opened."""
    (settings.data / "data.db").mkdir()
    opened = Backends(settings)
    use_backends(opened)
    yield opened
    use_backends(None)
    await opened.close()


async def test_commands_whose_store_is_unavailable_are_parked_one_by_one(
    without_sql, event_targets, topics_of
):
    """An unknown recipient cannot be looked up: each such command waits alone in chat-retries; what
    needs no look-up goes on.
    """
    to_bob, to_carol, note = (
        event_targets.text(),
        event_targets.text(chat="d-1001-1003"),
        event_targets.text(chat="d-1001-1001"),
    )
    answer = await event_targets.post("send", [to_bob, to_carol, note])

    topics = topics_of(without_sql)
    assert answer.status == 200
    assert sorted(command.id for command in await topics.items(RETRIES)) == [to_bob.id, to_carol.id]
    assert [outcome.command.id for outcome in await topics.items(MESSAGES)] == [note.id]


async def test_a_single_command_whose_store_is_unavailable_is_parked(
    without_sql, event_targets, topics_of
):
    """In chat-commands a slot of the dispatcher that it holds is one that others need; in
    chat-retries all others wait, too.
    """
    command = event_targets.text()
    answer = await event_targets.post("send", [command])
    topics = topics_of(without_sql)
    ((_, retry),) = await topics.events(RETRIES)
    again = await event_targets.post("send", retry)

    assert [answer.status, again.status] == [200, 503]
    assert [command.id for command in await topics.items(RETRIES)] == [command.id]
    assert not await topics.events(MESSAGES)


@pytest.mark.parametrize("count", [1, 3])
async def test_an_unavailable_log_is_tried_again(count, settings, event_targets):
    """Without the log nothing can be promised: 503, however many commands there are."""
    settings.data.mkdir(exist_ok=True)
    (settings.data / "log.db").mkdir()
    opened = Backends(settings)
    use_backends(opened)
    answer = await event_targets.post(
        "send", [event_targets.text(chat="d-1001-1001") for _ in range(count)]
    )
    use_backends(None)
    await opened.close()

    assert answer.status == 503


def _profile(user):
    from backends.accounts import Profile  # noqa: PLC0415 - one test needs it

    return Profile(user, f"user-{user}", "Someone", 1)
