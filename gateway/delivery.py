"""What comes out of the log: deliveries into the ring and to everybody they are for, answers to those who asked.

Started by `server`, once; it fills the ring by reading back, then follows for ever. What a delivery says is not known here.
Source: design.md D9 and section 2.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from google.protobuf.message import DecodeError

from backends.log import Bounds, Reads, Stored
from backends.telemetry import count, gauge
from gateway.hub import Hub
from gateway.minting import Minting
from schemas import chat_pb2 as pb
from schemas import wire
from schemas.deliveries import answer_of
from schemas.errors import Malformed, Unavailable
from schemas.topics import ANSWERS_GIVEN, DELIVERIES, DELIVERIES_MADE, SESSION_DELIVERIES, EventType

if TYPE_CHECKING:
    from google.protobuf.message import Message

log = logging.getLogger(__name__)

Payload = TypeVar("Payload", bound="Message")

AGAIN_S: Final = 1.0
# Records that are pushed in one turn of the event loop: about 2 ms, so that frames and acknowledgements never wait long behind a burst.
IN_ONE_TURN: Final = 64
# How many records are read back at once: the first guess, and the bytes that the next guesses aim at.
BACK_RECORDS: Final = 128
BACK_BYTES: Final = 2**20


class Delivery:
    """The reading side of one gateway. Belongs to one event loop; `clock` is the wall clock in seconds."""

    def __init__(
        self,
        reads: Reads,
        hub: Hub,
        minting: Minting,
        lost: Callable[[int, str], None],
        *,
        partitions: Sequence[int],
        ring_bytes: int,
        ring_s: int,
        token_s: int,
        clock: Callable[[], float],
    ) -> None:
        self._reads = reads
        self._hub = hub
        self._minting = minting
        self._lost = lost
        self._partitions = partitions
        self._ring_bytes = ring_bytes
        self._ring_s = ring_s
        self._token_s = token_s
        self._clock = clock
        self._read_back_to: dict[int, int] = {}
        self._bounds: Mapping[int, Bounds] = {}
        self._answers: dict[int, int] = {}

    async def fill(self) -> None:
        """Reads the ring back: as far as its time and its bytes go. Raises Unavailable; may then be called again."""
        self._answers = {number: bounds.end for number, bounds in (await self._bounds_of(SESSION_DELIVERIES)).items()}
        self._bounds = await self._bounds_of(DELIVERIES)
        self._hub.epoch = await self._reads.epoch(DELIVERIES)
        left_bytes, left = self._ring_bytes, len(self._bounds)
        since_ms = self._ago_ms(self._ring_s)
        # The partitions that hold least come first: what they leave over is the others'.
        for partition, bounds in sorted(self._bounds.items(), key=lambda item: item[1].end - item[1].begin):
            records: deque[_Record] = deque()
            size, begin = 0, bounds.end
            async for start, chunk in self._back(partition, bounds.begin, bounds.end):
                begin = start
                records.extendleft(reversed(chunk))
                size += sum(len(record.data) for record in chunk)
                if size >= left_bytes / left or (chunk and chunk[0].at_ms < since_ms):
                    break
            self._hub.ring.open(partition, begin)
            self._read_back_to[partition] = begin
            await self._deliver(records)
            self._hub.ring.reached(partition, bounds.end)
            left_bytes, left = left_bytes - size, left - 1
        log.info("ring filled", extra={"bytes": self._hub.ring.bytes, "partitions": len(self._bounds)})

    async def find_revocations(self) -> None:
        """Reads on from where the ring begins, for devices that were logged out while tokens lived that still live. Raises Unavailable."""
        since_ms = self._ago_ms(self._token_s)
        for partition, until in self._read_back_to.items():
            async for _, chunk in self._back(partition, self._bounds[partition].begin, until):
                for record in chunk:
                    self._hub.revoke_all(_parse(record.data, pb.Deliveries).deliveries, record.at_ms)
                if chunk and chunk[0].at_ms < since_ms:
                    break

    async def follow_deliveries(self) -> None:
        """Pushes for ever what comes. While the log is away everybody waits; then it goes on where it stopped."""
        while True:
            try:
                async with self._reads.follow(DELIVERIES, self._hub.ring.ends) as follower:
                    async for batch in follower:
                        await self._deliver([_Record.of(stored, DELIVERIES_MADE) for stored in batch])
            except Unavailable as error:
                await _pause(DELIVERIES, error)

    async def follow_answers(self) -> None:
        """Gives for ever each answer to the session that waits for it."""
        while True:
            try:
                async with self._reads.follow(SESSION_DELIVERIES, self._answers) as follower:
                    async for batch in follower:
                        for stored in batch:
                            self._answer(stored)
            except Unavailable as error:
                await _pause(SESSION_DELIVERIES, error)

    # ---- what was read -------------------------------------------------------------------------------------------------------------------

    async def _deliver(self, records: Iterable[_Record]) -> None:
        ahead = 0
        for number, record in enumerate(records, start=1):
            deliveries = _parse(record.data, pb.Deliveries).deliveries
            for delivery in deliveries:
                # Before anybody is told: a reply may come before the next record does. One by one: a wrong id must not hide the others.
                if not self._minting.advance(delivery.message.id):
                    ahead = delivery.message.id
                if delivery.HasField("lost"):
                    # Also when the ring is filled: the gateway that was told may have died before the cache was.
                    for user in delivery.users:
                        self._lost(user, delivery.lost.key)
            self._hub.deliver(record.partition, record.offset, record.at_ms, deliveries)
            if number % IN_ONE_TURN == 0:
                await asyncio.sleep(0)
        if ahead:
            count("knchat_ids_ahead_total", where="deliveries")
            log.warning("an id lies in the future, its clock is wrong", extra={"id": ahead})
        gauge("knchat_ring_bytes", self._hub.ring.bytes)

    def _answer(self, stored: Stored) -> None:
        self._answers[stored.partition] = stored.offset + 1
        for answer in _parse(_Record.of(stored, ANSWERS_GIVEN).data, pb.Answers).answers:
            if self._hub.expects(answer.session) and (frame := answer_of(answer)) is not None:
                self._hub.answer(answer, frame)

    # ---- reading back --------------------------------------------------------------------------------------------------------------------

    async def _bounds_of(self, topic: str) -> Mapping[int, Bounds]:
        return await self._reads.bounds(topic, self._partitions)

    async def _back(self, partition: int, begin: int, until: int) -> AsyncIterator[tuple[int, list[_Record]]]:
        """Chunks of records, the newest chunk first, each oldest first, with the offset where it starts."""
        step = BACK_RECORDS
        while until > begin:
            start = max(begin, until - step)
            chunk: list[_Record] = []
            offset = start
            while offset < until:
                found = await self._reads.read(DELIVERIES, partition, offset, max_records=until - offset)
                chunk += [_Record.of(stored, DELIVERIES_MADE) for stored in found if stored.offset < until]
                offset = found[-1].offset + 1 if found else until
            yield start, chunk
            step = min(2 * step, 8 * BACK_RECORDS) if sum(len(record.data) for record in chunk) < BACK_BYTES else max(step // 2, 1)
            until = start

    def _ago_ms(self, seconds: int) -> int:
        return int((self._clock() - seconds) * 1_000)


async def _pause(topic: str, error: Unavailable) -> None:
    count("knchat_read_failures_total", topic=topic)
    log.warning("the log cannot be read, again in a moment", extra={"topic": topic, "error": error.message})
    await asyncio.sleep(AGAIN_S * random.uniform(0.5, 1.0))  # noqa: S311 - jitter


class _Record(NamedTuple):
    """What is kept of a record while it waits. `data` is empty where it is nothing of ours."""

    partition: int
    offset: int
    at_ms: int
    data: bytes

    @classmethod
    def of(cls, stored: Stored, event_type: EventType) -> _Record:
        data = stored.value or b""
        # Reading the attributes costs 7 us, and all but one are for others.
        if ("ce_type", event_type.type.encode()) not in stored.headers or not data.startswith(wire.MARK):
            data = _data_of(stored, event_type)
        return cls(stored.partition, stored.offset, stored.at_ms, data)


def _data_of(stored: Stored, event_type: EventType) -> bytes:
    """The data of a record in another form than ours; empty, and counted, when it is something else: nobody can be told of it."""
    reason = "type"
    try:
        event = wire.from_kafka(stored.headers, stored.value)
        if event.type == event_type.type and event.data.startswith(wire.MARK):
            return event.data
    except Malformed as error:
        reason = error.field or "event"
    count("knchat_records_skipped_total", topic=stored.topic)
    log.warning("record skipped", extra={"topic": stored.topic, "partition": stored.partition, "offset": stored.offset, "reason": reason})
    return b""


def _parse(data: bytes, message: type[Payload]) -> Payload:
    """The message; an empty one, counted, when the data are damaged."""
    try:
        return message.FromString(data)
    except DecodeError:
        count("knchat_records_skipped_total", topic=message.DESCRIPTOR.name)
        return message()
