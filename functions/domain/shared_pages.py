"""The newest messages of large groups, read once for all members who ask for them.

A message to a group of more than MAX_WITH_BODY members tells each of them that it is there, and all
of them ask for it at once. `history` comes here with such questions, so that a store is read some
times a second by a process, and not once a member. What is remembered is seconds old at most
(decisions/0058).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from backends.chats import Page, around, page_of
from backends.concurrency import BoundedDict
from backends.groups import Membership
from functions.domain.reading import begins_of
from schemas.ids import LATEST, ChatId, MessageId, UserId

if TYPE_CHECKING:
    from backends.chats import Direction
    from backends.groups import Roster
    from backends.rosters import Rosters
    from backends.wiring import Backends

MESSAGES: Final = 128
"""Of each group. Who has missed more asks the store."""
MAX_GROUPS: Final = 64
"""The groups that were read longest ago go first. About 10 MB, of texts of 1 KiB."""
TTL_S: Final = 1.0
"""A change of a message is pushed, too, to all who see it: so long a page may not show it yet."""


class _Newest(NamedTuple):
    page: Page
    """For no reader: who hides what is looked at for each."""
    ids: frozenset[int]
    read_s: float

    def has(self, told: Collection[int]) -> bool:
        """Whether all of these are there, but those that lie further back."""
        first = self.page.messages[-1].id if self.page.messages else 0
        return all(message in self.ids or message < first for message in told)


class SharedPages:
    """Of one process. `Context` makes it."""

    def __init__(
        self, backends: Backends, rosters: Rosters, *, interval_s: float, timeout_s: float
    ) -> None:
        """`interval_s`: from one reading of a group to the next; `timeout_s`: how long a page waits
        for a message that is on its way to history.
        """
        self._backends, self._rosters = backends, rosters
        self._interval_s, self._timeout_s = interval_s, timeout_s
        self._clock = backends.clock.elapsed_s
        self._newest = BoundedDict[ChatId, _Newest](MAX_GROUPS)  # in order of time
        self._under_way: dict[tuple[str, ChatId], asyncio.Task[Any]] = {}

    async def begins_of(self, user: UserId, chat: ChatId) -> MessageId:
        """The first id of the group that this member may see, by a roster as `send` has it.

        Raises Refused, but never by memory, and Unavailable.
        """
        roster = self._rosters.fresh(chat)
        if roster is None:
            roster = await self._once("roster", chat, self._read_roster)
        if roster is None or (member := roster.members.get(user)) is None:
            return await begins_of(self._backends, user, chat)
        return Membership(roster.group, member).begins

    async def page(
        self,
        chat: ChatId,
        *,
        direction: Direction,
        anchor: MessageId,
        limit: int,
        reader: UserId,
        told: Collection[int],
    ) -> Page:
        """As `Chats.page`, with those that members were `told` of, unless history is behind by more
        than `timeout_s`. Raises Unavailable.
        """
        if direction == "before":
            told = [message for message in told if message < anchor]
        elif direction == "after":
            told = [message for message in told if message > anchor]
        newest = (await self._with(chat, told)).page
        pivot, below_most, above_most = around(direction, anchor, limit)
        shown = [
            message
            for message in newest.messages
            if reader not in newest.hidden.get(message.id, ())
        ]
        below = [message for message in shown if message.id < pivot][:below_most]
        if len(below) < below_most and newest.more_before:
            return await self._backends.chats.page(
                chat, direction=direction, anchor=anchor, limit=limit, reader=reader
            )
        above = [message for message in reversed(shown) if message.id >= pivot][:above_most]
        return page_of(below, above, direction=direction, limit=limit)

    async def _with(self, chat: ChatId, told: Collection[int]) -> _Newest:
        until_s = self._clock() + self._timeout_s
        while True:
            newest, now_s = self._newest.get(chat), self._clock()
            if (
                newest is not None
                and now_s - newest.read_s < TTL_S
                and (newest.has(told) or now_s >= until_s)
            ):
                return newest
            await self._once("messages", chat, self._read_messages)

    async def _read_messages(self, chat: ChatId) -> None:
        if (newest := self._newest.get(chat)) is not None:
            await asyncio.sleep(max(0.0, newest.read_s + self._interval_s - self._clock()))
        read_s = self._clock()
        page = await self._backends.chats.page(
            chat, direction="before", anchor=LATEST, limit=MESSAGES
        )
        self._newest.pop(chat, None)
        ids = frozenset(message.id for message in page.messages)
        self._newest[chat] = _Newest(page, ids, read_s)

    async def _read_roster(self, chat: ChatId) -> Roster | None:
        return (await self._rosters.of({chat: 0}, self._backends.groups)).get(chat)

    async def _once(
        self, what: str, chat: ChatId, read: Callable[[ChatId], Coroutine[Any, Any, Any]]
    ) -> Any:
        """What the reading under way gives, or one that begins now: many ask at once."""
        reading = self._under_way.get((what, chat))
        if reading is None:
            # In a context of its own: it is done for all who ask.
            reading = asyncio.create_task(read(chat), context=Context())
            self._under_way[what, chat] = reading
            reading.add_done_callback(lambda done: self._on_read(what, chat, done))
        return await asyncio.shield(reading)

    def _on_read(self, what: str, chat: ChatId, done: asyncio.Task[Any]) -> None:
        del self._under_way[what, chat]
        if not done.cancelled():
            done.exception()  # raised where it is waited for
