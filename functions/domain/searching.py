"""Searching messages as one of their readers: the index says where to look, history what is there.

So what is found is as it is now, and a text that was deleted is gone with history's answer, however
late the index hears of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET

from backends.search import Wanted
from functions.domain.reading import as_shown, begins_of
from schemas.folding import folded, places
from schemas.ids import direct_members
from schemas.kinds.history import history_message
from schemas.searches import Asked, FoundMessage, FoundMessages

if TYPE_CHECKING:
    from backends.chats import HistoryMessage
    from backends.wiring import Backends
    from schemas.ids import UserId

MAX_ROUNDS: Final = 4
"""Questions for one call: the index may know of messages that are there no longer, or not yet."""
MAX_HIGHLIGHTS: Final = 64
"""Of one message."""


async def search_messages(
    backends: Backends, user: UserId, asked: Asked, limit: int
) -> FoundMessages:
    """The newest messages of the user's chats that hold what is asked for, at most `limit`.

    Raises as `begins_of` does for a chat that is named, Unavailable when index or history do not
    answer in time.
    """
    wanted = await _wanted(backends, user, asked, limit)
    shown_messages: list[FoundMessage] = []
    last, more = wanted.before, True
    for _ in range(MAX_ROUNDS):
        left = limit - len(shown_messages)
        found = await backends.search.find(replace(wanted, before=last, limit=left))
        messages = await backends.chats.find(found.places) if found.places else {}
        shown_messages += [
            _found(messages[place], asked)
            for place in found.places
            if place in messages and _is_wanted(messages[place], asked)
        ]
        more = found.more
        if found.places:
            last = found.places[-1][1]
        if not more or len(shown_messages) >= limit:
            break
    return FoundMessages(messages=shown_messages, more=more, last=str(last) if more else UNSET)


async def _wanted(backends: Backends, user: UserId, asked: Asked, limit: int) -> Wanted:
    chat = asked.chat
    if chat is None:
        mine = await backends.groups.memberships(user)
        directs, groups = True, {one.group.chat: one.begins for one in mine}
    else:
        begins = await begins_of(backends, user, chat)
        directs = direct_members(chat) is not None
        groups = {} if directs else {chat: begins}
    return Wanted(
        user=user,
        terms=asked.terms,
        groups=groups,
        directs=directs,
        chat=chat if directs else None,
        sender=asked.sender,
        has_file=asked.has_file,
        before=asked.before,
        after=asked.after,
        limit=limit,
    )


def _is_wanted(message: HistoryMessage, asked: Asked) -> bool:
    """Whether the message is as the index says: it may be edited or deleted since."""
    if message.deleted or message.event:
        return False
    text = folded(message.text)
    return all(term in text for term in asked.terms)


def _found(message: HistoryMessage, asked: Asked) -> FoundMessage:
    fields = msgspec.structs.asdict(history_message(as_shown(message)))
    found = places(message.text, asked.terms, most=MAX_HIGHLIGHTS)
    return FoundMessage(**fields, highlights=[[start, end] for start, end in found])
