"""What gateways tell each other of the moment: collected for half a second, a few records in all.

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

COLLECT_S: Final = 0.5
"""So long what goes through the log waits for more: at most two records a second and partition,
whatever happens. A record costs its reader more than a millisecond, a presence in it 4 us.
"""
REST_S: Final = 5.0
"""After a failure nothing is written for so long."""
# A presence with the longest text has 550 bytes: a record stays below MAX_RECORD_BYTES.
MAX_PRESENCES: Final = 512
MAX_WATCHED: Final = 8_192
MAX_TOLD: Final = 1_024
"""What is told users of one partition within half a second; more is dropped."""


class _Letters:
    """What one partition is to be told. A later word about the same replaces an earlier one."""

    __slots__ = ("presences", "told", "watched")

    def __init__(self) -> None:
        self.watched: dict[int, None] = {}
        self.presences: dict[str, dict[int, pb.Presence]] = {}
        self.told: list[pb.Answer] = []

    def answers(self, gateway: str, partition: int) -> Iterator[pb.Answer]:
        """All of it; `gateway` watches, and is answered in `partition`."""
        yield from self.told
        for users in _parts([*self.watched], MAX_WATCHED):
            yield pb.Answer(watching=pb.Watching(gateway=gateway, partition=partition, users=users))
        for watching, presences in self.presences.items():
            for some in _parts([*presences.values()], MAX_PRESENCES):
                yield pb.Answer(presences=pb.Presences(gateway=watching, presences=some))


class Mailbox:
    """The letters of one gateway. Belongs to one event loop."""

    def __init__(
        self,
        appends: LogProducer,
        take: Callable[[pb.Answer], None],
        served: Callable[[], frozenset[int]],
        *,
        gateway: str,
        clock: Clock,
    ) -> None:
        """`take` gets what is for this gateway itself; `served`: its partitions."""
        self._appends = appends
        self._take = take
        self._served = served
        self._gateway = gateway
        self._clock = clock
        self._letters: dict[int, _Letters] = {}
        self._has_mail = asyncio.Event()

    def watch(self, partition: int, users: Iterable[int]) -> None:
        """The owner of this partition is to say how these users are, and what changes."""
        self._of(partition).watched.update(dict.fromkeys(users))

    def answer(self, partition: int, gateway: str, presence: pb.Presence) -> None:
        """This gateway, which reads this partition, is told how a user is."""
        self._of(partition).presences.setdefault(gateway, {})[presence.user] = presence

    def tell(self, partition: int, told: pb.Answer) -> None:
        """All sessions of the users that `told` names are told it: they are of this partition."""
        letters = self._of(partition)
        if len(letters.told) < MAX_TOLD:
            letters.told.append(told)
        else:
            count("knchat_ephemeral_dropped_total", why="too_many")

    def _of(self, partition: int) -> _Letters:
        if partition not in self._letters:
            self._letters[partition] = _Letters()
            self._has_mail.set()
        return self._letters[partition]

    def deliver_own(self) -> None:
        """Called some times a second: hands over what is for this gateway itself."""
        served = self._served()
        for partition in served.intersection(self._letters):
            letters = self._letters.pop(partition)
            for answer in letters.answers(self._gateway, partition):
                self._take(answer)

    async def run(self) -> None:
        """Writes what is for other gateways, until cancelled."""
        while True:
            await self._has_mail.wait()
            await asyncio.sleep(COLLECT_S)
            self._has_mail.clear()
            self.deliver_own()
            if not (records := self._take_records()):
                continue
            try:
                await self._appends.append(records)
            except ChatError as error:
                count("knchat_ephemeral_dropped_total", len(records), why="log")
                log.info("typing and presence are not told", extra={"error": error.message})
                await asyncio.sleep(REST_S)
                self.deliver_own()
                self._take_records()  # old by now: what is new says it better

    def _take_records(self) -> list[ProducerRecord]:
        """What is for others, as records. Answers come where this gateway reads: without a
        partition it has no sessions either.
        """
        served = self._served()
        letters, self._letters = self._letters, {}
        if not served:
            return []
        mine = min(served)
        return [
            self._record(partition, answers)
            for partition, held in letters.items()
            for answers in _in_records(held.answers(self._gateway, mine))
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


def _in_records(answers: Iterable[pb.Answer]) -> Iterator[list[pb.Answer]]:
    """As few lists as may be, each of which fits into a record."""
    part: list[pb.Answer] = []
    weight = 0.0
    for answer in answers:
        one = _weight(answer)
        if part and weight + one > 1:
            yield part
            part, weight = [], 0
        part.append(answer)
        weight += one
    if part:
        yield part


def _weight(answer: pb.Answer) -> float:
    """The part of a record that it may take."""
    if answer.HasField("presences"):
        return len(answer.presences.presences) / MAX_PRESENCES
    if answer.HasField("watching"):
        return len(answer.watching.users) / MAX_WATCHED
    return 1 / MAX_TOLD
