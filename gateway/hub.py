"""Who is connected: finds the sessions of a user, pushes to them what comes out of the log, and lets go of those who may not stay.

The conversations put sessions in and out, the delivery puts records in. No I/O beyond writing to open sockets, no clock: time is passed in.
A live session gets a push at once; one that is behind (just connected, or too slow) goes on from its position in the ring, and that is the
only difference between them. Source: design.md D9, D10, D19.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, assert_never

from backends.rate_limits import Allowance, Bucket
from backends.telemetry.metrics import count
from gateway.acts import EXPIRED, NO_PONG, REPLACED, REVOKED, TOO_MANY_SESSIONS, TOO_SLOW, Deed, End, Pause, Ping, Say
from gateway.ring import Cursor, Missed, Position, Ring
from gateway.session import STUCK_S, Phase, Session
from gateway.told import Told
from gateway.wheel import Wheel
from schemas import chat_pb2 as pb
from schemas import frames
from schemas.deliveries import outdates, push_of, replaces
from schemas.tokens import Claims

RECENT_MS: Final = 120_000
"""Deliveries of so long are pushed to a device that is new or was away too long (protocol.md section 4)."""
IN_ONE_TURN: Final = 64
"""Sessions that are closed or told something in one turn of the event loop, where it is done to all: some milliseconds."""
# An array ends behind the push that makes it longer than this, or before one that would not fit any more, with its brackets and commas.
ARRAY_BYTES: Final = frames.FRAME_BYTES // 2
FULL_BYTES: Final = frames.FRAME_BYTES - 2 * frames.FRAMES_IN_ARRAY


SILENT_S: Final = 2.0
"""Who has not answered a ping for so long may be gone, and gives its place when another device needs it."""
_REPLACED: Final = End(REPLACED, "a newer session of the same device")


@dataclass(frozen=True, slots=True)
class Allowed:
    """What one user and one session may cost."""

    budget: Allowance
    sessions_per_user: int
    outbox_bytes: int
    token_s: int


class Hub:
    """All sessions of this gateway, and the ring of its partitions. Belongs to one event loop."""

    def __init__(self, ring: Ring, allowed: Allowed, *, now_s: float, soon: Callable[[Callable[[], None]], object] | None = None) -> None:
        """`soon` does a thing after whatever else is waiting: a long catch-up goes on by it. None: everything is done at once."""
        self.ring = ring
        self._told = Told()
        self._awaited: dict[int, dict[Callable[[], None], Position]] = {}
        self._allowed = allowed
        self._soon = soon
        self._now_s = now_s
        self._wheel = Wheel[Session](now_s)
        self._everybody: set[Session] = set()
        self._arrivals = 0
        self._by_id: dict[str, Session] = {}
        self._by_user: dict[int, tuple[Session, ...]] = {}
        self._by_partition: dict[int, dict[Session, None]] = {}
        self.ending = 0
        """What is being done to many sessions, some in each turn of the event loop."""
        self._revoked: dict[tuple[int, str], tuple[int, int]] = {}
        self._epochs: dict[int, tuple[int, str, int]] = {}
        self._budgets: dict[int, Bucket] = {}
        self.epoch = ""
        self._pushed = 0

    @property
    def connections(self) -> int:
        """Open sockets, with or without a hello."""
        return len(self._everybody)

    @property
    def waiting(self) -> int:
        """Those that have not been told `welcome` yet."""
        return len(self._everybody) - len(self._by_id)

    # ---- coming and going ----------------------------------------------------------------------------------------------------------------

    def connected(self, session: Session) -> None:
        """A socket was opened. Nothing is known of it yet, but it does not stay for ever."""
        self._everybody.add(session)
        self._arrivals += 1
        session.arrival = self._arrivals
        self._wheel.visit_at(session, session.next_visit_s())

    def cursor_of(self, partition: int, resume: str) -> Cursor | None:
        """The cursor in this text, if it is one of this log and partition."""
        cursor = Cursor.parse(resume)
        return cursor if cursor is not None and (cursor.epoch, cursor.partition) == (self.epoch, partition) else None

    def plan(self, session: Session) -> None:
        """The session has set itself a deadline that may come before its next visit."""
        self._wheel.visit_at(session, session.next_visit_s())

    def place(self, partition: int, resume: str | None, now_ms: int, *, behind: bool = False) -> tuple[str, Position]:
        """How a hello goes on: new, resumed or reset, and from which position. `behind`: what the ring no longer holds is there too."""
        recent = self.ring.since(partition, now_ms - RECENT_MS)
        if resume is None:
            return "new", recent
        cursor = self.cursor_of(partition, resume)
        if cursor is None or not (behind or self.ring.holds(partition, cursor.position)):
            return "reset", recent
        return "resumed", cursor.position

    def pushed_s(self, partition: int, now_ms: int) -> float:
        """For how far back `new` and `reset` push everything."""
        return max(0, min(RECENT_MS, now_ms - self.ring.gone_ms(partition))) / 1_000

    def joined(self, session: Session) -> End | None:
        """The session is a user's now, who may have too many; of two of one device the one whose WebSocket was opened first ends.

        Where there are too many, the one that has been silent longest gives its place, if that is `SILENT_S`: see `ask_for_life`.
        """
        user, device = session.claims.user, session.claims.device
        for other in self._by_user.get(user, ()):
            if other.claims.device == device:
                if other.arrival > session.arrival:
                    return _REPLACED
                self.do(other, _REPLACED)
        others = self._by_user.get(user, ())
        if len(others) >= self._allowed.sessions_per_user:
            silent = min(others, key=lambda other: other.heard_s)
            if not silent.pinged or self._now_s - silent.heard_s < SILENT_S:
                return End(TOO_MANY_SESSIONS, f"more than {self._allowed.sessions_per_user} sessions")
            self.do(silent, End(NO_PONG, "no sign of life, and another device needs the place"))
            others = self._by_user.get(user, ())
        self._by_user[user] = (*others, session)
        # A user's sessions are all here, and draw from one bucket: one look-up a session, none a frame.
        session.budget = self._budgets.get(user) or self._budgets.setdefault(user, Bucket(self._allowed.budget))
        self._by_id[session.id] = session
        self._by_partition.setdefault(session.partition, {})[session] = None
        self._wheel.visit_at(session, session.next_visit_s())
        return None

    def ask_for_life(self, claims: Claims) -> bool:
        """Whether there is no place for a session of this token. Then the user's sessions are asked whether they are still there."""
        others = self._by_user.get(claims.user, ())
        full = len(others) >= self._allowed.sessions_per_user and all(other.claims.device != claims.device for other in others)
        for other in others if full else ():
            other.pinged = True
            self.do(other, Ping())
        return full

    def left(self, session: Session) -> None:
        """The socket has ended, or is about to. May be called twice."""
        session.phase = Phase.ENDED
        self._everybody.discard(session)
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

    def end_all(self, code: int, reason: str) -> None:
        """Nobody is told anything from now on, and every session is closed, some in each turn; `ending` says how long."""
        sessions = tuple(self._everybody)
        for session in sessions:
            session.phase = Phase.ENDED
        for table in (self._everybody, self._by_id, self._by_user, self._by_partition):
            table.clear()
        count("knchat_closes_total", len(sessions), code=str(code))
        self._in_turns(sessions, lambda session: session.socket.close(code, reason))

    def jumped(self, partition: int, offset: int) -> None:
        """The log has dropped what came before this offset, unread: the partition begins anew, and its sessions come back to `reset`."""
        behind = self.ring.end(partition)
        self.ring.open(partition, offset)
        for session in self._by_partition.get(partition, ()):
            if session.position is None:
                session.position = behind  # it is told nothing more: a cursor from behind the gap would hide it
        self.end_partition(partition, TOO_SLOW, "what comes next is no longer here: resume")

    def end_partition(self, partition: int, code: int, reason: str) -> None:
        """Closes the sessions of a partition, some in each turn."""
        self._in_turns(tuple(self._by_partition.get(partition, ())), lambda session: self.do(session, End(code, reason)))

    def by_partition(self) -> Mapping[int, Collection[Session]]:
        """The sessions that have said hello, by their users' partition, those without any left out. It changes as they come and go."""
        return self._by_partition

    def drain(self, within_ms: int) -> None:
        """Tells every session to come back soon, each at its own time; some in each turn."""

        def tell(session: Session) -> None:
            self.do(session, Say(frames.Drain(reconnect_after_ms=random.randint(0, within_ms))))  # noqa: S311 - jitter

        self._in_turns(tuple(self._by_id.values()), tell)

    def _in_turns(self, sessions: Sequence[Session], act: Callable[[Session], None]) -> None:
        """16,000 sessions at once would hold up everything else for a second."""
        self.ending += 1

        def turn(start: int) -> None:
            end = len(sessions) if self._soon is None else start + IN_ONE_TURN
            for session in sessions[start:end]:
                act(session)
            if self._soon is not None and end < len(sessions):
                self._soon(partial(turn, end))
            else:
                self.ending -= 1

        turn(0)

    # ---- doing ---------------------------------------------------------------------------------------------------------------------------

    def do(self, session: Session, deed: Deed) -> None:
        """Writes to the session's socket."""
        if session.phase is Phase.ENDED:
            return
        match deed:
            case Say():
                self._say(session, deed.frame)
            case End():
                count("knchat_closes_total", code=str(deed.code))
                self.left(session)
                session.socket.close(deed.code, deed.reason)
            case Ping():
                session.socket.ping()
            case Pause():
                count("knchat_read_pauses_total")
                session.socket.pause(deed.seconds)
            case _:
                assert_never(deed)

    def _say(self, session: Session, frame: frames.ServerFrame) -> None:
        session.socket.send(session.codec.encode(frame), text=session.codec.text)
        if session.socket.congested:
            self._stuck(session)
            if session.socket.buffered_bytes > 2 * self._allowed.outbox_bytes:
                self.do(session, End(TOO_SLOW, "asks and does not read"))

    def answer(self, answer: pb.Answer, frame: frames.ServerFrame) -> None:
        """An answer for one session, if it is here and still wants it. Too slow a session gets none: it shall ask again."""
        session = self._by_id.get(answer.session)
        if session is not None and (re := session.answered(answer.re)) is not None:
            if session.socket.congested:
                frame = frames.Error(code="unavailable", message="too much is unread, ask again", temporary=True)
            frame.re = re
            self.do(session, Say(frame))

    def expects(self, session_id: str) -> bool:
        """Whether this is the id of a session here."""
        return session_id in self._by_id

    def open(self, partition: int, offset: int, gone_ms: int = 0) -> None:
        """What comes of this partition begins at this offset; what was held and told of it before is forgotten. `gone_ms`: see the ring."""
        self.ring.open(partition, offset, gone_ms)
        self._told.drop(partition)

    def holds(self, partition: int) -> bool:
        """Whether this partition is in the ring."""
        return self.ring.has(partition)

    def await_end(self, partition: int, position: Position, reached: Callable[[], None]) -> Callable[[], None]:
        """Calls `reached` once, as soon as everything before this position has come. Returns what to call when nobody waits any more."""
        waiting = self._awaited.setdefault(partition, {})
        waiting[reached] = position

        def forget() -> None:
            waiting.pop(reached, None)

        return forget

    def _tell_reached(self, partition: int) -> None:
        waiting, end = self._awaited.get(partition, {}), self.ring.end(partition)
        for reached in [reached for reached, position in waiting.items() if position <= end]:
            del waiting[reached]
            reached()
        if not waiting:
            self._awaited.pop(partition, None)

    def drop(self, partition: int) -> None:
        """Nothing of this partition comes any more."""
        self.ring.drop(partition)
        self._told.drop(partition)

    # ---- pushing -------------------------------------------------------------------------------------------------------------------------

    def deliver(self, partition: int, offset: int, at_ms: int, deliveries: Sequence[pb.Delivery]) -> None:
        """One record out of the log: kept in the ring, and pushed to everybody who is live. What is no news to its users is neither."""
        for delivery in deliveries:
            self._told.sift(partition, at_ms, delivery)
        self.ring.add(partition, offset, at_ms, deliveries)
        self.revoke_all(deliveries, at_ms)
        for index, delivery in enumerate(deliveries):
            for user in delivery.users:
                if (sessions := self._by_user.get(user)) is not None:
                    self._push(sessions, partition, (offset, index), delivery)
        if self._awaited:
            self._tell_reached(partition)

    def _push(self, sessions: Sequence[Session], partition: int, position: Position, delivery: pb.Delivery) -> None:
        frame = push_of(delivery, sessions[0].claims.user)
        if frame is None:
            return
        for session in sessions:
            if session.position is not None or session.partition != partition or not session.wants(frame):
                continue
            if session.socket.congested:
                session.position = position
                self._stuck(session)
                count("knchat_pauses_total")
                continue
            session.socket.send(session.push(frame, (position[0], position[1] + 1)), text=session.codec.text)
            session.told_s = self._now_s
            self._pushed += 1

    def writable(self, session: Session) -> None:
        """The session's outbox has room again."""
        session.stuck_since_s = None
        self.catch_up(session)

    def catch_up(self, session: Session) -> None:
        """Pushes what a session has not had out of the ring, until it is live or its outbox is full.

        One array at a time: ten devices that each had missed 8,000 messages held up everybody else for a second (measured).
        """
        user, partition = session.claims.user, session.partition
        while session.position is not None and session.phase is Phase.OPEN:
            if session.behind is None and not self.ring.holds(partition, session.position):
                self.do(session, End(TOO_SLOW, "what comes next is no longer here: resume"))
                return
            if session.socket.congested:
                self._stuck(session)
                return
            if session.behind is None:
                missed = self.ring.missed(partition, user, session.position, limit=frames.FRAMES_IN_ARRAY)
            else:
                missed = session.behind.missed[: frames.FRAMES_IN_ARRAY]
            if missed:
                self._push_missed(session, missed)
                session.go_on()
                if self._soon is not None:
                    self._soon(partial(self.catch_up, session))
                    return
            else:
                self._is_live(session)

    def _push_missed(self, session: Session, missed: Sequence[Missed]) -> None:
        """One WebSocket message with as many as fit into it; a large one goes alone."""
        told = [(after, pb.Delivery.FromString(raw)) for after, raw in missed]
        newest = {name: delivery for _, delivery in told if (name := replaces(delivery)) is not None}
        parts: list[bytes] = []
        size = 0
        for after, delivery in told:
            session.position = after
            name = replaces(delivery)
            if name is not None and newest[name] is not delivery and outdates(newest[name], delivery):
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
        session.told_s = self._now_s
        self._pushed += len(parts)

    def _is_live(self, session: Session) -> None:
        session.position = None
        if not session.told_live:
            session.told_live = True
            session.told = self.ring.end(session.partition)
            self.do(session, Say(frames.Live(cursor=session.cursor(session.told))))

    def _stuck(self, session: Session) -> None:
        if session.stuck_since_s is None:
            session.stuck_since_s = self._now_s
            self._wheel.visit_at(session, self._now_s + STUCK_S)

    # ---- log-outs ------------------------------------------------------------------------------------------------------------------------

    def revoke_all(self, deliveries: Iterable[pb.Delivery], at_ms: int) -> None:
        """The log-outs among these deliveries, which came at that time."""
        for delivery in deliveries:
            if delivery.HasField("revoked"):
                for user in delivery.users:
                    self._revoke(user, delivery.revoked, at_ms)

    def _revoke(self, user: int, revoked: pb.Revoked, at_ms: int) -> None:
        """Ends what this ends of the user's sessions, and refuses the older tokens as long as they could live."""
        # Such a token was issued before `before_ms` by the clock that signed, which may be ahead of the log's.
        until_ms = max(at_ms, revoked.before_ms) + self._allowed.token_s * 1_000
        if revoked.epoch:
            epoch, kept, since_ms = self._epochs.get(user, (0, "", 0))
            if revoked.epoch >= epoch:
                epoch, kept = revoked.epoch, revoked.kept
            self._epochs[user] = epoch, kept, max(until_ms, since_ms)
        else:
            key = (user, revoked.device)
            self._revoked[key] = (max(revoked.before_ms, self._revoked.get(key, (0, 0))[0]), until_ms)
        for session in self._by_user.get(user, ()):
            if (end := self.revoked(session.claims)) is not None:
                self.do(session, end)

    def revoked(self, claims: Claims) -> End | None:
        """How a session with this token ends, as the log-in that it came from has ended since; None: it stands."""
        if any(claims.issued_ms < self._revoked.get((claims.user, device), (0, 0))[0] for device in (claims.device, "")):
            return End(REVOKED, "this device was logged out")
        epoch, kept, _ = self._epochs.get(claims.user, (0, "", 0))
        if claims.epoch >= epoch:
            return None
        if claims.device == kept:  # whoever changed the password has new tokens; whoever had stolen the old ones has not
            return End(EXPIRED, "the password was changed: refresh first")
        return End(REVOKED, "this device was logged out")

    # ---- time ----------------------------------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Called some times a second: does what is due."""
        self._now_s = now_s
        for session in self._wheel.due(now_s):
            if session.phase is Phase.ENDED:
                continue
            for deed in session.visit(now_s, self.ring.end(session.partition) if session.partition >= 0 else (0, 0)):
                self.do(session, deed)
            if session in self._everybody:
                self._wheel.visit_at(session, session.next_visit_s())
        count("knchat_pushes_total", self._pushed)
        self._pushed = 0

    def forget(self, now_ms: int) -> None:
        """Called now and then: forgets old deliveries, revocations that no living token can meet, and full budgets of who has left."""
        self.ring.forget(now_ms)
        self._revoked = {key: held for key, held in self._revoked.items() if held[1] > now_ms}
        self._epochs = {user: held for user, held in self._epochs.items() if held[2] > now_ms}
        self._budgets = {user: budget for user, budget in self._budgets.items() if user in self._by_user or budget.full_s > self._now_s}
