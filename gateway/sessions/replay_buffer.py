"""What a gateway still holds of its partitions, so that a session can go on from its position, and
the cursor that names a position.

The feed adds what comes out of the log, and a connection reads what it has missed. No I/O and no
clock: time is passed in. Source: design.md D9, D10.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

from schemas import chat_pb2 as pb
from schemas.deliveries import bytes_for_one

Position = tuple[int, int]
"""Offset of a record and index of a delivery in it: just before that delivery.

(offset, 0) is before the whole record.
"""

# What an entry costs beyond its bytes (a bytes object, a tuple, an int, a slot in a list), and a
# user's first entry in a segment beyond that (a list and a place in the index).
# tests/gateway/sessions/test_replay_buffer.py holds the sum against tracemalloc.
ENTRY_BYTES: Final = 137
USER_BYTES: Final = 140

SEGMENTS: Final = 16
"""Into so many pieces a partition's share is cut.

The oldest piece is dropped whole, so this much comes and goes at a time.
"""

_CURSOR: Final = re.compile(
    r"([A-Za-z0-9_\-]{1,64})\.([0-9]{1,6})\.([0-9]{1,18})\.([0-9]{1,9})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a partition of a log that has this epoch.

    Opaque to clients; it can only show a user his own deliveries.
    """

    epoch: str
    partition: int
    position: Position

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """The cursor in this text; None when it is none of ours."""
        match = _CURSOR.fullmatch(text)
        return (
            None if match is None else cls(match[1], int(match[2]), (int(match[3]), int(match[4])))
        )

    def __str__(self) -> str:
        return f"{self.epoch}.{self.partition}.{self.position[0]}.{self.position[1]}"


Missed = tuple[Position, bytes]
"""A delivery as serialised protobuf, and the position just behind it."""


@dataclass(slots=True)
class Behind:
    """What one user missed before the replay buffer begins, in order; from `end` on the buffer has
    it.
    """

    missed: list[Missed]
    end: Position

    def advance(self, position: Position) -> Position:
        """What lies before this position has been pushed.

        Where to go on: there, or at `end` when nothing is left here.
        """
        del self.missed[: bisect_right(self.missed, position, key=lambda one: one[0])]
        return position if self.missed else self.end


@dataclass(slots=True)
class _Segment:
    """Neighbouring records of one partition: what each user got, and when each record came."""

    begin: int
    size: int = 0
    offsets: array[int] = field(default_factory=lambda: array("q"))
    times_ms: array[int] = field(default_factory=lambda: array("q"))
    by_user: dict[int, list[tuple[int, int, bytes]]] = field(default_factory=dict)


@dataclass(slots=True)
class _Partition:
    segments: deque[_Segment]
    end: int
    gone_ms: int


