"""Keeps one session alive for as long as the client wants: connects, says hello with the newest
cursor, reads, comes back.

`Client` gives it a place for pushes and asks its questions through it. What to do after an end is
`Comeback`'s decision.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from knchat_client.accounts import Accounts
from knchat_client.comeback import Comeback, Over, Step
from knchat_client.errors import error_of
from knchat_client.events import Connected, Disconnected, Event, Reload
from knchat_client.position import Position
from knchat_client.protocol import frames
from knchat_client.protocol.errors import ChatError, Unavailable
from knchat_client.session import CLIENT, Session

# No answer for so long: is the other side still there? (A gateway may take 10 s and more to append
# while its log recovers.)
_CHECK_AFTER_S: Final = 5.0
_LEAST_RETRY_S: Final = 0.2
_HOLE_PAUSE_S: Final = 1.0
_RENEW_WITHIN_S: Final = 60.0
_LEAST_BETWEEN_RENEWALS_S: Final = 3.0

log = logging.getLogger(__name__)


class Link:
    """One device's line to its gateway. `run` it in a task of its own.

    `push` keeps a durable push, waiting for room; False: it did not, because `asking` and there was
    none. Pushes are then left out until `catch_up`, which comes back for them. `tell` takes news of
    the line.
    """

    def __init__(
        self,
        accounts: Accounts,
        position: Position,
        *,
        subprotocol: str,
        background: bool,
        push: Callable[[frames.Push], Awaitable[bool]],
        tell: Callable[[Event], Awaitable[None]],
        hurry: Callable[[], Awaitable[None]],
    ) -> None:
        self._accounts = accounts
        self._position = position
        self._subprotocol = subprotocol
        self._background = background
        self._push = push
        self._tell = tell
        self._hurry = hurry
        self._comeback = Comeback()
        self._home: str | None = None
        self._token, self._token_since_s = "", 0.0
        self._session: Session | None = None
        self._welcome: frames.Welcome | None = None
        self._settled = asyncio.Event()  # there is a session, or all has ended
        self._asked: dict[int, asyncio.Future[frames.ServerFrame | None]] = {}
        self._numbers = 0
        self._renewal: asyncio.Task[None] | None = None
        self._ended = False
        self._skipping = self._catching_up = False
        self.error: ChatError | None = None
        """What the server said when it ended the line for good."""

    @property
    def asking(self) -> bool:
        """Somebody waits for an answer, which lies behind whatever is to be read first."""
        return bool(self._asked)

    async def run(self) -> None:
        """Stays connected until it is cancelled, or the server says no for good: see `error`."""
        step = Step(0.0)
        try:
            while True:
                step = await self._once(step)
        except ChatError as error:
            self.error = error
        finally:
            if self._renewal is not None:
                self._renewal.cancel()
            self._ended = True
            self._settled.set()

    async def welcome(self) -> frames.Welcome:
        """What the session was told at its start.

        Waits for one; raises ChatError at the end of all.
        """
        while True:
            await self._settled.wait()
            if self._ended:
                raise self.error or Unavailable("the client is closed")
            if self._welcome is not None:
                return self._welcome

    async def ask(self, question: frames.ClientFrame) -> frames.ServerFrame:
        """The answer, however many sessions it takes; the caller sets a deadline.

        Raises Refused, and at the end of all ChatError.
        """
        while True:
            await self._settled.wait()
            if self._ended:
                raise self.error or Unavailable("the client is closed")
            reply = None if self._session is None else await self._ask_in(self._session, question)
            if reply is None:
                await asyncio.sleep(0)
            elif not isinstance(reply, frames.Error):
                return reply
            elif reply.temporary:
                retry_after_s = (
                    0.0
                    if isinstance(reply.retry_after_ms, UnsetType)
                    else reply.retry_after_ms / 1000
                )
                await asyncio.sleep(max(retry_after_s, _LEAST_RETRY_S) * (1 + random.random()))  # noqa: S311 - jitter
            else:
                raise error_of(
                    reply.code,
                    reply.message,
                    details=None if isinstance(reply.details, UnsetType) else reply.details,
                )

    def catch_up(self) -> None:
        """There is room again: comes back for the pushes that were left out, if any were."""
        if self._skipping and not self._catching_up and self._session is not None:
            self._catching_up = True
            self._session.cut()

    async def _once(self, step: Step) -> Step:
        try:
            login = await (
                self._accounts.renew(self._token)
                if step.renew and self._token
                else self._accounts.fresh()
            )
            if step.ask:
                self._home = await self._accounts.gateway()
            url = step.url or self._home or login.gateway
            self._uses(login.access_token)
            hello = frames.Hello(
                token=login.access_token,
                device=login.device,
                resume=self._position.cursor or UNSET,
                seen=str(self._position.seen) if self._position.seen else UNSET,
                client=CLIENT,
                background=self._background,
            )
            over = await self._converse(await Session.open(url, hello, self._subprotocol), url)
        except Over as end:
            over = end
        except ChatError as error:
            if not error.temporary:
                raise
            over = Over(None, error.message)
        step = self._comeback.after(over)
        log.info(
            "session ended, coming back",
            extra={"close_code": over.code, "reason": over.reason, "pause_s": step.pause_s},
        )
        await self._tell(Disconnected(over.code, over.reason, step.pause_s))
        await asyncio.sleep(step.pause_s)
        return step

    async def _converse(self, session: Session, url: str) -> Over:
        try:
            while True:
                for frame in await session.read():
                    if isinstance(frame, frames.Welcome):
                        self._home = url
                    await self._take(session, frame)
        except Over as over:
            return (
                Over(None, "going on from where events() was full", pause_s=0.0)
                if self._catching_up
                else over
            )
        finally:
            self._session = None
            self._settled.clear()
            for waiting in self._asked.values():
                if not waiting.done():
                    waiting.set_result(None)
            await session.close()

    async def _take(self, session: Session, frame: frames.ServerFrame) -> None:
        match frame:
            case frames.Push():
                await self._pushed(frame)
            case frames.Welcome():
                await self._welcomed(session, frame)
            case frames.Live() | frames.Cursor():
                if not self._skipping:
                    self._position.cursor = frame.cursor
                if isinstance(frame, frames.Live):
                    self._comeback.live()
                    await self._tell(frame)
            case frames.Expiring():
                if self._renewal is None or self._renewal.done():
                    self._renewal = asyncio.create_task(self._renew())
            case _:
                if (
                    not isinstance(frame.re, UnsetType)
                    and (waiting := self._asked.get(frame.re)) is not None
                    and not waiting.done()
                ):
                    waiting.set_result(frame)

    async def _welcomed(self, session: Session, welcome: frames.Welcome) -> None:
        session.welcomed(welcome)
        self._position.begin(welcome.result)
        self._session, self._welcome = session, welcome
        self._skipping = self._catching_up = False
        self._settled.set()
        lag_s = None if isinstance(welcome.history_lag_s, UnsetType) else welcome.history_lag_s
        await self._tell(Connected(welcome.result, welcome.session))
        if welcome.result == "reset" or lag_s is not None:
            await self._tell(Reload(lag_s))

    async def _pushed(self, push: frames.Push) -> None:
        if self._skipping:
            return
        if not self._position.follows(push):
            raise Over(None, "a push is missing", pause_s=_HOLE_PAUSE_S * random.random())  # noqa: S311 - jitter
        if await self._push(push):
            self._position.take(push)
        else:
            self._skipping = True

    async def _ask_in(
        self, session: Session, question: frames.ClientFrame
    ) -> frames.ServerFrame | None:
        """The answer in this session; None when it ended before."""
        self._numbers += 1
        number = self._numbers
        waiting: asyncio.Future[frames.ServerFrame | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._asked[number] = waiting
        try:
            await self._hurry()
            await session.say(replace(question, id=number))
            while not (await asyncio.wait({waiting}, timeout=_CHECK_AFTER_S))[0]:
                await session.check()
            return waiting.result()
        except Over:
            await asyncio.sleep(_LEAST_RETRY_S)  # until the reader has noticed too
            return None
        finally:
            del self._asked[number]

    def _uses(self, token: str) -> None:
        self._token, self._token_since_s = token, asyncio.get_running_loop().time()

    async def _renew(self) -> None:
        """A newer token for the open session.

        If this fails, the session ends with 4004, and `_once` tries again.
        """
        # A server whose tokens live shorter than its warning is early warns at once, and again
        # after each renewal.
        await asyncio.sleep(
            self._token_since_s + _LEAST_BETWEEN_RENEWALS_S - asyncio.get_running_loop().time()
        )
        try:
            async with asyncio.timeout(_RENEW_WITHIN_S):
                login = await self._accounts.renew(self._token)
                await self.ask(frames.Refresh(token=login.access_token))
                self._uses(login.access_token)
        except (ChatError, TimeoutError) as error:
            log.info("token of the open session not renewed", extra={"error": str(error)})
