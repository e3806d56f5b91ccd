"""One WebSocket from its first byte to its last: hands what the client says to its session, and does what the session wants done.

`server` makes one for each socket it lets in. Plain calls on the event loop; only a token that is being checked is waited for.
What all conversations share is in `Desk`.
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
from gateway.acts import (
    BAD_TOKEN,
    EXPIRED,
    INTERNAL_ERROR,
    MALFORMED,
    MOVED,
    STARTING,
    TOO_MANY_FRAMES,
    Act,
    Ask,
    End,
    Greet,
    Hold,
    Pause,
    Ping,
    Publish,
    Re,
    Renew,
    Say,
    error_of,
)
from gateway.hub import SILENT_S, Hub
from gateway.keys import Outcome
from gateway.lag import HistoryLag
from gateway.marks import Marks
from gateway.minting import Minting
from gateway.ownership import Ownership
from gateway.publisher import Publisher
from gateway.queries import Queries
from gateway.resume import PASS_S, Resume
from gateway.ring import Behind
from gateway.session import Phase, Rules, Session
from gateway.sockets import Socket
from gateway.wheel import TICK_S
from schemas import chat_pb2 as pb
from schemas import frames
from schemas.errors import ChatError, Malformed, Unavailable
from schemas.ids import MAX_AHEAD_MS, parse_id, time_text, unix_ms_of
from schemas.tokens import BadToken, Claims, EarlyToken, ExpiredToken
from schemas.topics import user_partition

log = logging.getLogger(__name__)

START_S: Final = 5.0
"""So long a hello waits for a gateway that is starting, or takes over its partition; then close 4006."""
LAG_SAID_S: Final = 10.0
"""Less is not worth a word: two minutes are pushed anyway, and what is written already is committed up to 5 s later."""
FEATURES: Final = sorted(frames.CLIENT_TYPES - {"hello"})
"""What `welcome` says of this server: the frames it understands."""


@dataclass(slots=True)
class Desk:
    """What the conversations of one gateway share."""

    hub: Hub
    ownership: Ownership
    partitions: int
    """Of chat-deliveries."""
    minting: Minting
    publisher: Publisher
    queries: Queries
    resume: Resume
    marks: Marks
    keys: PublicKeys
    rules: Rules
    limits: frames.Limits
    clock: Clock
    lag: HistoryLag
    started: asyncio.Event = field(default_factory=asyncio.Event)
    draining: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Does this beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a conversation failed", exc_info=error)


class Conversation:
    """The handler of one socket."""

    __slots__ = ("_codec", "_desk", "_session")

    def __init__(self, desk: Desk, codec: frames.Codec) -> None:
        self._desk = desk
        self._codec = codec
        self._session: Session

    # ---- the socket tells ----------------------------------------------------------------------------------------------------------------

    def opened(self, socket: Socket) -> None:
        """See `Handler`."""
        self._session = Session(socket, self._codec, self._desk.rules, now_s=self._desk.clock.elapsed_s())
        self._desk.hub.connected(self._session)

    def frame(self, payload: bytes, *, text: bool) -> None:
        """See `Handler`."""
        desk = self._desk
        self._do_all(self._session.receive(payload, text=text, now_s=desk.clock.elapsed_s(), now_ms=desk.clock.now_ms()))

    def writable(self) -> None:
        """See `Handler`."""
        self._desk.hub.writable(self._session)

    def heard(self) -> None:
        """See `Handler`."""
        self._do_all(self._session.idle(self._desk.clock.elapsed_s()))

    def flooded(self) -> None:
        """See `Handler`."""
        self._end(TOO_MANY_FRAMES, "too much said before welcome")

    def closed(self, code: int, reason: str) -> None:  # noqa: ARG002 - the handler's contract
        """See `Handler`."""
        self._desk.hub.left(self._session)

    # ---- the session wants ---------------------------------------------------------------------------------------------------------------

    def _do_all(self, acts: Sequence[Act]) -> None:
        for act in acts:
            self._do(act)

    def _do(self, act: Act) -> None:
        desk = self._desk
        match act:
            case Publish():
                self._session.owed += 1
                desk.publisher.submit(act.command, partial(self._published, act.re))
            case Say() | End() | Ping() | Pause():
                desk.hub.do(self._session, act)
            case Ask():
                desk.hub.plan(self._session)
                desk.queries.ask(act.query, partial(self._not_asked, act.query.re))
            case Hold():
                self._hold(act.command, act.re)
            case Greet():
                desk.spawn(self._or_end(self._greet(act.hello)))
            case Renew():
                desk.spawn(self._or_end(self._renew(act.token, act.re)))
            case _:
                assert_never(act)

    async def _or_end(self, work: Coroutine[Any, Any, None]) -> None:
        """A bug in it ends this socket: without an answer to its hello a session would stay for ever."""
        try:
            await work
        except Exception:
            self._end(INTERNAL_ERROR, "internal error")
            raise

    def _say(self, frame: frames.ServerFrame) -> None:
        self._desk.hub.do(self._session, Say(frame))

    def _end(self, code: int, reason: str) -> None:
        self._desk.hub.do(self._session, End(code, reason))

    def _published(self, re: Re, outcome: Outcome) -> None:
        self._session.owed -= 1
        if isinstance(outcome, ChatError):
            self._say(error_of(outcome, re))
        elif not isinstance(re, UnsetType):
            text = time_text(unix_ms_of(outcome.id))
            self._say(frames.Ok(re=re, message=str(outcome.id), time=text, duplicate=outcome.duplicate or UNSET))

    def _marked(self, re: Re, outcome: Outcome) -> None:
        self._session.owed -= 1
        if isinstance(outcome, ChatError):
            self._say(error_of(outcome, re))
        elif not isinstance(re, UnsetType):
            self._say(frames.Ok(re=re))

    def _not_asked(self, question: int, error: ChatError) -> None:
        if (re := self._session.answered(question)) is not None:
            self._say(error_of(error, re))

    def _hold(self, command: pb.Command, re: Re) -> None:
        self._session.owed += 1
        try:
            for field in ("read", "received"):
                if self._desk.minting.ahead(getattr(command.mark, field)):
                    raise Malformed(f"{field} lies in the future", field=field)
            self._desk.marks.hold(command, partial(self._marked, re), self._desk.clock.elapsed_s())
        except ChatError as error:
            self._marked(re, error)

    # ---- tokens --------------------------------------------------------------------------------------------------------------------------

    async def _greet(self, hello: frames.Hello) -> None:
        """Lets the session in, or ends it with the code that says why not."""
        desk = self._desk
        behind: Behind | None = None
        try:
            async with asyncio.timeout(START_S) as deadline:
                await desk.started.wait()
                claims = await desk.keys.verify(hello.token, desk.clock.now_s())
                partition = user_partition(claims.user, desk.partitions)
                home = await desk.ownership.home_of(partition)
                await self._pass(hello.seen)
                cursor = None if isinstance(hello.resume, UnsetType) else desk.hub.cursor_of(partition, hello.resume)
                if home is None and cursor is not None:
                    await desk.resume.reached(partition, cursor)
                    deadline.reschedule(asyncio.get_running_loop().time() + PASS_S + START_S)
                    behind = await desk.resume.missed(partition, claims.user, cursor)
                if home is None:
                    home = await desk.ownership.home_of(partition)  # it may have gone meanwhile
        except EarlyToken as error:
            self._end(STARTING, error.message)
        except (TimeoutError, Unavailable):
            self._end(STARTING, "starting")
        except Malformed as error:
            self._end(MALFORMED, error.message)
        except ExpiredToken as error:
            self._end(EXPIRED, error.message)
        except BadToken as error:
            self._end(BAD_TOKEN, error.message)
        else:
            if home is not None:
                self._say(frames.Moved(url=home))
                self._end(MOVED, "moved")
                return
            if desk.hub.ask_for_life(claims):
                await asyncio.sleep(SILENT_S + TICK_S)
            if self._session.phase is Phase.GREETED and (refusal := self._admit(hello, claims, behind)) is not None:
                self._end(refusal.code, refusal.reason)

    async def _pass(self, seen: str | UnsetType) -> None:
        """Waits until what this client writes sorts after what it has seen: at most a second, and nobody else's ids move.

        An id further ahead is of a wrong clock, or made up: nobody can write after it. Raises Malformed.
        """
        wait_ms = 0 if isinstance(seen, UnsetType) else self._desk.minting.greater_in_ms(parse_id(seen, name="seen"))
        if wait_ms > MAX_AHEAD_MS:
            count("knchat_ids_ahead_total", where="hello")
        elif wait_ms:
            await asyncio.sleep(wait_ms / 1_000)

    def _admit(self, hello: frames.Hello, claims: Claims, behind: Behind | None) -> End | None:
        """Says welcome and all that was missed; or why not."""
        desk, hub, session = self._desk, self._desk.hub, self._session
        if desk.draining:
            return End(STARTING, "draining")
        if claims.device != hello.device:
            return End(BAD_TOKEN, "the access token is another device's")
        if (revoked := hub.revoked(claims)) is not None:
            return revoked
        now_s, now_ms = desk.clock.elapsed_s(), desk.clock.now_ms()
        partition = user_partition(claims.user, desk.partitions)
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
        if (refusal := hub.joined(session)) is not None:
            return refusal
        session.socket.trust()
        self._say(
            frames.Welcome(
                re=hello.id,
                session=session.id,
                user=str(claims.user),
                device=claims.device,
                time=time_text(now_ms),
                expires=time_text(claims.expires_ms),
                result=result,
                cursor=session.cursor(position),
                ping_s=desk.rules.ping_s,
                limits=desk.limits,
                features=FEATURES,
                history_lag_s=self._lag_s(hub.pushed_s(partition, now_ms)),
            )
        )
        count("knchat_hellos_total", result=result)
        hub.catch_up(session)
        self._do_all(session.admitted(now_s, now_ms))
        return None

    def _lag_s(self, pushed_s: float) -> float | UnsetType:
        """What a client must hear: that history may be behind by more than it is pushed, or by much, which it looks at again anyway."""
        lag = self._desk.lag
        return round(lag.at_most_s, 1) if lag.seconds >= LAG_SAID_S or lag.at_most_s > pushed_s else UNSET

    async def _renew(self, token: str, re: Re) -> None:
        """Takes a newer token of the same user and device; any other leaves everything as it is."""
        desk, session = self._desk, self._session
        try:
            claims = await desk.keys.verify(token, desk.clock.now_s())
            if (claims.user, claims.device) != (session.claims.user, session.claims.device):
                raise BadToken("the access token is another user's or device's")
        except ChatError as error:
            self._say(error_of(error, re))
            return
        if (revoked := desk.hub.revoked(claims)) is not None:
            desk.hub.do(session, revoked)
            return
        session.renew(claims, now_s=desk.clock.elapsed_s(), now_ms=desk.clock.now_ms())
        desk.hub.plan(session)
        if not isinstance(re, UnsetType):
            self._say(frames.Ok(re=re, expires=time_text(claims.expires_ms)))
