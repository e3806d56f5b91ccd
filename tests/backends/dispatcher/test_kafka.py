"""Dispatchers on Kafka: one, several of a group, and what a rebalance and a crash leave behind."""

import asyncio

import pytest

from backends.dispatcher.dispatcher import COMMIT_INTERVAL_S, Dispatcher, Source
from backends.dispatcher.in_process import in_process
from backends.log import ProducerRecord
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.log import KafkaLog
from backends.log.kafka.topics import KafkaTopics
from backends.retry_policy import RetryPolicy
from schemas.topics import COMMANDS
from tests.backends.log_ports import ends
from tests.support.dispatched import Function, Naps, crash, end
from tests.support.events import event
from tests.support.real import topic_prefix

TIMEOUT_S = 30  # a rebalance takes seconds
RETRY_POLICY = RetryPolicy(retry=2, backoff_delay_s=0.2)


@pytest.fixture
async def log(kafka_settings):
    """A log with topics of its own."""
    brokers = Brokers(kafka_settings["kafka"], prefix=topic_prefix())
    await KafkaTopics(brokers, replication=1, delivery_partitions=12).create()
    log = KafkaLog(brokers)
    yield log
    await log.close()


@pytest.fixture
async def start(log):
    """Starts dispatchers of one group, as many processes would, and ends those that still run."""
    running = []

    async def started(function, *, sleep=asyncio.sleep):
        source = Source(topic=COMMANDS, group="send", url="http://send", retry_policy=RETRY_POLICY)
        dispatcher = Dispatcher(
            source, reads=log, appends=log, post=in_process(function), sleep=sleep
        )
        dispatcher.task = asyncio.create_task(dispatcher.run())
        running.append(dispatcher)
        async with asyncio.timeout(TIMEOUT_S):
            await dispatcher.up.wait()
        return dispatcher

    yield started
    for dispatcher in running:
        dispatcher.task.cancel()
    await asyncio.gather(*(dispatcher.task for dispatcher in running), return_exceptions=True)


async def fill(log, numbers):
    """Events of these ids, over all partitions."""
    partitions = await log.partitions(COMMANDS)
    await log.append(
        [ProducerRecord(COMMANDS, event(number), number % partitions) for number in numbers]
    )


async def called(function, numbers):
    """Waits until each of these has been posted, however often; how many posts there were."""
    missing, posts = {str(number) for number in numbers}, 0
    async with asyncio.timeout(TIMEOUT_S):
        while missing:
            missing.discard(await function.calls.get())
            posts += 1
    return posts


async def everything_is_committed(log):
    async with asyncio.timeout(TIMEOUT_S):
        while await log.committed("send", COMMANDS) != {
            partition: end for partition, end in (await ends(log, COMMANDS)).items() if end
        }:
            await asyncio.sleep(0.05)


async def test_what_a_crash_left_uncommitted_comes_again(log, start):
    """And what was committed does not."""
    function = Function()
    await fill(log, range(24))
    dispatcher = await start(function)
    await called(function, range(24))
    await everything_is_committed(log)
    await end(dispatcher)
    dispatcher = await start(function, sleep=Naps(held=[COMMIT_INTERVAL_S]))
    await fill(log, range(24, 36))
    await called(function, range(24, 36))
    await crash(dispatcher)
    again = Function()
    dispatcher = await start(again)

    assert await called(again, range(24, 36)) == 12
    await everything_is_committed(log)
    await end(dispatcher)


async def test_dispatchers_of_one_group_share_the_partitions(log, start):
    """One joins, one leaves: every event is posted, and all of it committed; no
    commit goes back.
    """
    function = Function()
    gate = asyncio.Event()

    async def wait(scope, receive, send):
        await gate.wait()
        return 200

    one = await start(Function(*[wait] * 12))
    await fill(log, range(12))  # are under way in the first when the second comes
    two = await start(function)
    await fill(log, range(12, 48))
    gate.set()
    await everything_is_committed(log)
    came = function.calls.qsize()
    before = await log.committed("send", COMMANDS)
    await end(one)
    await fill(log, range(48, 96))
    await called(function, range(48, 96))
    await everything_is_committed(log)
    after = await log.committed("send", COMMANDS)
    await end(two)

    # Half of what came after it; and what the first had not finished of its partitions.
    assert came >= 18
    assert all(after[partition] >= offset for partition, offset in before.items())
