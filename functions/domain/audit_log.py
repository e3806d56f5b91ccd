"""What the audit reads of the log, how fast, and how far it has come.

What is missing is for `audit` and `audit_rows` to say. Its place is that of a consumer group
without members, `audit`: Kafka's tools show its lag, and a recreated topic begins anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.message import DecodeError

from backends.dead_letters import is_transient
from backends.log import ConsumerRecord
from backends.log.by_time import OffsetRange, read_by_time
from functions.triggers import TRIGGERS, OnEvents
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.errors import Malformed
from schemas.topics import COMMANDS_ISSUED, DEAD_LETTERS, MESSAGES, OUTCOMES_DECIDED

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from backends.wiring import Backends

log = logging.getLogger(__name__)

GROUP: Final = "audit"
LONG_SKEW_MS: Final = 600_000
"""Before anything is taken for missing, its outcome is searched from so long before its id was
made: a clock may have been set.
"""
MAX_LETTERS: Final = 100_000
"""Ids in dead letters that are held in memory: 8 MiB.

Those beyond are tried again, in vain and without harm.
"""

Payload = TypeVar("Payload", bound="Message")
Item = TypeVar("Item")

# The index is no promise that is audited: it is made again (`kn-chat reindex`).
_WORKERS: Final = {
    trigger.topic: trigger.group
    for trigger in TRIGGERS
    if isinstance(trigger, OnEvents) and trigger.target != "index"
}
_BURST_S: Final = 0.1
_PAUSE_S: Final = 0.01
_UNBROKEN: Final = 200
"""Items after which others of the event loop have their turn: a millisecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an audit looks at.

    Times are Unix milliseconds; `since_ms` None: from where the last one that repaired has got to.
    `rate`: commands and outcomes a second, at most. `commits`: the next one goes on where this one
    has been.
    """

    until_ms: int
    since_ms: int | None = None
    rate: int = 20_000
    commits: bool = False
    commit_interval: int = 10_000
    """Outcomes after which the place is kept: a killed audit looks at so many again."""
    skew_ms: int = 10_000
    """Records are dated by who appends them: an outcome may so seem older than its command."""


@dataclass(slots=True)
class Letters:
    """Ids in dead letters of what was refused for good: commands, whose senders were told, and
    outcomes.
    """

    commands: set[int] = field(default_factory=set)
    outcomes: set[int] = field(default_factory=set)


class AuditLog:
    """The log as one run of the audit sees it."""

    def __init__(
        self, backends: Backends, scope: Scope, *, progress: Callable[[int, int], None]
    ) -> None:
        """`progress` hears, with each record, how many items were looked at and the time of the
        record.
        """
        self._reads, self._clock, self._scope, self._progress = (
            backends.reads,
            backends.clock,
            scope,
            progress,
        )
        self.skew_ms = scope.skew_ms
        self._free_s = self._clock.elapsed_s()
        self._unbroken = 0
        self._letters: Letters | None = None
        self._letters_from_ms = 0
        self.looked_at = 0
        self.under_way = 0
        """Records old enough whose function has not finished yet: they are looked at after it."""

    async def due(self, topic: str) -> list[OffsetRange]:
        """What is to be audited of a topic: old enough, and done with as far as its consumer group
        says.

        The rest is under way.
        """
        partitions = range(await self._reads.partitions(topic))
        held = await self._reads.bounds(topic, partitions)
        done = await self._reads.committed(_WORKERS[topic], topic)
        old = await self._reads.offsets_at(topic, self._scope.until_ms)
        since = self._scope.since_ms
        begins = await (
            self._reads.committed(GROUP, topic)
            if since is None
            else self._reads.offsets_at(topic, since)
        )
        spans = []
        for partition in partitions:
            first, last = held[partition].begin, held[partition].end
            begin = begins.get(partition, first)
            begin = first if not first <= begin <= last else begin
            end = max(begin, min(old[partition], done.get(partition, first)))
            self.under_way += max(0, old[partition] - end)
            spans.append(OffsetRange(topic, partition, begin, end))
        return spans

    async def strike(
        self, ids: dict[int, Item], *, near_ms: int, far_ms: int, accepted: bool = False
    ) -> None:
        """Takes out what has an outcome (`accepted`: that accepted it), searching from `near_ms` to
        the log's end, then back to `far_ms`.

        It stops when nothing is left, which is soon where nothing is missing.
        """
        near = await self.from_time(MESSAGES, near_ms)
        await self._strike(ids, near, accepted=accepted)
        if ids:
            await self._strike(
                ids, await self.from_time(MESSAGES, far_ms, to=near), accepted=accepted
            )

    async def _strike(
        self, ids: dict[int, Item], spans: Iterable[OffsetRange], *, accepted: bool
    ) -> None:
        async for _, outcomes in self.outcomes(spans):
            for outcome in outcomes:
                if not (accepted and outcome.refused):
                    ids.pop(outcome.command.id, None)
            if not ids:
                return

    async def kept_since(self, topic: str) -> int:
        """From this time on (Unix milliseconds) retention has dropped nothing of the topic."""
        held = await self._reads.bounds(topic, range(await self._reads.partitions(topic)))
        first = [
            await self._reads.read(topic, partition, one.begin, max_records=1)
            for partition, one in held.items()
            if one.begin
        ]
        return max((record.at_ms for records in first for record in records), default=0)

    async def from_time(
        self, topic: str, at_ms: int, *, to: Iterable[OffsetRange] = ()
    ) -> list[OffsetRange]:
        """From that time to the end, or to where those spans begin."""
        begins = await self._reads.offsets_at(topic, at_ms)
        ends = {span.partition: span.begin for span in to}
        ends = ends or {
            partition: held.end
            for partition, held in (await self._reads.bounds(topic, [*begins])).items()
        }
        return [
            OffsetRange(topic, partition, begin, ends[partition])
            for partition, begin in begins.items()
        ]

    async def commands(
        self, spans: Iterable[OffsetRange]
    ) -> AsyncIterator[tuple[ConsumerRecord, Sequence[pb.Command]]]:
        """Records with the commands in them, oldest first.

        What holds none of ours is passed over: its function has dead-lettered it.
        """
        async for record in read_by_time(self._reads, spans):
            if found := _payload(record, COMMANDS_ISSUED.type, pb.Commands):
                await self._pace(len(found.commands), record)
                yield record, found.commands

    async def outcomes(
        self, spans: Iterable[OffsetRange]
    ) -> AsyncIterator[tuple[ConsumerRecord, Sequence[pb.Outcome]]]:
        """The same for outcomes."""
        async for record in read_by_time(self._reads, spans):
            if found := _payload(record, OUTCOMES_DECIDED.type, pb.Outcomes):
                await self._pace(len(found.outcomes), record)
                yield record, found.outcomes

    async def letters(self, from_ms: int) -> Letters:
        """What dead letters say, from that time on or longer."""
        if self._letters is None or from_ms < self._letters_from_ms:
            self._letters, self._letters_from_ms = Letters(), from_ms
            async for record in read_by_time(
                self._reads, await self.from_time(DEAD_LETTERS, from_ms)
            ):
                if len(self._letters.commands) + len(self._letters.outcomes) >= MAX_LETTERS:
                    log.warning(
                        "too many dead letters for the audit to know them all",
                        extra={"known": MAX_LETTERS},
                    )
                    break
                _note(record, self._letters)
        return self._letters

    async def commit(self, places: Mapping[tuple[str, int], int]) -> None:
        """The next audit begins at these offsets.

        Durable on return; nothing where this one keeps no place.
        """
        if not self._scope.commits:
            return
        for topic in {topic for topic, _ in places}:
            await self._reads.commit(
                GROUP,
                topic,
                {
                    partition: offset
                    for (where, partition), offset in places.items()
                    if where == topic
                },
            )

    async def _pace(self, items: int, record: ConsumerRecord) -> None:
        self.looked_at += items
        self._progress(self.looked_at, record.at_ms)
        now_s = self._clock.elapsed_s()
        self._free_s = max(self._free_s, now_s - _BURST_S) + items / self._scope.rate
        self._unbroken += items
        if self._free_s - now_s > _PAUSE_S or self._unbroken >= _UNBROKEN:
            self._unbroken = 0
            await asyncio.sleep(max(0.0, self._free_s - now_s))


def event_of(record: ConsumerRecord) -> cloudevents.Event:
    """The event in a record. Raises Malformed when it holds none."""
    return cloudevents.from_kafka(record.headers, record.value)


def _payload(record: ConsumerRecord, event_type: str, payload: type[Payload]) -> Payload | None:
    try:
        named = next((raw for name, raw in record.headers if name == "ce_type"), None)
        if named is None:  # it may be a structured event
            event = event_of(record)
            return cloudevents.parse(event, payload) if event.type == event_type else None
        if (
            named != event_type.encode()
            or record.value is None
            or not record.value.startswith(cloudevents.MARK)
        ):
            return None
        # A fifth of what the whole event costs, and three are read for each message.
        return payload.FromString(record.value)
    except (Malformed, DecodeError):
        return None


def _note(record: ConsumerRecord, letters: Letters) -> None:
    """What was refused for good is an answer.

    What was given up is tried again, and so are the commands of a dead batch, one by one.
    """
    try:
        event = event_of(record)
        if is_transient(event):
            return
        match event.type:
            case COMMANDS_ISSUED.type:
                commands = cloudevents.parse(event, pb.Commands).commands
                letters.commands.update(command.id for command in commands if len(commands) == 1)
            case OUTCOMES_DECIDED.type:
                letters.outcomes.update(
                    outcome.command.id for outcome in cloudevents.parse(event, pb.Outcomes).outcomes
                )
    except Malformed:
        return
