"""Who is connected: finds the connections of a user, fans out what comes to them, and closes many
of them at once.

Connections put themselves in and out, the feed passes deliveries on. No I/O, no clock: time is
passed in. A live connection gets a push at once; one that is behind (just connected, or too slow)
goes on from its position in the replay buffer by itself. Source: design.md D9, D10.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from backends.rate_limits import Allowance, Bucket
from gateway.sessions import close
from gateway.sessions.close import Close
from gateway.sessions.protocol import Phase
from schemas import chat_pb2 as pb
from schemas import frames
from schemas.deliveries import FEW, own_user_of, push_of
from schemas.tokens import Claims

if TYPE_CHECKING:
    from gateway.sessions.connection import ClientConnection

MAX_PER_TURN: Final = 16
"""Connections that are closed or written to in one go, where it is done to all."""
PONG_TIMEOUT_S: Final = 2.0
"""A session that has not answered a ping for so long may be gone, and gives its place when another
device needs it.
"""


class Hub:
    """All connections of this gateway. Belongs to one event loop."""

    def __init__(
        self,
        *,
        budget: Allowance,
        sessions_per_user: int,
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        """`call_soon` calls after whatever else is waiting; `budget` is what a user may spend."""
        self._budget, self._sessions_per_user = budget, sessions_per_user
        self._call_soon = call_soon
        self._connections: set[ClientConnection] = set()
        self._arrivals = 0
        self._by_id: dict[str, ClientConnection] = {}
        self._by_user: dict[int, tuple[ClientConnection, ...]] = {}
        self._by_partition: dict[int, dict[ClientConnection, None]] = {}
        self._budgets: dict[int, Bucket] = {}
        self._departed: list[ClientConnection] = []
        self.closing = 0
        """What is being done to many connections, some in each turn of the event loop."""

    def allow(self, *, budget: Allowance, sessions_per_user: int) -> None:
        """From now on users may do so much; sessions that are there stay."""
        self._sessions_per_user = sessions_per_user
        if budget != self._budget:
            self._budget = budget
            for bucket in self._budgets.values():
                bucket.allow(budget)

    @property
    def connections(self) -> int:
        """Open sockets, with or without a hello."""
        return len(self._connections)

    @property
    def waiting(self) -> int:
        """Those that have not been sent `welcome` yet."""
        return len(self._connections) - len(self._by_id)

    def of_user(self, user: int) -> Sequence[ClientConnection]:
        """The connections of a user that have said hello."""
        return self._by_user.get(user, ())

    def by_partition(self) -> Mapping[int, Collection[ClientConnection]]:
        """The connections that have said hello, by their users' partition, those without any left
        out.

        It changes as they come and go.
        """
        return self._by_partition

    def has_session(self, session_id: str) -> bool:
        """Whether this is the id of a session here."""
        return session_id in self._by_id

    # ---- connections that come and go ------------------------------------------------------------

    def add(self, connection: ClientConnection) -> None:
        """A socket was opened. Nothing is known of it yet."""
        self._connections.add(connection)
        self._arrivals += 1
        connection.arrival = self._arrivals

    def register(self, connection: ClientConnection, now_s: float) -> Close | None:
        """The connection is a user's now, who may have too many; of two of one device the one that
        was opened first ends.

        Where there are too many, the one that has been silent longest gives its place, if that is
        `PONG_TIMEOUT_S`: see `ping_if_full`.
        """
        session = connection.session
        user, device = session.claims.user, session.claims.device
        for other in self.of_user(user):
            if other.session.claims.device == device:
                if other.arrival > connection.arrival:
                    return close.REPLACED
                other.close(close.REPLACED)
        others = self._by_user.get(user, ())
        if len(others) >= self._sessions_per_user:
            silent = min(others, key=lambda other: other.session.last_activity_s)
            silent_s = now_s - silent.session.last_activity_s
            if not silent.session.pinged or silent_s < PONG_TIMEOUT_S:
                return close.TOO_MANY_SESSIONS.filled(limit=self._sessions_per_user)
            silent.close(close.PLACE_NEEDED)
            others = self._by_user.get(user, ())
        self._by_user[user] = (*others, connection)
        # A user's sessions are all here, and draw from one bucket: one look-up a session, none a
        # frame.
        session.budget = self._budgets.get(user) or self._budgets.setdefault(
            user, Bucket(self._budget)
        )
        self._by_id[session.id] = connection
        self._by_partition.setdefault(session.partition, {})[connection] = None
        return None

    def ping_if_full(self, claims: Claims) -> bool:
        """Whether there is no place for a session of this token.

        Then the user's connections are pinged.
        """
        others = self.of_user(claims.user)
        full = len(others) >= self._sessions_per_user and all(
            other.session.claims.device != claims.device for other in others
        )
        for other in others if full else ():
            other.ping()
        return full

    def remove(self, connection: ClientConnection) -> None:
        """The socket has ended, or is about to: nothing is sent to it from now on.

        May be called twice.
        """
        session = connection.session
        session.phase = Phase.CLOSED
        self._connections.discard(connection)
        if self._by_id.pop(session.id, None) is not None:
            self._departed.append(connection)
            user = session.claims.user
            others = tuple(other for other in self._by_user[user] if other is not connection)
            if others:
                self._by_user[user] = others
            else:
                del self._by_user[user]
            there = self._by_partition[session.partition]
            del there[connection]
            if not there:
                del self._by_partition[session.partition]

    def pop_departed(self) -> Sequence[ClientConnection]:
        """Those that had said hello and were removed since the last call."""
        departed, self._departed = self._departed, []
        return departed

    def forget(self, now_s: float) -> None:
        """Called now and then: forgets full budgets of users who have left."""
        self._budgets = {
            user: budget
            for user, budget in self._budgets.items()
            if user in self._by_user or budget.full_s > now_s
        }

    # ---- to many ---------------------------------------------------------------------------------

    def push(self, partition: int, offset: int, deliveries: Sequence[pb.Delivery]) -> None:
        """Pushes the deliveries of one record to the live connections of their users."""
        for index, delivery in enumerate(deliveries):
            # In a group the same frame goes to all but the sender: 3 us less for each.
            own = own_user_of(delivery) if len(delivery.users) > FEW else None
            common: frames.Push | None = None
            for user in delivery.users:
                if (connections := self._by_user.get(user)) is None:
                    continue
                # Elsewhere its cursor would lead nowhere.
                if connections[0].session.partition != partition:
                    continue
                frame = common if user != own else None
                if frame is None:
                    frame = push_of(delivery, user)
                    common = frame if own not in {None, user} else common
                if frame is not None:
                    for connection in connections:
                        connection.push(frame, offset, index)

    def answer(self, answer: pb.Answer, frame: frames.ServerFrame) -> None:
        """An answer for one session, if it is here."""
        if (connection := self._by_id.get(answer.session)) is not None:
            connection.answer(answer.re, frame)

    def close_all(self, why: Close) -> None:
        """Closes every connection; see `_close`."""
        self._close(tuple(self._connections), why)

    def close_partition(self, partition: int, why: Close) -> None:
        """Closes the connections of a partition; see `_close`."""
        self._close(tuple(self._by_partition.get(partition, ())), why)

    def drain(self, within_ms: int) -> None:
        """Sends `drain` to every session, some in each turn; each has its own time to come back."""

        def tell(connection: ClientConnection) -> None:
            connection.send(
                frames.Drain(reconnect_after_ms=random.randint(0, within_ms))  # noqa: S311 - jitter
            )

        self._in_turns(tuple(self._by_id.values()), tell)

    def _close(self, connections: Sequence[ClientConnection], why: Close) -> None:
        """Nothing is sent to these from now on, and they are closed, some in each turn; `closing`
        says how long.
        """
        for connection in connections:
            self.remove(connection)
        self._in_turns(connections, lambda connection: connection.end(why))

    def _in_turns(
        self, connections: Sequence[ClientConnection], call: Callable[[ClientConnection], None]
    ) -> None:
        """16,000 connections at once would hold up everything else for a second."""
        self.closing += 1

        def turn(start: int) -> None:
            end = start + MAX_PER_TURN
            for connection in connections[start:end]:
                call(connection)
            if end < len(connections):
                self._call_soon(partial(turn, end))
            else:
                self.closing -= 1

        turn(0)
