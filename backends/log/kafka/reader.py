"""What is asked of Kafka once: what topics, partitions and groups hold, and records of the past.

Blocks; `KafkaLog` runs it in one thread. Both clients are made at the first question and again
after any that failed, since a client that has lost its way may not find it back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from backends.log import Bounds, ConsumerRecord
from backends.log.kafka.brokers import REQUEST_TIMEOUT_MS, Brokers, retry_while_moving
from backends.log.kafka.records import bytes_of, consumer_record_of
from schemas.errors import Unavailable

Result = TypeVar("Result")

_TIMEOUT_S: Final = 5.0
# With it a fetch at the end of a partition would hold up the next read; there is one only when a
# read asks for more than there is.
_FETCH_TIMEOUT_MS: Final = 10
# Once more is fetched ahead than is asked for.
_MAX_FETCH_BYTES: Final = 256 * 1024


class Reader:
    """Used by one thread at a time."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._admin: KafkaAdminClient | None = None
        self._consumer: KafkaConsumer | None = None

    def ask(self, question: Callable[[], Result]) -> Result:
        """The answer, for which it waits up to 5 s while leaders move.

        Raises Unavailable, and Malformed when a setting is wrong.
        """
        try:
            with self._brokers.errors():
                return retry_while_moving(question, within_s=_TIMEOUT_S)
        except Exception:
            self.close()
            raise

    def describe(self, topic: str) -> Mapping[str, Any]:
        """Kafka's description: `topic_id`, and `partitions` with `leader_id`.

        Raises Unavailable when there is no such topic.
        """
        (described,) = self._asked_admin().describe_topics([self._brokers.topic(topic)])
        error = kafka_errors.for_code(described["error_code"])
        # kafka-python would have us ask again: it may be made in a moment.
        if error is kafka_errors.UnknownTopicOrPartitionError:
            raise Unavailable(
                f"there is no topic {topic} in Kafka: `kn-chat topics create` makes it"
            )
        if error is not kafka_errors.NoError:
            raise error
        return dict(described)

    def bounds(self, topic: str, partitions: Sequence[int]) -> dict[int, Bounds]:
        """What each partition holds now."""
        places = [self._brokers.place(topic, partition) for partition in partitions]
        if not places:
            return {}
        consumer = self._asked_consumer()
        try:
            begins = consumer.beginning_offsets(places, timeout_ms=REQUEST_TIMEOUT_MS)
            ends = consumer.end_offsets(places, timeout_ms=REQUEST_TIMEOUT_MS)
        except kafka_errors.KafkaTimeoutError:
            self.describe(topic)  # says so when it is missing
            raise
        return {place.partition: Bounds(begins[place], ends[place]) for place in places}

    def offsets_at(self, topic: str, partitions: Sequence[int], at_ms: int) -> dict[int, int]:
        """Partition -> the first offset from that time on, else the end."""
        places = [self._brokers.place(topic, partition) for partition in partitions]
        consumer = self._asked_consumer()
        found = consumer.offsets_for_times(
            dict.fromkeys(places, max(at_ms, 0)), timeout_ms=REQUEST_TIMEOUT_MS
        )
        ends = consumer.end_offsets(places, timeout_ms=REQUEST_TIMEOUT_MS)
        return {
            place.partition: ends[place] if found.get(place) is None else found[place].offset
            for place in places
        }

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Partition -> committed offset."""
        name, group = self._brokers.topic(topic), self._brokers.prefix + group
        offsets = self._asked_admin().list_group_offsets({group: None})[group]
        return {
            place.partition: held.offset
            for place, held in offsets.items()
            if place.topic == name and held.offset >= 0
        }

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Sets a group's offsets. Raises Unavailable when it has members."""
        places = {
            self._brokers.place(topic, partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in offsets.items()
        }
        for error in (
            self._asked_admin().alter_group_offsets(self._brokers.prefix + group, places).values()
        ):
            if error is kafka_errors.UnknownMemberIdError:
                raise Unavailable(f"group {group} has a member on {topic}: its own commits count")
            if error is not kafka_errors.NoError:
                raise error

    def read(
        self, topic: str, partition: int, offset: int, max_records: int, max_bytes: int
    ) -> list[ConsumerRecord]:
        """Records from `offset` on, at least one if there is one, up to the end as it is now."""
        place = self._brokers.place(topic, partition)
        consumer = self._asked_consumer()
        (begin,) = consumer.beginning_offsets([place], timeout_ms=REQUEST_TIMEOUT_MS).values()
        (end,) = consumer.end_offsets([place], timeout_ms=REQUEST_TIMEOUT_MS).values()
        position = max(offset, begin)
        if position >= end:
            return []
        found: list[ConsumerRecord] = []
        until = time.monotonic() + _TIMEOUT_S
        with _assigned(consumer, place, position):
            while position < end and len(found) < max_records:
                polled = consumer.poll(timeout_ms=100, max_records=max_records - len(found)).get(
                    place, ()
                )
                for record in polled:
                    stored = consumer_record_of(topic, record)
                    max_bytes -= bytes_of(stored)
                    if found and max_bytes < 0:
                        return found
                    found.append(stored)
                    position = stored.offset + 1
                if not polled:
                    # At the end may lie what is no record: the mark of a transaction. Only the
                    # consumer knows that it is behind it.
                    position = consumer.position(place)
                    if position < end and time.monotonic() > until:
                        raise Unavailable(f"{topic} {partition} cannot be read at {position}")
        return found

    def close(self) -> None:
        """Closes the connections. May be used again."""
        for client in (self._admin, self._consumer):
            if client is not None:
                client.close()
        self._admin = self._consumer = None

    def _asked_admin(self) -> KafkaAdminClient:
        if self._admin is None:
            self._admin = self._brokers.admin()
        return self._admin

    def _asked_consumer(self) -> KafkaConsumer:
        if self._consumer is None:
            self._consumer = self._brokers.blocking_consumer(
                auto_offset_reset="none",
                fetch_max_wait_ms=_FETCH_TIMEOUT_MS,
                max_partition_fetch_bytes=_MAX_FETCH_BYTES,
            )
        return self._consumer


@contextmanager
def _assigned(consumer: KafkaConsumer, place: TopicPartition, offset: int) -> Iterator[None]:
    """Reads there meanwhile.

    What it kept, its thread would go on to fetch in vain: a fifth of a gateway's CPU (measured).
    """
    consumer.assign([place])
    try:
        consumer.seek(place, offset)
        yield
    finally:
        consumer.unsubscribe()
