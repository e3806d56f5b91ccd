"""Pages of large groups: their newest messages are read once for all members who ask for them.

A message to a group of more than MAX_WITH_BODY members tells each of them that it is there, and all
of them ask for it at about the same time. So a store is read some times a second by a process, and
not once a member; and who is a member is looked up in the roster (decisions/0058).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from backends.chats import Page, around, page_of
from backends.concurrency import BoundedDict
from backends.groups import Membership
from schemas.ids import LATEST, ChatId, MessageId, UserId
from schemas.kinds.newer import MAX_WITH_BODY

if TYPE_CHECKING:
    from backends.chats import Direction
    from backends.groups import Roster
    from backends.rosters import Rosters
    from backends.wiring import Backends

Found = TypeVar("Found")

MESSAGES: Final = 128
"""Of each group. Who has missed more asks the store."""
MAX_GROUPS: Final = 64
"""The groups that were read longest ago go first. About 10 MB, of texts of 1 KiB."""
TTL_S: Final = 0.2
"""A reading costs some milliseconds. What came since is in the next page: its readers were told of
it, and of each change.
"""


class _Newest(NamedTuple):
    page: Page
    """For no reader: who hides what is looked at for each."""
    read_s: float


class SharedPages:
    """Of one process. `Context` makes it."""

    def __init__(
        self,
        backends: Backends,
        rosters: Rosters,
        *,
        ttl_s: float = TTL_S,
        large: int = MAX_WITH_BODY,
    ) -> None:
        """`large`: members up to which a group is read for each who asks."""
        self._backends, self._rosters = backends, rosters
        self._ttl_s, self._large = ttl_s, large
        self._clock = backends.clock.elapsed_s
        self._newest = BoundedDict[ChatId, _Newest](MAX_GROUPS)  # in order of time
        self._under_way: dict[tuple[str, ChatId], asyncio.Task[Any]] = {}

    async def begins_of(self, user: UserId, chat: ChatId) -> tuple[MessageId, bool]:
        """The first id of a group that this member may see, and whether the group is large.

        Of a large one by a roster as `send` has it. Raises Refused, but never by memory, and
        Unavailable.
        """
        roster = self._rosters.fresh(chat)
        if roster is None and chat in self._newest:
            roster = await self._once("roster", chat, self._read_roster)
        if roster is not None and len(roster.members) > self._large:
            member = roster.members.get(user)
            if member is not None:
                return Membership(roster.group, member).begins, True
        mine = await self._backends.groups.membership(chat, user)
        return mine.begins, mine.group.members > self._large

    async def page(
        self,
        chat: ChatId,
        *,
        direction: Direction,
        anchor: MessageId,
        limit: int,
        reader: UserId,
    ) -> Page:
        """As `Chats.page`, as of TTL_S ago at most. Raises Unavailable."""
        newest = self._newest.get(chat)
        if newest is None or self._clock() - newest.read_s >= self._ttl_s:
            newest = await self._once("messages", chat, self._read_newest)
        pivot, below_most, above_most = around(direction, anchor, limit)
        shown = [
            message
            for message in newest.page.messages
            if reader not in newest.page.hidden.get(message.id, ())
        ]
        below = [message for message in shown if message.id < pivot][:below_most]
        if len(below) < below_most and newest.page.more_before:
            return await self._backends.chats.page(
                chat, direction=direction, anchor=anchor, limit=limit, reader=reader
            )
        above = [message for message in reversed(shown) if message.id >= pivot][:above_most]
        return page_of(below, above, direction=direction, limit=limit)

    async def _read_newest(self, chat: ChatId) -> _Newest:
        read_s = self._clock()
        page = await self._backends.chats.page(
            chat, direction="before", anchor=LATEST, limit=MESSAGES
        )
        self._newest.pop(chat, None)
        newest = self._newest[chat] = _Newest(page, read_s)
        return newest

    async def _read_roster(self, chat: ChatId) -> Roster | None:
        return (await self._rosters.of({chat: 0}, self._backends.groups)).get(chat)

    async def _once(
        self, what: str, chat: ChatId, read: Callable[[ChatId], Coroutine[Any, Any, Found]]
    ) -> Found:
        """What the reading under way gives, or one that begins now: many ask at once."""
        reading: asyncio.Task[Found] | None = self._under_way.get((what, chat))
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
