"""`send`: who is told what, what becomes of each command, and who pays for a bad one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.wiring import Backends
from functions import door
from schemas import chat_pb2 as pb
from schemas import wire
from schemas.ids import direct_chat
from schemas.topics import COMMANDS_ISSUED, DELIVERIES, MAX_RECORD_BYTES, MESSAGES, RETRIES, user_partition
from tests.support.traces import TRACE


def test_samples_and_rooms_agree(doors):
    """The demo users of these tests lie in two partitions, so that grouping shows."""
    assert user_partition(doors.ALICE, 12) != user_partition(doors.BOB, 12)


async def test_a_message_is_told_to_both_and_then_decided(people, doors, topics):
    """Each partition gets one record for its people; the outcome carries the whole command."""
    command = doors.text("hello", device="laptop", key="k-1")
    answer = await doors.post("send", [command])

    assert answer.status == 200
    told = {partition: wire.parse(event, pb.Deliveries).deliveries for partition, event in await topics.events(DELIVERIES)}
    assert set(told) == {user_partition(doors.ALICE, 12), user_partition(doors.BOB, 12)}
    for user in (doors.ALICE, doors.BOB):
        (delivery,) = told[user_partition(user, 12)]
        message = delivery.message
        assert list(delivery.users) == [user]
        assert (message.id, message.chat, message.sender, message.key, message.device) == (
            command.id,
            doors.CHAT,
            doors.ALICE,
            "k-1",
            "laptop",
        )
        assert message.body.text == "hello"
    assert await topics.items(MESSAGES) == [pb.Outcome(command=command)]


async def test_people_of_one_partition_share_one_delivery(people, backends, doors, topics):
    """The body travels once for all users of a partition."""
    neighbour = next(user for user in range(2000, 9000) if user_partition(user, 12) == user_partition(doors.ALICE, 12))
    await backends.accounts.register(_profile(neighbour), "-")

    await doors.post("send", [doors.text(chat=direct_chat(doors.ALICE, neighbour))])

    ((_, event),) = await topics.events(DELIVERIES)
    (delivery,) = wire.parse(event, pb.Deliveries).deliveries
    assert sorted(delivery.users) == sorted([doors.ALICE, neighbour])


async def test_a_batch_makes_one_record_per_partition(people, doors, topics):
    """256 commands are two records of deliveries and one of outcomes."""
    commands = [doors.text(f"number {n}", sender=doors.ALICE if n % 2 else doors.BOB) for n in range(256)]
    answer = await doors.post("send", commands)

    assert answer.status == 200
    assert len(await topics.events(DELIVERIES)) == 2
    assert [outcome.command.id for outcome in await topics.items(MESSAGES)] == [command.id for command in commands]
    assert len(await topics.events(MESSAGES)) == 1


async def test_people_are_told_before_it_is_decided(people, backends, doors, monkeypatch):
    """No outcome is in the log before its deliveries are durable: the port's `then` promises it."""
    order, append = [], backends.appends.append

    async def watched(records, *, then):
        await append(records, then=then)
        order.append(({record.topic for record in records}, {record.topic for record in then}))

    monkeypatch.setattr(backends.appends, "append", watched)
    await doors.post("send", [doors.text()])

    assert order == [({DELIVERIES}, {MESSAGES})]


async def test_a_repeated_event_makes_the_same_records(people, doors, topics):
    """Knative may post an event twice: its records have the same ids and bytes both times."""
    event = replace(doors.event([doors.text()]), time="2026-01-01T12:00:00Z", traceparent=TRACE)
    await doors.post("send", event)
    await doors.post("send", event)

    for topic in (DELIVERIES, MESSAGES):
        events = [event for _, event in await topics.events(topic)]
        assert len(events) == 2 * len({event.id for event in events})
        assert len({(event.id, event.data, event.time) for event in events}) == len(events) / 2


async def test_the_trace_goes_on(people, doors, topics):
    """What is appended belongs to the trace of the request, in the span of the function."""
    await doors.post("send", doors.event([doors.text()], traceparent=TRACE))

    written = {event.traceparent for topic in (DELIVERIES, MESSAGES) for _, event in await topics.events(topic)}
    assert len(written) == 1
    assert {(trace[:36], trace[52:]) for trace in written} == {(TRACE[:36], TRACE[52:])}
    assert TRACE not in written


