"""What comes out of the log: deliveries into the replay buffer and to the sessions of their users,
answers to the sessions that asked.

`assignment` opens and drops partitions: one that is opened is filled by reading back, then
followed. What a delivery says is not known here. Source: design.md D9 and section 2.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from backends.clock import Clock
from backends.concurrency import jittered
from backends.log import Bounds, ConsumerRecord, LogReader, PartitionConsumer
from backends.telemetry.metrics import count, gauge
from gateway.deliveries.past import PastLogOuts, read_back
from gateway.deliveries.records import ReceivedRecord, parse
from gateway.publishing.message_ids import MessageIds
from gateway.sessions import close
from gateway.sessions.feed import Feed
from gateway.sessions.hub import Hub
from gateway.sessions.revocations import Revocations
from schemas import chat_pb2 as pb
from schemas.deliveries import answer_of, pushed_id
from schemas.errors import Unavailable
from schemas.topics import ANSWERS_GIVEN, DELIVERIES, DELIVERIES_MADE, SESSION_DELIVERIES, EventType

log = logging.getLogger(__name__)

RETRY_DELAY_S: Final = 1.0
# Records that are pushed in one turn of the event loop: about 2 ms, so that frames and
# acknowledgements never wait long behind a burst.
MAX_PER_TURN: Final = 64


class DeliveryReader:
    """The reading side of one gateway. Belongs to one event loop."""

    def __init__(
        self,
        reads: LogReader,
        feed: Feed,
        revocations: Revocations,
        hub: Hub,
        message_ids: MessageIds,
        on_command_failed: Callable[[int, str], None],
        on_ephemeral: Callable[[pb.Answer, int], None],
        *,
        ring_bytes: int,
        token_s: int,
        clock: Clock,
        beat: Callable[[], None],
        retry_delay_s: float = RETRY_DELAY_S,
        event_keys: Sequence[bytes] = (),
    ) -> None:
        """`on_command_failed` gets user and key of each command that failed, `on_ephemeral` what
        gateways tell each other, and since when (Unix milliseconds) the log has it; `beat` is
        called before anything is pushed.

        With event keys only what is signed under one of them is believed: else any writer of the
        topic could speak for any user.
        """
        self._reads = reads
        self._feed = feed
        self._replay_buffer = feed.replay_buffer
        self._hub = hub
        self._message_ids = message_ids
        self._on_command_failed = on_command_failed
        self._on_ephemeral = on_ephemeral
        self._ring_bytes = ring_bytes
        self._clock = clock
        self._beat = beat
        self._retry_delay_s = retry_delay_s
        self._event_keys = event_keys
        self._epochs = ("", "")
        self._ends: dict[int, int] = {}
        """Of session-deliveries: partition -> next offset to read, for all that is followed."""
        self._followers: dict[str, PartitionConsumer] = {}
        self._delivering = asyncio.Lock()
        self._back = partial(read_back, reads, self.record)
        self.log_outs = PastLogOuts(self._back, revocations, token_s=token_s, clock=clock)
        self._opened = asyncio.Event()

    @property
    def followed(self) -> frozenset[int]:
        """The partitions that are in the replay buffer and followed."""
        return frozenset(self._ends)

    async def open(self, partitions: Collection[int], wanted: Callable[[int], bool]) -> int | None:
        """Takes over one of these partitions, the one that holds least: fills the replay buffer by
        reading back, then follows it.

        What one leaves over of the replay buffer's bytes is for those that come after it. Says
        which it was; None when it was no longer `wanted` meanwhile, and is not followed. Raises
        Unavailable; nothing is left of it then.
        """
        held = await self._reads.bounds(DELIVERIES, [*partitions])
        partition = min(held, key=lambda number: held[number].end - held[number].begin)
        bounds = held[partition]
        answers = (await self._reads.bounds(SESSION_DELIVERIES, [partition]))[partition].end
        if not self._ends:
            self._epochs = await self._read_epochs()
            self._feed.epoch = self._epochs[0]
        begin, records = await self._fill(partition, bounds, self._room(len(partitions)), wanted)
        self._feed.open(
            partition, begin, records[0].at_ms if records and begin > bounds.begin else 0
        )
        await self._deliver(records)
        self._replay_buffer.set_end(partition, bounds.end)
        if not wanted(partition):
            self._feed.drop(partition)
            return None
        self._ends[partition] = answers
        self.log_outs.add(partition, bounds.begin, begin)
        self._opened.set()  # not waited for: sessions get what comes, a moment later
        log.info(
            "partition taken over",
            extra={
                "partition": partition,
                "records": len(records),
                "ring_bytes": self._replay_buffer.bytes,
            },
        )
        return partition

    async def drop(self, partitions: Collection[int]) -> None:
        """Drops these partitions: on return nothing of them is pushed any more, and the replay
        buffer does not hold them.
        """
        for partition in partitions:
            del self._ends[partition]
            self.log_outs.drop(partition)
        await self._assign()
        async with self._delivering:  # with what had been handed over before
            for partition in partitions:
                self._feed.drop(partition)

    async def is_recreated(self) -> bool:
        """Whether the topics are no longer those that are followed. Raises Unavailable."""
        return bool(self._ends) and self._epochs != await self._read_epochs()

    async def watch_log_outs(self) -> None:
        """Looks for log-outs before what is taken over, until cancelled."""
        while True:
            try:
                await self.log_outs.read()
            except Unavailable as error:
                await self._pause(DELIVERIES, error)
            else:
                await self.log_outs.wait()

    async def follow_deliveries(self) -> None:
        """Pushes what comes, until cancelled.

        While the log is unavailable it waits; then it goes on where it stopped.
        """
        await self._follow(DELIVERIES, self._push)

    async def follow_answers(self) -> None:
        """Gives each answer to the session that waits for it, until cancelled."""
        await self._follow(SESSION_DELIVERIES, self._answer)

    async def _follow(
        self, topic: str, take: Callable[[Sequence[ConsumerRecord]], Awaitable[None]]
    ) -> None:
        while True:
            try:
                jumped = self._on_jump if topic == DELIVERIES else None
                async with self._reads.follow(
                    topic, self._offsets(topic), on_offset_reset=jumped
                ) as follower:
                    self._followers[topic] = follower
                    try:
                        # What was opened or dropped meanwhile.
                        await follower.assign(self._offsets(topic))
                        async for batch in follower:
                            self._beat()
                            await take(batch)
                    finally:
                        del self._followers[topic]
            except Unavailable as error:
                await self._pause(topic, error)

    def _on_jump(self, partition: int, offset: int) -> None:
        """The log has dropped what came before this offset, unread: the partition begins there.

        Its sessions are closed, and come back to `reset`: what comes next would hide from them that
        something is missing.
        """
        if partition in self._ends and offset > self._replay_buffer.end(partition)[0]:
            self._replay_buffer.open(partition, offset)
            self._hub.close_partition(partition, close.NO_LONGER_HELD)

    async def assign_opened(self) -> None:
        """Has what was opened followed, until cancelled.

        Partitions that were opened together, in one go: on Kafka that takes up to 250 ms.
        """
        while True:
            await self._opened.wait()
            self._opened.clear()
            await self._assign()

    async def _assign(self) -> None:
        await asyncio.gather(
            *(self._assign_to(topic, follower) for topic, follower in self._followers.items())
        )

    async def _assign_to(self, topic: str, follower: PartitionConsumer) -> None:
        with suppress(Unavailable):  # the next one begins with this
            await follower.assign(self._offsets(topic))

    def _offsets(self, topic: str) -> dict[int, int]:
        if topic == SESSION_DELIVERIES:
            return dict(self._ends)
        return {partition: self._replay_buffer.end(partition)[0] for partition in self._ends}

    # ---- what was read ---------------------------------------------------------------------------

    async def _push(self, batch: Sequence[ConsumerRecord]) -> None:
        async with self._delivering:
            # A partition that was dropped and opened again while this follower began may come from
            # where it was held before.
            new = [
                stored
                for stored in batch
                if stored.partition in self._ends
                and stored.offset >= self._replay_buffer.end(stored.partition)[0]
            ]
            await self._deliver(
                [self.record(stored, DELIVERIES_MADE, traced=True) for stored in new]
            )

    def record(
        self, stored: ConsumerRecord, event_type: EventType, *, traced: bool = False
    ) -> ReceivedRecord:
        """What is kept of it; nothing where it is not to be believed."""
        return ReceivedRecord.of(
            stored, event_type, keys=self._event_keys, now_ms=self._clock.now_ms(), traced=traced
        )

    async def _deliver(self, records: Iterable[ReceivedRecord]) -> None:
        ahead = 0
        for number, record in enumerate(records, start=1):
            with record.span(DELIVERIES):
                ahead = self._push_record(record) or ahead
            if number % MAX_PER_TURN == 0:
                await asyncio.sleep(0)
        if ahead:
            count("knchat_ids_ahead_total", where="deliveries")
            log.warning("an id lies in the future, its clock is wrong", extra={"id": ahead})
        gauge("knchat_ring_bytes", self._replay_buffer.bytes)

    def _push_record(self, record: ReceivedRecord) -> int:
        """Pushes it to its users. Returns an id in it that lies in the future; 0: none."""
        ahead = 0
        deliveries = parse(record.data, pb.Deliveries).deliveries
        for delivery in deliveries:
            # Before anything is pushed: a reply may come before the next record does. One by one: a
            # wrong id must not hide the others.
            number = pushed_id(delivery)
            if not self._message_ids.advance(number):
                ahead = number
            if delivery.HasField("failed"):
                # Also when the replay buffer is filled: the gateway that read it first may have
                # died before it told the cache.
                for user in delivery.users:
                    self._on_command_failed(user, delivery.failed.key)
        self._feed.deliver(record.partition, record.offset, record.at_ms, deliveries)
        return ahead

    async def _answer(self, batch: Sequence[ConsumerRecord]) -> None:
        for stored in batch:
            # Dropped, and what was on its way must not bring it back.
            if stored.partition not in self._ends:
                continue
            self._ends[stored.partition] = stored.offset + 1
            record = self.record(stored, ANSWERS_GIVEN, traced=True)
            with record.span(SESSION_DELIVERIES):
                for answer in parse(record.data, pb.Answers).answers:
                    if not answer.session:
                        self._on_ephemeral(answer, record.at_ms)
                    elif (
                        self._hub.has_session(answer.session)
                        and (frame := answer_of(answer)) is not None
                    ):
                        self._hub.answer(answer, frame)

    # ---- reading back ----------------------------------------------------------------------------

    async def _read_epochs(self) -> tuple[str, str]:
        return await self._reads.epoch(DELIVERIES), await self._reads.epoch(SESSION_DELIVERIES)

    def _room(self, gained: int) -> float:
        """Bytes of the replay buffer for the next of so many partitions: its share, or what is left
        over if that is more.
        """
        share = self._ring_bytes / (gained + len(self._ends))
        return max(share, (self._ring_bytes - self._replay_buffer.bytes) / gained)

    async def _fill(
        self, partition: int, bounds: Bounds, room_bytes: float, wanted: Callable[[int], bool]
    ) -> tuple[int, Sequence[ReceivedRecord]]:
        """Where the replay buffer begins, as far back as its time and its bytes go, and the records
        from there on.
        """
        records: deque[ReceivedRecord] = deque()
        size, begin = 0, bounds.end
        since_ms = self._clock.now_ms() - self._replay_buffer.kept_ms
        async for start, chunk in self._back(partition, bounds.begin, bounds.end):
            begin = start
            records.extendleft(reversed(chunk))
            size += sum(len(record.data) for record in chunk)
            if size >= room_bytes or (chunk and chunk[0].at_ms < since_ms) or not wanted(partition):
                break
        return begin, records

    async def _pause(self, topic: str, error: Unavailable) -> None:
        count("knchat_read_failures_total", topic=topic)
        log.warning(
            "the log cannot be read, again in a moment",
            extra={"topic": topic, "error": error.message},
        )
        await asyncio.sleep(jittered(self._retry_delay_s))
