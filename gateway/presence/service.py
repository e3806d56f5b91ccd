"""Typing and presence of one gateway: what sessions say of the moment, and what other gateways do.

Connections hand over frames, `deliveries/reader` what comes from other gateways; `app` calls `tick`
and runs `run`. Nothing here fails a session: what cannot be told is not told.
Source: docs/decisions/0059.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from backends.cache import Cache
from backends.clock import Clock
from backends.concurrency import BoundedDict
from backends.log import LogProducer
from backends.telemetry.metrics import count, gauge
from gateway.presence.last_seen import LastSeen
from gateway.presence.mailbox import Mailbox
from gateway.presence.subjects import Subjects
from gateway.presence.visibility import Pair, Sights
from gateway.presence.watchers import Watchers
from gateway.sessions.deduplicator import RecentDict
from schemas import chat_pb2 as pb
from schemas.errors import Unavailable
from schemas.frames import ClientFrame, Ok
from schemas.ids import UserId
from schemas.kinds import TOLD_BODIES
from schemas.kinds.is_typing import TYPING_S
from schemas.kinds.kind import EphemeralSpec
from schemas.topics import user_partition

if TYPE_CHECKING:
    from gateway.sessions.connection import ClientConnection
    from gateway.sessions.hub import Hub

log = logging.getLogger(__name__)

TELL_INTERVAL_S: Final = 2.0
"""About the same a user tells others at most so often: clients repeat it sooner than it ends."""
MAX_TOLD: Final = 16_384
"""So many of these are remembered, and so many pairs of users, of whom one hears the other or not.
"""
HEARS_S: Final = 60.0
"""What was asked for such a pair is believed for so long, unless it changes."""
CHANGES_INTERVAL_S: Final = 2.0
CHANGES_OVERLAP_MS: Final = 10_000
"""So often, and so much further back than the last time, it is asked of whom that may have changed:
a change is seen when it is committed.
"""
MAX_WAITING: Final = 1_024
"""Of what waits for an answer to that; more is dropped."""
RETRY_S: Final = 5.0
_NEVER_S: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class _Speaker:
    """Implements `Speaker` for one frame of a session."""

    service: PresenceService
    connection: ClientConnection

    @property
    def user(self) -> UserId:
        """The session's."""
        return self.connection.session.claims.user

    def tell(self, users: Sequence[UserId], told: pb.Answer, *, about: str) -> None:
        """See `Speaker`."""
        self.service.tell(self.user, users, told, about=about)

    def watch(self, users: Sequence[UserId]) -> None:
        """See `Speaker`."""
        self.service.watch(self.connection, users)

    def unwatch(self, users: Sequence[UserId]) -> None:
        """See `Speaker`."""
        self.service.unwatch(self.connection, users)

    def declare(self, state: str, text: str) -> None:
        """See `Speaker`."""
        self.service.declare(self.user, state, text)


