"""Reads given partitions of a topic on Kafka, from given offsets on."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as aio_errors

from backends.log import ConsumerRecord, OnOffsetReset
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.fetch_watch import FetchWatch
from backends.log.kafka.records import (
    MAX_BATCH_BYTES,
    MAX_POLL_RECORDS,
    POLL_TIMEOUT_MS,
    bytes_of,
    consumer_record_of,
)
from backends.log.kafka.timing import TIMING, Timing
from backends.log.offset_resets import report_offset_reset
from schemas.errors import Unavailable


class KafkaPartitionConsumer:
    """Implements `PartitionConsumer`, and is its own iterator."""

    def __init__(
        self,
        brokers: Brokers,
        topic: str,
        on_offset_reset: OnOffsetReset | None = None,
        *,
        timing: Timing = TIMING,
    ) -> None:
        self._timing = timing
        self._brokers, self._topic, self._name = brokers, topic, brokers.topic(topic)
        self._on_offset_reset = on_offset_reset
        self._consumer: AIOKafkaConsumer | None = None
        self._watch: FetchWatch | None = None
        # Of each partition that is followed, the offset to take next.
        self._next: dict[int, int] = {}
        self._taken: deque[ConsumerRecord] = deque()
        self._closed = False

    async def start(self, offsets: Mapping[int, int]) -> None:
        """Connects."""
        # A fetch that waits at the broker delays partitions that are added meanwhile, so it waits
        # no longer than a poll.
        self._consumer = await self._brokers.consumer(
            auto_offset_reset="none", fetch_max_wait_ms=POLL_TIMEOUT_MS
        )
        self._watch = FetchWatch(self._consumer, interval_s=self._timing.fetch_watch_interval_s)
        await self.assign(offsets)

    async def assign(self, offsets: Mapping[int, int]) -> None:
        """See `PartitionConsumer`."""
        self._next = {
            partition: self._next.get(partition, offset) for partition, offset in offsets.items()
        }
        self._taken = deque(stored for stored in self._taken if stored.partition in self._next)
        if self._consumer is not None:
            places = {
                TopicPartition(self._name, partition): offset
                for partition, offset in self._next.items()
            }
            self._consumer.assign(list(places))
            for place, offset in places.items():  # it has forgotten where it was
                self._consumer.seek(place, offset)

    async def close(self) -> None:
        """Ends it, and the iteration over its batches."""
        self._closed = True
        if self._watch is not None:
            await self._watch.close()
        if self._consumer is not None:
            await self._consumer.stop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[ConsumerRecord]:
        while not self._taken:
            if self._closed or self._consumer is None:
                raise StopAsyncIteration
            with self._brokers.errors():
                await self._take(self._consumer)
        batch = [self._taken.popleft()]
        left = MAX_BATCH_BYTES - bytes_of(batch[0])
        while self._taken and (left := left - bytes_of(self._taken[0])) >= 0:
            batch.append(self._taken.popleft())
        return batch

    async def _take(self, consumer: AIOKafkaConsumer) -> None:
        try:
            polled = await consumer.getmany(
                timeout_ms=POLL_TIMEOUT_MS, max_records=MAX_POLL_RECORDS
            )
        except aio_errors.ConsumerStoppedError:
            return
        except aio_errors.OffsetOutOfRangeError as error:
            await self._go_to_the_oldest(consumer, error)
            return
        if self._watch is not None:
            self._watch.polled(found=bool(polled))
        for place, records in polled.items():
            self._next[place.partition] = records[-1].offset + 1
            self._taken += [consumer_record_of(self._topic, record) for record in records]

    async def _go_to_the_oldest(
        self, consumer: AIOKafkaConsumer, error: aio_errors.OffsetOutOfRangeError
    ) -> None:
        """Retention was faster than the reader.

        Raises Unavailable when its offset lies beyond the end: then it is not the same log.
        """
        for place, offset in error.args[0].items():
            begin = (await consumer.beginning_offsets([place]))[place]
            if offset > begin:
                raise Unavailable(
                    f"{place.topic} ends before {offset}: the topic was recreated"
                ) from error
            if place.partition in self._next:
                self._next[place.partition] = begin
                consumer.seek(place, begin)
                report_offset_reset(
                    self._topic, place.partition, offset, begin, self._on_offset_reset
                )