@pytest.mark.parametrize(
    "malformed", ["", "strange", TRACE[:-1], f"ff{TRACE[2:]}", f"{TRACE}-more", f"{TRACE[:3]}{'0' * 32}{TRACE[35:]}", "é"]
)
async def test_a_malformed_trace_is_replaced(malformed, people, doors, topics):
    """No event fails for its trace: a new one begins."""
    headers, body = wire.to_http(doors.event([doors.text()]))
    answer = await doors.post_raw("send", {**dict(headers), "traceparent": malformed}, body)

    assert answer.status == 200
    (written,) = {event.traceparent for topic in (DELIVERIES, MESSAGES) for _, event in await topics.events(topic)}
    assert wire.trace_of(written) == written
    assert written[:36] != TRACE[:36]


async def test_a_batch_too_large_for_a_record_is_split(people, doors, topics):
    """No record exceeds the limit, and nothing is left out."""
    commands = [doors.text("x" * 4096) for _ in range(200)]
    answer = await doors.post("send", commands)

    assert answer.status == 200
    events = [event for topic in (DELIVERIES, MESSAGES) for _, event in await topics.events(topic)]
    assert max(len(event.data) for event in events) <= MAX_RECORD_BYTES
    assert len({event.id for event in events}) == len(events) == 6
    assert sorted(outcome.command.id for outcome in await topics.items(MESSAGES)) == [command.id for command in commands]


@pytest.mark.parametrize(
    ("chat", "code"),
    [("d-1001-4711", "unknown_user"), ("d-1002-1003", "unknown_chat"), ("g-5", "unknown_chat")],
    ids=["user", "chat", "group"],
)
async def test_what_may_not_be_sent_is_refused_to_its_sender(chat, code, people, doors, topics):
    """A refusal is not an error: the event is done, the sender's devices are told, the outcome says why."""
    command = doors.text(chat=chat, key="k-9")
    answer = await doors.post("send", [command])

    assert answer.status == 200
    ((partition, _),) = await topics.events(DELIVERIES)
    refused = pb.Refused(chat=chat, message=command.id, key="k-9", code=code)
    assert partition == user_partition(doors.ALICE, 12)
    assert await topics.items(DELIVERIES) == [pb.Delivery(users=[doors.ALICE], refused=refused)]
    assert await topics.items(MESSAGES) == [pb.Outcome(command=command, refused=code)]


async def test_a_note_to_oneself_is_told_once(people, doors, topics):
    """The chat with oneself has one member."""
    await doors.post("send", [doors.text(chat=direct_chat(doors.ALICE, doors.ALICE))])

    (delivery,) = await topics.items(DELIVERIES)
    assert list(delivery.users) == [doors.ALICE]


async def test_a_mark_is_a_receipt_for_both(people, doors, topics):
    """Read implies received; the reader's own devices are told as well as the other person."""
    command = doors.mark(read=77, received=5)
    answer = await doors.post("send", [command])

    assert answer.status == 200
    deliveries = await topics.items(DELIVERIES)
    assert sorted(user for delivery in deliveries for user in delivery.users) == [doors.ALICE, doors.BOB]
    assert {delivery.receipt.SerializeToString() for delivery in deliveries} == {
        pb.Receipt(chat=doors.CHAT, user=doors.BOB, received=77, read=77).SerializeToString()
    }
    assert await topics.items(MESSAGES) == [pb.Outcome(command=command)]


async def test_a_refused_mark_is_told_to_nobody(people, doors, topics):
    """A watermark has no key by which a client could know it again."""
    answer = await doors.post("send", [doors.mark(chat="g-5", read=1)])

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
def poison(request, doors):
    """A command that no gateway writes."""
    command = doors.text()
    request.param(command)
    return command


