"""One idempotent producer and the appends under way in it.

`KafkaLog` makes one, and another when it has failed. aiokafka works on the event loop itself: a
record costs it a third of what it costs kafka-python, whose thread and ours take the interpreter
from each other for every batch (decisions/0006).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors

from backends.log.kafka.brokers import Brokers
from schemas.errors import ChatError, Malformed, Unavailable

# No record is too large: 512 KiB and its headers.
_REQUEST_BYTES: Final = 2**20
_BATCH_BYTES: Final = 64 * 1024
IN_FLIGHT_BYTES: Final = 32 * 2**20
"""What may wait for confirmation in all."""
# What a record costs beside its bytes.
_RECORD_BYTES: Final = 512
_CLOSE_S: Final = 10.0


class Prepared(NamedTuple):
    """One record as Kafka takes it."""

    topic: str
    partition: int
    key: bytes | None
    headers: list[tuple[str, bytes]]
    value: bytes | None


class _Call:
    """Records that were sent together."""

    __slots__ = ("error", "future", "left")

    def __init__(self, future: asyncio.Future[None], left: int) -> None:
        self.future = future
        self.left = left
        self.error: BaseException | None = None


class Producer:
    """Belongs to one event loop.

    `failed` once an append has: what follows had better go to another one. aiokafka sends a batch
    again until the brokers have answered, with the same number, so nothing is written twice or out
    of order; it is who waits that gives up, after the 10 s of an append.
    """

    def __init__(self, kafka: AIOKafkaProducer) -> None:
        self.failed = False
        self._kafka = kafka
        self._bytes = 0

    @classmethod
    async def open(cls, brokers: Brokers) -> Producer:
        """Reaches the brokers. Raises Unavailable, and Malformed when a setting is wrong."""
        return cls(
            await brokers.producer(
                linger_ms=0, max_batch_size=_BATCH_BYTES, max_request_size=_REQUEST_BYTES
            )
        )

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has. Raises Unavailable when it is not there."""
        try:
            return len(await self._kafka.partitions_for(topic))
        except kafka_errors.UnknownTopicOrPartitionError as error:
            raise Unavailable(
                f"there is no topic {topic} in Kafka, or it does not answer"
            ) from error
        except kafka_errors.KafkaError as error:
            raise _ours(error) from error

    async def send(self, records: Sequence[Prepared]) -> None:
        """Returns when all are confirmed.

        Raises Unavailable when one is not, or too much waits already; Malformed for one too large.
        """
        sizes = [_RECORD_BYTES + len(record.value or b"") for record in records]
        if self._bytes + sum(sizes) > IN_FLIGHT_BYTES:
            raise Unavailable("too much waits for Kafka")
        call = _Call(asyncio.get_running_loop().create_future(), len(records))
        self._bytes += sum(sizes)
        for number, (record, size) in enumerate(zip(records, sizes, strict=True)):
            try:  # it waits while its partition has a full batch under way
                sent = await self._kafka.send(
                    record.topic,
                    record.value or b"",
                    key=record.key,
                    headers=record.headers,
                    partition=record.partition,
                )
            except BaseException as error:
                self._bytes -= sum(sizes[number:])
                call.left -= len(records) - number
                # AssertionError: the metadata has fewer partitions than a moment ago.
                if not isinstance(error, (kafka_errors.KafkaError, AssertionError)):
                    raise
                call.error = error
                if not call.left:
                    raise _ours(error) from error
                break
            sent.add_done_callback(partial(self._on_sent, call, size))
        await call.future
        if call.error is not None:
            raise _ours(call.error) from call.error

    def _on_sent(self, call: _Call, size: int, sent: asyncio.Future[object]) -> None:
        self._bytes -= size
        call.left -= 1
        error = kafka_errors.ProducerClosed() if sent.cancelled() else sent.exception()
        if error is not None:
            call.error = error
            self.failed = True
        if not call.left and not call.future.done():
            call.future.set_result(None)

    async def close(self) -> None:
        """Waits for what is under way, at most 10 s, then closes the connections."""
        stopping = asyncio.create_task(self._kafka.stop())
        await asyncio.wait([stopping], timeout=_CLOSE_S)
        if not stopping.done():
            self._give_up()
        with suppress(kafka_errors.KafkaError, asyncio.CancelledError):
            await stopping

    def _give_up(self) -> None:
        """Ends what is under way, since aiokafka never does: its callers were told that it is not
        confirmed.
        """
        waiting = self._kafka._message_accumulator  # noqa: SLF001 - no other way
        waiting.fail_all(kafka_errors.ProducerClosed())
        for batch in chain.from_iterable(waiting._batches.values()):  # noqa: SLF001 - see above
            # Else asyncio logs an exception never retrieved.
            if batch._drain_waiter.done():  # noqa: SLF001
                batch._drain_waiter.exception()  # noqa: SLF001 - see above


def _ours(error: BaseException) -> ChatError:
    """Malformed for what the brokers never take: their max.message.bytes is less than ours.

    All else is in doubt.
    """
    if isinstance(
        error, kafka_errors.MessageSizeTooLargeError | kafka_errors.RecordListTooLargeError
    ):
        return Malformed(
            "the record is larger than Kafka allows (max.message.bytes): `kn-chat topics check`",
            code="too_large",
        )
    return Unavailable(f"Kafka did not confirm ({type(error).__name__})")
