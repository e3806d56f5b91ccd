"""What a user does at this moment, told to other users as it goes: that this user is typing.

In a direct chat the other user is told; in a group of at most MAX_WITH_BODY members those who
attend: who typed, marked or asked for history there within five minutes. Who is in a group is asked
for at the sender's gateway, who may see whom at the receivers'. What is not answered is not told.
Source: protocol.md section 2, docs/decisions/0059.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from backends.clock import Clock
from backends.concurrency import BoundedDict
from backends.rosters import Rosters
from backends.telemetry.metrics import count
from gateway.presence.ephemeral_batcher import EphemeralBatcher
from gateway.presence.visibility import Pair, Visibility, VisibilityRules
from gateway.sessions.deduplicator import RecentDict
from schemas import chat_pb2 as pb
from schemas.errors import Unavailable
from schemas.frames import ServerFrame
from schemas.ids import ChatId, UserId, direct_members
from schemas.kinds.is_typing import TYPING_S
from schemas.kinds.kind import EphemeralSpec
from schemas.kinds.newer import MAX_WITH_BODY
from schemas.topics import user_partition

if TYPE_CHECKING:
    from backends.groups import Groups, Roster
    from gateway.sessions.hub import Hub

log = logging.getLogger(__name__)

INTERVAL_S: Final = 2.0
"""In one chat a user notifies others at most so often: clients repeat it sooner than it ends."""
MAX_NOTIFYING: Final = 5
"""Users of a group who notify it within that time, from one gateway: of a group of 1,000 that is
20 KB a second in the log. Clients show some names, then that several are typing.
"""
ATTENDED_S: Final = 300.0
VISIBILITY_TTL_S: Final = 60.0
"""What was asked for a pair of users is believed for so long, unless it changes."""
RETRY_DELAY_S: Final = 5.0
MAX_ENTRIES: Final = 32_768
"""Of each table here: some 6 MB when it is full."""
MAX_MEMBERS: Final = 50_000
"""Members of groups that are remembered: about 12 MB."""
MAX_WAITING: Final = 1_024
"""Of what waits for an answer, and pairs of users; more is dropped."""
# Users that are notified in one go: a quarter of a millisecond.
MAX_PER_TURN: Final = 16
_NEVER_S: Final = float("-inf")


class _Received(NamedTuple):
    """For users who are here, of whom it is not known whether they hear who notifies."""

    frame: ServerFrame
    sender: UserId
    users: Sequence[UserId]
    in_group: bool
    at_s: float


class Notifications:
    """Those of one gateway's sessions, and those for them. Belongs to one event loop."""

    def __init__(
        self,
        hub: Hub,
        batcher: EphemeralBatcher,
        groups: Groups,
        rules: VisibilityRules,
        *,
        partitions: int,
        clock: Clock,
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._hub = hub
        self._batcher = batcher
        self._groups = groups
        self._rules = rules
        self._partitions = partitions
        self._clock = clock
        self._call_soon = call_soon
        self._rosters = Rosters(clock.elapsed_s, max_members=MAX_MEMBERS)
        self._notified = RecentDict[tuple[int, str], float]()
        """User and chat -> when that user notified others last."""
        self._notifying = RecentDict[str, tuple[float, int]]()
        """Group -> since when its users are counted, and how many there are."""
        self._attended = RecentDict[tuple[int, str], float]()
        self._hears = RecentDict[tuple[Pair, bool], tuple[float, bool]]()
        """Pair, and whether in a group -> when it was asked, and the answer."""
        self._changed_s = BoundedDict[int, float](MAX_ENTRIES)  # in order of time
        self._to_groups: list[tuple[UserId, ChatId, pb.Answer]] = []
        self._received: list[_Received] = []
        self._received_pairs = 0
        self._has_questions = asyncio.Event()

    # ---- from users of this gateway --------------------------------------------------------------

    def attend(self, user: UserId, chat: str) -> None:
        """The user is looking at this chat."""
        if chat.startswith("g-"):
            self._attended.put((user, chat), self._clock.elapsed_s(), limit=MAX_ENTRIES)

    def notify(self, user: UserId, chat: ChatId, notification: pb.Answer) -> None:
        """See `EphemeralActions`."""
        self.attend(user, chat)
        now_s = self._clock.elapsed_s()
        before_s = self._notified.get((user, chat))
        if before_s is not None and now_s - before_s < INTERVAL_S:
            return
        self._notified.put((user, chat), now_s, limit=MAX_ENTRIES)
        if (members := direct_members(chat)) is not None:
            self._send(notification, [member for member in members if member != user])
        elif self._is_quiet(chat, now_s) and len(self._to_groups) < MAX_WAITING:
            self._to_groups.append((user, chat, notification))
            self._has_questions.set()
        else:
            count("knchat_ephemeral_dropped_total", why="too_many")

    def _is_quiet(self, chat: str, now_s: float) -> bool:
        since_s, users = self._notifying.get(chat) or (now_s, 0)
        if now_s - since_s >= INTERVAL_S:
            since_s, users = now_s, 0
        self._notifying.put(chat, (since_s, users + 1), limit=MAX_ENTRIES)
        return users < MAX_NOTIFYING

    def _send(self, notification: pb.Answer, users: Iterable[UserId]) -> None:
        by_partition: dict[int, list[UserId]] = {}
        for user in users:
            by_partition.setdefault(user_partition(user, self._partitions), []).append(user)
        body = str(notification.WhichOneof("body"))
        for number, some in by_partition.items():
            answer = pb.Answer()
            answer.CopyFrom(notification)
            getattr(answer, body).users.extend(some)
            self._batcher.notify(number, answer, len(some))

    # ---- for users of this gateway ---------------------------------------------------------------

    def on_received(self, kind: EphemeralSpec[Any, Any], body: Any) -> None:
        """Shows it to those of its users who are here, and may see it."""
        if kind.show is None:
            return
        chat, sender, now_s = body.chat, body.user, self._clock.elapsed_s()
        in_group = direct_members(chat) is None
        hearing: list[UserId] = []
        unknown: list[UserId] = []
        for user in body.users:
            if not self._hub.of_user(user) or (in_group and not self._attends(user, chat, now_s)):
                continue
            hears = self._known((user, sender), in_group=in_group, now_s=now_s)
            if hears is None:
                unknown.append(user)
            elif hears:
                hearing.append(user)
        frame = kind.show(body)
        self._push(hearing, frame)
        if self._received_pairs + len(unknown) > MAX_WAITING:
            count("knchat_ephemeral_dropped_total", why="too_many")
        elif unknown:
            self._received_pairs += len(unknown)
            self._received.append(_Received(frame, sender, unknown, in_group, now_s))
            self._has_questions.set()

    def _known(self, pair: Pair, *, in_group: bool, now_s: float) -> bool | None:
        """Whether the first of the pair hears the second; None: to be asked."""
        known = self._hears.get((pair, in_group))
        if known is None or now_s - known[0] >= VISIBILITY_TTL_S:
            return None
        # Asked before the change was seen; the answer may have come after it.
        if any(known[0] <= self._changed_s.get(user, _NEVER_S) for user in pair):
            return None
        return known[1]

    def _attends(self, user: int, chat: str, now_s: float) -> bool:
        attended_s = self._attended.get((user, chat))
        return attended_s is not None and now_s - attended_s < ATTENDED_S

    def _push(self, users: Sequence[UserId], frame: ServerFrame) -> None:
        for user in users[:MAX_PER_TURN]:
            for connection in self._hub.of_user(user):
                connection.push_ephemeral([frame])
        if len(users) > MAX_PER_TURN:
            self._call_soon(partial(self._push, users[MAX_PER_TURN:], frame))

    def on_visibility_changed(self, user: int, now_s: float) -> None:
        """Whom this user may see, and who may see it, may have changed."""
        self._changed_s[user] = now_s
        self._changed_s.move_to_end(user)
        if len(self._changed_s) == MAX_ENTRIES:
            self._hears = RecentDict()  # more have changed than can be noted

    # ---- what the database is asked for ----------------------------------------------------------

    async def run(self) -> None:
        """Asks who is in groups, and who may see whom, until cancelled: one question at a time."""
        while True:
            await self._has_questions.wait()
            self._has_questions.clear()
            try:
                await self._ask_for_groups()
                await self._ask_for_visibility()
            except Unavailable as error:
                count("knchat_ephemeral_dropped_total", why="privacy")
                log.info("who may see whom is not known", extra={"error": error.message})
                await asyncio.sleep(RETRY_DELAY_S)
                self._to_groups.clear()  # old by now

    async def _ask_for_groups(self) -> None:
        asked, self._to_groups = self._to_groups, []
        if not asked:
            return
        chats = dict.fromkeys((chat for _, chat, _ in asked), 0)
        rosters = await self._rosters.of(chats, self._groups)
        for user, chat, notification in asked:
            if chat not in rosters:
                continue  # there is no such group
            if (roster := rosters[chat]) is None:
                count("knchat_ephemeral_dropped_total", why="groups")
            elif _may_notify(user, roster):
                self._send(notification, [other for other in roster.members if other != user])

    async def _ask_for_visibility(self) -> None:
        received, self._received, self._received_pairs = self._received, [], 0
        for in_group in (False, True):
            some = [one for one in received if one.in_group is in_group]
            pairs = [*dict.fromkeys((user, one.sender) for one in some for user in one.users)]
            if not pairs:
                continue
            asked_s = self._clock.elapsed_s()
            hears = dict(zip(pairs, await self._ask(pairs, in_group=in_group), strict=True))
            for pair, answer in hears.items():
                self._hears.put((pair, in_group), (asked_s, answer), limit=MAX_ENTRIES)
            now_s = self._clock.elapsed_s()
            for one in some:
                if now_s - one.at_s < TYPING_S:
                    self._push([user for user in one.users if hears[user, one.sender]], one.frame)

    async def _ask(self, pairs: Sequence[Pair], *, in_group: bool) -> Sequence[bool]:
        """Members of a group hear each other but for blocks: who may write to them alone is not
        asked there.
        """
        if not in_group:
            return await self._rules.hear(pairs)
        return [found is not Visibility.NOTHING for found in await self._rules.of(pairs)]


def _may_notify(user: UserId, roster: Roster) -> bool:
    """Who may write to the group, unless that is too large."""
    member = roster.members.get(user)
    return member is not None and member.role != "reader" and len(roster.members) <= MAX_WITH_BODY
