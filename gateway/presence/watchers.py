"""The sessions of this gateway that watch users, and what they have been told.

A session gets at most one WebSocket message a second, whatever happens, with the newest of each
user that has changed. No I/O and no clock: time is passed in. Source: docs/decisions/0059.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from backends.telemetry.metrics import count
from gateway.presence.visibility import Pair, Visibility
from gateway.sessions.deduplicator import RecentDict
from schemas import chat_pb2 as pb
from schemas.errors import Refused
from schemas.frames import FRAMES_IN_ARRAY
from schemas.ids import UserId
from schemas.kinds.presence import OFFLINE, Presence, shown
from schemas.topics import user_partition

if TYPE_CHECKING:
    from gateway.sessions.connection import ClientConnection

MAX_WATCHED: Final = 100
PUSH_INTERVAL_S: Final = 1.0
LEASE_S: Final = 300.0
"""A user of whom nothing was heard for so long counts as offline: presence is a lease, which the
gateway of that user's sockets renews.
"""
DEPARTED_TTL_S: Final = 60.0
"""What a session could see is remembered for so long after its end: most come back."""
MAX_DEPARTED: Final = 16_384
MAX_CHANGED: Final = 65_536
MAX_CHECKED: Final = 256
"""About so many pairs of users are asked for at once: a millisecond of the event loop."""
# Sessions that are pushed to in one go: a quarter of a millisecond.
MAX_PER_TURN: Final = 8
MAX_PRESENCES_PER_TURN: Final = 64
"""Users of whom is heard in one go."""


class Owners(Protocol):
    """Where the owners of users are asked: `EphemeralBatcher`."""

    def watch(self, partition: int, users: Iterable[int]) -> None:
        """The owner of this partition is to say how these users are, and what changes."""
        ...


class Watcher:
    """One session that watches."""

    __slots__ = ("connection", "due_s", "pending", "visibility")

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.visibility: dict[int, Visibility | None] = {}
        """The users that it watches; None: not asked yet, and nothing is told."""
        self.pending: dict[int, None] = {}
        """Those of whom it is to be told."""
        self.due_s = 0.0


class _Watched:
    """A user that sessions here watch: how that user is, and when that was last heard."""

    __slots__ = ("heard_s", "presence", "watchers")

    def __init__(self, now_s: float) -> None:
        self.presence: pb.Presence | None = None
        self.heard_s = now_s
        self.watchers: dict[Watcher, None] = {}


class Watchers:
    """All that watch at one gateway. Belongs to one event loop."""

    def __init__(
        self,
        owners: Owners,
        *,
        partitions: int,
        call_soon: Callable[[Callable[[], None]], object],
        on_unchecked: Callable[[], None],
        renew_s: float,
    ) -> None:
        """`on_unchecked` is called when there is something for `to_check`; each user who is watched
        is asked for anew every `renew_s`, one partition after the other.
        """
        self._owners = owners
        self._partitions = partitions
        self._call_soon = call_soon
        self._on_unchecked = on_unchecked
        self._renew_s = renew_s
        self._watchers: dict[ClientConnection, Watcher] = {}
        """Here, so that a connection that watches no one costs nothing."""
        self._watched: dict[int, dict[int, _Watched]] = {}
        """By partition, by user."""
        self._unchecked: dict[Watcher, None] = {}
        self._departed = RecentDict[tuple[int, str], tuple[float, dict[int, Visibility | None]]]()
        """User and device -> when the last session ended, and what it could see."""
        self._visibility_changed_s = RecentDict[int, float]()
        self._waiting: dict[Watcher, None] = {}
        """Those with something to be told."""
        self._renewed = 0
        self._renewed_s = 0.0
        self._aged_s = 0.0

    # ---- what sessions ask for -------------------------------------------------------------------

    def watch(self, connection: ClientConnection, users: Sequence[UserId], now_s: float) -> None:
        """Raises Refused too_many, and nothing has changed then."""
        watcher = self._watchers.get(connection) or Watcher(connection)
        new = {user for user in users if user not in watcher.visibility}
        if len(watcher.visibility) + len(new) > MAX_WATCHED:
            raise Refused("too_many", f"a session watches at most {MAX_WATCHED} users")
        self._watchers[connection] = watcher
        before = self._visibility_before(connection, new, now_s)
        asked: dict[int, list[int]] = {}
        for user in users:
            partition = user_partition(user, self._partitions)
            of_partition = self._watched.setdefault(partition, {})
            watched = of_partition.get(user)
            if watched is None:
                watched = of_partition[user] = _Watched(now_s)
                asked.setdefault(partition, []).append(user)
            watched.watchers[watcher] = None
            if user in new:
                watcher.visibility[user] = before.get(user)
            self._tell(watcher, user, watched)
        for partition, some in asked.items():
            self._owners.watch(partition, some)
        if any(watcher.visibility[user] is None for user in new):
            self._check(watcher)

    def unwatch(self, connection: ClientConnection, users: Iterable[int]) -> None:
        """Those that it does not watch are ignored."""
        if (watcher := self._watchers.get(connection)) is not None:
            for user in users:
                if watcher.visibility.pop(user, self) is not self:
                    watcher.pending.pop(user, None)
                    self._leave(watcher, user)

    def on_left(self, connection: ClientConnection, now_s: float) -> None:
        """The session has ended, and its watch with it."""
        if (watcher := self._watchers.pop(connection, None)) is not None:
            self._unchecked.pop(watcher, None)
            self._waiting.pop(watcher, None)
            for user in watcher.visibility:
                self._leave(watcher, user)
            self._departed.put(_device(connection), (now_s, watcher.visibility), limit=MAX_DEPARTED)

    def _is_here(self, watcher: Watcher) -> bool:
        return self._watchers.get(watcher.connection) is watcher

    def _leave(self, watcher: Watcher, user: int) -> None:
        """A user without watchers is not asked for again; the owner's lease ends by itself."""
        partition = user_partition(user, self._partitions)
        watched = self._watched[partition][user]
        del watched.watchers[watcher]
        if not watched.watchers:
            del self._watched[partition][user]

    # ---- who may see whom ------------------------------------------------------------------------

    def to_check(self) -> list[tuple[Watcher, list[Pair]]]:
        """The next sessions for which it is to be asked what they may see; none: all have been."""
        found: list[tuple[Watcher, list[Pair]]] = []
        count = 0
        for watcher in self._unchecked:
            if count >= MAX_CHECKED:
                break
            viewer = watcher.connection.session.claims.user
            found.append((watcher, [(viewer, UserId(user)) for user in watcher.visibility]))
            count += len(watcher.visibility)
        for watcher, _ in found:
            del self._unchecked[watcher]
        return found

    def on_checked(
        self, watcher: Watcher, pairs: Sequence[Pair], found: Sequence[Visibility]
    ) -> None:
        """The session may see that much of each."""
        if not self._is_here(watcher):
            return
        for (_, user), visibility in zip(pairs, found, strict=True):
            if watcher.visibility.get(user, visibility) is visibility:
                continue  # as before, or it watches the user no longer
            watcher.visibility[user] = visibility
            of_partition = self._watched[user_partition(user, self._partitions)]
            self._tell(watcher, user, of_partition[user])

    def on_visibility_changed(
        self, user: int, connections: Iterable[ClientConnection], now_s: float
    ) -> None:
        """What this user, with these connections, may see, and what may be seen of this user, is
        asked again.
        """
        self._visibility_changed_s.put(user, now_s, limit=MAX_CHANGED)
        of_partition = self._watched.get(user_partition(user, self._partitions), {})
        if (watched := of_partition.get(user)) is not None:
            for watcher in watched.watchers:
                self._check(watcher)
        for connection in connections:
            if (mine := self._watchers.get(connection)) is not None:
                self._check(mine)

    def _visibility_before(
        self, connection: ClientConnection, users: Iterable[int], now_s: float
    ) -> dict[int, Visibility | None]:
        """What an earlier session of the same device could see of these, where that has not changed
        since a while before its end: it may have ended before it was asked again.
        """
        left_s, visibility = self._departed.get(_device(connection)) or (float("-inf"), {})
        if now_s - left_s >= DEPARTED_TTL_S:
            return {}
        both = (connection.session.claims.user, *users)
        changed = {
            one
            for one in both
            if (changed_s := self._visibility_changed_s.get(one)) is not None
            and changed_s + DEPARTED_TTL_S >= left_s
        }
        if both[0] in changed:
            return {}
        return {user: visibility.get(user) for user in users if user not in changed}

    def on_check_failed(self, watchers: Iterable[Watcher]) -> None:
        """It could not be asked."""
        for watcher in watchers:
            if self._is_here(watcher):
                self._unchecked[watcher] = None

    def _check(self, watcher: Watcher) -> None:
        self._unchecked[watcher] = None
        self._on_unchecked()

    # ---- what is told ----------------------------------------------------------------------------

    def on_presences(self, presences: Sequence[pb.Presence], now_s: float) -> None:
        """This is how some users are.

        All of it goes in turns, so that what is said later about the same users comes later.
        """
        for start in range(0, len(presences), MAX_PRESENCES_PER_TURN):
            some = presences[start : start + MAX_PRESENCES_PER_TURN]
            self._call_soon(partial(self._take, some, now_s))

    def _take(self, presences: Sequence[pb.Presence], now_s: float) -> None:
        for presence in presences:
            of_partition = self._watched.get(user_partition(presence.user, self._partitions), {})
            if (watched := of_partition.get(presence.user)) is not None:
                watched.heard_s = now_s
                self._change(presence, watched)

    def _change(self, presence: pb.Presence, watched: _Watched) -> None:
        """Tells those who can see a difference: others must not notice that there was a change."""
        old, watched.presence = watched.presence, presence
        if old == presence:
            return
        seen_alone = old is not None and (old.state, old.text) == (presence.state, presence.text)
        for watcher in watched.watchers:
            visibility = watcher.visibility[presence.user]
            if visibility is Visibility.ALL or (visibility is Visibility.STATE and not seen_alone):
                self._tell(watcher, presence.user, watched)

    def _tell(self, watcher: Watcher, user: int, watched: _Watched) -> None:
        visibility = watcher.visibility[user]
        if visibility is Visibility.NOTHING or (
            visibility is not None and watched.presence is not None
        ):
            watcher.pending[user] = None
            self._waiting[watcher] = None

    def tick(self, now_s: float) -> None:
        """Called some times a second: tells the sessions whose turn it is, asks owners again."""
        if due := [watcher for watcher in self._waiting if watcher.due_s <= now_s]:
            self._push_some(due, now_s)
        if now_s - self._renewed_s >= self._renew_s / self._partitions:
            self._renewed_s = now_s
            self._renewed = (self._renewed + 1) % self._partitions
            self._renew(self._watched.get(self._renewed, {}), now_s)

    def _push_some(self, due: Sequence[Watcher], now_s: float) -> None:
        for watcher in due[:MAX_PER_TURN]:
            if self._is_here(watcher) and watcher.due_s <= now_s:
                self._push(watcher, now_s)
        if len(due) > MAX_PER_TURN:
            self._call_soon(partial(self._push_some, due[MAX_PER_TURN:], now_s))

    def _push(self, watcher: Watcher, now_s: float) -> None:
        watcher.due_s = now_s + PUSH_INTERVAL_S
        users = [*islice(watcher.pending, FRAMES_IN_ARRAY)]
        told = [self._frame(watcher, user) for user in users]
        if told and not watcher.connection.push_ephemeral(told):
            return  # too slow: it is told the newest later
        count("knchat_presence_pushes_total", len(told))
        for user in users:
            del watcher.pending[user]
        if not watcher.pending:
            self._waiting.pop(watcher, None)

    def _frame(self, watcher: Watcher, user: int) -> Presence:
        watched = self._watched[user_partition(user, self._partitions)][user]
        visibility = watcher.visibility[user]
        if visibility is Visibility.NOTHING or watched.presence is None:
            return Presence(user=str(user), state=OFFLINE)
        return shown(watched.presence, last_seen=visibility is Visibility.ALL)

    def _renew(self, of_partition: dict[int, _Watched], now_s: float) -> None:
        if not of_partition:
            return
        self._owners.watch(self._renewed, of_partition)
        for user, watched in of_partition.items():
            if now_s - watched.heard_s >= LEASE_S and watched.presence is not None:
                self._change(pb.Presence(user=user, state=OFFLINE), watched)

    def forget(self, now_s: float) -> None:
        """Called now and then: forgets what sessions could see that have not come back."""
        if now_s - self._aged_s >= DEPARTED_TTL_S:
            self._aged_s = now_s
            self._departed.age()


def _device(connection: ClientConnection) -> tuple[int, str]:
    claims = connection.session.claims
    return claims.user, claims.device
