"""Dispatchers that share a group's partitions: what a partition's leaving and coming back does to
commits.

The member here hands over what a test says, since a rebalance cannot be had at a chosen moment;
`test_kafka` has real ones.
"""

import asyncio
import contextlib

import pytest

from backends.dispatcher.dispatcher import COMMIT_INTERVAL_S, Dispatcher, Source
from backends.dispatcher.in_process import in_process
from backends.log import ConsumerRecord
from backends.retry_policy import RetryPolicy
from schemas.cloudevents import to_kafka
from schemas.topics import COMMANDS
from tests.support.dispatched import TIMEOUT_S, Function, end
from tests.support.events import event

FIRST, SECOND = 0, 1


def stored(offset, partition=FIRST):
    return ConsumerRecord(COMMANDS, partition, offset, 0, *to_kafka(event(f"{partition}/{offset}")))


class Partitions:
    """A member whose partitions come and go as its test says; writes down what is committed."""

    def __init__(self):
        self._polls = asyncio.Queue()
        self.commits = []

    @contextlib.asynccontextmanager
    async def member(self, group, topic):
        yield self

    def hand(self, *records):
        self._polls.put_nowait(records)

    async def poll(self, *, max_records):
        return await self._polls.get()

    async def commit(self, offsets):
        self.commits.append(dict(offsets))


class Ticks:
    """Sleep that lasts until the test says so: a commit is made at each `commit`."""

    def __init__(self):
        self._asleep = asyncio.Queue()

    async def __call__(self, seconds):
        assert seconds == COMMIT_INTERVAL_S
        waking = asyncio.Event()
        self._asleep.put_nowait(waking)
        await waking.wait()

    async def commit(self):
        async with asyncio.timeout(TIMEOUT_S):
            (await self._asleep.get()).set()
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
async def dispatching():
    """A dispatcher, its partitions, and a function that holds the events that `held` names until it
    lets them go.
    """
    dispatchers = []

    async def start(*held):
        gates = {name: asyncio.Event() for name in held}

        async def hold(scope, receive, send):
            name = dict(scope["headers"])[b"ce-id"].decode()
            gate = gates.pop(name, None)
            if gate is not None:
                waiting[name] = gate
                await gate.wait()
            return 200

        waiting = {}
        partitions, ticks, function = Partitions(), Ticks(), Function(*[hold] * 99)
        source = Source(
            topic=COMMANDS,
            group="send",
            url="http://send",
            retry_policy=RetryPolicy(retry=0, backoff_delay_s=1),
        )
        dispatcher = Dispatcher(
            source, reads=partitions, appends=None, post=in_process(function), sleep=ticks
        )
        dispatcher.task = asyncio.create_task(dispatcher.run())
        dispatchers.append((dispatcher, waiting))
        return partitions, ticks, function, waiting

    yield start
    for dispatcher, waiting in dispatchers:
        for gate in waiting.values():
            gate.set()
        await end(dispatcher)


async def test_a_partition_that_comes_back_lower_begins_again(dispatching):
    """Another one had it and committed less than was done here: its records come again and are
    committed when they are done again.
    """
    partitions, ticks, function, _ = await dispatching("0/2")
    partitions.hand(stored(0), stored(1), stored(2), stored(3))
    await function.next(4)
    await ticks.commit()
    partitions.hand(stored(1), stored(2))
    await function.next(2)
    await ticks.commit()

    assert partitions.commits == [{FIRST: 2}, {FIRST: 3}]


async def test_what_was_under_way_before_does_not_hold_up_what_came_back(dispatching):
    """A delivery from before the partition left ends when it will; nothing is committed for it any
    more.
    """
    partitions, ticks, function, waiting = await dispatching("0/0")
    partitions.hand(stored(0), stored(1), stored(2))
    await function.next(3)
    partitions.hand(stored(0))  # not committed; this time it is not held
    await function.next(1)
    await ticks.commit()
    waiting["0/0"].set()
    partitions.hand(stored(1), stored(2))
    await function.next(2)
    await ticks.commit()

    assert partitions.commits == [{FIRST: 1}, {FIRST: 3}]


async def test_a_partition_that_comes_back_higher_is_never_committed_backwards(dispatching):
    """Another one went on meanwhile: what is still open here from before says nothing about its
    commits.
    """
    partitions, ticks, function, waiting = await dispatching("0/1")
    partitions.hand(stored(0), stored(1))
    await function.next(2)
    partitions.hand(stored(8), stored(0, SECOND))
    await function.next(2)
    await ticks.commit()

    assert partitions.commits == [{SECOND: 1}]

    waiting["0/1"].set()
    partitions.hand(stored(9))
    await function.next(1)
    await ticks.commit()

    assert partitions.commits[1:] == [{FIRST: 10}]
