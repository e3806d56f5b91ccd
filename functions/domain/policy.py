"""Who may write to whom, and who is in a chat: decided here and nowhere else.

`send` asks for every command in a direct chat, the readers for every chat. What SQL said is
remembered, so that a database that is unavailable stops no message between people who have written
to each other lately (design.md D11b). A block still counts within 5 s: this process looks every 2 s
whose relations have changed, and forgets what it knew of them (decisions/0060).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Final, NamedTuple

from backends.concurrency import BoundedDict
from backends.relations import Pair
from backends.telemetry.metrics import count
from schemas.errors import Refused, Unavailable
from schemas.ids import ChatId, UserId, direct_members
from schemas.validation import check_own

if TYPE_CHECKING:
    from backends.clock import Clock
    from backends.relations import Relation, Relations

FRESH_TTL_S: Final = 60.0
STALE_TTL_S: Final = 900.0
QUERY_TIMEOUT_S: Final = 2.0
"""Less than the store's own timeout: what is remembered is a good answer too, and messages wait for
it.
"""
COOLDOWN_S: Final = 1.0
"""After SQL did not answer it is left alone for so long: else each event would wait for its
timeout.
"""
MAX_ENTRIES: Final = 65_536
"""Pairs of users that are remembered, each from one side; the one confirmed longest ago goes first.
About 20 MB.
"""
FOLLOWED_TTL_S: Final = 4.0
"""So long after the last look at what has changed a memory counts as fresh. A look takes
QUERY_TIMEOUT_S at most.
"""
OVERLAP_MS: Final = 10_000
"""Each look goes back so far behind the one before: a change shows up when it is committed, and is
as old as its call, which has 5 s for the database.
"""


class Verdict(NamedTuple):
    """What one user may do in the direct chat with another."""

    refused: str = ""
    """The code of why the user may not write to the other one; empty: the user may."""
    shares_receipts: bool = True
    """Each is told how far the other one has come."""


def members_of(chat: ChatId, user: UserId) -> tuple[UserId, ...]:
    """The people of a chat that `user` is in, `user` among them.

    Raises Refused unknown_chat to a stranger, whom existence is not told.
    """
    check_own(chat, user)
    members = direct_members(chat)
    if members is None:
        raise Refused("unknown_chat", "no such chat", field="chat")
    return members


def verdict_of(relation: Relation) -> Verdict:
    """What the first user of a pair may do with the second."""
    mine, theirs = relation.mine, relation.theirs
    refused = ""
    if not theirs.exists:
        refused = "unknown_user"
    elif mine.blocks:
        refused = "blocked"
    elif theirs.blocks or not relation.hears_me:
        refused = "forbidden"
    return Verdict(refused, mine.receipts and theirs.receipts and not relation.has_block)


def is_told(verdict: Verdict | None, *, is_mine: bool) -> bool:
    """Whether the other user is told of a command.

    `verdict`: of `Policy.verdicts`; `is_mine`: of the command's kind. Raises Refused for a command
    that may not be given, and Unavailable when that is unknown.
    """
    if verdict is None:
        raise Unavailable("the relations store does not answer")
    if verdict.refused == "unknown_user" or (verdict.refused and not is_mine):
        raise Refused(verdict.refused, _WHY[verdict.refused], field="to")
    return not is_mine or verdict.shares_receipts


_WHY: Final = {
    "unknown_user": "no such user",
    "blocked": "you have blocked this user",
    "forbidden": "this user does not allow it",
}


_NEVER_S: Final = float("-inf")


class _Held(NamedTuple):
    confirmed_s: float
    verdict: Verdict


class Policy:
    """What SQL said about pairs of users, remembered. `Context` makes it."""

    def __init__(self, relations: Relations, clock: Clock, *, follow_interval_s: float) -> None:
        """`follow_interval_s`: from one look at what has changed to the next."""
        self._relations, self._clock = relations, clock
        self._follow_interval_s = follow_interval_s
        self._held = BoundedDict[Pair, _Held](MAX_ENTRIES)  # in order of time
        self._unavailable = False
        self._cooldown_until = 0.0
        self._probe: asyncio.Task[Mapping[Pair, Verdict] | None] | None = None
        self._used_s = self._followed_s = float("-inf")
        self._follows_ms = 0
        self._seen: Mapping[UserId, int] = {}
        self._changed_s = BoundedDict[UserId, float](MAX_ENTRIES)  # in order of time
        self._following: asyncio.Task[None] | None = None

    async def verdicts(
        self, pairs: Collection[Pair], *, wait: bool = True
    ) -> Mapping[Pair, Verdict | None]:
        """What the first of each pair may do with the second; None: unknown, because SQL is
        unavailable and the first was not allowed to write within STALE_TTL_S.

        One SQL query at most, which answers for both directions. That a user may write is believed
        for FRESH_TTL_S; a refusal is never remembered, since it may end the next moment. Without
        `wait` SQL is waited for only while it answers: after a failure it is asked in the
        background.
        """
        now_s = self._used_s = self._clock.elapsed_s()
        is_followed = now_s - self._followed_s < FOLLOWED_TTL_S
        fresh_ttl_s = FRESH_TTL_S if is_followed else FOLLOWED_TTL_S
        verdicts = {pair: self._recall(pair, now_s, fresh_ttl_s) for pair in pairs}
        asked = [pair for pair, verdict in verdicts.items() if verdict is None]
        if not asked:
            return verdicts
        answered: Mapping[Pair, Verdict] | None = None
        if not self._unavailable or wait:
            answered = await self._query(asked, now_s)
        elif now_s >= self._cooldown_until and (self._probe is None or self._probe.done()):
            self._probe = asyncio.create_task(self._query(asked, now_s))
        if answered is not None:
            return {**verdicts, **answered}
        stale = {pair: self._recall(pair, now_s, STALE_TTL_S) for pair in asked}
        count("knchat_policy_stale_total", sum(verdict is not None for verdict in stale.values()))
        return verdicts | stale

    def _recall(self, pair: Pair, now_s: float, ttl_s: float) -> Verdict | None:
        held = self._held.get(pair)
        if held is None or now_s - held.confirmed_s >= ttl_s:
            return None
        if self._changed_s and any(
            held.confirmed_s <= self._changed_s.get(user, _NEVER_S) for user in pair
        ):
            return None
        return held.verdict

    async def _query(self, pairs: Collection[Pair], now_s: float) -> Mapping[Pair, Verdict] | None:
        if now_s < self._cooldown_until:
            return None
        self._follow()
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                found = await self._relations.between(pairs)
        except (Unavailable, TimeoutError):
            self._unavailable, self._cooldown_until = True, self._clock.elapsed_s() + COOLDOWN_S
            return None
        self._unavailable = False
        for (user, other), relation in found.items():
            # The other one answers soon, if it may.
            self._remember((other, user), verdict_of(relation.seen_by_other), now_s)
        verdicts = {pair: verdict_of(relation) for pair, relation in found.items()}
        for pair, verdict in verdicts.items():
            self._remember(pair, verdict, now_s)
        return verdicts

    def _remember(self, pair: Pair, verdict: Verdict, now_s: float) -> None:
        self._held.pop(pair, None)
        if not verdict.refused:
            self._held[pair] = _Held(now_s, verdict)

    # ---- what changes ----------------------------------------------------------------------------

    def _follow(self) -> None:
        """Looks for changes as long as anything that is remembered may be used."""
        if self._following is None or self._following.done():
            self._follows_ms = self._clock.now_ms()
            # In a context of its own: it is no part of the event that began it.
            self._following = asyncio.create_task(self._keep_looking(), context=Context())

    async def _keep_looking(self) -> None:
        while self._clock.elapsed_s() - self._used_s < STALE_TTL_S:
            await asyncio.sleep(self._follow_interval_s)
            await self.look()

    async def look(self) -> None:
        """From now on nothing counts that was known of users whose relations have changed."""
        now_s, now_ms = self._clock.elapsed_s(), self._clock.now_ms()
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                found = await self._relations.changed(self._follows_ms - OVERLAP_MS)
        except (Unavailable, TimeoutError):
            return  # the next look goes as far back
        seen_s = self._clock.elapsed_s()
        for user, changed_ms in found.items():
            if self._seen.get(user) != changed_ms:
                self._changed_s[user] = seen_s
                self._changed_s.move_to_end(user)
        if len(self._changed_s) == MAX_ENTRIES:
            self._held.clear()  # more have changed than can be noted
        while self._changed_s and now_s - next(iter(self._changed_s.values())) >= STALE_TTL_S:
            self._changed_s.popitem(last=False)
        self._seen, self._follows_ms, self._followed_s = found, now_ms, now_s
