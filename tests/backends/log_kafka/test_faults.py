"""The log on Kafka while its broker is killed, comes back, and is paused: what was acknowledged is
there, and all go on by themselves.

A broker of the test's own, since the others' must live.
"""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from backends.log import ProducerRecord
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.log import KafkaLog
from backends.log.kafka.topics import KafkaTopics
from backends.settings import Settings
from schemas.cloudevents import Event
from schemas.errors import Unavailable
from schemas.topics import DEAD_LETTERS
from tests.backends.log_ports import ALL, ids

pytestmark = [pytest.mark.slow, pytest.mark.real]

# A killed broker opens its port again when its old session is over; tests share the machine's
# cores.
TIMEOUT_S = 120


@pytest.fixture
async def brokers(fragile):
    """With topics."""
    fragile.start("kafka")
    servers = Settings.from_env(fragile.settings(["kafka"])).kafka
    brokers = Brokers(servers, prefix=f"t{time.monotonic_ns()}-")
    await KafkaTopics(brokers, replication=1, delivery_partitions=12).create()
    return brokers


class Users:
    """All users of a log, as gateways and dispatchers are: three producers, a partition consumer, a
    group consumer, assignments.
    """

    def __init__(self, brokers):
        self.log = KafkaLog(brokers)
        self.acknowledged, self.followed, self.polled, self.shares = [], [], [], []
        self.failures, self.slowest_s = 0, 0.0
        self._numbers = itertools.count()

    async def __aenter__(self):
        self._tasks = [
            asyncio.create_task(user)
            for user in (
                *(self._append(n) for n in ALL),
                self._follow(),
                self._poll(),
                self._share(),
            )
        ]
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self.log.close()

    async def _append(self, partition):
        while True:
            name = f"n{next(self._numbers)}"
            while True:
                began = time.monotonic()
                try:
                    await self.log.append(
                        [
                            ProducerRecord(
                                DEAD_LETTERS,
                                Event(id=name, source="/faults", type="t", data=b"x"),
                                partition,
                            )
                        ]
                    )
                except Unavailable:
                    self.failures += 1
                    await asyncio.sleep(0.1)
                else:
                    break
                finally:
                    self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self.acknowledged.append(name)

    async def _follow(self):
        offsets = dict.fromkeys(ALL, 0)
        while True:
            try:
                async with self.log.follow(DEAD_LETTERS, offsets) as consumer:
                    async for batch in consumer:
                        for stored in batch:
                            assert stored.offset == offsets[stored.partition]
                            offsets[stored.partition] += 1
                        self.followed += ids(batch)
            except Unavailable:
                await asyncio.sleep(0.1)

    async def _poll(self):
        async with self.log.member("faults", DEAD_LETTERS) as member:
            while True:
                try:
                    batch = await member.poll()
                    self.polled += ids(batch)
                    await member.commit({stored.partition: stored.offset + 1 for stored in batch})
                except Unavailable:
                    await asyncio.sleep(0.1)

    async def _share(self):
        async with self.log.join("owners", DEAD_LETTERS, member="one") as assignments:
            async for mine in assignments:
                self.shares.append(mine)

    async def until(self, is_so):
        """Waits; a user that ended is a failure of its own."""
        async with asyncio.timeout(TIMEOUT_S):
            while not is_so():
                await asyncio.wait(self._tasks, timeout=0.05)
                for task in self._tasks:
                    assert not task.done(), task.exception()

    async def more(self, count):
        """Waits until so many more were acknowledged, and the readers have seen them."""
        acknowledged = len(self.acknowledged) + count
        await self.until(lambda: len(self.acknowledged) >= acknowledged)
        seen = set(self.acknowledged)
        await self.until(lambda: seen <= set(self.followed) and seen <= set(self.polled))


async def everything(log):
    """The ids in the log, in order of partition and offset."""
    found = []
    for partition, bounds in (await log.bounds(DEAD_LETTERS, ALL)).items():
        offset = 0
        while offset < bounds.end:
            records = await log.read(DEAD_LETTERS, partition, offset, max_records=1000)
            found += ids(records)
            offset = records[-1].offset + 1
    return found


async def test_a_killed_broker_loses_nothing_that_was_acknowledged_and_all_go_on(fragile, brokers):
    """Appends fail meanwhile, each within its 10 s; an unavailable log changes nothing for who
    shares.
    """
    async with Users(brokers) as users:
        await users.more(200)
        await asyncio.to_thread(fragile.kill, "kafka")
        await users.until(lambda: users.failures >= len(ALL))
        with pytest.raises(Unavailable):
            await users.log.ping()
        await asyncio.to_thread(fragile.start, "kafka")
        ready = time.monotonic()
        await users.more(1)
        again_s = time.monotonic() - ready
        await users.more(200)
        await users.log.ping()
        acknowledged = set(users.acknowledged)
        there = await everything(users.log)

    assert acknowledged <= set(there)
    assert users.shares == [frozenset(ALL)]
    assert again_s < 15
    assert users.slowest_s < 12


async def test_a_paused_broker_is_waited_for(fragile, brokers):
    """Connections stay open and nothing answers: appends end with their deadline all the same, and
    then go on.
    """
    async with Users(brokers) as users:
        await users.more(50)
        fragile.pause("kafka")
        try:
            await users.until(lambda: users.failures >= len(ALL))
        finally:
            fragile.resume("kafka")
        await users.more(50)
        acknowledged = set(users.acknowledged)
        there = await everything(users.log)

    assert acknowledged <= set(there)
    assert users.slowest_s < 12
