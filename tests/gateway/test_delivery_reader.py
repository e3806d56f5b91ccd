"""Out of the embedded log: the replay buffer after a start, what follows, what is nothing of ours,
and log-outs from long ago.
"""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from backends.clock import Clock
from backends.log import ProducerRecord
from backends.log.embedded.log import EmbeddedLog
from backends.telemetry.metrics import value_of
from gateway.deliveries.reader import DeliveryReader
from gateway.partitions.history_lag import HistoryLag
from gateway.publishing.message_ids import MessageIds
from gateway.publishing.publisher import Publisher
from gateway.sessions.hub import Hub
from gateway.sessions.replay_buffer import ReplayBuffer
from schemas import chat_pb2 as pb
from schemas.ids import first_id_at
from schemas.topics import (
    ANSWERS_GIVEN,
    COMMANDS,
    DELIVERIES,
    DELIVERIES_MADE,
    HISTORY_GROUPS,
    HISTORY_RETRIES,
    MESSAGES,
    OUTCOMES_DECIDED,
    SESSION_DELIVERIES,
    user_partition,
)
from tests.gateway.people import deliver, event, id_now, message
from tests.gateway.wire import ALLOWED, NOW_S, claims
from tests.support.until import until

ANN, BEN = 11, 22
PARTITIONS = range(12)


@pytest.fixture
def hub():
    return Hub(ReplayBuffer(limit_bytes=2**20, kept_s=900), ALLOWED, now_s=NOW_S)


@pytest.fixture
async def message_ids(backends):
    made = MessageIds(backends.generators, "test", clock=backends.clock)
    await made.claim()
    return made


@pytest.fixture
def failed():
    return []


@pytest.fixture
async def delivery(backends, hub, message_ids, failed):
    return DeliveryReader(
        backends.reads,
        hub,
        message_ids,
        lambda user, key: failed.append((user, key)),
        ring_bytes=2**20,
        ring_s=900,
        token_s=900,
        clock=backends.clock,
        beat=lambda: None,
    )


async def fill(delivery):
    while left := set(PARTITIONS) - delivery.followed:
        await delivery.open(left, lambda _: True)


def ends(hub):
    return {partition: hub.replay_buffer.end(partition)[0] for partition in PARTITIONS}


def held(hub, user):
    partition = user_partition(user, 12)
    position = hub.replay_buffer.since(partition, 0)
    return [
        pb.Delivery.FromString(raw).message.id
        for _, raw in hub.replay_buffer.missed(partition, user, position, limit=10_000)
    ]


async def accepted_of(publisher, command):
    outcome = asyncio.get_running_loop().create_future()
    asked = pb.Command()
    asked.CopyFrom(command)
    publisher.submit(asked, outcome.set_result)
    return await outcome


async def test_the_ring_is_filled_by_reading_back(delivery, hub, backends):
    """All of the last 15 min, in order, up to the end of each partition; the log's own epoch."""
    first = id_now()
    numbers = [first + number for number in range(300)]
    for start in range(0, 300, 50):
        await deliver(
            backends, *(message(number, ANN, BEN) for number in numbers[start : start + 50])
        )

    await fill(delivery)

    assert held(hub, ANN) == held(hub, BEN) == numbers
    assert hub.epoch == await backends.reads.epoch(DELIVERIES)
    bounds = await backends.reads.bounds(DELIVERIES, PARTITIONS)
    assert ends(hub) == {partition: each.end for partition, each in bounds.items()}


async def test_what_the_log_holds_twice_is_held_once(delivery, hub, backends):
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

    assert held(hub, ANN) == held(hub, BEN) == numbers


async def test_an_empty_log(delivery, hub):
    """A replay buffer that holds nothing, from the end on."""
    await fill(delivery)

    assert ends(hub) == dict.fromkeys(PARTITIONS, 0)


async def test_only_as_much_as_the_ring_takes_is_read_back(delivery, hub, backends):
    """The newest; the share that quiet partitions leave over is the busy one's."""
    first = id_now()
    numbers = [first + number for number in range(2_000)]
    for number in numbers:
        await deliver(backends, message(number, ANN, ANN, "x" * 1_000))
    delivery._ring_bytes = 600_000

    await fill(delivery)

    kept = held(hub, ANN)
    assert 500 < len(kept) < 2_000
    assert kept == numbers[-len(kept) :]


async def test_log_outs_are_found_behind_the_ring(delivery, hub, backends):
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
    assert hub.revocation_of(claims(BEN, "phone", issued_ms=now_ms - 1))
    assert not hub.revocation_of(claims(ANN, "phone", issued_ms=now_ms - 1))
    await delivery.read_revocations()
    assert hub.revocation_of(claims(ANN, "phone", issued_ms=now_ms - 1))
    assert not hub.revocation_of(claims(ANN, "phone", issued_ms=now_ms))


