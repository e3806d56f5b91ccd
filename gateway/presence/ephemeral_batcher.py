"""What gateways tell each other of typing and presence: batched, so that a few records hold it all.

What is for a partition of this gateway's own never goes through the log. What the log does not take
is dropped: the next renewal of a watch says it again. Source: docs/decisions/0059.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from backends.clock import Clock
from backends.log import LogProducer, ProducerRecord
from backends.telemetry.metrics import count
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event
from schemas.errors import ChatError
from schemas.ids import random_id, time_text
from schemas.topics import ANSWERS_GIVEN, SESSION_DELIVERIES

Item = TypeVar("Item")

log = logging.getLogger(__name__)

COOLDOWN_S: Final = 5.0
"""After a failure nothing is written for so long."""
# A presence with the longest text has 550 bytes: a record stays below MAX_RECORD_BYTES.
MAX_PRESENCES: Final = 512
MAX_WATCHED: Final = 8_192
MAX_NOTIFIED: Final = 16_384
"""Of what users of one partition are notified within an interval: each notification counts 8 and
one for each of its users, about 8 bytes each. What is more is dropped.
"""


class _Batch:
    """What one partition is told next. A later word about the same replaces an earlier one."""

    __slots__ = ("notifications", "notified", "presences", "watched")

    def __init__(self) -> None:
        self.watched: dict[int, None] = {}
        self.presences: dict[str, dict[int, pb.Presence]] = {}
        self.notifications: list[tuple[pb.Answer, int]] = []
        """Each with what it counts."""
        self.notified = 0

    def answers(self, gateway: str, partition: int) -> Iterator[tuple[pb.Answer, float]]:
        """All of it, each with the part of a record that it may take; `gateway` watches, and is
        answered in `partition`.
        """
        for notification, weight in self.notifications:
            yield notification, weight / MAX_NOTIFIED
        for users in _parts([*self.watched], MAX_WATCHED):
            watching = pb.Watching(gateway=gateway, partition=partition, users=users)
            yield pb.Answer(watching=watching), len(users) / MAX_WATCHED
        for watching_gateway, presences in self.presences.items():
            for some in _parts([*presences.values()], MAX_PRESENCES):
                told = pb.Presences(gateway=watching_gateway, presences=some)
                yield pb.Answer(presences=told), len(some) / MAX_PRESENCES


class EphemeralBatcher:
    """One batch for each partition. Belongs to one event loop."""

    def __init__(
        self,
        appends: LogProducer,
        on_local: Callable[[pb.Answer], None],
        served: Callable[[], frozenset[int]],
        *,
        gateway: str,
        clock: Clock,
        interval_s: float,
    ) -> None:
        """`on_local` gets what is for this gateway itself; `served`: its partitions; `interval_s`:
        how long what goes through the log waits for more.
        """
        self._appends = appends
        self._on_local = on_local
        self._served = served
        self._gateway = gateway
        self._clock = clock
        self._interval_s = interval_s
        self._batches: dict[int, _Batch] = {}
        self._has_batches = asyncio.Event()

    def watch(self, partition: int, users: Iterable[int]) -> None:
        """The owner of this partition is to say how these users are, and what changes."""
        self._of(partition).watched.update(dict.fromkeys(users))

    def answer(self, partition: int, gateway: str, presence: pb.Presence) -> None:
        """This gateway, which reads this partition, is told how a user is."""
        self._of(partition).presences.setdefault(gateway, {})[presence.user] = presence

    def notify(self, partition: int, notification: pb.Answer, users: int) -> None:
        """So many users, of this partition, which it names are notified."""
        batch, weight = self._of(partition), users + 8
        if batch.notified + weight > MAX_NOTIFIED:
            count("knchat_ephemeral_dropped_total", why="too_many")
            return
        batch.notified += weight
        batch.notifications.append((notification, weight))

    def _of(self, partition: int) -> _Batch:
        if partition not in self._batches:
            self._batches[partition] = _Batch()
            self._has_batches.set()
        return self._batches[partition]

    def deliver_local(self) -> None:
        """Called some times a second: hands over what is for this gateway itself."""
        served = self._served()
        for partition in served.intersection(self._batches):
            batch = self._batches.pop(partition)
            for answer, _ in batch.answers(self._gateway, partition):
                self._on_local(answer)

    async def run(self) -> None:
        """Writes what is for other gateways, until cancelled."""
        while True:
            await self._has_batches.wait()
            await asyncio.sleep(self._interval_s)
            self._has_batches.clear()
            self.deliver_local()
            if not (records := self._pop_records()):
                continue
            try:
                await self._appends.append(records)
            except ChatError as error:
                count("knchat_ephemeral_dropped_total", len(records), why="log")
                log.info("typing and presence are not told", extra={"error": error.message})
                await asyncio.sleep(COOLDOWN_S)
                self.deliver_local()
                self._pop_records()  # old by now: what is new says it better

    def _pop_records(self) -> list[ProducerRecord]:
        """What is for others, as records. Answers come where this gateway reads: without a
        partition it has no sessions either.
        """
        served = self._served()
        batches, self._batches = self._batches, {}
        if not served:
            return []
        mine = min(served)
        return [
            self._record(partition, answers)
            for partition, batch in batches.items()
            for answers in _in_records(batch.answers(self._gateway, mine))
        ]

    def _record(self, partition: int, answers: list[pb.Answer]) -> ProducerRecord:
        event = Event(
            id=str(random_id()),
            source=f"/gateways/{self._gateway}",
            type=ANSWERS_GIVEN.type,
            time=time_text(self._clock.now_ms()),
            dataschema=ANSWERS_GIVEN.dataschema,
            data=pb.Answers(schema=1, answers=answers).SerializeToString(),
        )
        return ProducerRecord(SESSION_DELIVERIES, event, partition)


def _parts(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + most] for start in range(0, len(items), most))


def _in_records(answers: Iterable[tuple[pb.Answer, float]]) -> Iterator[list[pb.Answer]]:
    """As few lists as may be, each of which fits into a record."""
    part: list[pb.Answer] = []
    weight = 0.0
    for answer, one in answers:
        if part and weight + one > 1:
            yield part
            part, weight = [], 0
        part.append(answer)
        weight += one
    if part:
        yield part
