"""A member of a consumer group that polls and commits: what the local dispatcher is.

A rebalance gives all partitions up and assigns them anew, as among Knative's dispatchers;
assignments are sticky.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as aio_errors
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from backends.log import ConsumerRecord
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.fetch_watch import FetchWatch
from backends.log.kafka.records import (
    HEARTBEAT_INTERVAL_MS,
    JOIN_TIMEOUT_S,
    MAX_POLL_RECORDS,
    POLL_TIMEOUT_MS,
    SESSION_TIMEOUT_MS,
    consumer_record_of,
)
from backends.log.kafka.timing import TIMING, Timing
from backends.log.offset_resets import report_offset_reset
from schemas.errors import Unavailable

# A member that does not poll, since its function does not keep up, stays one, as a dispatcher does.
_MAX_POLL_INTERVAL_MS: Final = 2**31 - 1
_POLL_TIMEOUT_S: Final = 1.0
_COMMIT_TIMEOUT_S: Final = 5.0


class KafkaGroupConsumer:
    """Implements `GroupConsumer`."""

    def __init__(
        self, brokers: Brokers, group: str, topic: str, start: str, *, timing: Timing = TIMING
    ) -> None:
        self._timing = timing
        self._brokers, self._topic, self._name = brokers, topic, brokers.topic(topic)
        self._make = partial(
            brokers.consumer,
            self._name,
            join_s=JOIN_TIMEOUT_S,
            group_id=brokers.prefix + group,
            auto_offset_reset="earliest" if start == "begin" else "latest",
            partition_assignment_strategy=[StickyPartitionAssignor],
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            rebalance_timeout_ms=SESSION_TIMEOUT_MS,
            fetch_max_wait_ms=POLL_TIMEOUT_MS,
        )
        self._consumer: AIOKafkaConsumer | None = None
        self._watch: FetchWatch | None = None
        self._next: dict[TopicPartition, int] = {}
        """Of each partition of mine, the offset that comes next."""
        self._closed = False

    async def start(self) -> None:
        """Returns when it has joined and knows where it stands.

        Raises Unavailable when that takes too long.
        """
        self._consumer = consumer = await self._make()
        self._watch = FetchWatch(consumer, interval_s=self._timing.fetch_watch_interval_s)
        try:
            with self._brokers.errors():
                async with asyncio.timeout(JOIN_TIMEOUT_S):
                    self._next = {
                        place: await consumer.position(place) for place in consumer.assignment()
                    }
        except BaseException:
            await self._leave()
            raise

    async def poll(self, *, max_records: int = MAX_POLL_RECORDS) -> Sequence[ConsumerRecord]:
        """See `GroupConsumer`. After an error it joins anew: what was not committed comes again."""
        if self._closed:
            raise Unavailable("the log is closed")
        if self._consumer is None:
            await self.start()
        try:
            consumer = self._asked()
            with self._brokers.errors():
                polled = await consumer.getmany(
                    timeout_ms=int(_POLL_TIMEOUT_S * 1000), max_records=max_records
                )
                await self._report_offset_resets(consumer, polled)
            if self._watch is not None:
                self._watch.polled(found=bool(polled))
        except Unavailable:
            await self._leave()
            raise
        if self._closed:
            raise Unavailable("the log is closed")
        return [
            consumer_record_of(self._topic, record)
            for records in polled.values()
            for record in records
        ]

    async def _report_offset_resets(
        self, consumer: AIOKafkaConsumer, polled: Mapping[TopicPartition, Sequence[Any]]
    ) -> None:
        """Aiokafka goes on at the oldest record, or at the end, without a word when retention was
        faster.
        """
        mine = consumer.assignment()
        # What was another's meanwhile, that one has read.
        self._next = {place: offset for place, offset in self._next.items() if place in mine}
        for place, records in polled.items():
            offset, to = self._next.get(place), records[0].offset
            self._next[place] = records[-1].offset + 1
            if (
                offset is not None
                and offset < to
                and offset < (await consumer.beginning_offsets([place]))[place]
            ):
                report_offset_reset(self._topic, place.partition, offset, to, None)

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """See `GroupConsumer`.

        What is said of partitions that others have meanwhile is left out: they have their own
        offsets by now.
        """
        consumer = self._asked()
        mine = consumer.assignment()
        places = {
            TopicPartition(self._name, partition): offset for partition, offset in offsets.items()
        }
        commits = {place: offset for place, offset in places.items() if place in mine}
        # A rebalance has begun that moment: the records come again.
        with (
            self._brokers.errors(),
            suppress(aio_errors.IllegalStateError),
        ):
            if commits:
                async with asyncio.timeout(_COMMIT_TIMEOUT_S):  # else it tries without end
                    await consumer.commit(commits)

    async def close(self) -> None:
        """Leaves the group."""
        self._closed = True
        await self._leave()

    def _asked(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise Unavailable("the group is not joined")
        return self._consumer

    async def _leave(self) -> None:
        (consumer, self._consumer), (watch, self._watch) = (
            (self._consumer, None),
            (self._watch, None),
        )
        if watch is not None:
            await watch.close()
        if consumer is not None:
            with suppress(aio_errors.KafkaError):
                await consumer.stop()