class ReplayBuffer:
    """The last `kept_s` of some partitions, at most about `limit_bytes` of memory in all.

    Reading what a user has missed costs what that user missed, not what all users got.
    """

    def __init__(self, *, limit_bytes: int, kept_s: int) -> None:
        self._limit_bytes = limit_bytes
        self.kept_ms = kept_s * 1_000
        """How long records are kept. It may be set: what is gone does not come back."""
        self._partitions: dict[int, _Partition] = {}
        self._begun: list[tuple[int, int, int]] = []
        """A heap of all segments with records: time of the first record, partition, offset where it
        begins; some are gone by now.
        """
        self.bytes = 0
        """What is held now, in all."""

    def open(self, partition: int, offset: int, gone_ms: int = 0) -> None:
        """Takes over a partition that is held from this offset on, empty so far; what was held of
        it before is gone.

        `gone_ms`: no later came what lies before the offset (Unix milliseconds); 0: nothing does.
        """
        self.drop(partition)
        self._partitions[partition] = _Partition(deque([_Segment(offset)]), offset, gone_ms)

    def drop(self, partition: int) -> None:
        """Drops a partition, if it is held."""
        if (held := self._partitions.pop(partition, None)) is not None:
            self.bytes -= sum(segment.size for segment in held.segments)

    def has_partition(self, partition: int) -> bool:
        """Whether this partition is held at all."""
        return partition in self._partitions

    def begin(self, partition: int) -> int:
        """The offset from which on everything is here."""
        return self._partitions[partition].segments[0].begin

    def end(self, partition: int) -> Position:
        """Behind everything that was added."""
        return (self._partitions[partition].end, 0)

    def gone_ms(self, partition: int) -> int:
        """What came after this time is all held (Unix milliseconds)."""
        return self._partitions[partition].gone_ms

    def holds(self, partition: int, position: Position) -> bool:
        """Whether everything from this position on is here."""
        held = self._partitions[partition]
        return held.segments[0].begin <= position[0] and position <= (held.end, 0)

    def add(
        self, partition: int, offset: int, at_ms: int, deliveries: Sequence[pb.Delivery]
    ) -> None:
        """Adds one more record of the partition; drops the oldest when it gets too much.

        Offsets increase; some may be missing.
        """
        held = self._partitions[partition]
        segment = held.segments[-1]
        if segment.size * SEGMENTS * len(self._partitions) > self._limit_bytes or (
            segment.times_ms and (at_ms - segment.times_ms[0]) * SEGMENTS > self.kept_ms
        ):
            segment = _Segment(offset)
            held.segments.append(segment)
        if not segment.times_ms:
            heappush(self._begun, (at_ms, partition, segment.begin))
        segment.offsets.append(offset)
        segment.times_ms.append(at_ms)
        grown = 16
        for index, delivery in enumerate(deliveries):
            if not delivery.users:
                continue
            raw = bytes_for_one(delivery)
            entry = (offset, index, raw)
            grown += ENTRY_BYTES + len(raw)
            for user in delivery.users:
                entries = segment.by_user.get(user)
                if entries is None:
                    segment.by_user[user] = [entry]
                    grown += USER_BYTES
                else:
                    entries.append(entry)
                    grown += 8
        segment.size += grown
        self.bytes += grown
        held.end = offset + 1
        if self.bytes > self._limit_bytes:
            self._shrink()

    def forget(self, now_ms: int) -> None:
        """Drops what is older than `kept_s`. Called now and then."""
        for held in self._partitions.values():
            while (times_ms := held.segments[0].times_ms) and times_ms[-1] < now_ms - self.kept_ms:
                self._drop_first(held)
        while self._begun and not self._is_here(*self._begun[0][1:]):
            heappop(self._begun)

    def set_end(self, partition: int, offset: int) -> None:
        """There is nothing before this offset that was not added."""
        held = self._partitions[partition]
        held.end = max(held.end, offset)

    def missed(self, partition: int, user: int, position: Position, *, limit: int) -> list[Missed]:
        """The user's next deliveries from a position on that the replay buffer holds, at most
        `limit`.

        Empty: there are no more.
        """
        found: list[Missed] = []
        for segment in self._from(partition, position[0]):
            entries = segment.by_user.get(user)
            if entries is not None:
                start = bisect_left(entries, position)
                found += [
                    ((offset, index + 1), raw)
                    for offset, index, raw in entries[start : start + limit - len(found)]
                ]
                if len(found) == limit:
                    break
        return found

    def since(self, partition: int, at_ms: int) -> Position:
        """The position before the first record that came at this time or later, or as far back as
        the replay buffer reaches.
        """
        held = self._partitions[partition]
        for segment in held.segments:
            if segment.times_ms and segment.times_ms[-1] >= at_ms:
                return (segment.offsets[bisect_left(segment.times_ms, at_ms)], 0)
        return (held.end, 0)

    def _from(self, partition: int, offset: int) -> list[_Segment]:
        segments = self._partitions[partition].segments
        later: list[_Segment] = []
        for segment in reversed(segments):
            later.append(segment)
            if segment.begin <= offset:
                break
        later.reverse()
        return later

    def _shrink(self) -> None:
        """Drops the segment that began first of all until there is no longer too much."""
        while self.bytes > self._limit_bytes and self._begun:
            _, partition, begin = self._begun[0]
            if self._is_here(partition, begin):
                # Another one before it, where times run back.
                self._drop_first(self._partitions[partition])
            else:
                heappop(self._begun)

    def _is_here(self, partition: int, begin: int) -> bool:
        held = self._partitions.get(partition)
        return (
            held is not None and held.segments[0].begin <= begin and bool(held.segments[0].times_ms)
        )

    def _drop_first(self, held: _Partition) -> None:
        dropped = held.segments.popleft()
        self.bytes -= dropped.size
        held.gone_ms = max([held.gone_ms, *dropped.times_ms[-1:]])
        if not held.segments:
            held.segments.append(_Segment(held.end))
