"""Who is connected: finds the sessions of a user, pushes to them what comes out of the log, and
closes those that may not stay.

Connections put sessions in and out, the delivery reader puts records in. No I/O beyond writing to
open sockets, no clock: time is passed in. A live session gets a push at once; one that is behind
(just connected, or too slow) goes on from its position in the replay buffer, and that is the only
difference between them. Source: design.md D9, D10, D19.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, assert_never

from backends.rate_limits import Allowance, Bucket
from backends.telemetry.metrics import count
from gateway.sessions import close
from gateway.sessions.close import Close
from gateway.sessions.deduplicator import Deduplicator
from gateway.sessions.effects import PauseReading, Ping, SendFrame, SocketEffect
from gateway.sessions.protocol import STUCK_TIMEOUT_S, Phase, Session
from gateway.sessions.replay_buffer import Cursor, Missed, Position, ReplayBuffer
from gateway.sessions.timers import TimerWheel
from schemas import chat_pb2 as pb
from schemas import frames
from schemas.deliveries import outdates, push_of, replaces
from schemas.tokens import Claims

RECENT_MS: Final = 120_000
"""Deliveries of so long are pushed to a device that is new or was gone too long (protocol.md
section 4).
"""
MAX_PER_TURN: Final = 64
"""Sessions that are closed or written to in one turn of the event loop, where it is done to all:
some milliseconds.
"""
# An array ends behind the push that makes it longer than this, or before one that would not fit any
# more, with its brackets and commas.
ARRAY_BYTES: Final = frames.FRAME_BYTES // 2
FULL_BYTES: Final = frames.FRAME_BYTES - 2 * frames.FRAMES_IN_ARRAY


PONG_TIMEOUT_S: Final = 2.0
"""A session that has not answered a ping for so long may be gone, and gives its place when another
device needs it.
"""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What one user and one session may cost."""

    budget: Allowance
    sessions_per_user: int
    outbox_bytes: int
    token_s: int


