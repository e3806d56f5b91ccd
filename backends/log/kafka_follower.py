"""Reads partitions of a topic on Kafka by hand, from given offsets on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Self

from kafka import KafkaConsumer

from backends.log import Stored
from backends.log.kafka_brokers import Brokers
from backends.log.kafka_thread import BATCH_BYTES, POLL_MS, POLL_RECORDS, ConsumerThread
from schemas.errors import Unavailable


class KafkaFollower:
    """Implements `Follower`, and is its own iterator."""

    def __init__(self, brokers: Brokers, topic: str) -> None:
        self._brokers, self._topic = brokers, topic
        # A fetch that waits at the broker delays partitions that are added meanwhile, so it waits no longer than a poll.
        make = partial(brokers.consumer, auto_offset_reset="none", fetch_max_wait_ms=POLL_MS)
        self.thread = ConsumerThread(make, brokers=brokers, topic=topic)

    async def start(self, offsets: Mapping[int, int]) -> None:
        """Connects."""
        self.thread.keep_only(offsets)
        await self.thread.start(partial(self._assign, offsets))

    async def assign(self, offsets: Mapping[int, int]) -> None:
        """See `Follower`. Takes up to 250 ms."""
        self.thread.keep_only(offsets)
        await self.thread.do(partial(self._assign, offsets))

    async def close(self) -> None:
        """Ends it."""
        await self.thread.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[Stored]:
        try:
            return await self.thread.next(POLL_RECORDS, BATCH_BYTES)
        except Unavailable:
            if self.thread.closed:
                raise StopAsyncIteration from None
            raise

    def _assign(self, offsets: Mapping[int, int], consumer: KafkaConsumer) -> None:
        places = {self._brokers.place(self._topic, partition): offset for partition, offset in offsets.items()}
        kept = consumer.assignment()
        consumer.assign(list(places))
        for place in places.keys() - kept:  # before the next poll: without a position it fails
            consumer.seek(place, places[place])
