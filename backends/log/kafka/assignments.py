"""A member of a consumer group that is assigned partitions and reads nothing.

A static member, by its name: a process that comes back under the name has its partitions back
without a rebalance. All partitions are paused, so nothing is fetched. What Kafka and kafka-python
do in each case was measured; the comments name it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from functools import partial
from typing import Final, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import MemberToRemove
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from backends.log import Evicted
from backends.log.kafka.brokers import Brokers, retry_while_moving
from backends.log.kafka.consumer_thread import ConsumerThread
from backends.log.kafka.membership import GROUP, Joined, is_stable, join
from backends.log.kafka.timing import TIMING, Timing
from schemas.errors import ChatError, Unavailable

log = logging.getLogger(__name__)

# A heartbeat comes every 0.5 s; when none came for so long, the group is asked who has our place.
_HEARTBEAT_TIMEOUT_S: Final = 3.0
_LEAVE_TIMEOUT_S: Final = 2.0


class KafkaAssignments:
    """Implements `Assignments`, and is its own iterator."""

    def __init__(
        self, brokers: Brokers, group: str, topic: str, member: str, *, timing: Timing = TIMING
    ) -> None:
        self._timing = timing
        self._brokers, self._topic, self._member = brokers, topic, member
        self._group = brokers.prefix + group
        self._assignor = CooperativeStickyAssignor()
        self._joined = Joined()
        self._id = ""
        self._left = False
        self._asked_at = time.monotonic()
        self._mine: frozenset[int] = frozenset()
        self._reported: frozenset[int] | None = None
        self._published: frozenset[int] = frozenset()
        self._news = asyncio.Event()
        make = partial(
            brokers.blocking_consumer,
            group_id=self._group,
            group_instance_id=member,
            auto_offset_reset="none",
            partition_assignment_strategy=[self._assignor],
            metrics_enabled=True,  # the age of the last heartbeat
            **GROUP,
        )
        self._thread = ConsumerThread(
            make,
            brokers=brokers,
            topic=topic,
            each_turn=self._look,
            ended=self._news.set,
            end_timeout_s=timing.thread_end_timeout_s,
        )

    async def start(self) -> None:
        """Joins the group. Raises Unavailable when that takes too long."""
        place = self._brokers.place(self._topic, 0)
        await join(
            self._thread, place, self._publish, lambda consumer: _Listener(consumer, self._assignor)
        )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> frozenset[int]:
        while (
            self._thread.error is None and not self._thread.closed and self._reported == self._mine
        ):
            self._news.clear()
            try:
                async with asyncio.timeout(self._timing.assignments_check_interval_s):
                    await self._news.wait()
            except TimeoutError:
                self._thread.check()
        if self._thread.closed:
            raise StopAsyncIteration
        if self._thread.error is not None:
            raise self._thread.error
        self._reported = self._mine
        return self._mine

    async def close(self) -> None:
        """Leaves the group, so that the others take over at once.

        An unavailable broker finds out by itself, 10 s later.
        """
        await self._thread.close()
        if self._thread.error is not None or self._left:
            return  # the place is another's, or ours when we come back
        self._left = True
        try:
            async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                await asyncio.to_thread(self._leave)
        except (ChatError, TimeoutError) as error:
            log.info(
                "the group was not told that we leave",
                extra={"group": self._group, "reason": str(error)},
            )

    def _set_assignment(self, mine: frozenset[int]) -> None:
        self._mine = mine
        self._news.set()

    # ---- in threads ------------------------------------------------------------------------------

    def _leave(self) -> None:
        # The close of a static member is not announced: its partitions would have no owner for 10 s
        # (measured).
        with self._brokers.errors():
            admin = self._brokers.admin()
            try:
                # With the id: a process that has our name meanwhile keeps its place.
                admin.remove_group_members(self._group, [MemberToRemove(self._id, self._member)])
            finally:
                admin.close()

    def _publish(self, consumer: KafkaConsumer) -> bool:
        """Tells the loop what is ours, unless a rebalance is under way: then it stays as it was.

        Says whether it did.
        """
        if not is_stable(consumer):
            return False
        self._id = consumer.group_metadata().member_id
        mine = frozenset(place.partition for place in consumer.assignment())
        if mine != self._published:
            self._published = mine
            self._thread.call_soon(self._set_assignment, mine)
        return True

    def _look(self, consumer: KafkaConsumer) -> None:
        """Publishes, and raises Evicted when another process has our name in the group.

        kafka-python stops its heartbeats then and says nothing (measured). So does a log that is
        unavailable, which answers no question either.
        """
        self._joined(consumer)
        now = time.monotonic()
        if not self._publish(consumer) or now - self._asked_at < _HEARTBEAT_TIMEOUT_S:
            return
        self._asked_at = now
        if (
            consumer.metrics()["consumer-coordinator-metrics"]["last-heartbeat-seconds-ago"]
            < _HEARTBEAT_TIMEOUT_S
        ):
            return
        try:
            with self._brokers.errors():
                admin = self._brokers.admin()
                try:
                    groups = retry_while_moving(
                        lambda: admin.describe_groups([self._group]), within_s=_LEAVE_TIMEOUT_S
                    )
                finally:
                    admin.close()
        except Unavailable:
            return
        for member in groups[self._group]["members"]:
            if member["group_instance_id"] == self._member and member["member_id"] != self._id:
                raise Evicted(f"another process is {self._member} in the group {self._group}")


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # the library has no types
    """Runs on the client's own thread, which must not wait: it beats the heart too."""

    def __init__(self, consumer: KafkaConsumer, assignor: CooperativeStickyAssignor) -> None:
        self._consumer, self._assignor = consumer, assignor

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Nothing is fetched. A partition without a position would fail every poll."""
        for place in assigned:
            self._consumer.seek(place, 0)
        self._consumer.pause(*assigned)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """What is left is seen when the group is stable again."""

    # The library's signature.
    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:  # noqa: ARG002
        """This process was stalled for a session.

        Else the assignor claims its old partitions, and all are reshuffled (measured).
        """
        self._assignor.member_assignment = None
