"""Records: what retention takes, what is too large, what is not ours, and fetch tasks that end."""

from __future__ import annotations

import asyncio

import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource
from kafka.structs import TopicPartition

from backends.log import Bounds, ProducerRecord
from backends.log.kafka.timing import Timing
from schemas.errors import Malformed, Unavailable
from schemas.topics import DEAD_LETTERS, DELIVERIES
from tests.backends.log_ports import batches, ids, records, sent
from tests.support.events import event


async def test_what_is_too_large_for_the_brokers_is_malformed_and_hinders_nothing(
    brokers, topics, log
):
    """They allow less than we do: that record is never taken, and the ones after it are."""
    admin = brokers.admin()
    admin.alter_configs(
        [
            ConfigResource(
                "TOPIC", brokers.topic(DEAD_LETTERS), configs={"max.message.bytes": "20000"}
            )
        ]
    )
    admin.close()
    async with asyncio.timeout(10):
        # The broker hears of it a moment later.
        while not any("max.message.bytes=20000" in line for line in await topics.check()):
            pass
    some = records(2)
    await log.append(some[:1])
    with pytest.raises(Malformed) as refused:
        await log.append([ProducerRecord(DEAD_LETTERS, event(data=b"x" * 30_000), 0)])
    await log.append(some[1:])

    assert refused.value.code == "too_large"
    assert ids(await log.read(DEAD_LETTERS, 0, 0, max_records=9)) == sent(some)


async def drop(brokers, partition, before):
    """What retention does."""
    admin = brokers.admin()
    await asyncio.to_thread(
        admin.delete_records, {TopicPartition(brokers.topic(DEAD_LETTERS), partition): before}
    )
    admin.close()


async def test_readers_go_on_at_the_oldest_record_that_is_left(brokers, log):
    """A read, a consumer and a new group alike."""
    some = records(10)
    await log.append(some)
    await drop(brokers, 0, 6)

    assert (await log.bounds(DEAD_LETTERS, [0]))[0].begin == 6
    assert ids(await log.read(DEAD_LETTERS, 0, 2, max_records=9)) == sent(some)[6:]
    async with log.follow(DEAD_LETTERS, {0: 2, 1: 0}) as consumer:
        assert ids(await batches(consumer, 4)) == sent(some)[6:]


async def test_what_was_read_once_is_not_fetched_on(log):
    """The client's own thread fetches ahead whatever it holds: a gateway that looks at history's
    lag would fetch all of chat-messages.
    """
    await log.append([ProducerRecord(DELIVERIES, event(), 3)])
    assert len(await log.read(DELIVERIES, 3, 0, max_records=1)) == 1

    assert log._questions._worker.reader._consumer.assignment() == set()


@pytest.fixture
async def watched(brokers, topics, open_log):
    """A log that looks twice a second at what its consumers fetch."""
    await topics.create()
    return open_log(brokers, timing=Timing(fetch_watch_interval_s=0.5))


async def test_a_consumer_whose_fetch_task_has_ended_raises(watched):
    """It would wait without end, with all messages behind it.

    One that has nothing to fetch is not stalled.
    """
    offset = 0

    async def read(consumer):
        nonlocal offset
        async for batch in consumer:
            offset = batch[-1].offset + 1
            await watched.append(records(1))  # what was fetched before may still come

    async with watched.follow(DEAD_LETTERS, {0: 0}) as consumer:
        reading = asyncio.create_task(read(consumer))
        done, _ = await asyncio.wait([reading], timeout=2)
        assert not done
        consumer._consumer._fetcher._fetch_task.cancel()
        await watched.append(records(1))
        async with asyncio.timeout(20):
            with pytest.raises(Unavailable, match="stalled"):
                await reading
    async with watched.follow(DEAD_LETTERS, {0: offset}) as consumer:
        assert len(await batches(consumer, 1)) == 1


async def test_a_member_whose_fetch_task_has_ended_joins_again(watched):
    """One poll is Unavailable, and the next ones go on where it was committed."""

    async def poll(member):
        while True:
            if polled := await member.poll():
                await member.commit({0: polled[-1].offset + 1})
                await watched.append(records(1))  # what was fetched before may still come

    async with watched.member("dispatcher", DEAD_LETTERS) as member:
        assert await member.poll() == []
        member._consumer._fetcher._fetch_task.cancel()
        await watched.append(records(1))
        async with asyncio.timeout(40):
            with pytest.raises(Unavailable, match="stalled"):
                await poll(member)
            while not (found := await member.poll()):
                pass

    assert len(found) == 1


async def test_a_consumer_beyond_the_end_raises(log):
    """The topic was deleted and made again: what it has read before is another log's."""
    await log.append(records(3))
    async with log.follow(DEAD_LETTERS, {0: 50}) as consumer:
        with pytest.raises(Unavailable, match="recreated"):
            async with asyncio.timeout(10):
                await anext(aiter(consumer))


async def test_the_marks_of_transactions_are_no_records(brokers, kafka_settings, log):
    """Of other producers, which write to several topics at once.

    A read does not wait for a record where one lies at the end.
    """
    producer = KafkaProducer(
        bootstrap_servers=kafka_settings["kafka"], transactional_id=f"{brokers.prefix}plug-in"
    )

    def transact():
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(brokers.topic(DEAD_LETTERS), b"x", partition=0)
        producer.commit_transaction()
        producer.close()

    await asyncio.to_thread(transact)
    async with asyncio.timeout(4):  # before it would give up
        found = await log.read(DEAD_LETTERS, 0, 0, max_records=9)
        nothing = await log.read(DEAD_LETTERS, 0, 1, max_records=1)

    assert ([stored.value for stored in found], nothing) == ([b"x"], [])
    assert (await log.bounds(DEAD_LETTERS, [0]))[0] == Bounds(0, 2)


async def test_headers_without_a_value_are_empty(brokers, kafka_settings, log):
    """Any program may have written them."""
    producer = KafkaProducer(bootstrap_servers=kafka_settings["kafka"])
    topic = brokers.topic(DEAD_LETTERS)
    await asyncio.to_thread(
        lambda: producer.send(topic, b"x", headers=[("a", b"1")], partition=0).get(10)
    )
    await asyncio.to_thread(producer.close)
    (stored,) = await log.read(DEAD_LETTERS, 0, 0, max_records=9)

    assert (list(stored.headers), stored.value) == ([("a", b"1")], b"x")
