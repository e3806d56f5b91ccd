"""How the users of this gateway's partitions are, for the gateways that watch them.

All sessions of a user are here, so nothing is stored and nothing is agreed upon: presence is looked
up in the hub. What is kept is who watches (a lease of five minutes each) and what they were told.
No I/O and no clock: time is passed in. Source: docs/decisions/0059.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final, Protocol

from schemas import chat_pb2 as pb
from schemas.kinds.presence import AWAY, INVISIBLE, OFFLINE, ONLINE
from schemas.topics import user_partition

if TYPE_CHECKING:
    from gateway.sessions.connection import ClientConnection
    from gateway.sessions.hub import Hub

LEASE_S: Final = 300.0
"""So long a gateway that watches is told changes, and what a user has declared holds without a
session.
"""
IDLE_S: Final = 300.0
ONLINE_AFTER_S: Final = 1.0
"""A user who has come is shown so much later: one who is invisible says so right after `hello`."""
MAX_CHANGES: Final = 256
"""Of users, that are told in one tick: 10 ms, where each has 20 who watch. The others wait."""
SWEEP_S: Final = 10.0
"""All subjects are looked at once in so long: users become idle, and leases end, without a word."""


class Seen(Protocol):
    """When users were here last: `LastSeen`."""

    def of(self, user: int) -> int | None:
        """Unix milliseconds; 0: not known; None: it will be."""
        ...

    def keep(self, user: int, seen_ms: int) -> None:
        """The user was here until then."""
        ...


class Answers(Protocol):
    """Where gateways that watch are answered: `EphemeralBatcher`."""

    def answer(self, partition: int, gateway: str, presence: pb.Presence) -> None:
        """This gateway, which reads this partition, is told how a user is."""
        ...


@dataclass(slots=True)
class _Subject:
    """A user who is watched, what was told, and the gateways: each with the partition where it
    reads, and the end of its lease.
    """

    told: pb.Presence | None = None
    gateways: dict[str, tuple[int, float]] = field(default_factory=dict)


@dataclass(slots=True)
class _Declared:
    """`since_ms`: since when a user is invisible; 0: from the first, so that no one was shown that
    the user came, and the user was here last when it was before.
    """

    state: str
    text: str
    since_ms: int
    until_s: float


class Subjects:
    """The watched users of one gateway's partitions. Belongs to one event loop."""

    def __init__(
        self, hub: Hub, answers: Answers, seen: Seen, *, partitions: int, offline_after_s: float
    ) -> None:
        self._hub = hub
        self._answers = answers
        self._seen = seen
        self._partitions = partitions
        self._offline_after_s = offline_after_s
        self._partitions_here = frozenset[int]()
        self._settling_s: dict[int, float] = {}
        """Those that are new: their users are on their way here, none of them counts as offline."""
        self._subjects: dict[int, _Subject] = {}
        self._declared: dict[int, _Declared] = {}
        self._came_s: dict[int, float] = {}
        """Users who were not here a moment ago."""
        self._left: dict[int, tuple[float, int]] = {}
        """Users who are no longer here, and may come back at once: since when, in both times."""
        self._changed: dict[int, None] = {}
        self._sweep: Iterator[int] = iter(())
        self._swept_s = 0.0

    def __len__(self) -> int:
        return len(self._subjects)

    # ---- what happens ----------------------------------------------------------------------------

    def set_partitions(self, served: frozenset[int], now_s: float) -> None:
        """These are this gateway's from now on. Others say how the users of all others are."""
        new = served - self._partitions_here
        self._settling_s = {
            partition: self._settling_s.get(partition, now_s)
            for partition in served
            if partition in new or partition in self._settling_s
        }
        self._partitions_here = served
        for user in [user for user in self._subjects if self._partition(user) not in served]:
            del self._subjects[user]

    def on_arrived(self, user: int, now_s: float) -> None:
        """A user has one session more."""
        if self._left.pop(user, None) is None and len(self._present(user)) == 1:
            # One who is replaced by a newer session of the device came with the first.
            self._came_s.setdefault(user, now_s)
        if (declared := self._declared.get(user)) is not None:
            declared.until_s = float("inf")
        if user in self._subjects:
            self._changed[user] = None

    def on_left(self, user: int, now_s: float, now_ms: int) -> None:
        """A user has one session less."""
        if not self._present(user):
            self._came_s.pop(user, None)
            self._left.pop(user, None)  # behind all who have left before
            self._left[user] = now_s, now_ms
        if user in self._subjects:
            self._changed[user] = None

    def declare(self, user: int, state: str, text: str, *, now_s: float, now_ms: int) -> None:
        """How a user wants to be shown."""
        old = self._declared.get(user)
        if old is not None and old.state == state == INVISIBLE:
            since_ms = old.since_ms
        else:
            since_ms = 0 if user in self._came_s else now_ms
        until_s = float("inf") if self._present(user) else now_s + LEASE_S
        self._declared[user] = _Declared(state, text, since_ms, until_s)
        self.on_changed(user)

    def is_invisible(self, user: int) -> bool:
        """Whether the user has declared so."""
        declared = self._declared.get(user)
        return declared is not None and declared.state == INVISIBLE

    def on_changed(self, user: int) -> None:
        """It may be shown in another way now."""
        if user in self._subjects:
            self._changed[user] = None

    def on_watching(self, watching: pb.Watching, now_s: float) -> None:
        """A gateway watches these users: it is told how they are, as soon as that is certain."""
        for user in watching.users:
            if self._partition(user) not in self._partitions_here:
                continue
            subject = self._subjects.get(user)
            if subject is None:
                subject = self._subjects[user] = _Subject()
            subject.gateways[watching.gateway] = watching.partition, now_s + LEASE_S
            self._tell(user, subject, now_s)
            if subject.told is not None:
                self._answers.answer(watching.partition, watching.gateway, subject.told)

    # ---- what is told ----------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Called some times a second: tells what has changed."""
        self._settle(now_s)
        self._forget_flaps(now_s)
        changed = [*islice(self._changed, MAX_CHANGES)]
        for user in changed:
            del self._changed[user]
        for user in (*changed, *self._next_swept(now_s)):
            if (subject := self._subjects.get(user)) is None:
                continue
            self._end_leases(subject, now_s)
            if not subject.gateways:
                del self._subjects[user]
            else:
                self._tell(user, subject, now_s)

    def _settle(self, now_s: float) -> None:
        until_s = now_s - self._offline_after_s
        settled = [number for number, since_s in self._settling_s.items() if since_s <= until_s]
        for partition in settled:
            del self._settling_s[partition]
        if settled:
            unknown = (user for user, subject in self._subjects.items() if subject.told is None)
            self._changed.update(dict.fromkeys(unknown))

    def _forget_flaps(self, now_s: float) -> None:
        """Says of those who came or left some time ago that this is so."""
        for user in [*_until(self._came_s.items(), now_s - ONLINE_AFTER_S)]:
            del self._came_s[user]
            self.on_changed(user)
        gone_s = ((user, left_s) for user, (left_s, _) in self._left.items())
        for user in [*_until(gone_s, now_s - self._offline_after_s)]:
            left_s, seen_ms = self._left.pop(user)
            if (declared := self._declared.get(user)) is not None:
                declared.until_s = left_s + LEASE_S
                if declared.state == INVISIBLE:
                    seen_ms = declared.since_ms
            if seen_ms:
                self._seen.keep(user, seen_ms)
            self.on_changed(user)

    def _next_swept(self, now_s: float) -> list[int]:
        """The next of all, so many that all have their turn in SWEEP_S."""
        part = min(1.0, (now_s - self._swept_s) / SWEEP_S)
        self._swept_s = now_s
        users = [*islice(self._sweep, int(len(self._subjects) * part) + 1)]
        if not users:
            self._sweep = iter([*self._subjects])
        return users

    def _tell(self, user: int, subject: _Subject, now_s: float) -> None:
        """Tells all gateways that watch what is new, once it is certain."""
        presence = self._presence(user, now_s)
        if presence is not None and presence != subject.told:
            subject.told = presence
            for gateway, (partition, _) in subject.gateways.items():
                self._answers.answer(partition, gateway, presence)

    def _presence(self, user: int, now_s: float) -> pb.Presence | None:
        """How a user is; None: too short a time to say, or not known yet. It is looked at again
        when that is over.
        """
        if present := self._present(user):
            if user in self._came_s:
                return None
            declared = self._declared.get(user)
            state, text = (ONLINE, "") if declared is None else (declared.state, declared.text)
            if declared is not None and state == INVISIBLE:
                return self._offline(user, declared.since_ms)
            active_s = max(connection.session.active_s for connection in present)
            if state == ONLINE and now_s - active_s >= IDLE_S:
                state = AWAY
            return pb.Presence(user=user, state=state, text=text)
        if user in self._left or self._partition(user) in self._settling_s:
            return None
        return self._offline(user, 0)

    def _offline(self, user: int, since_ms: int) -> pb.Presence | None:
        """Since then; 0: since the user was here last, if that is known already."""
        seen_ms = since_ms or self._seen.of(user)
        return None if seen_ms is None else pb.Presence(user=user, state=OFFLINE, seen_ms=seen_ms)

    def _present(self, user: int) -> Sequence[ClientConnection]:
        """Sessions that count: one in the background wakes up for messages, without its user."""
        return [each for each in self._hub.of_user(user) if not each.session.background]

    def _partition(self, user: int) -> int:
        return user_partition(user, self._partitions)

    def _end_leases(self, subject: _Subject, now_s: float) -> None:
        ended = [name for name, (_, until_s) in subject.gateways.items() if until_s <= now_s]
        for gateway in ended:
            del subject.gateways[gateway]

    def forget(self, now_s: float) -> None:
        """Called now and then: forgets what users have declared who have left for good."""
        self._declared = {
            user: declared for user, declared in self._declared.items() if declared.until_s > now_s
        }


def _until(times: Iterable[tuple[int, float]], until_s: float) -> Iterator[int]:
    """Those of the first, which are in order, whose time is not later."""
    return (user for user, _ in takewhile(lambda one: one[1] <= until_s, times))
