"""Typing and presence of one gateway: what its sessions say, and what other gateways do.

Connections hand over frames, `deliveries/reader` what comes from other gateways; `app` calls `tick`
and runs `parts`. Nothing here fails a session: what cannot be told is not told.
Source: docs/decisions/0059.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from backends.cache import Cache
from backends.clock import Clock
from backends.configuration.current import Configuration
from backends.log import LogProducer
from backends.telemetry.metrics import count, gauge
from gateway.presence.ephemeral_batcher import EphemeralBatcher
from gateway.presence.last_seen import LastSeen
from gateway.presence.notifications import Notifications
from gateway.presence.subjects import Subjects
from gateway.presence.visibility import VisibilityRules
from gateway.presence.watchers import Watchers
from gateway.sessions.deduplicator import RecentDict
from gateway.timing import Timing
from schemas import chat_pb2 as pb
from schemas.errors import Unavailable
from schemas.frames import ClientFrame, Ok
from schemas.ids import ChatId, UserId
from schemas.kinds import TOLD_BODIES
from schemas.kinds.is_typing import TYPING_S
from schemas.kinds.kind import EphemeralSpec

if TYPE_CHECKING:
    from backends.groups import Groups
    from gateway.sessions.connection import ClientConnection
    from gateway.sessions.hub import Hub

log = logging.getLogger(__name__)

CHANGES_OVERLAP_MS: Final = 10_000
"""So much further back than the last time it is asked of whom it may have changed who may see them:
a change is seen when it is committed.
"""
MAX_CHANGES: Final = 16_384
"""So many of these are remembered."""
RETRY_DELAY_S: Final = 5.0
MAX_PER_TURN: Final = 16
"""Sessions that have ended, which are dealt with in one go: some tenths of a millisecond."""


@dataclass(frozen=True, slots=True)
class _SessionActions:
    """Implements `EphemeralActions` for one frame of a session."""

    service: PresenceService
    connection: ClientConnection

    @property
    def user(self) -> UserId:
        """The session's."""
        return self.connection.session.claims.user

    def notify(self, chat: ChatId, notification: pb.Answer) -> None:
        """See `EphemeralActions`."""
        self.service.notify(self.user, chat, notification)

    def watch(self, users: Sequence[UserId]) -> None:
        """See `EphemeralActions`."""
        self.service.watch(self.connection, users)

    def unwatch(self, users: Sequence[UserId]) -> None:
        """See `EphemeralActions`."""
        self.service.unwatch(self.connection, users)

    def declare(self, state: str, text: str) -> None:
        """See `EphemeralActions`."""
        self.service.declare(self.user, state, text)


