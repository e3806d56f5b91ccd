"""One WebSocket from its first byte to its last: hands what the client says to its session, and
executes the session's effects.

`app` makes one for each socket that it admits. Plain calls on the event loop; only a token that is
being checked is waited for. What all connections share is in `GatewayContext`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, assert_never

from msgspec import UNSET, UnsetType

from backends.clock import Clock
from backends.signing import PublicKeys
from backends.telemetry.metrics import count
from gateway.deliveries.resume import PASS_TIMEOUT_S, Resume
from gateway.partitions.assignment import PartitionAssignment
from gateway.partitions.history_lag import HistoryLag
from gateway.publishing.coalescer import MarkCoalescer
from gateway.publishing.idempotency import Outcome
from gateway.publishing.message_ids import MessageIds
from gateway.publishing.publisher import Publisher
from gateway.publishing.queries import Queries
from gateway.sessions import close
from gateway.sessions.close import Close
from gateway.sessions.effects import (
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
from gateway.sessions.hub import PONG_TIMEOUT_S, Hub
from gateway.sessions.protocol import Phase, Rules, Session
from gateway.sessions.replay_buffer import Behind
from gateway.sessions.timers import TICK_S
from gateway.transport.interface import Socket
from schemas import chat_pb2 as pb
from schemas import frames
from schemas.errors import ChatError, Malformed, Unavailable
from schemas.ids import MAX_AHEAD_MS, parse_id, time_text, unix_ms_of
from schemas.tokens import BadToken, Claims, EarlyToken, ExpiredToken
from schemas.topics import user_partition

log = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 5.0
"""So long a hello waits for a gateway that starts, or takes over its partition; then close 4006."""
MIN_LAG_S: Final = 10.0
"""Less is not said: two minutes are pushed anyway, and what is written already is committed up to 5
s later.
"""
FEATURES: Final = sorted(frames.CLIENT_TYPES - {"hello"})
"""What `welcome` says of this server: the frames it understands."""


@dataclass(slots=True)
class GatewayContext:
    """What the connections of one gateway share."""

    hub: Hub
    assignment: PartitionAssignment
    partitions: int
    """Of chat-deliveries."""
    message_ids: MessageIds
    publisher: Publisher
    queries: Queries
    resume: Resume
    coalescer: MarkCoalescer
    public_keys: PublicKeys
    rules: Rules
    limits: frames.Limits
    clock: Clock
    history_lag: HistoryLag
    started: asyncio.Event = field(default_factory=asyncio.Event)
    draining: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs this beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._on_ended)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of a connection failed", exc_info=error)


class ClientConnection:
    """The handler of one socket."""

    __slots__ = ("_codec", "_context", "_session")

    def __init__(self, context: GatewayContext, codec: frames.Codec) -> None:
        self._context = context
        self._codec = codec
        self._session: Session

    # ---- callbacks of the socket -----------------------------------------------------------------

    def on_open(self, socket: Socket) -> None:
        """See `Handler`."""
        self._session = Session(
            socket, self._codec, self._context.rules, now_s=self._context.clock.elapsed_s()
        )
        self._context.hub.add(self._session)

    def on_message(self, payload: bytes, *, text: bool) -> None:
        """See `Handler`."""
        context = self._context
        self._execute_all(
            self._session.receive(
                payload, text=text, now_s=context.clock.elapsed_s(), now_ms=context.clock.now_ms()
            )
        )

    def on_writable(self) -> None:
        """See `Handler`."""
        self._context.hub.on_writable(self._session)

    def on_activity(self) -> None:
        """See `Handler`."""
        self._execute_all(self._session.on_idle_frame(self._context.clock.elapsed_s()))

    def on_flood(self) -> None:
        """See `Handler`."""
        self._close(close.TOO_MUCH_EARLY)

    def on_close(self, code: int, reason: str) -> None:  # noqa: ARG002 - the handler's contract
        """See `Handler`."""
        self._context.hub.remove(self._session)

    # ---- effects of the session ------------------------------------------------------------------

    def _execute_all(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self._execute(effect)

    def _execute(self, effect: Effect) -> None:
        context = self._context
        match effect:
            case Publish():
                self._session.owed += 1
                context.publisher.submit(effect.command, partial(self._on_published, effect.re))
            case SendFrame() | Close() | Ping() | PauseReading():
                context.hub.execute(self._session, effect)
            case Query():
                context.hub.schedule(self._session)
                context.queries.ask(effect.query, partial(self._on_query_failed, effect.query.re))
            case Coalesce():
                self._coalesce(effect.command, effect.re)
            case Authenticate():
                context.spawn(self._or_close(self._authenticate(effect.hello)))
            case RefreshToken():
                context.spawn(self._or_close(self._refresh_token(effect.token, effect.re)))
            case _:
                assert_never(effect)

    async def _or_close(self, work: Coroutine[Any, Any, None]) -> None:
        """A bug in it ends this socket: without an answer to its hello a session would stay."""
        try:
            await work
        except Exception:
            self._close(close.INTERNAL_ERROR)
            raise

    def _send(self, frame: frames.ServerFrame) -> None:
        self._context.hub.execute(self._session, SendFrame(frame))

    def _close(self, why: Close) -> None:
        self._context.hub.execute(self._session, why)

    def _on_published(self, re: Re, outcome: Outcome) -> None:
        self._session.owed -= 1
        if isinstance(outcome, ChatError):
            self._send(error_of(outcome, re))
        elif not isinstance(re, UnsetType):
            text = time_text(unix_ms_of(outcome.id))
            self._send(
                frames.Ok(
                    re=re, message=str(outcome.id), time=text, duplicate=outcome.duplicate or UNSET
                )
            )

    def _on_marked(self, re: Re, outcome: Outcome) -> None:
        self._session.owed -= 1
        if isinstance(outcome, ChatError):
            self._send(error_of(outcome, re))
        elif not isinstance(re, UnsetType):
            self._send(frames.Ok(re=re))

    def _on_query_failed(self, question: int, error: ChatError) -> None:
        if (re := self._session.pop_question(question)) is not None:
            self._send(error_of(error, re))

    def _coalesce(self, command: pb.Command, re: Re) -> None:
        self._session.owed += 1
        try:
            for field in ("read", "received"):
                if self._context.message_ids.is_ahead(getattr(command.mark, field)):
                    raise Malformed(f"{field} lies in the future", field=field)
            self._context.coalescer.hold(
                command, partial(self._on_marked, re), self._context.clock.elapsed_s()
            )
        except ChatError as error:
            self._on_marked(re, error)

    # ---- tokens ----------------------------------------------------------------------------------

    async def _authenticate(self, hello: frames.Hello) -> None:
        """Admits the session, or closes it with the code that says why not."""
        context = self._context
        behind: Behind | None = None
        try:
            async with asyncio.timeout(START_TIMEOUT_S) as deadline:
                await context.started.wait()
                claims = await context.public_keys.verify(hello.token, context.clock.now_s())
                partition = user_partition(claims.user, context.partitions)
                owner_url = await context.assignment.url_of_owner(partition)
                await self._wait_for_seen(hello.seen)
                cursor = (
                    None
                    if isinstance(hello.resume, UnsetType)
                    else context.hub.cursor_of(partition, hello.resume)
                )
                if owner_url is None and cursor is not None:
                    await context.resume.wait_until_reached(partition, cursor)
                    deadline.reschedule(
                        asyncio.get_running_loop().time() + PASS_TIMEOUT_S + START_TIMEOUT_S
                    )
                    behind = await context.resume.missed(partition, claims.user, cursor)
                if owner_url is None:
                    owner_url = await context.assignment.url_of_owner(
                        partition
                    )  # it may have gone meanwhile
        except EarlyToken as error:
            self._close(close.STARTING.because(error.message))
        except (TimeoutError, Unavailable):
            self._close(close.STARTING)
        except Malformed as error:
            self._close(close.MALFORMED.because(error.message))
        except ExpiredToken as error:
            self._close(close.EXPIRED.because(error.message))
        except BadToken as error:
            self._close(close.BAD_TOKEN.because(error.message))
        else:
            if owner_url is not None:
                self._send(frames.Moved(url=owner_url))
                self._close(close.MOVED)
                return
            if context.hub.ping_if_full(claims):
                await asyncio.sleep(PONG_TIMEOUT_S + TICK_S)
            if (
                self._session.phase is Phase.AUTHENTICATING
                and (refusal := self._admit(hello, claims, behind)) is not None
            ):
                self._close(refusal)

    async def _wait_for_seen(self, seen: str | UnsetType) -> None:
        """Waits until what this client writes sorts after what it has seen: at most a second, and
        no other client's ids move.

        An id further ahead is of a wrong clock, or made up: no id can come after it. Raises
        Malformed.
        """
        wait_ms = (
            0
            if isinstance(seen, UnsetType)
            else self._context.message_ids.greater_in_ms(parse_id(seen, name="seen"))
        )
        if wait_ms > MAX_AHEAD_MS:
            count("knchat_ids_ahead_total", where="hello")
        elif wait_ms:
            await asyncio.sleep(wait_ms / 1_000)

    def _admit(self, hello: frames.Hello, claims: Claims, behind: Behind | None) -> Close | None:
        """Says welcome and all that was missed; or why not."""
        context, hub, session = self._context, self._context.hub, self._session
        if context.draining:
            return close.DRAINING
        if claims.device != hello.device:
            return close.OTHER_DEVICE
        if (revoked := hub.revocation_of(claims)) is not None:
            return revoked
        now_s, now_ms = context.clock.elapsed_s(), context.clock.now_ms()
        partition = user_partition(claims.user, context.partitions)
        resume = None if isinstance(hello.resume, UnsetType) else hello.resume
        result, position = hub.place(partition, resume, now_ms, behind=behind is not None)
        session.open(
            claims,
            partition=partition,
            epoch=hub.epoch,
            position=position,
            behind=behind,
            background=hello.background,
            now_s=now_s,
            now_ms=now_ms,
        )
        if (refusal := hub.register(session)) is not None:
            return refusal
        session.socket.trust()
        self._send(
            frames.Welcome(
                re=hello.id,
                session=session.id,
                user=str(claims.user),
                device=claims.device,
                time=time_text(now_ms),
                expires=time_text(claims.expires_ms),
                result=result,
                cursor=session.cursor(position),
                ping_s=context.rules.ping_s,
                limits=context.limits,
                features=FEATURES,
                history_lag_s=self._lag_s(hub.pushed_s(partition, now_ms)),
            )
        )
        count("knchat_hellos_total", result=result)
        hub.catch_up(session)
        self._execute_all(session.on_admitted(now_s, now_ms))
        return None

    def _lag_s(self, pushed_s: float) -> float | UnsetType:
        """What a client must hear: that history may be behind by more than it is pushed, or by
        much, which it looks at again anyway.
        """
        lag = self._context.history_lag
        return (
            round(lag.at_most_s, 1)
            if lag.seconds >= MIN_LAG_S or lag.at_most_s > pushed_s
            else UNSET
        )

    async def _refresh_token(self, token: str, re: Re) -> None:
        """Takes a newer token of the same user and device; any other leaves everything as it is."""
        context, session = self._context, self._session
        try:
            claims = await context.public_keys.verify(token, context.clock.now_s())
            if (claims.user, claims.device) != (session.claims.user, session.claims.device):
                raise BadToken("the access token is another user's or device's")
        except ChatError as error:
            self._send(error_of(error, re))
            return
        if (revoked := context.hub.revocation_of(claims)) is not None:
            context.hub.execute(session, revoked)
            return
        session.renew(claims, now_s=context.clock.elapsed_s(), now_ms=context.clock.now_ms())
        context.hub.schedule(session)
        if not isinstance(re, UnsetType):
            self._send(frames.Ok(re=re, expires=time_text(claims.expires_ms)))
