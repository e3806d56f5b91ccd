"""Who may write to whom, and who is in a chat: the one place that decides it. `send` asks for every command, the readers for every chat.

In this version anybody may write to any user that exists. What SQL said is remembered, so that a database that is away stops no message
between people who have written to each other lately (design.md D11b).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from backends.concurrency import BoundedDict
from backends.telemetry.metrics import count
from schemas.checks import check_own
from schemas.errors import Refused, Unavailable
from schemas.ids import ChatId, UserId, direct_members

if TYPE_CHECKING:
    from backends.accounts import Accounts

FRESH_S: Final = 60.0
STALE_S: Final = 900.0
ASK_S: Final = 2.0
"""Patience with SQL, less than the store's own: what is remembered is a good answer too, and messages wait for it."""
PAUSE_S: Final = 1.0
"""After SQL did not answer it is left alone for so long: else each event would wait for its timeout."""
REMEMBERED: Final = 65_536
"""Users that are remembered; the one confirmed longest ago goes first. About 11 MB."""


def members_of(chat: ChatId, user: UserId) -> tuple[UserId, ...]:
    """The people of a chat that `user` is in, `user` among them. Raises Refused unknown_chat to a stranger, whom existence is not told."""
    check_own(chat, user)
    members = direct_members(chat)
    if members is None:
        raise Refused("unknown_chat", "no such chat", field="chat")
    return members


def check_known(users: Iterable[UserId], known: Mapping[UserId, bool | None]) -> None:
    """Refuses (unknown_user) when one of them does not exist; raises Unavailable when nobody can say. `known` comes from `Policy.known`."""
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
        self._confirmed = BoundedDict[UserId, float](REMEMBERED)  # in order of time
        self._away = False
        self._ask_from = 0.0
        self._probe: asyncio.Task[frozenset[UserId] | None] | None = None

    async def known(self, users: Collection[UserId], accounts: Accounts, *, patient: bool = True) -> Mapping[UserId, bool | None]:
        """Whether each of these users exists; None where nobody can say, because SQL is away and the user was not seen within STALE_S.

        One SQL query at most. A yes is believed for FRESH_S; a no is never remembered, since that user may register the next moment.
        Who is not `patient` waits for SQL only while it answers: after a failure it is asked behind him.
        """
        now = self._clock()
        asked = [user for user in users if now - self._confirmed.get(user, -STALE_S) >= FRESH_S]
        answered: frozenset[UserId] | None = frozenset()
        if asked and self._away and not patient:
            answered = None
            if now >= self._ask_from and (self._probe is None or self._probe.done()):
                self._probe = asyncio.create_task(self._ask(asked, accounts, now))
        elif asked:
            answered = await self._ask(asked, accounts, now)
        if answered is None:
            stale = {user: now - self._confirmed.get(user, -STALE_S) < STALE_S or None for user in asked}
            count("knchat_policy_stale_total", sum(map(bool, stale.values())))
            return dict.fromkeys(users, True) | stale
        return dict.fromkeys(users, True) | {user: user in answered for user in asked}

    async def _ask(self, users: Collection[UserId], accounts: Accounts, now: float) -> frozenset[UserId] | None:
        if now < self._ask_from:
            return None
        try:
            async with asyncio.timeout(ASK_S):
                found = await accounts.known(users)
        except (Unavailable, TimeoutError):
            self._away, self._ask_from = True, self._clock() + PAUSE_S
            return None
        self._away = False
        for user in users:
            self._confirmed.pop(user, None)
        self._confirmed |= dict.fromkeys(found, now)
        return found