async def test_reading_back_stops_at_the_time(delivery, hub, backends):
    """Records older than the replay buffer's time, or than any living token, are not looked for."""
    now_ms = int(time.time() * 1_000)
    await deliver(
        backends, pb.Delivery(users=[ANN], revoked=pb.Revoked(device="phone", before_ms=now_ms))
    )
    for _ in range(300):
        await deliver(backends, message(id_now(), ANN, ANN))
    delivery._clock = Clock(alone=True, wall=lambda: time.time() + 1_000)
    delivery._ring_bytes = 0

    await fill(delivery)
    await delivery.read_revocations()

    assert ends(hub)[user_partition(ANN, 12)] == 301
    assert not hub.revocation_of(claims(ANN, "phone", issued_ms=now_ms - 1))


async def test_what_comes_is_followed(delivery, hub, backends, message_ids, failed):
    """Into the replay buffer, past the clock that mints, and what failed to what remembers keys."""
    await fill(delivery)
    following = asyncio.create_task(delivery.follow_deliveries())
    soon = first_id_at(message_ids.now_ms() + 700)
    await deliver(
        backends,
        message(soon, ANN, BEN),
        pb.Delivery(users=[BEN], failed=pb.Failed(message=6, key="k")),
    )
    await until(lambda: held(hub, ANN) == [soon] and failed)

    assert failed == [(BEN, "k")]
    assert message_ids.next_id() > soon
    following.cancel()
    await asyncio.wait([following])


async def test_what_failed_while_no_gateway_followed_goes_again(delivery, backends, message_ids):
    """The cache still says that the log has it: the repeat that `failed` asks for must be appended
    all the same.
    """
    first = Publisher(
        backends.appends, backends.cache, message_ids, in_flight=2, clock=time.monotonic
    )
    command = pb.Command(user=ANN, device="phone", key="k", chat="d-11-22", send=pb.Send(text="hi"))
    sent = await accepted_of(first, command)
    await first.finish()
    await deliver(backends, pb.Delivery(users=[ANN], failed=pb.Failed(message=sent.id, key="k")))
    after = Publisher(
        backends.appends, backends.cache, message_ids, in_flight=2, clock=time.monotonic
    )
    delivery._on_command_failed = after.on_command_failed

    await fill(delivery)
    again = await accepted_of(after, command)
    await after.finish()

    assert (again.id, again.duplicate) == (sent.id, True)
    bounds = await backends.reads.bounds(COMMANDS, PARTITIONS)
    assert sum(each.end for each in bounds.values()) == 2


async def test_what_is_dropped_is_followed_no_more(delivery, hub, backends):
    """The replay buffer does not hold it; opened again, it is read back with what came meanwhile.

    The others go on.
    """
    await fill(delivery)
    following = asyncio.create_task(delivery.follow_deliveries())
    partition = user_partition(ANN, 12)
    before, meanwhile, after = (id_now() + number for number in range(3))
    await deliver(backends, message(before, ANN, BEN))
    await until(lambda: held(hub, ANN) == held(hub, BEN) == [before])

    await delivery.drop([partition])
    await deliver(backends, message(meanwhile, ANN, BEN))
    await until(lambda: held(hub, BEN) == [before, meanwhile])
    assert partition not in delivery.followed
    assert await delivery.open([partition], lambda _: True) == partition
    watching = asyncio.create_task(delivery.assign_opened())
    await deliver(backends, message(after, ANN, BEN))

    await until(lambda: held(hub, ANN) == [before, meanwhile, after])
    for task in (following, watching):
        task.cancel()
    await asyncio.wait([following, watching])


async def test_an_answer_on_its_way_does_not_bring_back_what_is_dropped(
    delivery, backends, monkeypatch
):
    """It was handed over between the end of the partition here and the word of
    it to the follower.
    """
    await fill(delivery)
    answering = asyncio.create_task(delivery.follow_answers())
    await until(lambda: SESSION_DELIVERIES in delivery._followers)
    assign = delivery._assign

    async def late():
        for partition in (3, 4):
            await backends.appends.append(
                [
                    ProducerRecord(
                        SESSION_DELIVERIES, event(ANSWERS_GIVEN, pb.Answers(schema=1)), partition
                    )
                ]
            )
        await until(lambda: delivery._ends[4] == 1)
        await assign()

    monkeypatch.setattr(delivery, "_assign", late)
    await delivery.drop([3])

    assert delivery.followed == set(PARTITIONS) - {3}
    answering.cancel()
    await asyncio.wait([answering])


