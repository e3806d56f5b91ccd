"""One idempotent producer and the appends under way in it.

`KafkaLog` makes one, and another when it has failed. kafka-python sends in a thread of its own; `send` itself runs on the event loop, since
all it does is to put bytes into a batch (a hop to a thread and back costs more), and confirmations come back one call a batch of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from backends.log.kafka_brokers import Brokers
from schemas.errors import Unavailable

log = logging.getLogger(__name__)

# After this a record is given up, before its append is (10 s): else the next producer would meet it.
_DELIVERY_MS: Final = 9_000
# Most that a call may stand still on the event loop, when a topic has vanished from the producer's metadata since the last call.
_BLOCK_MS: Final = 20
_METADATA_S: Final = 4.0
# Everything that waits on one connection fits into few requests, and no record alone is too large (512 KiB and its headers).
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
        self.error: Exception | None = None


class Producer:
    """Belongs to one event loop. `failed` once an append has: what follows had better go to another one.

    An error leaves an idempotent producer in states that differ from one to the next (a new epoch, a new id, stuck for good). A new one
    costs 20 ms (measured) and is always right.
    """

    def __init__(self, kafka: KafkaProducer, loop: asyncio.AbstractEventLoop) -> None:
        self.failed = False
        self._kafka = kafka
        self._loop = loop
        self._partitions: dict[str, int] = {}
        self._landed: deque[tuple[_Call, int, object]] = deque()
        self._told = False
        self._bytes = 0

    @classmethod
    async def open(cls, brokers: Brokers) -> Producer:
        """Reaches the brokers. Raises Unavailable, and Malformed when a setting is wrong."""
        make = partial(
            brokers.producer,
            linger_ms=0,
            batch_size=_BATCH_BYTES,
            max_request_size=_REQUEST_BYTES,
            delivery_timeout_ms=_DELIVERY_MS,
            max_block_ms=_BLOCK_MS,
        )
        return cls(await asyncio.to_thread(make), asyncio.get_running_loop())

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has. Raises Unavailable when it is not there."""
        if (known := self._partitions.get(topic)) is None:
            known = self._partitions[topic] = await asyncio.to_thread(self._ask, topic)
        return known

    async def send(self, records: Sequence[Prepared]) -> None:
        """Returns when all are confirmed. Raises Unavailable when one is not, or too much waits already."""
        size = sum(_RECORD_BYTES + len(record.value or b"") for record in records)
        if self._bytes + size > IN_FLIGHT_BYTES:
            raise Unavailable("too much waits for Kafka")
        call = _Call(self._loop.create_future(), len(records))
        for number, record in enumerate(records):
            bytes_ = _RECORD_BYTES + len(record.value or b"")
            try:
                sent = self._kafka.send(
                    record.topic, record.value or b"", key=record.key, headers=record.headers, partition=record.partition
                )
            except (kafka_errors.KafkaError, ValueError) as error:
                # ValueError: the metadata has fewer partitions than a moment ago. The topic is looked up anew by the next call.
                self._partitions.pop(record.topic, None)
                call.left -= len(records) - number
                call.error = error
                if not call.left:
                    raise _unavailable(error) from error
                break
            self._bytes += bytes_
            sent.add_both(partial(self._land, call, bytes_))
        await call.future
        if call.error is not None:
            raise _unavailable(call.error) from call.error

    async def close(self) -> None:
        """Waits for what is under way, at most 10 s, then lets go of the connections."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        try:
            self._kafka.close(timeout=_CLOSE_S)
        except kafka_errors.KafkaTimeoutError:
            # Records that wait for a producer id never expire, and `close` gives up before it ends the thread. What it drops here was told
            # to its callers as not confirmed.
            self._kafka._sender.force_close()  # noqa: SLF001 - no other way
            self._kafka.close(timeout=1)

    def _ask(self, topic: str) -> int:
        waited = 0.0
        while True:
            try:
                return len(self._kafka.partitions_for(topic))
            except kafka_errors.KafkaTimeoutError as error:
                waited += _BLOCK_MS / 1000
                if waited >= _METADATA_S:
                    raise Unavailable(f"there is no topic {topic} in Kafka, or it does not answer") from error
            except kafka_errors.KafkaError as error:
                raise _unavailable(error) from error

    # ---- in the producer's thread, or here when it was faster than we ----------------------------------------------------------------

    def _land(self, call: _Call, size: int, outcome: object) -> None:
        self._landed.append((call, size, outcome))
        if not self._told:
            self._told = True
            try:
                self._loop.call_soon_threadsafe(self._take)
            except RuntimeError:  # the loop is closed: nobody waits any more
                log.debug("a confirmation came after the end", extra={"outcome": type(outcome).__name__})

    # ---- on the event loop ---------------------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        self._told = False
        while self._landed:
            call, size, outcome = self._landed.popleft()
            self._bytes -= size
            call.left -= 1
            if isinstance(outcome, Exception):
                call.error = outcome
                self.failed = True
            if not call.left and not call.future.done():
                call.future.set_result(None)


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(f"Kafka did not confirm ({type(error).__name__})")
