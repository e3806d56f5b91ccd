"""Out of the embedded log when a partition is taken over: the replay buffer, log-outs from long
ago, and what is nothing of ours.
"""

import time
from dataclasses import replace
from types import SimpleNamespace

from backends.clock import Clock
from backends.log import ProducerRecord
from backends.log.embedded.log import EmbeddedLog
from backends.telemetry.metrics import value_of
from schemas import chat_pb2 as pb
from schemas.ids import first_id_at
from schemas.topics import (
    DELIVERIES,
    user_partition,
)
from tests.gateway.deliveries.reading import PARTITIONS, ends, fill, held
from tests.gateway.people import ANN, BEN, deliver, id_now, message
from tests.gateway.wire import claims
from tests.support.events import event_of


async def test_the_ring_is_filled_by_reading_back(delivery, feed, backends):
    """All of the last 15 min, in order, up to the end of each partition; the log's own epoch."""
    first = id_now()
    numbers = [first + number for number in range(300)]
    for start in range(0, 300, 50):
        await deliver(
            backends, *(message(number, ANN, BEN) for number in numbers[start : start + 50])
        )

    await fill(delivery)

    assert held(feed, ANN) == held(feed, BEN) == numbers
    assert feed.epoch == await backends.reads.epoch(DELIVERIES)
    bounds = await backends.reads.bounds(DELIVERIES, PARTITIONS)
    assert ends(feed) == {partition: each.end for partition, each in bounds.items()}


async def test_what_the_log_holds_twice_is_held_once(delivery, feed, backends):
    """A dispatcher that crashed had not confirmed the last seconds, and
    functions tell them again.
    """
    first = id_now()
    numbers = [first + number for number in range(30)]
    for start in (0, 10, 0, 20):
        await deliver(
            backends, *(message(number, ANN, BEN) for number in numbers[start : start + 10])
        )

    await fill(delivery)

    assert held(feed, ANN) == held(feed, BEN) == numbers


async def test_an_empty_log(delivery, feed):
    """A replay buffer that holds nothing, from the end on."""
    await fill(delivery)

    assert ends(feed) == dict.fromkeys(PARTITIONS, 0)


async def test_only_as_much_as_the_ring_takes_is_read_back(delivery, feed, backends):
    """The newest; the share that quiet partitions leave over is the busy one's."""
    first = id_now()
    numbers = [first + number for number in range(2_000)]
    for number in numbers:
        await deliver(backends, message(number, ANN, ANN, "x" * 1_000))
    delivery._ring_bytes = 600_000

    await fill(delivery)

    kept = held(feed, ANN)
    assert 500 < len(kept) < 2_000
    assert kept == numbers[-len(kept) :]


async def test_log_outs_are_found_behind_the_replay_buffer(delivery, at, feed, backends):
    """The replay buffer's bytes do not bound what is known of revoked tokens; those of the replay
    buffer itself are known at once.
    """
    now_ms = int(time.time() * 1_000)
    early, late = (
        pb.Delivery(users=[user], revoked=pb.Revoked(device="phone", before_ms=now_ms))
        for user in (ANN, BEN)
    )
    await deliver(backends, early)
    for _ in range(400):
        await deliver(backends, message(id_now(), ANN, ANN, "x" * 1_000))
    await deliver(backends, late)
    delivery._ring_bytes = 100_000

    await fill(delivery)
    assert at.revocations.close_of(claims(BEN, "phone", issued_ms=now_ms - 1))
    assert not at.revocations.close_of(claims(ANN, "phone", issued_ms=now_ms - 1))
    await delivery.log_outs.read()
    assert at.revocations.close_of(claims(ANN, "phone", issued_ms=now_ms - 1))
    assert not at.revocations.close_of(claims(ANN, "phone", issued_ms=now_ms))


async def test_reading_back_stops_at_the_time(delivery, at, feed, backends):
    """Records older than the replay buffer's time, or than any living token, are not looked for."""
    now_ms = int(time.time() * 1_000)
    await deliver(
        backends, pb.Delivery(users=[ANN], revoked=pb.Revoked(device="phone", before_ms=now_ms))
    )
    for _ in range(300):
        await deliver(backends, message(id_now(), ANN, ANN))
    delivery._clock = Clock(alone=True, wall=lambda: time.time() + 1_000)
    delivery.log_outs._clock = delivery._clock
    delivery._ring_bytes = 0

    await fill(delivery)
    await delivery.log_outs.read()

    assert ends(feed)[user_partition(ANN, 12)] == 301
    assert not at.revocations.close_of(claims(ANN, "phone", issued_ms=now_ms - 1))


