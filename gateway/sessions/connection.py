"""One WebSocket from its first byte to its last: hands what the client says to its session,
executes the session's effects, and pushes what its user gets.

`app` makes one for each socket that it admits, and nothing else writes to that socket. Plain calls
on the event loop; what waits is in `hello`. What all connections share is in `GatewayContext`.
Source: design.md D9, D10.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, assert_never

from msgspec import UnsetType

from backends.telemetry.metrics import count
from gateway.publishing.idempotency import Outcome
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
    Re,
    RefreshToken,
    SendFrame,
    error_of,
)
from gateway.sessions.hello import authenticate, refresh_token
from gateway.sessions.missed import pack
from gateway.sessions.protocol import Phase, Session
from gateway.sessions.replay_buffer import Behind, Position
from gateway.transport.interface import Socket
from schemas import chat_pb2 as pb
from schemas import frames
from schemas.codec import Codec
from schemas.errors import ChatError, Malformed
from schemas.kinds.kind import CommandSpec

if TYPE_CHECKING:
    from gateway.context import GatewayContext

STUCK_TIMEOUT_S: Final = 30.0


class ClientConnection:
    """The handler of one socket. `session` is the state of its protocol."""

    __slots__ = (
        "_behind",
        "_live_sent",
        "_stuck_since_s",
        "arrival",
        "context",
        "position",
        "session",
        "socket",
        "timer_tick",
    )

    def __init__(self, context: GatewayContext, codec: Codec) -> None:
        self.context = context
        self.session = Session(codec, context.rules, now_s=context.clock.elapsed_s())
        self.socket: Socket
        self.arrival = 0
        """The order in which the WebSockets of this gateway were opened."""
        self.timer_tick = -1
        self.position: Position | None = None
        """What is to be pushed next, while it is behind.

        None: it is live, and gets what comes as it comes.
        """
        self._behind: Behind | None = None
        """What the replay buffer no longer holds and is to be pushed before anything else."""
        self._live_sent = False
        self._stuck_since_s: float | None = None
        """Since when it has taken nothing, though there is something for it."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing is sent any more."""
        return self.session.phase is Phase.CLOSED

    # ---- callbacks of the socket -----------------------------------------------------------------

    def on_open(self, socket: Socket) -> None:
        """See `Handler`."""
        self.socket = socket
        self.context.hub.add(self)
        self.schedule()

    def on_message(self, payload: bytes, *, text: bool) -> None:
        """See `Handler`."""
        clock = self.context.clock
        self.execute_all(
            self.session.receive(payload, text=text, now_s=clock.elapsed_s(), now_ms=clock.now_ms())
        )

    def on_writable(self) -> None:
        """See `Handler`."""
        self._stuck_since_s = None
        self.catch_up()

    def on_activity(self) -> None:
        """See `Handler`."""
        self.execute_all(self.session.on_idle_frame(self.context.clock.elapsed_s()))

    def on_flood(self) -> None:
        """See `Handler`."""
        self.close(close.TOO_MUCH_EARLY)

    def on_close(self, code: int, reason: str) -> None:  # noqa: ARG002 - the handler's contract
        """See `Handler`."""
        self.context.hub.remove(self)

    # ---- effects ---------------------------------------------------------------------------------

    def execute_all(self, effects: Sequence[Effect]) -> None:
        """Executes these, in order."""
        for effect in effects:
            self.execute(effect)

    def execute(self, effect: Effect) -> None:
        """Executes one effect of the session: the only place where any is."""
        match effect:
            case Publish():
                self.session.owed += 1
                self.context.publisher.submit(
                    effect.command,
                    partial(self._on_published, effect.kind, effect.command, effect.re),
                )
            case SendFrame():
                self.send(effect.frame)
            case Query():
                self.schedule()
                if effect.attended:
                    self.context.presence.on_attended(self, effect.attended)
                self.context.queries.ask(
                    effect.query, partial(self._on_query_failed, effect.query.re)
                )
            case Coalesce():
                self._coalesce(effect.kind, effect.command, effect.re)
            case ActNow():
                self._act_now(effect)
            case PauseReading():
                count("knchat_read_pauses_total")
                self.socket.pause(effect.seconds)
            case Close():
                self.close(effect)
            case Ping():
                self.socket.ping()
            case Authenticate():
                self.context.spawn(authenticate(self, effect.hello))
            case RefreshToken():
                self.context.spawn(refresh_token(self, effect.token, effect.re))
            case _:
                assert_never(effect)

    def send(self, frame: frames.ServerFrame) -> None:
        """Sends a frame that is no push; one that does not read its replies is closed."""
        session, socket = self.session, self.socket
        if session.phase is Phase.CLOSED:
            return
        socket.send(session.codec.encode(frame), text=session.codec.text)
        if socket.congested:
            self._mark_stuck()
            if socket.buffered_bytes > 2 * self.context.outbox_bytes:
                self.close(close.REPLIES_UNREAD)

    def close(self, why: Close) -> None:
        """Closes the socket, unless that is done; the hub forgets it at once."""
        if not self.is_closed:
            self.context.hub.remove(self)
            self.end(why)

    def end(self, why: Close) -> None:
        """Closes the socket of a connection that the hub has removed."""
        count("knchat_closes_total", code=str(why.code))
        self.socket.close(why.code, why.reason)

    def ping(self) -> None:
        """Asks for a sign of life."""
        self.session.pinged = True
        self.execute(Ping())

    def answer(self, question: int, frame: frames.ServerFrame) -> None:
        """Sends an answer, if it is still wanted.

        Too slow a client gets none: it shall ask again.
        """
        if (re := self.session.pop_question(question)) is None:
            return
        if self.socket.congested:
            frame = frames.Error(
                code="unavailable", message="too much is unread, ask again", temporary=True
            )
        frame.re = re
        self.send(frame)
        # One that is behind has this pushed later: the next page looks again.
        if self.position is None and not self.is_closed:
            told = self.session.push_after(frame)
            if told is not None:
                self.socket.send(told, text=self.session.codec.text)
                self.context.pushed += 1

    def _on_published(
        self, kind: CommandSpec[Any, Any], command: pb.Command, re: Re, outcome: Outcome
    ) -> None:
        self.session.owed -= 1
        if isinstance(outcome, ChatError):
            self.send(error_of(outcome, re))
        elif not isinstance(re, UnsetType):
            ok = kind.ok(command, outcome.id, outcome.duplicate)
            ok.re = re
            self.send(ok)

    def _coalesce(self, kind: CommandSpec[Any, Any], command: pb.Command, re: Re) -> None:
        context, on_published = self.context, partial(self._on_published, kind, command, re)
        self.session.owed += 1
        if kind.attends:
            context.presence.on_attended(self, command.chat)
        try:
            for field, watermark in zip(kind.watermarks, kind.watermarks_of(command), strict=True):
                if context.message_ids.is_ahead(watermark):
                    raise Malformed(f"{field} lies in the future", field=field)
            context.coalescer.hold(kind, command, on_published, context.clock.elapsed_s())
        except ChatError as error:
            on_published(error)

    def _act_now(self, effect: ActNow) -> None:
        re = effect.frame.id
        try:
            ok = self.context.presence.act(self, effect.kind, effect.frame)
        except ChatError as error:
            self.send(error_of(error, re))
        else:
            if ok is not None and not isinstance(re, UnsetType):
                ok.re = re
                self.send(ok)

    def _on_query_failed(self, question: int, error: ChatError) -> None:
        if (re := self.session.pop_question(question)) is not None:
            self.send(error_of(error, re))

    # ---- pushes ----------------------------------------------------------------------------------

    def push(self, frame: frames.Push, offset: int, index: int) -> None:
        """Pushes a delivery that has just come, if it is live; too slow, and it is behind from
        here on.
        """
        session, socket = self.session, self.socket
        if self.position is not None or not session.wants(frame):
            return
        if socket.congested:
            self.position = (offset, index)
            self._mark_stuck()
            count("knchat_pauses_total")
            return
        socket.send(session.push(frame, (offset, index + 1)), text=session.codec.text)
        session.cursor_s = self.context.timers.now_s
        self.context.pushed += 1

    def push_ephemeral(self, told: Sequence[frames.ServerFrame]) -> bool:
        """Pushes what is ephemeral, at most FRAMES_IN_ARRAY frames, as one message.

        False, and it is not: the session is in the background, behind, or something waits for it
        already (design.md D10).
        """
        session, socket = self.session, self.socket
        if (
            session.phase is not Phase.OPEN
            or session.background
            or self.position is not None
            or socket.buffered_bytes
        ):
            return False
        encode = session.codec.encode
        socket.send(session.codec.array([encode(frame) for frame in told]), text=session.codec.text)
        return True

    def start_at(self, position: Position, behind: Behind | None) -> None:
        """Is behind from this position on, or already by what the replay buffer no longer holds."""
        self.position, self._behind = position, behind
        self._advance()

    def catch_up(self) -> None:
        """Pushes what it has not had out of the replay buffer, until it is live or its outbox is
        full.

        One array a turn: ten devices that each had missed 8,000 messages held up all others for a
        second (measured).
        """
        session, replay_buffer = self.session, self.context.feed.replay_buffer
        if self.position is None or session.phase is not Phase.OPEN:
            return
        user, partition = session.claims.user, session.partition
        if self._behind is None and not replay_buffer.holds(partition, self.position):
            self.close(close.NO_LONGER_HELD)
        elif self.socket.congested:
            self._mark_stuck()
        elif missed := (
            replay_buffer.missed(partition, user, self.position, limit=frames.FRAMES_IN_ARRAY)
            if self._behind is None
            else self._behind.missed[: frames.FRAMES_IN_ARRAY]
        ):
            arrays, self.position = pack(session, missed)
            for parts in arrays:
                self.socket.send(session.codec.array(parts), text=session.codec.text)
                session.cursor_s = self.context.timers.now_s
                self.context.pushed += len(parts)
            self._advance()
            self.context.call_soon(self.catch_up)
        else:
            self._set_live()

    def _advance(self) -> None:
        """What lies before its position has been pushed: the replay buffer goes on where nothing is
        left before it.
        """
        if self._behind is not None and self.position is not None:
            self.position = self._behind.advance(self.position)
            if not self._behind.missed:
                self._behind = None

    def _set_live(self) -> None:
        self.position = None
        if not self._live_sent:
            self._live_sent = True
            session = self.session
            session.cursor_position = self.context.feed.replay_buffer.end(session.partition)
            self.send(frames.Live(cursor=session.cursor(session.cursor_position)))

    # ---- time ------------------------------------------------------------------------------------

    def schedule(self) -> None:
        """The session has set itself a deadline that may come before its next timer."""
        at_s = self.session.next_timer_s()
        if self._stuck_since_s is not None:
            at_s = min(at_s, self._stuck_since_s + STUCK_TIMEOUT_S)
        self.context.timers.schedule(self, at_s)

    def on_timer(self, now_s: float) -> None:
        """Does what is due."""
        if self.is_closed:
            return
        self.execute_all(self.session.on_timer(now_s, self._live_end()))
        if self._stuck_since_s is not None and now_s - self._stuck_since_s >= STUCK_TIMEOUT_S:
            self.close(close.NOTHING_READ.filled(seconds=STUCK_TIMEOUT_S))
        if not self.is_closed:
            self.schedule()

    def _live_end(self) -> Position | None:
        """How far its partition is known; None: it is behind that."""
        if self.session.phase is not Phase.OPEN or self.position is not None:
            return None
        return self.context.feed.replay_buffer.end(self.session.partition)

    def _mark_stuck(self) -> None:
        if self._stuck_since_s is None:
            now_s = self._stuck_since_s = self.context.timers.now_s
            self.context.timers.schedule(self, now_s + STUCK_TIMEOUT_S)
