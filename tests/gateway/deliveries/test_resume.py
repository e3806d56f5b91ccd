"""Cursors outside the replay buffer: ahead of a new owner's, and behind what a
gateway still holds.
"""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from gateway.deliveries.resume import FOLLOWER_DELAY_S
from gateway.sessions.replay_buffer import Cursor
from schemas import chat_pb2 as pb
from schemas.errors import Unavailable
from schemas.topics import DELIVERIES, user_partition
from tests.gateway.people import deliver, id_now, message

ANN, BEN = 11, 22
PARTITION = user_partition(ANN, 12)


@pytest.fixture
def follower(monkeypatch):
    """A follower of deliveries that a test holds back."""
    from gateway.deliveries.reader import DeliveryReader  # noqa: PLC0415 - patched here alone

    push, held = DeliveryReader._push, SimpleNamespace(go_on=asyncio.Event())
    held.go_on.set()

    async def wait(delivery, batch):
        await held.go_on.wait()
        await push(delivery, batch)

    monkeypatch.setattr(DeliveryReader, "_push", wait)
    return held


async def cursor_at_the_end(backends, partition=PARTITION):
    """Where a device is that has had all that the log holds."""
    epoch = await backends.reads.epoch(DELIVERIES)
    return str(
        Cursor(
            epoch,
            partition,
            ((await backends.reads.bounds(DELIVERIES, [partition]))[partition].end, 0),
        )
    )


async def test_a_cursor_ahead_of_the_ring_waits_for_the_follower(follower, person, backends):
    """The owner of before had pushed more than the new one has read: that is `resumed`, and nothing
    comes twice.
    """
    follower.go_on.clear()
    await deliver(backends, *(message(id_now(), BEN, ANN) for _ in range(3)))
    coming = asyncio.create_task(person(ANN, resume=await cursor_at_the_end(backends)))
    await asyncio.wait({coming}, timeout=2 * FOLLOWER_DELAY_S)
    assert not coming.done()
    follower.go_on.set()
    ann = await coming

    assert ann.welcome["result"] == "resumed"
    assert await ann.until_live() == []


async def test_a_cursor_that_the_follower_does_not_reach_is_told_to_come_later(
    follower, start, person, backends, timing
):
    """4006: it is right, and must not be a reset."""
    at = await start(timing=replace(timing, start_timeout_s=0.5))
    follower.go_on.clear()
    await deliver(backends, message(id_now(), BEN, ANN))
    ann = await person(ANN, at=at, resume=await cursor_at_the_end(backends))
    follower.go_on.set()

    assert (ann.welcome, ann.socket.close_code) == (None, 4006)


async def test_a_cursor_beyond_the_log_s_end_is_a_reset(person, backends, gateway):
    """Made up, or of a log that has lost its end; no hello waits for it, nothing of it stays."""
    cursor = Cursor.parse(await cursor_at_the_end(backends))
    ann = await person(ANN, resume=f"{cursor.epoch}.{PARTITION}.{cursor.position[0] + 1}.0")

    assert ann.welcome["result"] == "reset"
    assert not any(gateway._context.feed._awaited.values())


# ---- behind the replay buffer --------------------------------------------------------------------


@pytest.fixture
async def missed(person, backends, gateway):
    """Ann has read one message and missed 300 to her and Ben, of which the replay buffer holds the
    last ones.
    """
    ann = await person(ANN)
    await deliver(backends, message(id_now(), BEN, ANN))
    cursor = (await ann.hear("message"))["cursor"]
    await ann.leave()
    first = id_now()
    numbers = [first + number for number in range(300)]
    for start in range(0, 300, 2):
        await deliver(
            backends, *(message(number, BEN, ANN) for number in numbers[start : start + 2])
        )
    feed = gateway._context.feed
    async with asyncio.timeout(10):
        while (
            feed.replay_buffer.end(PARTITION)
            < Cursor.parse(await cursor_at_the_end(backends)).position
        ):
            await asyncio.sleep(0.01)
    held = feed.replay_buffer._partitions[PARTITION].segments
    begin = held[-1].offsets[-10]
    feed.open(PARTITION, begin)  # as after a take-over with little room
    for stored in await backends.reads.read(DELIVERIES, PARTITION, begin, max_records=100):
        deliveries = pb.Deliveries.FromString(stored.value).deliveries
        feed.deliver(PARTITION, stored.offset, stored.at_ms, deliveries)
    return SimpleNamespace(cursor=cursor, numbers=[str(number) for number in numbers], begin=begin)