async def test_what_is_no_longer_wanted_is_not_taken_over(delivery, feed, backends):
    """Nothing of it is left."""
    for _ in range(3):
        await deliver(backends, message(id_now(), ANN, BEN))

    assert await delivery.open([user_partition(ANN, 12)], lambda _: False) is None
    assert (delivery.followed, feed.replay_buffer.bytes) == (frozenset(), 0)


async def test_what_is_kept_has_its_share_of_the_replay_buffer(delivery, feed, backends):
    """One that is taken over later gets as many bytes as the others, the oldest
    of which make room.
    """
    partitions = sorted({user_partition(user, 12) for user in (ANN, BEN)})
    for _ in range(1_000):
        await deliver(backends, message(id_now(), ANN, BEN, "x" * 1_000))
    for partition in partitions:
        await delivery.open([partition], lambda _: True)

    assert 2 * 400 < len(held(feed, ANN)) + len(held(feed, BEN)) < 2 * 900
    assert min(len(held(feed, user)) for user in (ANN, BEN)) > 200
    assert feed.replay_buffer.bytes <= 2**20


async def test_a_wrong_id_does_not_hide_the_others_of_its_batch(
    delivery, feed, backends, message_ids
):
    """What is made later is greater than every true id that came with it."""
    soon, far = first_id_at(message_ids.now_ms() + 900), first_id_at(message_ids.now_ms() + 60_000)
    await deliver(backends, message(soon, ANN, ANN), message(far, ANN, ANN))

    await fill(delivery)

    assert soon < message_ids.next_id() < far
    assert held(feed, ANN) == [soon, far]


async def test_a_reply_is_greater_than_what_was_pushed(
    delivery, feed, backends, message_ids, monkeypatch
):
    """Also to the first message of a burst that takes several turns of the event loop."""
    ids = [first_id_at(message_ids.now_ms() + 900) + number for number in range(200)]
    replies = []
    deliver_ = feed.deliver

    def answer_at_once(partition, offset, at_ms, deliveries):
        deliver_(partition, offset, at_ms, deliveries)
        replies.append(message_ids.next_id())

    monkeypatch.setattr(feed, "deliver", answer_at_once)
    for number in ids:
        await deliver(backends, message(number, ANN, ANN))

    await fill(delivery)

    assert all(reply > number for reply, number in zip(replies, ids, strict=True))


async def test_an_id_from_a_wrong_clock_is_counted_and_not_followed(
    delivery, feed, backends, message_ids
):
    """The message is pushed all the same."""
    before = value_of("knchat_ids_ahead_total", where="deliveries")
    far = first_id_at(message_ids.now_ms() + 60_000)
    await deliver(backends, message(far, ANN, BEN))

    await fill(delivery)

    assert held(feed, ANN) == [far]
    assert value_of("knchat_ids_ahead_total", where="deliveries") == before + len(
        {user_partition(user, 12) for user in (ANN, BEN)}
    )
    assert message_ids.next_id() < far


async def test_records_that_are_nothing_of_ours(delivery, feed, backends):
    """Counted and passed over; what comes after them arrives."""
    good = message(id_now(), ANN, ANN)
    data = pb.Deliveries(schema=1, deliveries=[good])
    partition = user_partition(ANN, 12)
    foreign = event_of(pb.Outcomes(schema=1))
    damaged = replace(event_of(data), data=b"\x08\x01\x12\xff")
    unmarked = replace(event_of(data), data=good.SerializeToString())
    good_event = event_of(data)
    before = value_of("knchat_records_skipped_total", topic=DELIVERIES) + value_of(
        "knchat_records_skipped_total", topic="Deliveries"
    )
    await backends.appends.append(
        [
            ProducerRecord(DELIVERIES, each, partition)
            for each in (foreign, damaged, unmarked, good_event)
        ]
    )

    await fill(delivery)

    after = value_of("knchat_records_skipped_total", topic=DELIVERIES) + value_of(
        "knchat_records_skipped_total", topic="Deliveries"
    )
    assert after == before + 3
    assert held(feed, ANN) == [good.message.id]


async def test_what_is_not_signed_is_not_told(backends, reader, feed, caplog):
    """With event keys: one that may write to the topic cannot speak for others.

    The reader goes on behind it.
    """
    key = b"a key of 16 byte"
    delivery = reader(event_keys=[key])
    forged, ours, more = id_now(), id_now() + 1, id_now() + 2
    signing = EmbeddedLog(backends.settings.data / "log.db", event_keys=[key])
    await deliver(backends, message(forged, ANN, BEN))
    await deliver(
        SimpleNamespace(reads=signing, appends=signing),
        message(ours, ANN, BEN),
        message(more, ANN, BEN),
    )
    await fill(delivery)
    await signing.close()

    assert held(feed, BEN) == [ours, more]
    assert "record skipped" in caplog.text
