"""Between which members of small groups receipts are told: what SQL said, remembered for some
seconds. `send` asks for marks in such groups, and for nothing else.

A change of privacy, or a block, counts when what is remembered is FRESH_TTL_S old: within 5 s, as
everywhere (decisions/0060). While SQL does not answer what it said last serves on; then marks wait
in chat-retries (design.md D11b). By group and not by pair: 32 members are a thousand pairs.
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
    from backends.groups import Roster
    from backends.relations import HiddenReceipts, Relations

FRESH_TTL_S: Final = 4.0
STALE_TTL_S: Final = 900.0
QUERY_TIMEOUT_S: Final = 1.0
"""Beside the roster's own question: what is remembered is a good answer too."""
COOLDOWN_S: Final = 1.0
"""After SQL did not answer it is left alone for so long."""
MAX_GROUPS: Final = 4_096
"""Those that were asked for longest ago go first. Mostly no member hides anything."""


class _Held(NamedTuple):
    roster: Roster
    hidden: HiddenReceipts
    confirmed_s: float


class GroupReceipts:
    """What SQL said, remembered. `Context` makes it."""

    def __init__(self, relations: Relations, clock: Callable[[], float]) -> None:
        self._relations, self._clock = relations, clock
        self._held = BoundedDict[ChatId, _Held](MAX_GROUPS)  # in order of time
        self._cooldown_until_s = 0.0

    async def hidden(self, rosters: Mapping[ChatId, Roster]) -> dict[ChatId, HiddenReceipts | None]:
        """Whose receipts are not told to whom, in each of these groups with these members; None:
        unknown, because SQL is unavailable. One SQL question at most.
        """
        now_s = self._clock()
        found: dict[ChatId, HiddenReceipts | None] = {
            chat: self._recall(chat, roster, now_s, FRESH_TTL_S) for chat, roster in rosters.items()
        }
        asked = {chat: rosters[chat] for chat, hidden in found.items() if hidden is None}
        if asked and not await self._ask(asked, now_s):
            stale = {
                chat: self._recall(chat, roster, now_s, STALE_TTL_S)
                for chat, roster in asked.items()
            }
            count("knchat_policy_stale_total", sum(one is not None for one in stale.values()))
            return found | stale
        return found | {chat: self._held[chat].hidden for chat in asked}

    def _recall(
        self, chat: ChatId, roster: Roster, now_s: float, ttl_s: float
    ) -> HiddenReceipts | None:
        held = self._held.get(chat)
        if held is None or now_s - held.confirmed_s >= ttl_s:
            return None
        # As long as the group is as it was its roster is the same object.
        if held.roster is not roster and held.roster.members.keys() != roster.members.keys():
            return None
        return held.hidden

    async def _ask(self, rosters: Mapping[ChatId, Roster], now_s: float) -> bool:
        """Whether SQL has answered."""
        if now_s < self._cooldown_until_s:
            return False
        users = {user for roster in rosters.values() for user in roster.members}
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                hidden = await self._relations.hidden_receipts(users)
        except (Unavailable, TimeoutError):
            self._cooldown_until_s = self._clock() + COOLDOWN_S
            return False
        for chat, roster in rosters.items():
            self._held.pop(chat, None)
            self._held[chat] = _Held(roster, hidden.among(roster.members.keys()), now_s)
        return True