async def test_what_comes_back_while_a_follower_begins_is_told_once(
    delivery, hub, backends, monkeypatch
):
    """The follower begins where the partition was held before; what the replay buffer holds by then
    is not pushed again.
    """
    follow, begun, go_on = backends.reads.follow, asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def slowly(topic, offsets, **how):
        async with follow(topic, offsets, **how) as follower:
            begun.set()
            await go_on.wait()
            yield follower

    monkeypatch.setattr(backends.reads, "follow", slowly)
    await fill(delivery)
    following = asyncio.create_task(delivery.follow_deliveries())
    await begun.wait()
    before, after = id_now(), id_now() + 1
    await deliver(backends, message(before, ANN, BEN))
    await delivery.drop([user_partition(ANN, 12)])
    await delivery.open([user_partition(ANN, 12)], lambda _: True)
    go_on.set()
    await deliver(backends, message(after, ANN, BEN))
    await until(lambda: held(hub, BEN) == [before, after] and after in held(hub, ANN))

    assert held(hub, ANN) == [before, after]
    following.cancel()
    await asyncio.wait([following])


async def test_what_is_no_longer_wanted_is_not_taken_over(delivery, hub, backends):
    """Nothing of it is left."""
    for _ in range(3):
        await deliver(backends, message(id_now(), ANN, BEN))

    assert await delivery.open([user_partition(ANN, 12)], lambda _: False) is None
    assert (delivery.followed, hub.replay_buffer.bytes) == (frozenset(), 0)


async def test_what_is_kept_has_its_share_of_the_ring(delivery, hub, backends):
    """One that is taken over later gets as many bytes as the others, the oldest
    of which make room.
    """
    partitions = sorted({user_partition(user, 12) for user in (ANN, BEN)})
    for _ in range(1_000):
        await deliver(backends, message(id_now(), ANN, BEN, "x" * 1_000))
    for partition in partitions:
        await delivery.open([partition], lambda _: True)

    assert 2 * 400 < len(held(hub, ANN)) + len(held(hub, BEN)) < 2 * 900
    assert min(len(held(hub, user)) for user in (ANN, BEN)) > 200
    assert hub.replay_buffer.bytes <= 2**20


async def test_a_wrong_id_does_not_hide_the_others_of_its_batch(
    delivery, hub, backends, message_ids
):
    """What is minted later is greater than every true id that came with it."""
    soon, far = first_id_at(message_ids.now_ms() + 900), first_id_at(message_ids.now_ms() + 60_000)
    await deliver(backends, message(soon, ANN, ANN), message(far, ANN, ANN))

    await fill(delivery)

    assert soon < message_ids.next_id() < far
    assert held(hub, ANN) == [soon, far]


async def test_a_reply_is_greater_than_what_was_pushed(
    delivery, hub, backends, message_ids, monkeypatch
):
    """Also to the first message of a burst that takes several turns of the event loop."""
    ids = [first_id_at(message_ids.now_ms() + 900) + number for number in range(200)]
    replies = []
    deliver_ = hub.deliver

    def answer_at_once(partition, offset, at_ms, deliveries):
        deliver_(partition, offset, at_ms, deliveries)
        replies.append(message_ids.next_id())

    monkeypatch.setattr(hub, "deliver", answer_at_once)
    for number in ids:
        await deliver(backends, message(number, ANN, ANN))

    await fill(delivery)

    assert all(reply > number for reply, number in zip(replies, ids, strict=True))


async def test_an_id_from_a_wrong_clock_is_counted_and_not_followed(
    delivery, hub, backends, message_ids
):
    """The message is pushed all the same."""
    before = value_of("knchat_ids_ahead_total", where="deliveries")
    far = first_id_at(message_ids.now_ms() + 60_000)
    await deliver(backends, message(far, ANN, BEN))

    await fill(delivery)

    assert held(hub, ANN) == [far]
    assert value_of("knchat_ids_ahead_total", where="deliveries") == before + len(
        {user_partition(user, 12) for user in (ANN, BEN)}
    )
    assert message_ids.next_id() < far


async def test_records_that_are_nothing_of_ours(delivery, hub, backends):
    """Counted and passed over; what comes after them arrives."""
    good = message(id_now(), ANN, ANN)
    data = pb.Deliveries(schema=1, deliveries=[good])
    partition = user_partition(ANN, 12)
    foreign = event(OUTCOMES_DECIDED, pb.Outcomes(schema=1))
    damaged = replace(event(DELIVERIES_MADE, data), data=b"\x08\x01\x12\xff")
    unmarked = replace(event(DELIVERIES_MADE, data), data=good.SerializeToString())
    good_event = event(DELIVERIES_MADE, data)
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
    assert held(hub, ANN) == [good.message.id]


