"""Drops what users have been sent already: no message goes to them twice, no watermark goes back.

No I/O, no clock. The log may hold a delivery twice, for its dispatcher repeats what it had not
confirmed, and watermarks in any order, for nothing orders the marks of a user's devices. The feed
asks here before anything is kept or pushed, so live pushes and resumed ones say the same.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from operator import le
from typing import Any, Final, Generic, TypeVar

from schemas import chat_pb2 as pb
from schemas.deliveries import replaces
from schemas.kinds import PUSH_BODIES
from schemas.kinds.kind import PushSpec

TTL_MS: Final = 60_000
"""A message is known again for so long, at most twice as long, by the log's time.

A crashed dispatcher repeats about 5 s (measured).
"""
# Over all partitions, of each kind: two minutes of 500 messages a second. About 120 bytes each
# (measured), so 16 MB when all are full.
MAX_ENTRIES: Final = 65_536

Key = TypeVar("Key")
Value = TypeVar("Value")


class RecentDict(Generic[Key, Value]):
    """A bounded table that forgets what was put longest ago, in two halves: the older one goes as a
    whole.
    """

    __slots__ = ("_old", "_young")

    def __init__(self) -> None:
        self._young: dict[Key, Value] = {}
        self._old: MutableMapping[Key, Value] = {}

    def get(self, key: Key) -> Value | None:
        """What was put, unless that is too long ago."""
        found = self._young.get(key)
        return self._old.get(key) if found is None else found

    def put(self, key: Key, value: Value, *, limit: int) -> None:
        """Remembers it; about the last `limit` stay."""
        self._young[key] = value
        if len(self._young) * 2 > limit:
            self.age()

    def age(self) -> None:
        """What is old goes, and the rest is old."""
        self._old, self._young = self._young, {}


class _Partition:
    __slots__ = ("marks", "messages", "since_ms")

    def __init__(self) -> None:
        self.messages = RecentDict[tuple[str, int], int]()
        """Kind and command's id -> how many users were sent it: a pin in a group is a change and an
        event.

        Which ones would cost 1 us more, and only a growing group has others.
        """
        self.marks = RecentDict[tuple[str, str, int] | None, tuple[int, ...]]()
        """What a push is about (a receipt: its chat and user) -> its furthest watermarks sent."""
        self.since_ms = 0


class Deduplicator:
    """What was sent in some partitions."""

    def __init__(self) -> None:
        self._partitions: dict[int, _Partition] = {}

    def drop_repeats(self, partition: int, at_ms: int, delivery: pb.Delivery) -> None:
        """Takes the users from a delivery that they have had: it keeps its place in its record and
        has no receivers.

        A push that goes on in one watermark and back in the other keeps the further of both.
        """
        kind = PUSH_BODIES.get(delivery.WhichOneof("body"))
        if kind is None:
            return
        if kind.once:
            if not self._is_new(kind, self._of(partition), at_ms, delivery):
                del delivery.users[:]
        elif kind.watermarks and not self._goes_on(kind, self._of(partition), delivery):
            del delivery.users[:]

    def drop(self, partition: int) -> None:
        """Forgets a partition."""
        self._partitions.pop(partition, None)

    def _of(self, partition: int) -> _Partition:
        found = self._partitions.get(partition)
        if found is None:
            found = self._partitions[partition] = _Partition()
        return found

    def _is_new(
        self, kind: PushSpec[Any], sent: _Partition, at_ms: int, delivery: pb.Delivery
    ) -> bool:
        if (passed := at_ms - sent.since_ms) >= TTL_MS:
            for _ in range(min(passed // TTL_MS, 2)):
                sent.messages.age()
            sent.since_ms = at_ms
        number, users = getattr(getattr(delivery, kind.body), kind.command), len(delivery.users)
        name = kind.body, number
        if sent.messages.get(name) == users:
            return False
        sent.messages.put(name, users, limit=self._limit)
        return True

    def _goes_on(self, kind: PushSpec[Any], sent: _Partition, delivery: pb.Delivery) -> bool:
        name, body = replaces(delivery), getattr(delivery, kind.body)
        told = tuple(getattr(body, field) for field in kind.watermarks)
        before = sent.marks.get(name) or (0,) * len(told)
        if all(map(le, told, before)):
            return False
        furthest = tuple(map(max, told, before))
        for field, watermark in zip(kind.watermarks, furthest, strict=True):
            setattr(body, field, watermark)
        sent.marks.put(name, furthest, limit=self._limit)
        return True

    @property
    def _limit(self) -> int:
        return MAX_ENTRIES // len(self._partitions)
