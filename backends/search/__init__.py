"""The index of messages: what `index` writes out of the log, and `GET /v1/search/messages` asks.

It is made of the log and can be made of it again, so it decides nothing: history says what a
message is, the index where to look. What is written may be written again, in any order, with the
same end state (design.md D5). Source: decisions/0065.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from schemas.ids import LATEST, ChatId, MessageId, UserId, direct_members

NO_VERSION: Final = MessageId(0)
NO_SENDER: Final = UserId(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of a message by one event.

    `version`: of the text, its id or that of an edit; 0: the event tells no text. A file stays
    whatever the text becomes. `deleted`: for all, which is final. `hidden`: from whom it is hidden,
    for good.
    """

    chat: ChatId
    message: MessageId
    version: MessageId = NO_VERSION
    sender: UserId = NO_SENDER
    text: str = ""
    has_file: bool = False
    deleted: bool = False
    hidden: frozenset[UserId] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is searched, and by whom.

    `terms` are folded (`schemas.folding`), and each must stand somewhere in the text. `groups`:
    the groups of the user that are searched, each with the first id that they may see. `directs`:
    with all their direct chats, or with the one that `chat` names.
    `before` and `after` exclude their id.
    """

    user: UserId
    terms: Sequence[str] = ()
    groups: Mapping[ChatId, MessageId] = field(default_factory=dict)
    directs: bool = False
    chat: ChatId | None = None
    sender: UserId | None = None
    has_file: bool = False
    before: MessageId = LATEST
    after: MessageId = NO_VERSION
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Found:
    """Messages that were found, the newest first, and whether there are older ones."""

    places: Sequence[tuple[ChatId, MessageId]]
    more: bool


def joined(entries: Sequence[Entry]) -> list[Entry]:
    """One entry for each message, with all that these tell of it, in the order of ids.

    In which order they came does not matter.
    """
    known: dict[MessageId, Entry] = {}
    for entry in entries:
        was = known.get(entry.message)
        known[entry.message] = entry if was is None else join(was, entry)
    return [known[message] for message in sorted(known)]


def join(one: Entry, other: Entry) -> Entry:
    """What both tell of one message: the newest text, unless it is deleted."""
    newest = max(one, other, key=lambda entry: (entry.version, entry.text))
    deleted = one.deleted or other.deleted
    return Entry(
        chat=newest.chat,
        message=newest.message,
        version=newest.version,
        sender=newest.sender,
        text="" if deleted else newest.text,
        has_file=(one.has_file or other.has_file) and not deleted,
        deleted=deleted,
        hidden=one.hidden | other.hidden,
    )


def may_see(wanted: Wanted, chat: ChatId, message: MessageId) -> bool:
    """Whether the user may find this message: it is in a chat that is searched, and in a group
    not before what they may see of it.
    """
    if (members := direct_members(chat)) is None:
        return chat in wanted.groups and message >= wanted.groups[chat]
    return wanted.directs and wanted.user in members and wanted.chat in {None, chat}


class Search(Protocol):
    """The index.

    Every method raises Unavailable when the store does not answer within its timeout.
    """

    async def write(self, entries: Sequence[Entry]) -> None:
        """Takes in what these tell: of the text the newest version wins, a deletion ends it.

        What was written is found within 2 s of the return, and what was deleted no longer.
        """
        ...

    async def find(self, wanted: Wanted) -> Found:
        """The newest messages that hold what is wanted, at most `limit` (1 to 256).

        Nothing that is deleted, hidden from the user, or out of their sight (`may_see`). Raises
        Unavailable when it takes too long too: more of the text makes it shorter.
        """
        ...

    async def ping(self) -> None:
        """Raises Unavailable when the store does not answer, Malformed when it refuses a setting:
        that one is named.

        Answers within 2 s.
        """
        ...

    async def close(self) -> None:
        """Waits for calls under way, then closes connections."""
        ...
