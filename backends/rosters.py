"""Who is in a group: what SQL said, remembered for some seconds. `send` asks for every command in
a group, and for none in a direct chat; gateways ask for users who are typing in one.

A member who was removed can be taken for one for FRESH_TTL_S, and 5 s at most when what decides
takes a second. While SQL does not answer no member can be removed either, so what it said last
serves on for STALE_TTL_S; then commands wait in chat-retries, and typing is not told (design.md
D11b, decisions/0058).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from backends.concurrency import BoundedDict
from backends.telemetry.metrics import count
from schemas.errors import Unavailable
from schemas.ids import ChatId

if TYPE_CHECKING:
    from backends.groups import Groups, Roster

FRESH_TTL_S: Final = 4.0
STALE_TTL_S: Final = 900.0
QUERY_TIMEOUT_S: Final = 2.0
COOLDOWN_S: Final = 1.0
"""After SQL did not answer it is left alone for so long."""
MAX_GROUPS: Final = 4_096
MAX_MEMBERS: Final = 200_000
"""Members that are remembered, of all groups: about 50 MB. Those of the group that was asked for
longest ago go first.
"""


class _Held(NamedTuple):
    roster: Roster
    confirmed_s: float


class Rosters:
    """What SQL said about groups, remembered. Belongs to one event loop."""

    def __init__(self, clock: Callable[[], float], *, max_members: int = MAX_MEMBERS) -> None:
        self._clock = clock
        self._max_members = max_members
        self._held = BoundedDict[ChatId, _Held](MAX_GROUPS)  # in order of time
        self._members = 0
        self._unavailable = False
        self._cooldown_until_s = 0.0
        self._probe: asyncio.Task[object] | None = None

    async def of(
        self,
        versions: Mapping[ChatId, int],
        groups: Groups,
        *,
        wait: bool = True,
        ttl_s: float = FRESH_TTL_S,
    ) -> dict[ChatId, Roster | None]:
        """The rosters of these groups, each of the version that is given with it or a later one.

        With a `ttl_s` of 0 nothing that is remembered counts.

        None: unknown, because SQL is unavailable; groups that never existed are left out. One SQL
        question at most. Without `wait` SQL is waited for only while it answers.
        """
        now_s = self._clock()
        rosters: dict[ChatId, Roster | None] = {}
        asked: dict[ChatId, int] = {}
        for chat, version in versions.items():
            held = self._held.get(chat)
            if (
                held is not None
                and now_s - held.confirmed_s < ttl_s
                and held.roster.group.version >= version
            ):
                rosters[chat] = held.roster
            else:
                asked[chat] = -1 if held is None else held.roster.group.version
        if not asked:
            return rosters
        if not await self._ask(asked, groups, now_s, wait=wait):
            for chat in asked:
                rosters[chat] = self._stale(chat, versions[chat], now_s) if ttl_s else None
            count("knchat_policy_stale_total", sum(rosters[chat] is not None for chat in asked))
            return rosters
        for chat in asked:
            if (held := self._held.get(chat)) is not None:
                rosters[chat] = held.roster
        return rosters

    def fresh(self, chat: ChatId) -> Roster | None:
        """What SQL has said within FRESH_TTL_S; None: `of` would ask."""
        held = self._held.get(chat)
        if held is None or self._clock() - held.confirmed_s >= FRESH_TTL_S:
            return None
        return held.roster

    def _stale(self, chat: ChatId, version: int, now_s: float) -> Roster | None:
        held = self._held.get(chat)
        if held is None or now_s - held.confirmed_s >= STALE_TTL_S:
            return None
        return held.roster if held.roster.group.version >= version else None

    async def _ask(
        self, known: Mapping[ChatId, int], groups: Groups, now_s: float, *, wait: bool
    ) -> bool:
        """Whether SQL has answered."""
        if self._unavailable and not wait:
            if now_s >= self._cooldown_until_s and (self._probe is None or self._probe.done()):
                self._probe = asyncio.create_task(self._query(known, groups, now_s))
            return False
        return await self._query(known, groups, now_s)

    async def _query(self, known: Mapping[ChatId, int], groups: Groups, now_s: float) -> bool:
        if now_s < self._cooldown_until_s:
            return False
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                found = await groups.rosters(known)
        except (Unavailable, TimeoutError):
            self._unavailable, self._cooldown_until_s = True, self._clock() + COOLDOWN_S
            return False
        self._unavailable = False
        for chat in known:
            held = self._held.pop(chat, None)
            self._members -= 0 if held is None else len(held.roster.members)
            if chat not in found:
                continue
            roster = found[chat] or (None if held is None else held.roster)
            if roster is not None:
                # Two questions at once may end in any order.
                if held is not None and held.roster.group.version > roster.group.version:
                    roster = held.roster
                self._held[chat] = _Held(roster, now_s)
                self._members += len(roster.members)
        while self._members > self._max_members and len(self._held) > 1:
            _, oldest = self._held.popitem(last=False)
            self._members -= len(oldest.roster.members)
        return True
