"""A log under test: its two ports, records for it, and readers that wait for what they are to get.

The suites rely on nothing but the ports, and on topics that may hold records already.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from backends.log import LogProducer, LogReader, ProducerRecord
from schemas.cloudevents import from_kafka
from schemas.topics import DEAD_LETTERS, TOPICS
from tests.support.events import event

EVENT_KEY = b"0123456789abcdef"
"""Adapters under test sign with it."""
TIMEOUT_S = 10
SHARE_S = 30
"""A group may take as long as a member's session lasts to notice that it is gone."""
ALL = range(TOPICS[DEAD_LETTERS].partitions)


@dataclass
class Ports:
    """Two ports on one log."""

    appends: LogProducer
    reads: LogReader


def records(count, partition=0, topic=DEAD_LETTERS):
    """New events for one partition."""
    return [ProducerRecord(topic, event(), partition) for _ in range(count)]


def ids(stored):
    """The event ids of records, read the way readers do."""
    return [from_kafka(item.headers, item.value).id for item in stored]


def sent(some):
    """The event ids of records on their way in."""
    return [record.event.id for record in some]


async def ends(reads, topic=DEAD_LETTERS):
    """Partition -> next offset to be given."""
    bounds = await reads.bounds(topic, range(await reads.partitions(topic)))
    return {partition: held.end for partition, held in bounds.items()}


async def batches(consumer, count):
    """The next records of a consumer, at least so many."""
    found = []
    async with asyncio.timeout(TIMEOUT_S):
        while len(found) < count:
            found += await anext(aiter(consumer))
    return found


async def polled(member, count, partition=None):
    """The next records of a member, at least so many, and of that partition if one is named."""
    found = []
    async with asyncio.timeout(TIMEOUT_S):
        while len(found) < count:
            found += [
                stored for stored in await member.poll() if partition in {None, stored.partition}
            ]
    return found


class Members:
    """Members of one group on DEAD_LETTERS, and what each was told."""

    def __init__(self, reads, group):
        self._reads, self._group = reads, group
        self._changed = asyncio.Condition()
        self.shares = {}
        self.tasks = {}

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for member in list(self.tasks):
            await self.leave(member)

    def join(self, member, *, name=None):
        """One more, of that name in the group; not told anything yet."""
        self.shares[member] = []
        self.tasks[member] = asyncio.create_task(self._be(member, name or member))

    async def _be(self, member, name):
        async with self._reads.join(self._group, DEAD_LETTERS, member=name) as assignments:
            async for mine in assignments:
                async with self._changed:
                    self.shares[member].append(mine)
                    self._changed.notify_all()

    async def leave(self, member):
        """In good order."""
        task = self.tasks.pop(member)
        del self.shares[member]
        task.cancel()
        await asyncio.wait([task])

    async def settled(self):
        """Member -> partitions, when all are shared out evenly among those who are there."""

        def even():
            if not all(self.shares.values()):
                return False
            now = [told[-1] for told in self.shares.values()]
            counts = [len(mine) for mine in now]
            return (
                sorted(number for mine in now for number in mine) == list(ALL)
                and max(counts) - min(counts) <= 1
            )

        async with asyncio.timeout(SHARE_S), self._changed:
            await self._changed.wait_for(even)
            return {member: told[-1] for member, told in self.shares.items()}