async def test_one_poison_command_harms_none_of_255_others(poison, people, doors, topics):
    """It goes alone to chat-retries; the others are told and decided as if it were not there."""
    good = [doors.text(f"number {n}") for n in range(255)]
    answer = await doors.post("send", [*good[:100], poison, *good[100:]])

    assert answer.status == 200
    assert [outcome.command.id for outcome in await topics.items(MESSAGES)] == [command.id for command in good]
    ((_, event),) = await topics.events(RETRIES)
    assert event.type == COMMANDS_ISSUED.type
    assert wire.parse(event, pb.Commands) == pb.Commands(schema=1, commands=[poison])


async def test_a_batch_of_poison_decides_nothing(people, doors, topics):
    """Each command is set aside alone, and there is no outcome to write."""
    commands = [doors.text(chat="d-2-1"), doors.text(chat="x")]
    answer = await doors.post("send", commands)

    assert answer.status == 200
    assert sorted(command.id for command in await topics.items(RETRIES)) == [command.id for command in commands]
    assert not await topics.events(MESSAGES)


async def test_a_poison_command_alone_is_refused_for_good(poison, people, doors, topics, reason):
    """It is never appended again: it becomes a dead letter with a reason."""
    answer = await doors.post("send", [poison])

    assert answer.status == 422
    assert reason(answer).startswith("malformed")
    for topic in (DELIVERIES, MESSAGES, RETRIES):
        assert not await topics.events(topic)


async def test_a_bug_in_one_command_harms_no_other(people, doors, topics, monkeypatch):
    """Whatever a command raises, it alone is set aside."""
    poison, good = doors.text("boom"), doors.text()

    def may_raise(command, members):
        if command.send.text == "boom":
            raise ZeroDivisionError
        return real(command, members)

    from functions import send  # noqa: PLC0415 - one of its rules gets a bug

    real = send._told
    monkeypatch.setattr(send, "_told", may_raise)
    answer = await doors.post("send", [poison, good])

    assert answer.status == 200
    assert [outcome.command.id for outcome in await topics.items(MESSAGES)] == [good.id]
    assert [command.id for command in await topics.items(RETRIES)] == [poison.id]


@pytest.fixture
async def without_sql(settings):
    """Stores whose database cannot be opened."""
    (settings.data / "data.db").mkdir()
    opened = Backends(settings)
    door.use(opened)
    yield opened
    door.use(None)
    await opened.close()


async def test_commands_whose_store_is_away_are_set_aside_one_by_one(without_sql, doors, topics_of):
    """An unknown recipient cannot be looked up: each such command waits alone in chat-retries; what needs no look-up goes on."""
    to_bob, to_carol, note = doors.text(), doors.text(chat="d-1001-1003"), doors.text(chat="d-1001-1001")
    answer = await doors.post("send", [to_bob, to_carol, note])

    topics = topics_of(without_sql)
    assert answer.status == 200
    assert sorted(command.id for command in await topics.items(RETRIES)) == [to_bob.id, to_carol.id]
    assert [outcome.command.id for outcome in await topics.items(MESSAGES)] == [note.id]


async def test_a_single_command_whose_store_is_away_waits_elsewhere(without_sql, doors, topics_of):
    """In chat-commands a slot of the dispatcher that it holds is one that others need; in chat-retries all others wait, too."""
    command = doors.text()
    answer = await doors.post("send", [command])
    topics = topics_of(without_sql)
    ((_, retry),) = await topics.events(RETRIES)
    again = await doors.post("send", retry)

    assert [answer.status, again.status] == [200, 503]
    assert [command.id for command in await topics.items(RETRIES)] == [command.id]
    assert not await topics.events(MESSAGES)


@pytest.mark.parametrize("count", [1, 3])
async def test_a_log_that_is_away_is_tried_again(count, settings, doors):
    """Without the log nothing can be promised: 503, however many commands there are."""
    settings.data.mkdir(exist_ok=True)
    (settings.data / "log.db").mkdir()
    opened = Backends(settings)
    door.use(opened)
    answer = await doors.post("send", [doors.text(chat="d-1001-1001") for _ in range(count)])
    door.use(None)
    await opened.close()

    assert answer.status == 503


def _profile(user):
    from backends.accounts import Profile  # noqa: PLC0415 - one test needs it

    return Profile(user, f"user-{user}", "Someone", 1)
