"""Members of consumer groups: how one joins, and the member that polls and commits.

kafka-python speaks the classic protocol; groups are cooperative, so that a rebalance stops nobody who keeps its partitions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import MemberState, OffsetAndMetadata

from backends.log import Stored
from backends.log.kafka_brokers import REQUEST_MS, Brokers
from backends.log.kafka_thread import BATCH_BYTES, POLL_MS, POLL_RECORDS, ConsumerThread
from schemas.errors import Unavailable

GROUP: Final[Mapping[str, int]] = {
    # A killed member holds its partitions so long.
    "session_timeout_ms": 10_000,
    # A joining member waits as long for partitions to be given up (0.58 s, measured).
    "heartbeat_interval_ms": 500,
    # A member whose thread hangs holds up a rebalance so long.
    "max_poll_interval_ms": 30_000,
    "fetch_max_wait_ms": POLL_MS,
}
"""What members of groups have in common."""
# A group waits up to a session for a member that has died before it lets another in. What is out of it for longer has lost its way.
_JOIN_S: Final = 20.0
_POLL_S: Final = 1.0


class KafkaMember:
    """Implements `Member`."""

    def __init__(self, brokers: Brokers, group: str, topic: str, start: str) -> None:
        self._brokers, self._topic = brokers, topic
        self._make = partial(
            brokers.consumer,
            group_id=brokers.prefix + group,
            auto_offset_reset="earliest" if start == "begin" else "latest",
            partition_assignment_strategy=[CooperativeStickyAssignor()],
            **GROUP,
        )
        self.thread = self._new_thread()

    async def start(self) -> None:
        """Returns when it has joined and knows where it stands. Raises Unavailable when that takes too long."""
        await join(self.thread, self._brokers.place(self._topic, 0), _stands_somewhere)

    async def poll(self, *, max_records: int = POLL_RECORDS) -> Sequence[Stored]:
        """See `Member`. After an error it joins anew: what was not committed comes again."""
        if self.thread.error is not None and not self.thread.closed:
            self.thread = self._new_thread()
            await self.start()
        return await self.thread.next(max_records, BATCH_BYTES, wait_s=_POLL_S)

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """See `Member`. What is said of partitions that others have meanwhile is left out: they have their own offsets by now."""
        await self.thread.do(partial(self._commit, offsets))

    async def close(self) -> None:
        """Leaves the group."""
        await self.thread.close()

    def _new_thread(self) -> ConsumerThread:
        return ConsumerThread(self._make, brokers=self._brokers, topic=self._topic, each_turn=Joined())

    def _commit(self, offsets: Mapping[int, int], consumer: KafkaConsumer) -> None:
        mine = consumer.assignment()
        places = {self._brokers.place(self._topic, partition): offset for partition, offset in offsets.items()}
        commits = {place: OffsetAndMetadata(offset, "", -1) for place, offset in places.items() if place in mine}
        if commits:
            consumer.commit(commits, timeout_ms=REQUEST_MS)


async def join(
    thread: ConsumerThread,
    place: TopicPartition,
    has_joined: Callable[[KafkaConsumer], bool],
    listener: Callable[[KafkaConsumer], ConsumerRebalanceListener] | None = None,
) -> None:
    """Starts the thread as a member of a group on that topic, and returns when it is one. Raises Unavailable when that takes too long."""

    def subscribe(consumer: KafkaConsumer) -> None:
        consumer.subscribe([place.topic], listener=None if listener is None else listener(consumer))
        # Its metadata must be there before it joins: else the group's leader joins twice, and kafka-python 3.0.12 now and then forgets the
        # second time when a poll ends within it: no member, no heartbeats, no error (1 of 60 joins on a busy machine, measured).
        consumer.end_offsets([place], timeout_ms=REQUEST_MS)

    await thread.start(subscribe)
    while not await thread.do(has_joined):  # each answer takes a poll; `Joined` ends it
        pass


class Joined:
    """Raises Unavailable in a thread whose consumer has not been a member of its group for 20 s: another one had better try."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def __call__(self, consumer: KafkaConsumer) -> None:
        """Looks, once a turn."""
        now = time.monotonic()
        if is_stable(consumer):
            self._at = now
        elif now - self._at > _JOIN_S:
            raise Unavailable(f"the group did not take us in within {_JOIN_S:.0f} s")


def is_stable(consumer: KafkaConsumer) -> bool:
    """Whether it is a member, with partitions or without."""
    return bool(consumer.group_metadata().state is MemberState.STABLE)


def _stands_somewhere(consumer: KafkaConsumer) -> bool:
    return is_stable(consumer) and all(consumer.position(place, timeout_ms=REQUEST_MS) is not None for place in consumer.assignment())