async def test_the_log_is_away_for_a_moment(delivery, hub, backends, settings, monkeypatch):
    """Following begins again where it stopped: nothing is missed and nothing comes twice."""
    from tests.gateway.faults import broken  # noqa: PLC0415 - one test

    monkeypatch.setattr("gateway.deliveries.reader.RETRY_DELAY_S", 0.02)
    await fill(delivery)
    failures = value_of("knchat_read_failures_total", topic=DELIVERIES)
    first = id_now()
    numbers = [first + number for number in range(3)]
    await deliver(backends, message(numbers[0], ANN, ANN))
    with broken(settings.data, "records"):
        following = asyncio.create_task(delivery.follow_deliveries())
        answering = asyncio.create_task(delivery.follow_answers())
        await until(lambda: value_of("knchat_read_failures_total", topic=DELIVERIES) > failures)
    for number in numbers[1:]:
        await deliver(backends, message(number, ANN, ANN))
    await until(lambda: len(held(hub, ANN)) == 3)

    assert held(hub, ANN) == numbers
    for task in (following, answering):
        task.cancel()
    await asyncio.wait([following, answering])


async def test_answers_go_to_the_session_that_waits(delivery, hub, backends):
    """One for a session that is not here, and one of an unknown kind, are nobody's."""
    from gateway.sessions.protocol import Session  # noqa: PLC0415 - one test
    from tests.gateway.wire import NOW_MS, RULES, Wire  # noqa: PLC0415 - one test

    await fill(delivery)
    wire = Wire()
    session = Session(wire, wire.codec, RULES, now_s=NOW_S)
    session.open(
        claims(ANN, "phone"),
        partition=0,
        epoch="e",
        position=(0, 0),
        background=False,
        now_s=NOW_S,
        now_ms=NOW_MS,
    )
    hub.register(session)
    session._asked = {1: (1, NOW_S + 10), 2: (2, NOW_S + 10)}
    following = asyncio.create_task(delivery.follow_answers())
    answers = [
        pb.Answer(session="elsewhere", re=1, digest=pb.Digest(count=1)),
        pb.Answer(session=session.id, re=2),
        pb.Answer(session=session.id, re=1, digest=pb.Digest(count=3, hash=255)),
    ]
    await backends.appends.append(
        [
            ProducerRecord(
                SESSION_DELIVERIES, event(ANSWERS_GIVEN, pb.Answers(schema=1, answers=answers)), 0
            )
        ]
    )
    await until(lambda: wire.frames)

    assert [(frame.re, frame.count, frame.hash) for frame in wire.frames] == [
        (1, 3, "00000000000000ff")
    ]
    following.cancel()
    await asyncio.wait([following])


async def test_how_far_history_is_behind(backends):
    """The age of the oldest outcome that its group has not committed."""
    ahead = Clock(alone=True, wall=lambda: time.time() + 7)
    lag = HistoryLag(backends.reads, clock=backends.clock)
    await lag.look()
    assert lag.seconds == 0
    await backends.appends.append(
        [ProducerRecord(MESSAGES, event(OUTCOMES_DECIDED, pb.Outcomes(schema=1)), 3)]
    )

    lag._clock = ahead
    await lag.look()
    assert 6 < lag.seconds < 8
    async with backends.reads.member(HISTORY_GROUPS[MESSAGES], MESSAGES) as member:
        await member.poll()
        await member.commit({3: 1})
    await lag.look()
    assert lag.seconds == 0


async def test_what_goes_round_counts_from_its_first_day(backends):
    """A record that was appended anew holds outcomes that are as old as their ids."""
    now_s = time.time()
    lag = HistoryLag(backends.reads, clock=backends.clock)
    old = pb.Outcomes(
        schema=1,
        outcomes=[pb.Outcome(command=pb.Command(id=first_id_at(int(now_s * 1_000) - 600_000)))],
    )
    await backends.appends.append(
        [ProducerRecord(HISTORY_RETRIES, event(OUTCOMES_DECIDED, old), 1)]
    )

    await lag.look()
    assert 599 < lag.seconds < 602


async def test_the_lag_stays_while_the_log_is_away(backends, monkeypatch):
    """An old figure is better than none."""
    monkeypatch.setattr("gateway.partitions.history_lag.POLL_INTERVAL_S", 0.001)
    lag = HistoryLag(backends.reads, clock=backends.clock)
    await lag.look()
    lag.seconds = 5.0
    await backends.close()

    watching = asyncio.create_task(lag.watch())
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)

    assert lag.seconds == 5.0
    assert not watching.done()
    watching.cancel()
    await asyncio.wait([watching])


async def test_what_is_not_signed_is_not_told(backends, hub, message_ids, caplog):
    """With event keys: who may write to the topic cannot speak for others.

    The reader goes on behind it.
    """
    key = b"a key of 16 byte"
    delivery = DeliveryReader(
        backends.reads,
        hub,
        message_ids,
        lambda *_: None,
        ring_bytes=2**20,
        ring_s=900,
        token_s=900,
        clock=backends.clock,
        beat=lambda: None,
        event_keys=[key],
    )
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

    assert held(hub, BEN) == [ours, more]
    assert "record skipped" in caplog.text