class Hub:
    """All sessions of this gateway, and the replay buffer of its partitions.

    Belongs to one event loop.
    """

    def __init__(
        self,
        replay_buffer: ReplayBuffer,
        allowed: Allowed,
        *,
        now_s: float,
        call_soon: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """`call_soon` does a thing after whatever else is waiting: a long catch-up goes on by it.

        None: everything is done at once.
        """
        self.replay_buffer = replay_buffer
        self._deduplicator = Deduplicator()
        self._awaited: dict[int, dict[Callable[[], None], Position]] = {}
        self._allowed = allowed
        self._call_soon = call_soon
        self._now_s = now_s
        self._timers = TimerWheel[Session](now_s)
        self._sessions: set[Session] = set()
        self._arrivals = 0
        self._by_id: dict[str, Session] = {}
        self._by_user: dict[int, tuple[Session, ...]] = {}
        self._by_partition: dict[int, dict[Session, None]] = {}
        self.closing = 0
        """What is being done to many sessions, some in each turn of the event loop."""
        self._revoked: dict[tuple[int, str], tuple[int, int]] = {}
        self._epochs: dict[int, tuple[int, str, int]] = {}
        self._budgets: dict[int, Bucket] = {}
        self.epoch = ""
        self._pushed = 0

    @property
    def connections(self) -> int:
        """Open sockets, with or without a hello."""
        return len(self._sessions)

    @property
    def waiting(self) -> int:
        """Those that have not been sent `welcome` yet."""
        return len(self._sessions) - len(self._by_id)

    # ---- sessions that come and go ---------------------------------------------------------------

    def add(self, session: Session) -> None:
        """A socket was opened. Nothing is known of it yet, and it has a deadline."""
        self._sessions.add(session)
        self._arrivals += 1
        session.arrival = self._arrivals
        self._timers.schedule(session, session.next_timer_s())

    def cursor_of(self, partition: int, resume: str) -> Cursor | None:
        """The cursor in this text, if it is one of this log and partition."""
        cursor = Cursor.parse(resume)
        return (
            cursor
            if cursor is not None and (cursor.epoch, cursor.partition) == (self.epoch, partition)
            else None
        )

    def schedule(self, session: Session) -> None:
        """The session has set itself a deadline that may come before its next visit."""
        self._timers.schedule(session, session.next_timer_s())

    def place(
        self, partition: int, resume: str | None, now_ms: int, *, behind: bool = False
    ) -> tuple[str, Position]:
        """How a hello goes on: new, resumed or reset, and from where.

        `behind`: what the replay buffer no longer holds is there too.
        """
        recent = self.replay_buffer.since(partition, now_ms - RECENT_MS)
        if resume is None:
            return "new", recent
        cursor = self.cursor_of(partition, resume)
        if cursor is None or not (behind or self.replay_buffer.holds(partition, cursor.position)):
            return "reset", recent
        return "resumed", cursor.position

    def pushed_s(self, partition: int, now_ms: int) -> float:
        """For how far back `new` and `reset` push everything."""
        return max(0, min(RECENT_MS, now_ms - self.replay_buffer.gone_ms(partition))) / 1_000

    def register(self, session: Session) -> Close | None:
        """The session is a user's now, who may have too many; of two of one device the one whose
        WebSocket was opened first ends.

        Where there are too many, the one that has been silent longest gives its place, if that is
        `PONG_TIMEOUT_S`: see `ping_if_full`.
        """
        user, device = session.claims.user, session.claims.device
        for other in self._by_user.get(user, ()):
            if other.claims.device == device:
                if other.arrival > session.arrival:
                    return close.REPLACED
                self.execute(other, close.REPLACED)
        others = self._by_user.get(user, ())
        if len(others) >= self._allowed.sessions_per_user:
            silent = min(others, key=lambda other: other.last_activity_s)
            if not silent.pinged or self._now_s - silent.last_activity_s < PONG_TIMEOUT_S:
                return close.TOO_MANY_SESSIONS.filled(limit=self._allowed.sessions_per_user)
            self.execute(silent, close.PLACE_NEEDED)
            others = self._by_user.get(user, ())
        self._by_user[user] = (*others, session)
        # A user's sessions are all here, and draw from one bucket: one look-up a session, none a
        # frame.
        session.budget = self._budgets.get(user) or self._budgets.setdefault(
            user, Bucket(self._allowed.budget)
        )
        self._by_id[session.id] = session
        self._by_partition.setdefault(session.partition, {})[session] = None
        self._timers.schedule(session, session.next_timer_s())
        return None

    def ping_if_full(self, claims: Claims) -> bool:
        """Whether there is no place for a session of this token.

        Then the user's sessions are pinged.
        """
        others = self._by_user.get(claims.user, ())
        full = len(others) >= self._allowed.sessions_per_user and all(
            other.claims.device != claims.device for other in others
        )
        for other in others if full else ():
            other.pinged = True
            self.execute(other, Ping())
        return full

    def remove(self, session: Session) -> None:
        """The socket has ended, or is about to. May be called twice."""
        session.phase = Phase.CLOSED
        self._sessions.discard(session)
        if self._by_id.pop(session.id, None) is not None:
            user = session.claims.user
            others = tuple(other for other in self._by_user[user] if other is not session)
            if others:
                self._by_user[user] = others
            else:
                del self._by_user[user]
            there = self._by_partition[session.partition]
            del there[session]
            if not there:
                del self._by_partition[session.partition]

    def close_all(self, why: Close) -> None:
        """Nothing is sent from now on, and every session is closed, some in each turn; `closing`
        says how long.
        """
        sessions = tuple(self._sessions)
        for session in sessions:
            session.phase = Phase.CLOSED
        for table in (self._sessions, self._by_id, self._by_user, self._by_partition):
            table.clear()
        count("knchat_closes_total", len(sessions), code=str(why.code))
        self._in_turns(sessions, lambda session: session.socket.close(why.code, why.reason))

    def on_jump(self, partition: int, offset: int) -> None:
        """The log has dropped what came before this offset, unread: the partition begins anew, and
        its sessions come back to `reset`.
        """
        behind = self.replay_buffer.end(partition)
        self.replay_buffer.open(partition, offset)
        for session in self._by_partition.get(partition, ()):
            if session.position is None:
                session.position = (
                    behind  # nothing more is sent to it: a cursor from behind the gap would hide it
                )
        self.close_partition(partition, close.NO_LONGER_HELD)

    def close_partition(self, partition: int, why: Close) -> None:
        """Closes the sessions of a partition, some in each turn."""
        self._in_turns(
            tuple(self._by_partition.get(partition, ())), lambda session: self.execute(session, why)
        )

    def by_partition(self) -> Mapping[int, Collection[Session]]:
        """The sessions that have said hello, by their users' partition, those without any left out.

        It changes as they come and go.
        """
        return self._by_partition

    def drain(self, within_ms: int) -> None:
        """Sends `drain` to every session, each with its own time to come back;
        some in each turn.
        """

        def tell(session: Session) -> None:
            self.execute(
                session,
                SendFrame(frames.Drain(reconnect_after_ms=random.randint(0, within_ms))),  # noqa: S311 - jitter
            )

        self._in_turns(tuple(self._by_id.values()), tell)

    def _in_turns(self, sessions: Sequence[Session], call: Callable[[Session], None]) -> None:
        """16,000 sessions at once would hold up everything else for a second."""
        self.closing += 1

        def turn(start: int) -> None:
            end = len(sessions) if self._call_soon is None else start + MAX_PER_TURN
            for session in sessions[start:end]:
                call(session)
            if self._call_soon is not None and end < len(sessions):
                self._call_soon(partial(turn, end))
            else:
                self.closing -= 1

        turn(0)

    # ---- effects ---------------------------------------------------------------------------------

    def execute(self, session: Session, effect: SocketEffect) -> None:
        """Executes an effect on the session's socket."""
        if session.phase is Phase.CLOSED:
            return
        match effect:
            case SendFrame():
                self._send(session, effect.frame)
            case Close():
                count("knchat_closes_total", code=str(effect.code))
                self.remove(session)
                session.socket.close(effect.code, effect.reason)
            case Ping():
                session.socket.ping()
            case PauseReading():
                count("knchat_read_pauses_total")
                session.socket.pause(effect.seconds)
            case _:
                assert_never(effect)

    def _send(self, session: Session, frame: frames.ServerFrame) -> None:
        session.socket.send(session.codec.encode(frame), text=session.codec.text)
        if session.socket.congested:
            self._mark_stuck(session)
            if session.socket.buffered_bytes > 2 * self._allowed.outbox_bytes:
                self.execute(session, close.REPLIES_UNREAD)

    def answer(self, answer: pb.Answer, frame: frames.ServerFrame) -> None:
        """An answer for one session, if it is here and still wants it.

        Too slow a session gets none: it shall ask again.
        """
        session = self._by_id.get(answer.session)
        if session is not None and (re := session.pop_question(answer.re)) is not None:
            if session.socket.congested:
                frame = frames.Error(
                    code="unavailable", message="too much is unread, ask again", temporary=True
                )
            frame.re = re
            self.execute(session, SendFrame(frame))

    def has_session(self, session_id: str) -> bool:
        """Whether this is the id of a session here."""
        return session_id in self._by_id

    def open(self, partition: int, offset: int, gone_ms: int = 0) -> None:
        """What comes of this partition begins at this offset; what was held and sent before is
        forgotten.

        `gone_ms`: see `ReplayBuffer`.
        """
        self.replay_buffer.open(partition, offset, gone_ms)
        self._deduplicator.drop(partition)

    def has_partition(self, partition: int) -> bool:
        """Whether this partition is in the replay buffer."""
        return self.replay_buffer.has_partition(partition)

    def notify_at(
        self, partition: int, position: Position, reached: Callable[[], None]
    ) -> Callable[[], None]:
        """Calls `reached` once, as soon as everything before this position has come.

        Returns what to call to cancel it.
        """
        waiting = self._awaited.setdefault(partition, {})
        waiting[reached] = position

        def forget() -> None:
            waiting.pop(reached, None)

        return forget

    def _notify_reached(self, partition: int) -> None:
        waiting, end = self._awaited.get(partition, {}), self.replay_buffer.end(partition)
        for reached in [reached for reached, position in waiting.items() if position <= end]:
            del waiting[reached]
            reached()
        if not waiting:
            self._awaited.pop(partition, None)

    def drop(self, partition: int) -> None:
        """Nothing of this partition comes any more."""
        self.replay_buffer.drop(partition)
        self._deduplicator.drop(partition)

    # ---- pushing ---------------------------------------------------------------------------------

    def deliver(
        self, partition: int, offset: int, at_ms: int, deliveries: Sequence[pb.Delivery]
    ) -> None:
        """One record out of the log: kept in the replay buffer, and pushed to live sessions.

        What its users have had already is neither.
        """
        for delivery in deliveries:
            self._deduplicator.drop_repeats(partition, at_ms, delivery)
        self.replay_buffer.add(partition, offset, at_ms, deliveries)
        self.apply_revocations(deliveries, at_ms)
        for index, delivery in enumerate(deliveries):
            for user in delivery.users:
                if (sessions := self._by_user.get(user)) is not None:
                    self._push(sessions, partition, (offset, index), delivery)
        if self._awaited:
            self._notify_reached(partition)

    def _push(
        self, sessions: Sequence[Session], partition: int, position: Position, delivery: pb.Delivery
    ) -> None:
        frame = push_of(delivery, sessions[0].claims.user)
        if frame is None:
            return
        for session in sessions:
            if (
                session.position is not None
                or session.partition != partition
                or not session.wants(frame)
            ):
                continue
            if session.socket.congested:
                session.position = position
                self._mark_stuck(session)
                count("knchat_pauses_total")
                continue
            session.socket.send(
                session.push(frame, (position[0], position[1] + 1)), text=session.codec.text
            )
            session.cursor_s = self._now_s
            self._pushed += 1

    def on_writable(self, session: Session) -> None:
        """The session's outbox has room again."""
        session.stuck_since_s = None
        self.catch_up(session)

    def catch_up(self, session: Session) -> None:
        """Pushes what a session has not had out of the replay buffer, until it is live or its
        outbox is full.

        One array at a time: ten devices that each had missed 8,000 messages held up all others for
        a second (measured).
        """
        user, partition = session.claims.user, session.partition
        while session.position is not None and session.phase is Phase.OPEN:
            if session.behind is None and not self.replay_buffer.holds(partition, session.position):
                self.execute(session, close.NO_LONGER_HELD)
                return
            if session.socket.congested:
                self._mark_stuck(session)
                return
            if session.behind is None:
                missed = self.replay_buffer.missed(
                    partition, user, session.position, limit=frames.FRAMES_IN_ARRAY
                )
            else:
                missed = session.behind.missed[: frames.FRAMES_IN_ARRAY]
            if missed:
                self._push_missed(session, missed)
                session.advance()
                if self._call_soon is not None:
                    self._call_soon(partial(self.catch_up, session))
                    return
            else:
                self._set_live(session)

    def _push_missed(self, session: Session, missed: Sequence[Missed]) -> None:
        """One WebSocket message with as many as fit into it; a large one goes alone."""
        told = [(after, pb.Delivery.FromString(raw)) for after, raw in missed]
        newest = {
            name: delivery for _, delivery in told if (name := replaces(delivery)) is not None
        }
        parts: list[bytes] = []
        size = 0
        for after, delivery in told:
            session.position = after
            name = replaces(delivery)
            if (
                name is not None
                and newest[name] is not delivery
                and outdates(newest[name], delivery)
            ):
                continue
            frame = push_of(delivery, session.claims.user)
            if frame is not None and session.wants(frame):
                part = session.push(frame, after)
                if parts and size + len(part) > FULL_BYTES:
                    self._send_missed(session, parts)
                    parts, size = [], 0
                parts.append(part)
                size += len(part)
                if size > ARRAY_BYTES:
                    break
        if parts:
            self._send_missed(session, parts)

    def _send_missed(self, session: Session, parts: Sequence[bytes]) -> None:
        session.socket.send(session.codec.array(parts), text=session.codec.text)
        session.cursor_s = self._now_s
        self._pushed += len(parts)

    def _set_live(self, session: Session) -> None:
        session.position = None
        if not session.live_sent:
            session.live_sent = True
            session.cursor_position = self.replay_buffer.end(session.partition)
            self.execute(
                session, SendFrame(frames.Live(cursor=session.cursor(session.cursor_position)))
            )

    def _mark_stuck(self, session: Session) -> None:
        if session.stuck_since_s is None:
            session.stuck_since_s = self._now_s
            self._timers.schedule(session, self._now_s + STUCK_TIMEOUT_S)

    # ---- log-outs --------------------------------------------------------------------------------

    def apply_revocations(self, deliveries: Iterable[pb.Delivery], at_ms: int) -> None:
        """The log-outs among these deliveries, which came at that time."""
        for delivery in deliveries:
            if delivery.HasField("revoked"):
                for user in delivery.users:
                    self._revoke(user, delivery.revoked, at_ms)

    def _revoke(self, user: int, revoked: pb.Revoked, at_ms: int) -> None:
        """Ends what this ends of the user's sessions, and refuses the older tokens as long as they
        could live.
        """
        # Such a token was issued before `before_ms` by the clock that signed, which may be ahead of
        # the log's.
        until_ms = max(at_ms, revoked.before_ms) + self._allowed.token_s * 1_000
        if revoked.epoch:
            epoch, kept, since_ms = self._epochs.get(user, (0, "", 0))
            if revoked.epoch >= epoch:
                epoch, kept = revoked.epoch, revoked.kept
            self._epochs[user] = epoch, kept, max(until_ms, since_ms)
        else:
            key = (user, revoked.device)
            self._revoked[key] = (
                max(revoked.before_ms, self._revoked.get(key, (0, 0))[0]),
                until_ms,
            )
        for session in self._by_user.get(user, ()):
            if (end := self.revocation_of(session.claims)) is not None:
                self.execute(session, end)

    def revocation_of(self, claims: Claims) -> Close | None:
        """How a session with this token ends, as the log-in that it came from has ended since;
        None: it stands.
        """
        if any(
            claims.issued_ms < self._revoked.get((claims.user, device), (0, 0))[0]
            for device in (claims.device, "")
        ):
            return close.REVOKED
        epoch, kept, _ = self._epochs.get(claims.user, (0, "", 0))
        if claims.epoch >= epoch:
            return None
        if (
            claims.device == kept
        ):  # the device that changed the password has new tokens; a thief of the old ones has not
            return close.PASSWORD_CHANGED
        return close.REVOKED

    # ---- time ------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Called some times a second: does what is due."""
        self._now_s = now_s
        for session in self._timers.pop_due(now_s):
            if session.phase is Phase.CLOSED:
                continue
            for effect in session.on_timer(
                now_s,
                self.replay_buffer.end(session.partition) if session.partition >= 0 else (0, 0),
            ):
                self.execute(session, effect)
            if session in self._sessions:
                self._timers.schedule(session, session.next_timer_s())
        count("knchat_pushes_total", self._pushed)
        self._pushed = 0

    def forget(self, now_ms: int) -> None:
        """Called now and then: forgets old deliveries, revocations that no living token can meet,
        and full budgets of who has left.
        """
        self.replay_buffer.forget(now_ms)
        self._revoked = {key: held for key, held in self._revoked.items() if held[1] > now_ms}
        self._epochs = {user: held for user, held in self._epochs.items() if held[2] > now_ms}
        self._budgets = {
            user: budget
            for user, budget in self._budgets.items()
            if user in self._by_user or budget.full_s > self._now_s
        }