async def test_what_the_ring_no_longer_holds_is_read_back(missed, person):
    """All of it, in order, once, before what the replay buffer holds and what comes; for all who
    wait in one pass.
    """
    phone, tablet = await asyncio.gather(
        person(ANN, resume=missed.cursor), person(ANN, "tablet", resume=missed.cursor)
    )

    for device in (phone, tablet):
        pushes = await device.until_live()
        assert device.welcome["result"] == "resumed"
        assert [push["message"] for push in pushes] == missed.numbers
        assert [push["n"] for push in pushes] == list(range(1, 301))
    middle = pushes[150]["cursor"]
    again = await person(ANN, "third", resume=middle)
    assert [push["message"] for push in await again.until_live()] == missed.numbers[151:]


async def test_one_that_missed_nothing_there_resumes_too(missed, person, backends):
    """What others got costs only the reading."""
    user = next(user for user in range(30, 10_000) if user_partition(user, 12) == PARTITION)
    ann = await person(user, resume=missed.cursor)

    assert (ann.welcome["result"], await ann.until_live()) == ("resumed", [])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("_records", 100),
        ("_missed_bytes", 1_000),
        ("_pass_bytes", 1_000),
        ("_timeout_s", 0.0),
    ],
    ids=str,
)
async def test_too_far_too_much_or_too_long_is_a_reset(
    missed, person, gateway, monkeypatch, place, value
):
    """Never a part of it: the client reloads from history."""
    monkeypatch.setattr(gateway._context.resume, place, value)
    ann = await person(ANN, resume=missed.cursor)

    assert ann.welcome["result"] == "reset"


async def test_what_expires_while_it_is_read_is_a_reset(missed, person, backends, monkeypatch):
    """The log's own beginning is looked at when all is read."""
    bounds = backends.reads.bounds

    async def later(topic, partitions):
        return {
            partition: type(held)(missed.begin - 5, held.end)
            for partition, held in (await bounds(topic, partitions)).items()
        }

    monkeypatch.setattr(backends.reads, "bounds", later)
    ann = await person(ANN, resume=missed.cursor)

    assert ann.welcome["result"] == "reset"


async def test_a_log_that_cannot_be_read_is_4006(missed, person, backends, monkeypatch):
    """Later it can."""
    read = backends.reads.read

    async def away(*_, **__):
        raise Unavailable("the log is unavailable")

    monkeypatch.setattr(backends.reads, "read", away)
    ann = await person(ANN, resume=missed.cursor)
    monkeypatch.setattr(backends.reads, "read", read)
    again = await person(ANN, resume=missed.cursor)

    assert (ann.welcome, ann.socket.close_code) == (None, 4006)
    assert [push["message"] for push in await again.until_live()] == missed.numbers


async def test_what_is_not_signed_is_not_read_back(missed, person, gateway, monkeypatch):
    """A writer of the topic could else speak for any user, to clients that come late."""
    monkeypatch.setattr(gateway._context.delivery_reader, "_event_keys", (b"k" * 32,))
    ann = await person(ANN, resume=missed.cursor)

    held = [push["message"] for push in await ann.until_live()]
    assert ann.welcome["result"] == "resumed"
    assert held == missed.numbers[-len(held) :]
    assert len(held) < 100
