"""The log: topics of CloudEvents in numbered partitions, read by offset, by consumers of given
partitions and by consumer groups.

Two ports, since a gateway on Knative appends over HTTP but reads Kafka: `LogProducer` (embedded,
kafka, knative) and `LogReader` (embedded, kafka). Everything acknowledged is durable: replicated on
Kafka, fsynced on the embedded log. Source: design.md D6 to D9.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from schemas.cloudevents import Event


class Evicted(Exception):
    """Another process has taken this member's place in a group.

    Its assignments are no longer valid: the process must end.
    """


@dataclass(frozen=True, slots=True)
class ProducerRecord:
    """One event on its way into the log.

    `partition` None: by the event's partitionkey (murmur2), or any where it has none.
    """

    topic: str
    event: Event
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class ConsumerRecord:
    """One record of the log, where it lies and since when (Unix milliseconds, the log's clock).

    `headers` and `value` are the Kafka form; `cloudevents.from_kafka` reads them. They are left
    unread here because a record may be no CloudEvent at all, and then it is its reader's to refuse.
    """

    topic: str
    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    headers: Sequence[tuple[str, bytes]]
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Offsets that a partition holds: `begin` is the oldest kept, `end` the next to be given.

    Empty: begin == end.
    """

    begin: int
    end: int


OnOffsetReset = Callable[[int, int], None]
"""Called when records were dropped before they were read: with the partition, and the offset at
which its consumer goes on.
"""


class LogProducer(Protocol):
    """The writing side.

    Safe to call from many tasks at once: concurrent appends share one fsync or one request.
    """

    async def append(
        self, records: Sequence[ProducerRecord], *, then: Sequence[ProducerRecord] = ()
    ) -> None:
        """Returns when all records are durable.

        Records of one call and one partition keep their order. No record of `then` is in the log
        before all of `records` are durable: a reader that finds one may rely on those.

        Repeating a call appends again: readers are idempotent by event content (design.md D5).
        Errors: Unavailable when the log does not confirm within 10 s, is full or cannot be written;
        some, all or none of the records may then be in it. Malformed when a record's data exceed
        MAX_RECORD_BYTES or a topic is unknown: nothing was appended; also when the log says that it
        never takes one of them (it is too large there): that one is not in it, and what is appended
        next is not hindered.
        """
        ...

    async def ping(self) -> None:
        """Raises Unavailable when an append now would fail. Answers within 2 s."""
        ...

    async def close(self) -> None:
        """Waits for appends under way (at most 10 s), then closes files and connections."""
        ...


class PartitionConsumer(Protocol):
    """Reads given partitions of one topic, from given offsets on, until cancelled."""

    async def assign(self, offsets: Mapping[int, int]) -> None:
        """Follows these partitions from now on.

        One that is followed already goes on where it is, whatever its offset here. On return
        nothing of a partition that is left out will be handed over any more.
        """
        ...

    def __aiter__(self) -> AsyncIterator[Sequence[ConsumerRecord]]:
        """Batches as they come, in order within a partition; at most 500 records and about 1 MiB
        each.

        Waits when there is nothing new. Errors: Unavailable when the log cannot be read; the caller
        starts a new consumer where it left off.
        """
        ...


class GroupConsumer(Protocol):
    """One member of a consumer group on one topic.

    Every partition is given to one member at a time. The embedded log keeps what a group has not
    committed, from its first member on, whatever its age (`embedded/retention.py`).
    """

    async def poll(self, *, max_records: int = 500) -> Sequence[ConsumerRecord]:
        """New records of my partitions, in order within each, from the committed offsets on.

        Waits up to 1 s; then an empty sequence. A partition that was another member's for a while
        begins again where it was committed: lower than before, or higher.
        """
        ...

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Partition -> next offset to read.

        Durable on return. What is polled and not committed comes again after a restart. Partitions
        that are another member's by now are left out: its commits count.
        """
        ...


class Assignments(Protocol):
    """The partitions of a topic that are assigned to one member of a group.

    It reads nothing: owning is apart from reading.
    """

    def __aiter__(self) -> AsyncIterator[frozenset[int]]:
        """My partitions, now and after each change. Only what must move moves.

        Every partition is one member's, but for the moments between its revocation and its next
        assignment; a member whose event loop was stalled may for a moment believe that it owns what
        is assigned to another. An unavailable log changes nothing. Errors: Unavailable when the
        group cannot be joined. Evicted when another process has taken this member's place for good:
        end.
        """
        ...


class LogReader(Protocol):
    """The reading side."""

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has, or had half a minute ago.

        Costs nothing to ask again and again. Errors: Unavailable when the topic does not exist or
        the log does not answer.
        """
        ...

    async def epoch(self, topic: str) -> str:
        """Changes when the topic was deleted and made again, so that old offsets mean nothing.

        At most 64 characters of A-Za-z0-9_-.
        """
        ...

    async def bounds(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Bounds]:
        """What each of these partitions holds now."""
        ...

    async def offsets_at(self, topic: str, at_ms: int) -> Mapping[int, int]:
        """Partition -> the offset of its first record from that time on (Unix milliseconds); its
        end, where there is none.

        A later time never gives a lower offset, so a stretch of time is a stretch of every
        partition, also where clocks have jumped.
        """
        ...

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int, max_bytes: int = 1 << 20
    ) -> Sequence[ConsumerRecord]:
        """Records from `offset` on, as far as there are any; at least one, if there is one,
        whatever its size.

        Never waits for new ones. An offset below `begin` starts at `begin`: the caller compares the
        first record's offset with what it asked for.
        """
        ...

    def follow(
        self,
        topic: str,
        offsets: Mapping[int, int],
        *,
        on_offset_reset: OnOffsetReset | None = None,
    ) -> AbstractAsyncContextManager[PartitionConsumer]:
        """Follows partitions from these offsets on (partition -> next offset to read).

        Where retention was faster it goes on at the oldest record, which is counted and logged;
        `on_offset_reset` is called before that record comes.
        """
        ...

    def member(
        self, group: str, topic: str, *, start: Literal["begin", "end"] = "begin"
    ) -> AbstractAsyncContextManager[GroupConsumer]:
        """Joins a group. `start` says where a group without committed offsets begins."""
        ...

    def join(
        self, group: str, topic: str, *, member: str
    ) -> AbstractAsyncContextManager[Assignments]:
        """Joins a group as this member, a name that its replacement after a crash uses too and then
        has the same partitions at once.

        Leaving the context leaves the group: the others take over within about a second, after a
        crash within about ten.
        """
        ...

    async def committed(self, group: str, topic: str) -> Mapping[int, int]:
        """Partition -> committed offset; partitions without one are left out."""
        ...

    async def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Partition -> next offset to read, for a group without members: a reader that does not
        join keeps its position so.

        Durable on return. Errors: Unavailable when the group has members, whose own commits count.
        """
        ...

    async def ping(self) -> None:
        """Raises Unavailable when the log cannot be read now. Answers within 2 s."""
        ...

    async def close(self) -> None:
        """Ends consumers, then closes files and connections."""
        ...


class Topics(Protocol):
    """The topics of `schemas.topics`, which have to be created where the log does not make them
    itself (Kafka).
    """

    async def create(self) -> Sequence[str]:
        """Makes those that are missing, as they ought to be, and returns their names.

        Changes nothing of those that are there. Errors: Unavailable when the log does not answer or
        refuses it (fewer brokers than copies, for one).
        """
        ...

    async def check(self) -> Sequence[str]:
        """What is wrong with the topics, a sentence each with what to do about it; nothing: all is
        well.

        More than is asked for is fine. Errors: Unavailable when the log does not answer.
        """
        ...
