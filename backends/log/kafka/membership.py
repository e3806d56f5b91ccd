"""Joining a consumer group and staying in it, by kafka-python: it has cooperative groups, in which
a rebalance stops no member.

It speaks the classic protocol. Members that read, which have no such need, are in
`group_consumer.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.structs import MemberState

from backends.log.kafka.brokers import REQUEST_TIMEOUT_MS
from backends.log.kafka.consumer_thread import ConsumerThread
from backends.log.kafka.records import (
    HEARTBEAT_INTERVAL_MS,
    JOIN_TIMEOUT_S,
    POLL_TIMEOUT_MS,
    SESSION_TIMEOUT_MS,
)
from schemas.errors import Unavailable

GROUP: Final[Mapping[str, int]] = {
    "session_timeout_ms": SESSION_TIMEOUT_MS,
    "heartbeat_interval_ms": HEARTBEAT_INTERVAL_MS,
    # A member whose thread hangs holds up a rebalance so long.
    "max_poll_interval_ms": 30_000,
    "fetch_max_wait_ms": POLL_TIMEOUT_MS,
}
"""What kafka-python's members of groups have in common."""


async def join(
    thread: ConsumerThread,
    place: TopicPartition,
    has_joined: Callable[[KafkaConsumer], bool],
    listener: Callable[[KafkaConsumer], ConsumerRebalanceListener] | None = None,
) -> None:
    """Starts the thread as a member of a group on that topic, and returns when it is one.

    Raises Unavailable when that takes too long.
    """

    def subscribe(consumer: KafkaConsumer) -> None:
        consumer.subscribe([place.topic], listener=None if listener is None else listener(consumer))
        # Its metadata must be there before it joins: else the group's leader joins twice, and
        # kafka-python 3.0.12 now and then forgets the second time when a poll ends within it: no
        # member, no heartbeats, no error (1 of 60 joins on a busy machine, measured).
        consumer.end_offsets([place], timeout_ms=REQUEST_TIMEOUT_MS)

    await thread.start(subscribe)
    while not await thread.do(has_joined):  # each answer takes a poll; `Joined` ends it
        pass


class Joined:
    """Raises Unavailable in a thread whose consumer has not been a member of its group for 20 s:
    another one had better try.
    """

    def __init__(self) -> None:
        self._at = time.monotonic()

    def __call__(self, consumer: KafkaConsumer) -> None:
        """Looks, once a turn."""
        now = time.monotonic()
        if is_stable(consumer):
            self._at = now
        elif now - self._at > JOIN_TIMEOUT_S:
            raise Unavailable(f"the group did not take us in within {JOIN_TIMEOUT_S:.0f} s")


def is_stable(consumer: KafkaConsumer) -> bool:
    """Whether it is a member, with partitions or without."""
    return bool(consumer.group_metadata().state is MemberState.STABLE)
