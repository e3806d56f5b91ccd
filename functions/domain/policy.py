"""Who may write to whom, and who is in a chat: decided here and nowhere else.

`send` asks for every command, the readers for every chat. In this version each user may write to
any user that exists. What SQL said is remembered, so that a database that is unavailable stops no
message between people who have written to each other lately (design.md D11b).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from backends.concurrency import BoundedDict
from backends.telemetry.metrics import count
from schemas.errors import Refused, Unavailable
from schemas.ids import ChatId, UserId, direct_members
from schemas.validation import check_own

if TYPE_CHECKING:
    from backends.accounts import Accounts

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
"""Users that are remembered; the one confirmed longest ago goes first. About 11 MB."""


def members_of(chat: ChatId, user: UserId) -> tuple[UserId, ...]:
    """The people of a chat that `user` is in, `user` among them.

    Raises Refused unknown_chat to a stranger, whom existence is not told.
    """
    check_own(chat, user)
    members = direct_members(chat)
    if members is None:
        raise Refused("unknown_chat", "no such chat", field="chat")
    return members


def check_known(users: Iterable[UserId], known: Mapping[UserId, bool | None]) -> None:
    """Refuses (unknown_user) when one of them does not exist; raises Unavailable when that is
    unknown.

    `known`: of `Policy.known`.
    """
    for user in users:
        exists = known[user]
        if exists is None:
            raise Unavailable("the accounts store does not answer")
        if not exists:
            raise Refused("unknown_user", "no such user", field="to")


class Policy:
    """What SQL said about users, remembered. `Context` makes it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._confirmed = BoundedDict[UserId, float](MAX_ENTRIES)  # in order of time
        self._unavailable = False
        self._cooldown_until = 0.0
        self._probe: asyncio.Task[frozenset[UserId] | None] | None = None

    async def known(
        self, users: Collection[UserId], accounts: Accounts, *, wait: bool = True
    ) -> Mapping[UserId, bool | None]:
        """Whether each of these users exists; None: unknown, because SQL is unavailable and the
        user was not seen within STALE_TTL_S.

        One SQL query at most. A yes is believed for FRESH_TTL_S; a no is never remembered, since
        that user may register the next moment. Without `wait` SQL is waited for only while it
        answers: after a failure it is asked in the background.
        """
        now = self._clock()
        asked = [
            user for user in users if now - self._confirmed.get(user, -STALE_TTL_S) >= FRESH_TTL_S
        ]
        answered: frozenset[UserId] | None = frozenset()
        if asked and self._unavailable and not wait:
            answered = None
            if now >= self._cooldown_until and (self._probe is None or self._probe.done()):
                self._probe = asyncio.create_task(self._query(asked, accounts, now))
        elif asked:
            answered = await self._query(asked, accounts, now)
        if answered is None:
            stale = {
                user: now - self._confirmed.get(user, -STALE_TTL_S) < STALE_TTL_S or None
                for user in asked
            }
            count("knchat_policy_stale_total", sum(map(bool, stale.values())))
            return dict.fromkeys(users, True) | stale
        return dict.fromkeys(users, True) | {user: user in answered for user in asked}

    async def _query(
        self, users: Collection[UserId], accounts: Accounts, now: float
    ) -> frozenset[UserId] | None:
        if now < self._cooldown_until:
            return None
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                found = await accounts.known(users)
        except (Unavailable, TimeoutError):
            self._unavailable, self._cooldown_until = True, self._clock() + COOLDOWN_S
            return None
        self._unavailable = False
        for user in users:
            self._confirmed.pop(user, None)
        self._confirmed |= dict.fromkeys(found, now)
        return found