class PresenceService:
    """Belongs to one event loop."""

    def __init__(
        self,
        hub: Hub,
        appends: LogProducer,
        cache: Cache,
        sights: Sights,
        *,
        partitions: int,
        served: Callable[[], frozenset[int]],
        clock: Clock,
        call_soon: Callable[[Callable[[], None]], object],
        offline_after_s: float,
    ) -> None:
        """`appends`: to session-deliveries; `served`: the partitions of this gateway;
        `offline_after_s`: a user who comes back sooner was never away.
        """
        self._hub = hub
        self._sights = sights
        self._partitions = partitions
        self._served = served
        self._clock = clock
        self._name = secrets.token_hex(8)
        self._serves = frozenset[int]()
        self._mailbox = Mailbox(appends, self._take, served, gateway=self._name, clock=clock)
        self._last_seen = LastSeen(cache, clock, on_read=self._on_read)
        self._subjects = Subjects(
            hub,
            self._mailbox,
            self._last_seen,
            partitions=partitions,
            offline_after_s=offline_after_s,
        )
        self._unasked = asyncio.Event()
        self._watchers = Watchers(
            self._mailbox,
            partitions=partitions,
            call_soon=call_soon,
            on_unchecked=self._unasked.set,
        )
        self._told = RecentDict[tuple[int, str], float]()
        self._pairs = RecentDict[Pair, tuple[float, bool]]()
        self._changes = RecentDict[int, int]()
        self._changed_s = BoundedDict[int, float](MAX_TOLD)  # in order of time
        self._telling: list[tuple[UserId, UserId, pb.Answer]] = []

    # ---- what sessions say -----------------------------------------------------------------------

    def act(
        self, connection: ClientConnection, kind: EphemeralSpec[Any, Any], frame: ClientFrame
    ) -> Ok | None:
        """Does what a frame asks for; the reply, if it has one. Raises Malformed or Refused."""
        return kind.act(frame, _Speaker(self, connection))

    def tell(self, user: UserId, users: Sequence[UserId], told: pb.Answer, *, about: str) -> None:
        """See `Speaker`."""
        now_s = self._clock.elapsed_s()
        before_s = self._told.get((user, about))
        if before_s is not None and now_s - before_s < TELL_INTERVAL_S:
            return
        self._told.put((user, about), now_s, limit=MAX_TOLD)
        for other in users:
            hears = self._hears((other, user), now_s)
            if hears is not None:
                self._tell_one(other, told, hears=hears)
            elif len(self._telling) < MAX_WAITING:
                self._telling.append((other, user, told))
                self._unasked.set()

    def _hears(self, pair: Pair, now_s: float) -> bool | None:
        """Whether the first of the pair hears the second; None: to be asked."""
        known = self._pairs.get(pair)
        if known is None or now_s - known[0] >= HEARS_S:
            return None
        # Asked before the change was seen; the answer may have come after it.
        if any(known[0] <= self._changed_s.get(user, _NEVER_S) for user in pair):
            return None
        return known[1]

    def _tell_one(self, user: UserId, told: pb.Answer, *, hears: bool) -> None:
        if hears:
            self._mailbox.tell(user_partition(user, self._partitions), told)

    def watch(self, connection: ClientConnection, users: Sequence[UserId]) -> None:
        """See `Speaker`."""
        if not connection.session.background:
            self._watchers.watch(connection, users, self._clock.elapsed_s())

    def unwatch(self, connection: ClientConnection, users: Sequence[UserId]) -> None:
        """See `Speaker`."""
        self._watchers.unwatch(connection, users)

    def declare(self, user: UserId, state: str, text: str) -> None:
        """See `Speaker`."""
        self._subjects.declare(user, state, text, self._clock.now_ms())

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
        elif (kind := TOLD_BODIES.get(body)) is not None and kind.show is not None:
            told = getattr(answer, kind.body)
            for user in told.users:
                for connection in self._hub.of_user(user):
                    connection.push_ephemeral([kind.show(told)])

    # ---- time ------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Called some times a second: does what is due."""
        if (served := self._served()) != self._serves:
            self._serves = served
            self._subjects.set_partitions(served, now_s)
            self._last_seen.forget()
        now_ms = self._clock.now_ms()
        for connection in self._hub.pop_departed():
            self._watchers.on_left(connection, now_s)
            if not connection.session.background:
                self._subjects.on_left(connection.session.claims.user, now_s, now_ms)
        self._subjects.tick(now_s)
        self._mailbox.deliver_own()
        self._watchers.tick(now_s)
        gauge("knchat_watched_users", len(self._subjects))

    def _on_read(self, user: int) -> None:
        self._subjects.on_changed(user)

    def forget(self, now_s: float) -> None:
        """Called now and then."""
        self._subjects.forget(now_s)

    def parts(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What runs until cancelled: it waits for the log, the cache, and who may see whom."""
        return self._mailbox.run(), self._last_seen.run(), self._ask(), self._follow_sights()

    async def _ask(self) -> None:
        while True:
            await self._unasked.wait()
            self._unasked.clear()
            try:
                await self._ask_for_told()
                await self._ask_for_watchers()
            except Unavailable as error:
                count("knchat_ephemeral_dropped_total", why="privacy")
                log.info("who may see whom is not known", extra={"error": error.message})
                await asyncio.sleep(RETRY_S)
                self._unasked.set()

    async def _follow_sights(self) -> None:
        since_ms = self._clock.now_ms()
        while True:
            await asyncio.sleep(CHANGES_INTERVAL_S)
            asked_ms = self._clock.now_ms()
            try:
                changed = await self._sights.changed(since_ms - CHANGES_OVERLAP_MS)
            except Unavailable:
                continue
            since_ms = asked_ms
            now_s = self._clock.elapsed_s()
            for user, changed_ms in changed.items():
                if self._changes.get(user) != changed_ms:
                    self._changes.put(user, changed_ms, limit=MAX_TOLD)
                    self._changed_s[user] = now_s
                    self._changed_s.move_to_end(user)
                    self._watchers.on_sights_changed(user, self._hub.of_user(user), now_s)
            if len(self._changed_s) == MAX_TOLD:
                self._pairs = RecentDict()  # more have changed than can be noted

    async def _ask_for_told(self) -> None:
        telling, self._telling = self._telling, []
        if not telling:
            return
        pairs = [(other, user) for other, user, _ in telling]
        now_s = self._clock.elapsed_s()
        for (pair, hears), (other, _, told) in zip(
            zip(pairs, await self._sights.hear(pairs), strict=True), telling, strict=True
        ):
            self._pairs.put(pair, (now_s, hears), limit=MAX_TOLD)
            self._tell_one(other, told, hears=hears)

    async def _ask_for_watchers(self) -> None:
        while unchecked := self._watchers.to_check():
            pairs = [pair for _, some in unchecked for pair in some]
            began_s = self._clock.elapsed_s()
            try:
                sights = iter(await self._sights.of(pairs))
            except Unavailable:
                self._watchers.on_check_failed(watcher for watcher, _ in unchecked)
                raise
            for watcher, some in unchecked:
                self._watchers.on_checked(watcher, some, [next(sights) for _ in some])
            # After a start all sessions are asked for: the database has others to answer, too.
            await asyncio.sleep(self._clock.elapsed_s() - began_s)
