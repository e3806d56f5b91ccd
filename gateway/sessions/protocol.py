"""One WebSocket's protocol (docs/protocol.md): from a client's bytes to effects, from deliveries to
a client's bytes.

No I/O and no clock: bytes and times are passed in, and what is to be done is returned as effects,
which the client's connection executes. The socket, the other clients, the log and the stores are
not known here.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from backends.rate_limits import Allowance, Bucket
from backends.telemetry.metrics import count
from gateway.sessions import close
from gateway.sessions.close import Close
from gateway.sessions.effects import (
    ActNow,
    Authenticate,
    Coalesce,
    Effect,
    PauseReading,
    Ping,
    Publish,
    Query,
    RefreshToken,
    SendFrame,
    error_of,
)
from gateway.sessions.questions import QUERY_TIMEOUT_S, Questions
from gateway.sessions.read_limits import MIN_PAUSE_S, ReadLimits
from gateway.sessions.replay_buffer import Position
from gateway.sessions.untold import Untold
from schemas import frames
from schemas.codec import Codec
from schemas.commands import query_of
from schemas.errors import ChatError, Malformed, Refused, Unavailable
from schemas.ids import UserId, time_text
from schemas.kinds import COMMANDS, COSTS, EPHEMERALS, QUESTIONS, WAKING
from schemas.kinds.history import History, Page
from schemas.kinds.kind import QuestionSpec
from schemas.kinds.newer import Newer
from schemas.lenient import BadFrame, Part, UnknownType, Unparsable
from schemas.tokens import Claims

CURSOR_INTERVAL_S: Final = 300.0
"""How often a session that gets nothing is sent its cursor."""
EXPIRY_WARNING_S: Final = 60.0
EXPIRY_WARNING_PART: Final = 3
"""`expiring` comes EXPIRY_WARNING_S before the end, and only in the last third of its life: short
ones would be refreshed all the time.
"""
MAX_OWED: Final = 64
"""Commands of one session on their way into the log above which it is read later: other writers
wait for so many at most.
"""
REFUSED_PAUSE_S: Final = 0.1
"""A session that gets `rate_limited` is read so much later, so that asking on costs little."""


@dataclass(slots=True)
class Rules:
    """What holds for every session of this gateway, now: it follows the configuration."""

    text_bytes: int
    frames_per_second: int
    ping_s: int
    hello_timeout_s: float


class Phase(Enum):
    """How far a session has come."""

    NEW = auto()  # no hello yet
    AUTHENTICATING = auto()  # the hello is being looked at
    OPEN = auto()  # welcome was said
    CLOSED = auto()


class Session:
    """The state of one client's protocol."""

    __slots__ = (
        "_cursor_start",
        "_early",
        "_heavy",
        "_limits",
        "_questions",
        "_refused",
        "_rules",
        "_untold",
        "_warn_s",
        "_warned",
        "active_s",
        "background",
        "budget",
        "claims",
        "codec",
        "cursor_position",
        "cursor_s",
        "expires_s",
        "id",
        "last_activity_s",
        "n",
        "owed",
        "partition",
        "phase",
        "pinged",
    )

    def __init__(self, codec: Codec, rules: Rules, *, now_s: float) -> None:
        self.id = secrets.token_hex(8)
        self.codec = codec
        self._rules = rules
        self.phase = Phase.NEW
        self.claims = NO_CLAIMS
        self.partition = -1
        self.background = False
        self.budget = UNLIMITED
        """Its user's, which all sessions of that user draw from; the hub sets it."""
        self._refused = False
        self._heavy = 0.0
        self.n = 0
        self.owed = 0
        """Commands that are on their way into the log: so many `ok`s it still waits for."""
        self.cursor_position: Position = (0, 0)
        """The newest cursor it has, since `cursor_s`."""
        self.cursor_s = now_s
        self.last_activity_s = now_s
        self.active_s = now_s
        """When its user last did something: pings and new tokens are the client's own doing."""
        self.expires_s = now_s + rules.hello_timeout_s
        """When it ends unless it shows a token, or a newer one, before."""
        self.pinged = False
        """It was pinged, and nothing has come since."""
        self._warn_s = 0.0
        self._warned = False
        self._limits = ReadLimits(rules.frames_per_second, now_s=now_s)
        self._questions: Questions | None = None
        """None before the first: most sessions ask little."""
        self._early: list[Part] | None = None
        """None but for a moment: most say nothing before they are let in."""
        self._untold: Untold | None = None
        """None before the first push of a large group."""
        self._cursor_start = ""

    # ---- what the client sends -------------------------------------------------------------------

    def receive(self, payload: bytes, *, text: bool, now_s: float, now_ms: int) -> list[Effect]:
        """What one WebSocket message leads to, in order. Never raises, whatever the bytes."""
        self.on_activity(now_s)
        if text is not self.codec.text:
            return [close.WRONG_OPCODE]
        try:
            parts = self.codec.split(payload)
        except Unparsable as error:
            return [close.MALFORMED.because(str(error))]
        if not parts:
            return self.on_idle_frame(now_s)
        if self.phase is not Phase.OPEN and (end := self._limits.on_early_frame()) is not None:
            return [end]
        effects = self._take_all(parts, now_s, now_ms)
        heavy, self._heavy = self._heavy, 0.0
        wait_s = max(
            self._limits.take(
                len(parts),
                len(payload),
                more=heavy,
                rate=self._rules.frames_per_second,
                now_s=now_s,
            ),
            self._pop_backlog_pause_s(),
        )
        if wait_s > 0:
            self.last_activity_s += wait_s  # nothing can come from it meanwhile
            effects.append(PauseReading(wait_s))
        return effects

    def on_idle_frame(self, now_s: float) -> list[Effect]:
        """A WebSocket frame without a message."""
        self.on_activity(now_s)
        end = self._limits.on_idle_frame(now_s)
        if end is None and self.phase is not Phase.OPEN:
            end = self._limits.on_early_frame()
        return [] if end is None else [end]

    def on_activity(self, now_s: float) -> None:
        """Something came: the client is there."""
        self.last_activity_s = now_s
        self.pinged = False

    def _pop_backlog_pause_s(self) -> float:
        """For how many seconds it is not read because the log is behind with it, or because it asks
        on though its budget is spent.
        """
        if self._refused:
            self._refused = False
            return REFUSED_PAUSE_S
        return MIN_PAUSE_S if self.owed > MAX_OWED else 0.0

    def on_admitted(self, now_s: float, now_ms: int) -> list[Effect]:
        """What the client said while its hello was being looked at."""
        early, self._early = self._early, None
        return self._take_all(early or (), now_s, now_ms)

    def _take_all(self, parts: Sequence[Part], now_s: float, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        for part in parts:
            effect = self._take(part, now_s, now_ms)
            if effect is not None:
                effects.append(effect)
                if isinstance(effect, Close):
                    break
        return effects

    def _take(self, part: Part, now_s: float, now_ms: int) -> Effect | None:
        if self.phase is Phase.OPEN:
            return self._open(part, now_s, now_ms)
        if self.phase is Phase.AUTHENTICATING:
            if self._early is None:
                self._early = []
            self._early.append(part)
            return None
        if self.phase is Phase.NEW:
            return self._first(part)
        return None

    def _first(self, part: Part) -> Effect:
        try:
            frame = self.codec.incoming(part)
        except BadFrame as error:
            return (
                close.MALFORMED.because(error.message)
                if error.type == "hello"
                else close.HELLO_FIRST
            )
        except UnknownType:
            return close.HELLO_FIRST
        except Unparsable as error:
            return close.MALFORMED.because(str(error))
        if not isinstance(frame, frames.Hello):
            return close.HELLO_FIRST
        self.phase = Phase.AUTHENTICATING
        return Authenticate(frame)

    def _open(self, part: Part, now_s: float, now_ms: int) -> Effect:
        try:
            frame = self.codec.incoming(part)
        except BadFrame as error:
            return SendFrame(error_of(error, error.re))
        except UnknownType as unknown:
            return SendFrame(
                error_of(
                    Malformed(
                        f"{unknown.name!r} is no type of frame", code="unknown_type", field="type"
                    ),
                    unknown.re,
                )
            )
        except Unparsable as error:
            return close.MALFORMED.because(str(error))
        try:
            return self._act(frame, now_s, now_ms)
        except ChatError as error:
            return SendFrame(error_of(error, frame.id))

    def _act(self, frame: frames.ClientFrame, now_s: float, now_ms: int) -> Effect:
        cost = COSTS[type(frame)]
        units = cost.of(getattr(frame, "limit", 0)) if cost.per_item else cost.units
        if wait_s := self.budget.draw(units, now_s):
            count("knchat_rate_limited_total", whose="user")
            self._refused = True
            raise Refused("rate_limited", "you ask for too much at once", retry_after_s=wait_s)
        if units > 1:
            self._heavy += units - 1
        if (kind := COMMANDS.get(type(frame))) is not None:
            self.active_s = now_s
            command = kind.command(
                frame, self.claims.user, self.claims.device, self._rules.text_bytes
            )
            return (Coalesce if kind.watermarks else Publish)(kind, command, frame.id)
        if (question := QUESTIONS.get(type(frame))) is not None:
            self.active_s = now_s
            return self._ask(question, frame, now_s, now_ms)
        if (ephemeral := EPHEMERALS.get(type(frame))) is not None:
            self.active_s = now_s
            return ActNow(ephemeral, frame)
        match frame:
            case frames.Refresh():
                return RefreshToken(frame.token, frame.id)
            case frames.Ping():
                return SendFrame(frames.Pong(re=frame.id, time=time_text(now_ms)))
            case _:
                return close.DUPLICATE_HELLO

    def _ask(
        self, kind: QuestionSpec[Any, Any], frame: frames.ClientFrame, now_s: float, now_ms: int
    ) -> Effect:
        query = query_of(
            kind,
            frame,
            user=self.claims.user,
            session=self.id,
            deadline_ms=now_ms + int(QUERY_TIMEOUT_S * 1_000),
        )
        if self._untold is not None and isinstance(frame, History):
            self._untold.on_asked(frame.chat)
        if self._questions is None:
            self._questions = Questions()
        query.re = self._questions.add(query.re, now_s)
        return Query(query, getattr(query, kind.body).chat if kind.attends else "")

    def pop_question(self, question: int) -> int | None:
        """Takes a question off the list: the client's number of it.

        None when it is no longer on it: the answer is not wanted.
        """
        return None if self._questions is None else self._questions.pop(question)

    # ---- what the client is sent -----------------------------------------------------------------

    def open(
        self,
        claims: Claims,
        *,
        partition: int,
        epoch: str,
        position: Position,
        background: bool,
        now_s: float,
        now_ms: int,
    ) -> None:
        """The hello was right: from now on it is this user's, who has had what lies before
        `position`.
        """
        self.phase = Phase.OPEN
        self.partition = partition
        self.background = background
        self.cursor_position = position
        self.cursor_s = now_s
        self.active_s = now_s
        self._cursor_start = f"{epoch}.{partition}."
        self.renew(claims, now_s=now_s, now_ms=now_ms)

    def renew(self, claims: Claims, *, now_s: float, now_ms: int) -> None:
        """A newer token of the same user and device."""
        self.claims = claims
        self.expires_s = now_s + (claims.expires_ms - now_ms) / 1_000
        self._warn_s = self.expires_s - min(
            EXPIRY_WARNING_S, (claims.expires_ms - claims.issued_ms) / 1_000 / EXPIRY_WARNING_PART
        )
        self._warned = False

    def cursor(self, position: Position) -> str:
        """What the client resumes with from there."""
        return f"{self._cursor_start}{position[0]}.{position[1]}"

    def wants(self, frame: frames.Push) -> bool:
        """Whether this session gets this push, now."""
        if self.background:
            return type(frame) in WAKING
        if type(frame) is Newer and self._untold is not None:
            return self._untold.wants(frame.chat, int(frame.newest))
        return True

    def push(self, frame: frames.Push, after: Position) -> bytes:
        """The bytes of a durable push, counted; `after` is the position just behind it."""
        if type(frame) is Newer:
            self._untold = self._untold or Untold()
            self._untold.on_told(frame.chat, int(frame.newest))
        self.n += 1
        self.cursor_position = after
        frame.n = self.n
        frame.cursor = self.cursor(after)
        return self.codec.encode(frame)

    def push_after(self, frame: frames.ServerFrame) -> bytes | None:
        """The bytes of what is to be told behind this answer: of a message of a large group that
        it was not told of, and which the page does not show.
        """
        if self._untold is None or not isinstance(frame, Page):
            return None
        message = self._untold.on_page(
            frame.chat, {int(message.message) for message in frame.messages}
        )
        if message is None:
            return None
        return self.push(Newer(chat=frame.chat, newest=str(message)), self.cursor_position)

    # ---- what happens with time ------------------------------------------------------------------

    def on_timer(self, now_s: float, end: Position | None) -> list[Effect]:
        """What is due now. `end`: how far its partition is known; None: the session is behind."""
        if self.phase is Phase.NEW:
            return (
                [close.HELLO_TIMEOUT.filled(seconds=self._rules.hello_timeout_s)]
                if now_s >= self.expires_s
                else []
            )
        if self.phase is not Phase.OPEN:
            return []
        if now_s >= self.expires_s:
            return [close.EXPIRED]
        if now_s - self.last_activity_s >= 2 * self._rules.ping_s:
            return [close.PONG_TIMEOUT]
        effects: list[Effect] = []
        if now_s - self.last_activity_s >= self._rules.ping_s and not self.pinged:
            self.pinged = True
            effects.append(Ping())
        if now_s >= self._warn_s and not self._warned:
            self._warned = True
            effects.append(SendFrame(frames.Expiring(at=time_text(self.claims.expires_ms))))
        if now_s - self.cursor_s >= CURSOR_INTERVAL_S:
            self.cursor_s = now_s
            if end is not None and end > self.cursor_position:
                self.cursor_position = end
                effects.append(SendFrame(frames.Cursor(cursor=self.cursor(end))))
        if self._questions is not None:
            late = Unavailable(f"no answer within {QUERY_TIMEOUT_S:.0f} s")
            effects += [SendFrame(error_of(late, re)) for re in self._questions.pop_late(now_s)]
        return effects

    def next_timer_s(self) -> float:
        """When something may be due again."""
        if self.phase is not Phase.OPEN:
            return self.expires_s
        times = [
            self.expires_s if self._warned else self._warn_s,
            self.last_activity_s + self._rules.ping_s * (2 if self.pinged else 1),
            self.cursor_s + CURSOR_INTERVAL_S,
        ]
        if self._questions is not None:
            times.append(self._questions.next_s)
        return min(times)


NO_CLAIMS: Final = Claims(UserId(0), "", 0, 0)
UNLIMITED: Final = Bucket(Allowance(1e12, 1e12))
