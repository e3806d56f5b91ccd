"""Out of the embedded log as it comes: what is followed, dropped and taken back, and answers."""

import asyncio
import time
from contextlib import asynccontextmanager

from backends.log import ProducerRecord
from backends.telemetry.metrics import value_of
from gateway.publishing.publisher import Publisher
from schemas import chat_pb2 as pb
from schemas.ids import first_id_at
from schemas.topics import (
    COMMANDS,
    DELIVERIES,
    SESSION_DELIVERIES,
    user_partition,
)
from tests.gateway.deliveries.reading import PARTITIONS, fill, held
from tests.gateway.faults import broken
from tests.gateway.people import ANN, BEN, deliver, id_now, message
from tests.gateway.wire import ask, connect
from tests.support.events import event_of
from tests.support.until import until


async def accepted_of(publisher, command):
    outcome = asyncio.get_running_loop().create_future()
    asked = pb.Command()
    asked.CopyFrom(command)
    publisher.submit(asked, outcome.set_result)
    return await outcome


async def test_what_comes_is_followed(delivery, feed, backends, message_ids, failed):
    """Into the replay buffer, past the clock of ids, and what failed to what remembers keys."""
    await fill(delivery)
    following = asyncio.create_task(delivery.follow_deliveries())
    soon = first_id_at(message_ids.now_ms() + 700)
    await deliver(
        backends,
        message(soon, ANN, BEN),
        pb.Delivery(users=[BEN], failed=pb.Failed(message=6, key="k")),
    )
    await until(lambda: held(feed, ANN) == [soon] and failed)

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


async def test_what_is_dropped_is_followed_no_more(delivery, feed, backends):
    """The replay buffer does not hold it; opened again, it is read back with what came meanwhile.

    The others go on.
    """
    await fill(delivery)
    following = asyncio.create_task(delivery.follow_deliveries())
    partition = user_partition(ANN, 12)
    before, meanwhile, after = (id_now() + number for number in range(3))
    await deliver(backends, message(before, ANN, BEN))
    await until(lambda: held(feed, ANN) == held(feed, BEN) == [before])

    await delivery.drop([partition])
    await deliver(backends, message(meanwhile, ANN, BEN))
    await until(lambda: held(feed, BEN) == [before, meanwhile])
    assert partition not in delivery.followed
    assert await delivery.open([partition], lambda _: True) == partition
    watching = asyncio.create_task(delivery.assign_opened())
    await deliver(backends, message(after, ANN, BEN))

    await until(lambda: held(feed, ANN) == [before, meanwhile, after])
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
                [ProducerRecord(SESSION_DELIVERIES, event_of(pb.Answers(schema=1)), partition)]
            )
        await until(lambda: delivery._ends[4] == 1)
        await assign()

    monkeypatch.setattr(delivery, "_assign", late)
    await delivery.drop([3])

    assert delivery.followed == set(PARTITIONS) - {3}
    answering.cancel()
    await asyncio.wait([answering])


async def test_what_comes_back_while_a_follower_begins_is_told_once(
    delivery, feed, backends, monkeypatch
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
    await until(lambda: held(feed, BEN) == [before, after] and after in held(feed, ANN))

    assert held(feed, ANN) == [before, after]
    following.cancel()
    await asyncio.wait([following])


async def test_the_log_is_unavailable_for_a_moment(delivery, feed, backends, settings):
    """Following begins again where it stopped: nothing is missed and nothing comes twice."""
    delivery._retry_delay_s = 0.02
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
    await until(lambda: len(held(feed, ANN)) == 3)

    assert held(feed, ANN) == numbers
    for task in (following, answering):
        task.cancel()
    await asyncio.wait([following, answering])


async def test_answers_go_to_the_session_that_waits(delivery, at, backends):
    """One for a session that is not here, and one of an unknown kind, go nowhere."""
    await fill(delivery)
    connection, wire = connect(at, ANN)
    session = connection.session
    ask(connection, 1, 2)
    wire.take()
    following = asyncio.create_task(delivery.follow_answers())
    answers = [
        pb.Answer(session="elsewhere", re=1, digest=pb.Digest(count=1)),
        pb.Answer(session=session.id, re=2),
        pb.Answer(session=session.id, re=1, digest=pb.Digest(count=3, hash=255)),
    ]
    await backends.appends.append(
        [ProducerRecord(SESSION_DELIVERIES, event_of(pb.Answers(schema=1, answers=answers)), 0)]
    )
    await until(lambda: wire.frames)

    assert [(frame.re, frame.count, frame.hash) for frame in wire.frames] == [
        (1, 3, "00000000000000ff")
    ]
    following.cancel()
    await asyncio.wait([following])
