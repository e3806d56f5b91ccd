"""`report_lost`: a second chance for each command of a dead batch, `lost` for those that had it, and never a dead letter of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.wiring import Backends
from functions import door
from schemas import chat_pb2 as pb
from schemas import wire
from schemas.topics import DELIVERIES, MESSAGES, RETRIES, user_partition

DEAD = {"knativeerrordest": "http://send.chat.svc.cluster.local", "knativeerrorcode": "503"}


async def test_a_dead_batch_is_tried_again_one_by_one(people, doors, topics):
    """Each command gets an event of its own, which `send` takes."""
    commands = [doors.text(f"number {n}") for n in range(3)]
    answer = await doors.post("report_lost", doors.event(commands, extensions=DEAD))

    assert answer.status == 200
    assert not await topics.events(DELIVERIES)
    retries = [event for _, event in await topics.events(RETRIES)]
    assert sorted(wire.parse(event, pb.Commands).commands[0].id for event in retries) == [command.id for command in commands]
    assert {len(wire.parse(event, pb.Commands).commands) for event in retries} == {1}
    for event in retries:
        assert (await doors.post("send", event)).status == 200
    assert sorted(outcome.command.id for outcome in await topics.items(MESSAGES)) == [command.id for command in commands]


async def test_the_sender_of_a_dead_command_is_told(backends, doors, topics):
    """`lost` goes to the sender's devices only, with the key to send again with."""
    command = doors.text(key="k-7")
    answer = await doors.post("report_lost", doors.event([command], extensions=DEAD))

    assert answer.status == 200
    ((partition, _),) = await topics.events(DELIVERIES)
    assert partition == user_partition(doors.ALICE, 12)
    assert await topics.items(DELIVERIES) == [pb.Delivery(users=[doors.ALICE], lost=pb.Lost(message=command.id, key="k-7"))]
    assert not await topics.events(RETRIES)


async def test_nobody_misses_a_watermark(backends, doors, topics):
    """A dead mark has no key: it stays in the topic, nobody is told."""
    answer = await doors.post("report_lost", doors.event([doors.mark(read=1)], extensions=DEAD))

    assert answer.status == 200
    assert not await topics.events(DELIVERIES)


@pytest.mark.parametrize(
    "destination",
    ["http://report-lost.chat.svc.cluster.local", "http://127.0.0.1:8080/report_lost", "http://report-lost", "/functions/report_lost"],
)
async def test_its_own_dead_letters_are_left_alone(destination, backends, doors, topics):
    """What died here once is not tried here again, for ever."""
    for commands in ([doors.text()], [doors.text(), doors.text()]):
        answer = await doors.post("report_lost", doors.event(commands, extensions={**DEAD, "knativeerrordest": destination}))

        assert answer.status == 200
    assert not await topics.events(DELIVERIES)
    assert not await topics.events(RETRIES)


async def test_other_functions_dead_letters_are_left_alone(backends, doors, topics):
    """Those of `persist` and `history`, and of anybody else, wait for a re-drive."""
    outcome, query = pb.Outcome(command=doors.text()), pb.Query(user=doors.ALICE)
    foreign = replace(doors.event([doors.text()]), type="dev.knative.kafka.event")
    for event in (doors.event([outcome]), doors.event([query]), foreign):
        answer = await doors.post("report_lost", replace(event, extensions=DEAD))

        assert answer.status == 200
    assert not await topics.events(DELIVERIES)
    assert not await topics.events(RETRIES)


@pytest.mark.parametrize("data", [b"", b"12345", b"\x08\x01", b"\x08\x01\xff", b"\x08\x01\x12\x02\x09\x01"], ids=repr)
async def test_what_cannot_be_read_is_counted(data, backends, doors, topics):
    """Garbage under the type of commands: 200, and nothing is appended."""
    answer = await doors.post("report_lost", doors.event([doors.text()], data=data, extensions=DEAD))

    assert answer.status == 200
    assert not await topics.events(DELIVERIES)
    assert not await topics.events(RETRIES)


async def test_a_command_that_names_nobody_is_counted(backends, doors, topics):
    """Who should be told of it?"""
    command = doors.text()
    command.ClearField("user")
    answer = await doors.post("report_lost", doors.event([command], extensions=DEAD))

    assert answer.status == 200
    assert not await topics.events(DELIVERIES)


@pytest.mark.parametrize("count", [1, 2])
async def test_a_log_that_is_away_is_tried_again(count, settings, doors):
    """503 is the one other answer."""
    (settings.data / "log.db").mkdir()
    opened = Backends(settings)
    door.use(opened)
    answer = await doors.post("report_lost", doors.event([doors.text() for _ in range(count)], extensions=DEAD))
    door.use(None)
    await opened.close()

    assert answer.status == 503
