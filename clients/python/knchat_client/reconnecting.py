"""Keeps one device's session up until it is cancelled: connects, says hello with the newest cursor,
reads, reconnects.

`Client` gives it a queue for pushes and asks its queries through it. `ReconnectPolicy` decides what
to do after the end of a connection.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from knchat_client.accounts import Accounts
from knchat_client.connection import CLIENT, Connection, Timing
from knchat_client.errors import error_of
from knchat_client.events import Connected, Disconnected, Event, Reload
from knchat_client.position import Position
from knchat_client.protocol import frames
from knchat_client.protocol.errors import ChatError, Unavailable
from knchat_client.reconnect_policy import Attempt, ConnectionEnded, ReconnectPolicy

_MIN_RETRY_DELAY_S: Final = 0.2
_MAX_GAP_PAUSE_S: Final = 1.0
_RENEW_TIMEOUT_S: Final = 60.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class EphemeralState:
    """What the server forgets with the session, and is said again in the next one."""

    watched: dict[str, None] = field(default_factory=dict)
    declared: frames.Declare | None = None

    def said(self) -> list[frames.ClientFrame]:
        """What says it again. How I want to be shown first: an invisible user is not to be seen."""
        said: list[frames.ClientFrame] = [] if self.declared is None else [self.declared]
        return said + ([frames.Watch(users=[*self.watched])] if self.watched else [])


class ReconnectingSession:
    """One device's session at its gateway, on one connection after the other. `run` it in a task of
    its own.

    `push` keeps a durable push, waiting for room; False: it did not, since there was none and
    `has_pending`. Pushes are then left out until `catch_up`, which reconnects for them.
    `put_nowait` takes news of the connection, `wake` makes a waiting `push` look at `has_pending`.
    """

    def __init__(
        self,
        accounts: Accounts,
        position: Position,
        *,
        subprotocol: str,
        background: bool,
        timing: Timing,
        push: Callable[[frames.Push], Awaitable[bool]],
        put_nowait: Callable[[Event], Awaitable[None]],
        wake: Callable[[], Awaitable[None]],
    ) -> None:
        self._accounts = accounts
        self._position = position
        self._subprotocol = subprotocol
        self._background = background
        self._timing = timing
        self._push = push
        self._put_nowait = put_nowait
        self._wake = wake
        self._policy = ReconnectPolicy()
        self._gateway_url: str | None = None
        self._token, self._token_since_s = "", 0.0
        self._connection: Connection | None = None
        self._welcome: frames.Welcome | None = None
        self._ready = asyncio.Event()  # after a welcome, or when the session has ended
        self._pending: dict[int, asyncio.Future[frames.ServerFrame | None]] = {}
        self._last_id = 0
        self._renewal: asyncio.Task[None] | None = None
        self._ended = False
        self._skipping = self._catching_up = False
        self.ephemeral = EphemeralState()
        self.error: ChatError | None = None
        """What the server said when it ended the session for good."""

    @property
    def has_pending(self) -> bool:
        """A call waits for its reply, which lies behind whatever is to be read first."""
        return bool(self._pending)

    async def run(self) -> None:
        """Stays connected until it is cancelled, or the server says no for good: see `error`."""
        attempt = Attempt(0.0)
        try:
            while True:
                attempt = await self._connect_once(attempt)
        except ChatError as error:
            self.error = error
        finally:
            if self._renewal is not None:
                self._renewal.cancel()
            self._ended = True
            self._ready.set()

    async def welcome(self) -> frames.Welcome:
        """The newest `welcome`.

        Waits for the first; raises ChatError once the session has ended for good.
        """
        while True:
            await self._ready.wait()
            if self._ended:
                raise self.error or Unavailable("the client is closed")
            if self._welcome is not None:
                return self._welcome

    async def ask(self, question: frames.ClientFrame) -> frames.ServerFrame:
        """The reply, however many connections it takes; the caller sets a deadline.

        Raises Refused, and ChatError once the session has ended for good.
        """
        while True:
            await self._ready.wait()
            if self._ended:
                raise self.error or Unavailable("the client is closed")
            reply = (
                None
                if self._connection is None
                else await self._ask_over(self._connection, question)
            )
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
                # Jitter.
                await asyncio.sleep(max(retry_after_s, _MIN_RETRY_DELAY_S) * (1 + random.random()))  # noqa: S311
            else:
                raise error_of(
                    reply.code,
                    reply.message,
                    details=None if isinstance(reply.details, UnsetType) else reply.details,
                )

    async def tell(self, said: frames.ClientFrame) -> None:
        """Says it, if there is a connection at this moment; there is no reply."""
        if self._connection is not None:
            with suppress(ConnectionEnded):  # the reader notices too
                await self._connection.send(said)

    def catch_up(self) -> None:
        """There is room again: reconnects for the pushes that were left out, if any were."""
        if self._skipping and not self._catching_up and self._connection is not None:
            self._catching_up = True
            self._connection.abort()

    async def _connect_once(self, attempt: Attempt) -> Attempt:
        try:
            login = await (
                self._accounts.renew(self._token)
                if attempt.renew and self._token
                else self._accounts.fresh()
            )
            if attempt.ask:
                self._gateway_url = await self._accounts.gateway()
            url = attempt.url or self._gateway_url or login.gateway
            self._set_token(login.access_token)
            hello = frames.Hello(
                token=login.access_token,
                device=login.device,
                resume=self._position.cursor or UNSET,
                seen=str(self._position.seen) if self._position.seen else UNSET,
                client=CLIENT,
                background=self._background,
            )
            ended = await self._read_until_end(
                await Connection.open(url, hello, self._subprotocol, self._timing), url
            )
        except ConnectionEnded as error:
            ended = error
        except ChatError as error:
            if not error.temporary:
                raise
            ended = ConnectionEnded(None, error.message)
        attempt = self._policy.after(ended)
        log.info(
            "connection ended, reconnecting",
            extra={"close_code": ended.code, "reason": ended.reason, "pause_s": attempt.pause_s},
        )
        await self._put_nowait(Disconnected(ended.code, ended.reason, attempt.pause_s))
        await asyncio.sleep(attempt.pause_s)
        return attempt

    async def _read_until_end(self, connection: Connection, url: str) -> ConnectionEnded:
        try:
            while True:
                for frame in await connection.read():
                    if isinstance(frame, frames.Welcome):
                        self._gateway_url = url
                    await self._handle(connection, frame)
        except ConnectionEnded as ended:
            return (
                ConnectionEnded(None, "going on from where events() was full", pause_s=0.0)
                if self._catching_up
                else ended
            )
        finally:
            self._connection = None
            self._ready.clear()
            for waiting in self._pending.values():
                if not waiting.done():
                    waiting.set_result(None)
            await connection.close()

    async def _handle(self, connection: Connection, frame: frames.ServerFrame) -> None:
        match frame:
            case frames.Push():
                await self._pushed(frame)
            case frames.Welcome():
                await self._welcomed(connection, frame)
            case frames.Live() | frames.Cursor():
                if not self._skipping:
                    self._position.cursor = frame.cursor
                if isinstance(frame, frames.Live):
                    self._policy.reset()
                    await self._put_nowait(frame)
            case frames.IsTyping() | frames.Presence():
                await self._put_nowait(frame)
            case frames.Expiring():
                if self._renewal is None or self._renewal.done():
                    self._renewal = asyncio.create_task(self._renew())
            case _:
                if (
                    not isinstance(frame.re, UnsetType)
                    and (waiting := self._pending.get(frame.re)) is not None
                    and not waiting.done()
                ):
                    waiting.set_result(frame)

    async def _welcomed(self, connection: Connection, welcome: frames.Welcome) -> None:
        connection.set_limits(welcome)
        self._position.begin(welcome.result)
        self._connection, self._welcome = connection, welcome
        self._skipping = self._catching_up = False
        for said in self.ephemeral.said():
            await self.tell(said)
        self._ready.set()
        lag_s = None if isinstance(welcome.history_lag_s, UnsetType) else welcome.history_lag_s
        await self._put_nowait(Connected(welcome.result, welcome.session))
        if welcome.result == "reset" or lag_s is not None:
            await self._put_nowait(Reload(lag_s))

    async def _pushed(self, push: frames.Push) -> None:
        if self._skipping:
            return
        if not self._position.follows(push):
            pause_s = _MAX_GAP_PAUSE_S * random.random()  # noqa: S311 - jitter
            raise ConnectionEnded(None, "a push is missing", pause_s=pause_s)
        if await self._push(push):
            self._position.take(push)
        else:
            self._skipping = True

    async def _ask_over(
        self, connection: Connection, question: frames.ClientFrame
    ) -> frames.ServerFrame | None:
        """The reply on this connection; None when it ended before."""
        self._last_id += 1
        number = self._last_id
        waiting: asyncio.Future[frames.ServerFrame | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._pending[number] = waiting
        try:
            await self._wake()
            await connection.send(replace(question, id=number))
            while not (await asyncio.wait({waiting}, timeout=self._timing.ping_after_s))[0]:
                await connection.ping()
            return waiting.result()
        except ConnectionEnded:
            await asyncio.sleep(_MIN_RETRY_DELAY_S)  # until the reader has noticed too
            return None
        finally:
            del self._pending[number]

    def _set_token(self, token: str) -> None:
        self._token, self._token_since_s = token, asyncio.get_running_loop().time()

    async def _renew(self) -> None:
        """Gets a newer token for the open connection.

        If this fails, it ends with 4004, and `_connect_once` tries again.
        """
        # A server whose tokens live shorter than its warning is early warns at once, and again
        # after each renewal.
        await asyncio.sleep(
            self._token_since_s
            + self._timing.min_renewal_interval_s
            - asyncio.get_running_loop().time()
        )
        try:
            async with asyncio.timeout(_RENEW_TIMEOUT_S):
                login = await self._accounts.renew(self._token)
                await self.ask(frames.Refresh(token=login.access_token))
                self._set_token(login.access_token)
        except (ChatError, TimeoutError) as error:
            log.info("token of the open session not renewed", extra={"error": str(error)})
