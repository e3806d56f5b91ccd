"""The log on Apache Kafka: both ports, by aiokafka, and kafka-python for questions.

Knative's gateways append by HTTP instead (`knative`) and read here. Constructing it opens nothing;
connections and threads come with the first use. Belongs to one event loop. Everything about a
client of Kafka lies in this package. Source: design.md D6 to D8, D18.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, TypeVar

from backends.log import Bounds, ConsumerRecord, OnOffsetReset, ProducerRecord
from backends.log.kafka.assignments import KafkaAssignments
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.group_consumer import KafkaGroupConsumer
from backends.log.kafka.partition_consumer import KafkaPartitionConsumer
from backends.log.kafka.producer import Prepared, Producer
from backends.log.kafka.questions import Questions
from backends.log.kafka.reader import Reader
from backends.log.kafka.timing import TIMING, Timing
from schemas.cloudevents import to_kafka
from schemas.errors import Malformed, Unavailable
from schemas.signatures import sign
from schemas.topics import COMMANDS, MAX_RECORD_BYTES, TOPICS, partition_of

log = logging.getLogger(__name__)

PING_TIMEOUT_S: Final = 2.0
_PARTITIONS_TTL_S: Final = 30.0

Result = TypeVar("Result")
Closing = KafkaPartitionConsumer | KafkaGroupConsumer | KafkaAssignments


class KafkaLog:
    """Implements `LogProducer` and `LogReader`."""

    def __init__(
        self, brokers: Brokers, *, event_keys: Sequence[bytes] = (), timing: Timing = TIMING
    ) -> None:
        self._brokers, self._timing = brokers, timing
        self._event_keys = event_keys
        self._closed = False
        self._producer: Producer | None = None
        self._opening: asyncio.Task[Producer] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._appending: set[asyncio.Future[None]] = set()
        self._turn = 0
        self._counts: dict[str, tuple[int, float]] = {}
        self._counting: dict[str, asyncio.Task[str]] = {}
        self._questions = Questions(brokers, "kafka-questions", timing)
        # Of its own: a question that hangs must not make a gateway unready that serves all its
        # users.
        self._probes = Questions(brokers, "kafka-probes", timing)
        self._reading: set[Closing] = set()

    # ---- LogProducer -----------------------------------------------------------------------------

    async def append(
        self, records: Sequence[ProducerRecord], *, then: Sequence[ProducerRecord] = ()
    ) -> None:
        """See `LogProducer`. Events are signed here, under the first of the event keys."""
        for record in (*records, *then):
            if record.topic not in TOPICS:
                raise Malformed(f"there is no topic {record.topic}", field="topic")
            if len(record.event.data) > MAX_RECORD_BYTES:
                raise Malformed(
                    f"a record holds at most {MAX_RECORD_BYTES} bytes of data, not "
                    f"{len(record.event.data)}",
                    field="data",
                )
        if self._closed:
            raise Unavailable("the log is closed")
        under_way = asyncio.get_running_loop().create_future()
        self._appending.add(under_way)
        try:
            async with asyncio.timeout(self._timing.append_timeout_s):
                producer = await self._producing()
                counts = {
                    topic: await producer.partitions(self._brokers.topic(topic))
                    for topic in {record.topic for record in (*records, *then)}
                }
                self._turn += 1
                for record in (*records, *then):
                    if record.partition is not None and record.partition >= counts[record.topic]:
                        await self._has_grown(record.topic, record.partition)
                batches = [
                    [self._prepared(record, counts[record.topic]) for record in part]
                    for part in (records, then)
                    if part
                ]
                for batch in batches:
                    await producer.send(batch)
        except TimeoutError as error:
            if self._producer is not None:
                self._producer.failed = True
            raise Unavailable(
                f"Kafka did not confirm within {self._timing.append_timeout_s:.0f} s"
            ) from error
        finally:
            self._appending.discard(under_way)
            under_way.set_result(None)

    def _prepared(self, record: ProducerRecord, partitions: int) -> Prepared:
        key, headers, value = to_kafka(sign(record.event, record.topic, self._event_keys))
        partition = record.partition
        if partition is None:
            # Without a key all records of a call share a partition, which changes with each call:
            # the fewest batches, and a batch under way in one partition delays no other.
            partition = self._turn % partitions if key is None else partition_of(key, partitions)
        elif not 0 <= partition < partitions:
            raise Malformed(
                f"{record.topic} has the partitions 0 to {partitions - 1}, not {partition}",
                field="partition",
            )
        return Prepared(self._brokers.topic(record.topic), partition, key, headers, value)

    async def _has_grown(self, topic: str, partition: int) -> None:
        """Raises Unavailable when the topic has this partition by now: the next
        producer knows it.
        """
        if partition >= await self.partitions(topic):
            await self.epoch(topic)  # which looks anew
        if partition < await self.partitions(topic):
            if self._producer is not None:
                self._producer.failed = True
            raise Unavailable(f"{topic} has got more partitions")

    async def _producing(self) -> Producer:
        if self._producer is not None and not self._producer.failed:
            return self._producer
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open_producer())
            self._opening.add_done_callback(_seen)
        try:
            return await asyncio.shield(self._opening)
        except Malformed as error:
            raise _as_unavailable(error) from error

    async def _open_producer(self) -> Producer:
        producer = await Producer.open(self._brokers)
        if self._producer is not None:
            log.warning("a new producer replaces one that has failed")
            # What is under way in it may still be confirmed.
            retiring = asyncio.create_task(self._producer.close())
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
        self._producer = producer
        return producer

    # ---- LogReader -------------------------------------------------------------------------------

    async def partitions(self, topic: str) -> int:
        """See `LogReader`.

        As of half a minute ago at most: each event of `send` asks, and the answer changes when a
        topic is recreated.
        """
        _, at = self._counts.get(topic, (0, float("-inf")))
        if time.monotonic() - at > _PARTITIONS_TTL_S:
            counting = self._counting.get(topic)
            if counting is None or counting.done():  # one asks for all
                counting = self._counting[topic] = asyncio.create_task(self.epoch(topic))
                counting.add_done_callback(_seen)
            await asyncio.shield(counting)
        return self._counts[topic][0]

    async def epoch(self, topic: str) -> str:
        """See `LogReader`.

        The id that Kafka gave the topic. Who sees another one by it sees how many partitions there
        are now, too.
        """
        described = await self._ask(lambda reader: reader.describe(topic))
        self._counts[topic] = len(described["partitions"]), time.monotonic()
        return str(described["topic_id"])

    async def bounds(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Bounds]:
        """See `LogReader`."""
        return await self._ask(lambda reader: reader.bounds(topic, partitions))

    async def offsets_at(self, topic: str, at_ms: int) -> Mapping[int, int]:
        """See `LogReader`. By Kafka's own index."""
        partitions = range(await self.partitions(topic))
        return await self._ask(lambda reader: reader.offsets_at(topic, partitions, at_ms))

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int, max_bytes: int = 1 << 20
    ) -> Sequence[ConsumerRecord]:
        """See `LogReader`."""
        return await self._ask(
            lambda reader: reader.read(topic, partition, offset, max_records, max_bytes)
        )

    async def committed(self, group: str, topic: str) -> Mapping[int, int]:
        """See `LogReader`."""
        return await self._ask(lambda reader: reader.committed(group, topic))

    async def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """See `LogReader`."""
        await self._ask(lambda reader: reader.commit(group, topic, offsets))

    @asynccontextmanager
    async def follow(
        self,
        topic: str,
        offsets: Mapping[int, int],
        *,
        on_offset_reset: OnOffsetReset | None = None,
    ) -> AsyncIterator[KafkaPartitionConsumer]:
        """See `LogReader`. The consumer ends, as an iterator does, when the log is closed."""
        consumer = KafkaPartitionConsumer(
            self._brokers, topic, on_offset_reset, timing=self._timing
        )
        async with self._closing(consumer):
            await consumer.start(offsets)
            yield consumer

    @asynccontextmanager
    async def member(
        self, group: str, topic: str, *, start: Literal["begin", "end"] = "begin"
    ) -> AsyncIterator[KafkaGroupConsumer]:
        """See `LogReader`."""
        member = KafkaGroupConsumer(self._brokers, group, topic, start, timing=self._timing)
        async with self._closing(member):
            await member.start()
            yield member

    @asynccontextmanager
    async def join(self, group: str, topic: str, *, member: str) -> AsyncIterator[KafkaAssignments]:
        """See `LogReader`. `member`: A-Za-z0-9, dots, dashes and underscores."""
        assignments = KafkaAssignments(self._brokers, group, topic, member, timing=self._timing)
        async with self._closing(assignments):
            await assignments.start()
            yield assignments

    # ---- both ------------------------------------------------------------------------------------

    async def ping(self) -> None:
        """Raises Unavailable unless Kafka answers within 2 s and each partition of chat-commands
        has a leader.

        Malformed when a setting is wrong. To appends and questions that is Unavailable, as
        `_as_unavailable` says.
        """
        if self._closed:
            raise Unavailable("the log is closed")
        topic = await self._probes.ask(
            lambda reader: reader.describe(COMMANDS), timeout_s=PING_TIMEOUT_S
        )
        if any(partition["leader_id"] < 0 for partition in topic["partitions"]):
            raise Unavailable(f"a partition of {COMMANDS} has no leader")

    async def close(self) -> None:
        """Waits for appends under way (at most 10 s), ends consumers, then closes connections and
        threads.
        """
        self._closed = True
        if self._appending:
            await asyncio.wait(set(self._appending), timeout=self._timing.append_timeout_s)
        await asyncio.gather(*[reading.close() for reading in self._reading])
        if self._opening is not None:
            await asyncio.wait([self._opening])
        if self._producer is not None:
            await self._producer.close()
            self._producer = None
        if self._retiring:
            await asyncio.wait(self._retiring)
        await asyncio.gather(self._questions.close(), self._probes.close())

    @asynccontextmanager
    async def _closing(self, reading: Closing) -> AsyncIterator[None]:
        if self._closed:
            raise Unavailable("the log is closed")
        self._reading.add(reading)
        try:
            yield
        finally:
            self._reading.discard(reading)
            await reading.close()

    async def _ask(self, question: Callable[[Reader], Result]) -> Result:
        try:
            return await self._questions.ask(question)
        except Malformed as error:
            raise _as_unavailable(error) from error


def _as_unavailable(wrong_setting: Malformed) -> Unavailable:
    """To who works on an event, Malformed would mean that the event can never be right: it would be
    dead-lettered for our setting.
    """
    return Unavailable(wrong_setting.message)


def _seen(task: asyncio.Task[Any]) -> None:
    """Those who waited have its error, if they are still there."""
    if not task.cancelled():
        task.exception()