class PresenceService:
    """Belongs to one event loop."""

    def __init__(
        self,
        hub: Hub,
        appends: LogProducer,
        cache: Cache,
        groups: Groups,
        rules: VisibilityRules,
        configuration: Configuration,
        *,
        partitions: int,
        served: Callable[[], frozenset[int]],
        clock: Clock,
        call_soon: Callable[[Callable[[], None]], object],
        timing: Timing,
    ) -> None:
        """`appends`: to session-deliveries; `served`: the partitions of this gateway."""
        self._hub = hub
        self._rules = rules
        self._configuration = configuration
        self._served = served
        self._clock = clock
        self._call_soon = call_soon
        self._timing = timing
        self._name = secrets.token_hex(8)
        self._serves = frozenset[int]()
        self._batcher = EphemeralBatcher(
            appends,
            self._take,
            served,
            gateway=self._name,
            clock=clock,
            interval_s=timing.ephemeral_batch_s,
        )
        self._last_seen = LastSeen(cache, clock, on_read=self._on_read)
        self._subjects = Subjects(
            hub,
            self._batcher,
            self._last_seen,
            partitions=partitions,
            offline_after_s=timing.offline_after_s,
        )
        self._unasked = asyncio.Event()
        self._watchers = Watchers(
            self._batcher,
            partitions=partitions,
            call_soon=call_soon,
            on_unchecked=self._unasked.set,
            renew_s=timing.watch_renewal_s,
        )
        self._notifications = Notifications(
            hub,
            self._batcher,
            groups,
            rules,
            partitions=partitions,
            clock=clock,
            call_soon=call_soon,
        )
        self._changes = RecentDict[int, int]()

    # ---- what sessions say -----------------------------------------------------------------------

    def act(
        self, connection: ClientConnection, kind: EphemeralSpec[Any, Any], frame: ClientFrame
    ) -> Ok | None:
        """Does what a frame asks for; the reply, if it has one. Raises Malformed or Refused."""
        return kind.act(frame, _SessionActions(self, connection))

    def notify(self, user: UserId, chat: ChatId, notification: pb.Answer) -> None:
        """See `EphemeralActions`. Who is invisible is not seen typing, and no user is where the
        configuration says so.
        """
        is_told = self._configuration.values.signals.typing
        if is_told and not self._subjects.is_invisible(user):
            self._notifications.notify(user, chat, notification)

    def on_attended(self, connection: ClientConnection, chat: str) -> None:
        """The session's user looks at this chat."""
        if not connection.session.background:
            self._notifications.attend(connection.session.claims.user, chat)

    def watch(self, connection: ClientConnection, users: Sequence[UserId]) -> None:
        """See `EphemeralActions`."""
        if not connection.session.background:
            self._watchers.watch(connection, users, self._clock.elapsed_s())

    def unwatch(self, connection: ClientConnection, users: Sequence[UserId]) -> None:
        """See `EphemeralActions`."""
        self._watchers.unwatch(connection, users)

    def declare(self, user: UserId, state: str, text: str) -> None:
        """See `EphemeralActions`."""
        clock = self._clock
        self._subjects.declare(user, state, text, now_s=clock.elapsed_s(), now_ms=clock.now_ms())

    def on_arrived(self, connection: ClientConnection) -> None:
        """A session has begun."""
        if not connection.session.background:
            self._subjects.on_arrived(connection.session.claims.user, self._clock.elapsed_s())

    # ---- what gateways say -----------------------------------------------------------------------

    def on_answer(self, answer: pb.Answer, at_ms: int) -> None:
        """What came out of the log for no session: it was written at `at_ms`."""
        if (
            answer.WhichOneof("body") in TOLD_BODIES
            and self._clock.now_ms() - at_ms > TYPING_S * 1_000
        ):
            count("knchat_ephemeral_dropped_total", why="late")
        else:
            self._take(answer)

    def _take(self, answer: pb.Answer) -> None:
        body = answer.WhichOneof("body")
        if body == "watching":
            self._subjects.on_watching(answer.watching, self._clock.elapsed_s())
        elif body == "presences":
            if answer.presences.gateway == self._name:
                self._watchers.on_presences(answer.presences.presences, self._clock.elapsed_s())
        elif (kind := TOLD_BODIES.get(body)) is not None:
            self._notifications.on_received(kind, getattr(answer, kind.body))

    # ---- time ------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Called some times a second: does what is due."""
        if (served := self._served()) != self._serves:
            self._serves = served
            self._subjects.set_partitions(served, now_s)
            self._last_seen.forget()
        if departed := self._hub.pop_departed():
            self._on_left(departed, now_s, self._clock.now_ms())
        self._subjects.tick(now_s)
        self._batcher.deliver_local()
        self._watchers.tick(now_s)
        gauge("knchat_watched_users", len(self._subjects))

    def _on_left(self, departed: Sequence[ClientConnection], now_s: float, now_ms: int) -> None:
        """All at once would take 0.1 s where 10,000 leave that watch 20 users each."""
        for connection in departed[:MAX_PER_TURN]:
            self._watchers.on_left(connection, now_s)
            if not connection.session.background:
                self._subjects.on_left(connection.session.claims.user, now_s, now_ms)
        if len(departed) > MAX_PER_TURN:
            self._call_soon(partial(self._on_left, departed[MAX_PER_TURN:], now_s, now_ms))

    def _on_read(self, user: int) -> None:
        self._subjects.on_changed(user)

    def forget(self, now_s: float) -> None:
        """Called now and then."""
        self._subjects.forget(now_s)
        self._watchers.forget(now_s)

    def parts(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What runs until cancelled: it waits for the log, the cache, and who may see whom."""
        return (
            self._batcher.run(),
            self._last_seen.run(),
            self._notifications.run(),
            self._ask_for_watchers(),
            self._follow_visibility(),
        )

    async def _follow_visibility(self) -> None:
        since_ms = self._clock.now_ms()
        while True:
            await asyncio.sleep(self._timing.visibility_interval_s)
            asked_ms = self._clock.now_ms()
            try:
                changed = await self._rules.changed(since_ms - CHANGES_OVERLAP_MS)
            except Unavailable:
                continue
            since_ms = asked_ms
            now_s = self._clock.elapsed_s()
            for user, changed_ms in changed.items():
                if self._changes.get(user) != changed_ms:
                    self._changes.put(user, changed_ms, limit=MAX_CHANGES)
                    self._notifications.on_visibility_changed(user, now_s)
                    self._watchers.on_visibility_changed(user, self._hub.of_user(user), now_s)

    async def _ask_for_watchers(self) -> None:
        while True:
            await self._unasked.wait()
            self._unasked.clear()
            while unchecked := self._watchers.to_check():
                pairs = [pair for _, some in unchecked for pair in some]
                began_s = self._clock.elapsed_s()
                try:
                    found = iter(await self._rules.of(pairs))
                except Unavailable as error:
                    count("knchat_ephemeral_dropped_total", why="privacy")
                    log.info("who may see whom is not known", extra={"error": error.message})
                    self._watchers.on_check_failed(watcher for watcher, _ in unchecked)
                    await asyncio.sleep(RETRY_DELAY_S)
                    continue
                for watcher, some in unchecked:
                    self._watchers.on_checked(watcher, some, [next(found) for _ in some])
                # After a start all sessions are asked for: the database has others to answer, too.
                await asyncio.sleep(self._clock.elapsed_s() - began_s)
