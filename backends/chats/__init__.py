"""History and chat states. `persist` writes, `history` and `chats` read; no other function.

Everything written may be written again, in any order, with the same end state: rows are keyed by
message id, a write carries its id or version and the newest wins, pointers only move forward
(design.md D5). What is read reflects every write that had returned before.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from backends.clock import Clock, Reading
from schemas.errors import Malformed
from schemas.ids import LATEST, ChatId, MessageId, UserId, parse_chat, parse_id

NO_MESSAGE: Final = MessageId(0)
NO_READER: Final = UserId(0)
"""A page or digest of all messages, hidden ones too."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """An emoji that a user has put to a message; `version` is that of the command."""

    emoji: str
    user: UserId
    version: MessageId


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    """One message as history holds it.

    `version` is its newest edit, deletion or reaction, else its id. `reply_to` 0: none. `event`:
    what a group tells of itself, as JSON; empty: a user's message. `edited` and `deleted` are the
    versions of the edit that the text is of, and of its deletion for all; 0: none. `file`: what it
    brings, as JSON; empty: none. `mentions`: the users whom it names. A deleted message has neither
    text nor file nor mentions nor reactions. Reactions are in the order of emoji and users.
    """

    id: MessageId
    chat: ChatId
    sender: UserId
    key: str
    text: str
    reply_to: MessageId
    version: MessageId
    event: str = ""
    edited: MessageId = NO_MESSAGE
    deleted: MessageId = NO_MESSAGE
    file: str = ""
    mentions: Sequence[UserId] = ()
    reactions: Sequence[Reaction] = ()


Operation = Literal["edit", "delete", "hide", "react", "unreact", "pin", "unpin"]


@dataclass(frozen=True, slots=True)
class Change:
    """What a user does to a message. `version` is the id of the command.

    `value`: the text of an edit, the emoji of a reaction. `hide` deletes the message for this user
    alone; neither that nor a pin makes another version of the message.
    """

    op: Operation
    chat: ChatId
    message: MessageId
    version: MessageId
    user: UserId
    value: str = ""


@dataclass(frozen=True, slots=True)
class Pin:
    """A pinned message of a chat, by whom; `version` is the id of the command."""

    message: MessageId
    user: UserId
    version: MessageId


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far a user has received and read a chat; 0 means nothing yet. Both only move forward."""

    user: UserId
    chat: ChatId
    received: MessageId
    read: MessageId


@dataclass(frozen=True, slots=True)
class Page:
    """Some neighbouring messages of a chat, newest first, and whether there are more on either
    side.
    """

    messages: Sequence[HistoryMessage]
    more_before: bool
    more_after: bool
    hidden: Mapping[MessageId, Collection[UserId]] = field(default_factory=dict)
    """From whom messages of it are hidden, where it was read for NO_READER."""


@dataclass(frozen=True, slots=True)
class ChatState:
    """One chat of one user.

    `unread` counts others' messages above `read`, at most 999, without deleted ones, and `mentions`
    those of them that name the user; `upto` is the newest that was looked at, `read` for none.
    `sent` is the newest of what the user has sent or
    reacted with in a direct chat, or any id above 0 where the chat is older than the keeping of it;
    0: nothing.
    """

    chat: ChatId
    newest: MessageId
    newest_message: HistoryMessage | None
    unread: int
    upto: MessageId
    read: MessageId
    received: MessageId
    sent: MessageId = NO_MESSAGE
    mentions: int = 0


@dataclass(frozen=True, slots=True)
class Digest:
    """Count of the messages in a range, and the XOR of the first 8 bytes of
    SHA-256("message:version") of each.
    """

    count: int
    hash: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """The ids `first` to `last` of a chat, both of them in it."""

    chat: ChatId
    first: MessageId
    last: MessageId


@dataclass(frozen=True, slots=True)
class Pointers:
    """How far one user's state of one chat has come; 0 means nothing yet."""

    newest: MessageId
    received: MessageId
    read: MessageId


Direction = Literal["before", "after", "around"]

_AFTER: Final = re.compile(r"([0-9]+)\.(.+)", re.ASCII)


def place_of(after: str | None) -> tuple[MessageId, ChatId]:
    """Newest id and chat of the last state that was shown; the next ones are below it.

    Raises Malformed for a text not of `after_of`.
    """
    if after is None:
        return LATEST, ChatId("")
    if (match := _AFTER.fullmatch(after)) is None:
        raise Malformed("after is no text that this call gave", field="after")
    return parse_id(match[1], name="after"), parse_chat(match[2], name="after")


def after_of(newest: MessageId, chat: ChatId) -> str:
    """The text that names a state's place in the order."""
    return f"{newest}.{chat}"


def around(direction: Direction, anchor: MessageId, limit: int) -> tuple[int, int, int]:
    """The id that divides a page, and how many messages to read below it and from it on: one more
    than is shown tells of more.
    """
    below = 1 if direction == "after" else limit + 1
    above = 1 if direction == "before" else limit + 1
    return min(anchor + (direction == "after"), LATEST), below, above


def page_of(
    below: Sequence[HistoryMessage],
    above: Sequence[HistoryMessage],
    *,
    direction: Direction,
    limit: int,
    hidden: Mapping[MessageId, Collection[UserId]] | None = None,
) -> Page:
    """The page out of what was read by `around`: `below` newest first, `above` oldest first.

    `hidden`: from whom messages among them are.
    """
    if direction == "before":
        older, newer = min(len(below), limit), 0
    elif direction == "after":
        older, newer = 0, min(len(above), limit)
    else:  # half and half, and what one side lacks the other may fill
        newer = min(len(above), max((limit + 1) // 2, limit - len(below)))
        older = min(len(below), limit - newer)
    return Page(
        [*reversed(above[:newer]), *below[:older]],
        more_before=len(below) > older,
        more_after=len(above) > newer,
        hidden=hidden or {},
    )


class Chats(Protocol):
    """Messages and chat states.

    Every method raises Unavailable when the store does not answer within its timeout (default 5 s).
    """

    async def put(self, messages: Sequence[HistoryMessage]) -> None:
        """Stores messages as they were sent, and moves the newest id of their chats forward: of a
        direct chat in the states of both people, who so get to know it; of a group once, for all
        its members.

        What has changed them before stays in force. All of them or, on Unavailable, maybe some.
        Raises Malformed, and nothing is written, if one of them can never be stored: its id is not
        in 1 to LATEST - 1, its version is not its id, its chat is none. The caller sets that one
        aside and puts the others again.
        """
        ...

    async def change(self, changes: Sequence[Change]) -> None:
        """Edits, deletes, reacts and pins; messages need not be there yet.

        Of an edit, of each user's each emoji, and of a pin the newest version wins; deletions are
        final, and the text is gone. Raises Malformed as `put` does: a version is above its
        message's id.
        """
        ...

    async def find(
        self, places: Collection[tuple[ChatId, MessageId]]
    ) -> Mapping[tuple[ChatId, MessageId], HistoryMessage]:
        """These messages as they are now, those that are there; deleted ones too."""
        ...

    async def pins(self, chat: ChatId) -> Sequence[Pin]:
        """The pins of a chat, newest first; also of messages that were deleted."""
        ...

    async def mark(self, watermarks: Sequence[Watermark]) -> None:
        """Moves watermarks forward.

        A read watermark moves the received one too. Raises Malformed as `put` does.
        """
        ...

    async def page(
        self,
        chat: ChatId,
        *,
        direction: Direction,
        anchor: MessageId,
        limit: int,
        reader: UserId = NO_READER,
    ) -> Page:
        """Messages next to `anchor`, newest first, at most `limit` (1 to 256), without those that
        are hidden from `reader`; for NO_READER all of them, and from whom they are hidden.

        before: ids below it, the nearest; after: ids above it, the nearest; around: about half with
        ids from `anchor` on, the rest below. `before` LATEST is the newest page. Years of silence
        cost nothing: a store with buckets reads only those that hold messages. Source: CecoChat's
        history at a random point in time.
        """
        ...

    async def all_chats(
        self, after: str | None, *, limit: int
    ) -> tuple[Sequence[ChatId], str | None]:
        """Chats with messages, at most `limit`, in an order of the store's; and the text for the
        next call (None: that was the end).

        For what is made of all of history again. Raises Malformed for an `after` that was not given
        by this call.
        """
        ...

    async def digest(
        self, chat: ChatId, *, first: MessageId, last: MessageId, reader: UserId = NO_READER
    ) -> Digest:
        """Digest of the messages with first <= id <= last, without those that are hidden from
        `reader`.

        Raises Malformed when there are more than 1,024.
        """
        ...

    async def states(
        self, user: UserId, *, after: str | None, limit: int
    ) -> tuple[Sequence[ChatState], str | None]:
        """The user's direct chats by newest id, newest first, at most `limit` (1 to 256), and the
        text for the next call (None: that was the end).

        A store may end before the limit where many chats have much that is unread.

        A chat that gets a message between two calls may be missed by the second and was news to the
        user anyway. What is read depends on the limit, and on how many of the user's chats have a
        message within an hour, not on how many there are. Raises Malformed for an `after` that was
        not given by this call.
        """
        ...

    async def unread(self, user: UserId, chats: Sequence[ChatId]) -> Sequence[ChatState]:
        """The states of these direct chats, those that the user has; without `newest_message`."""
        ...

    async def heads(self, groups: Collection[ChatId]) -> Mapping[ChatId, MessageId]:
        """The newest id of each of these groups; those without a message are left out."""
        ...

    async def group_states(
        self, user: UserId, since: Mapping[ChatId, MessageId]
    ) -> Sequence[ChatState]:
        """The states of these groups, in their order; `newest` 0: no message yet.

        What is above the id given with the group, and above the user's read watermark, can be
        unread; events of the group are not.
        """
        ...

    async def unread_chats(
        self, user: UserId, *, direct: int, groups: Mapping[ChatId, MessageId]
    ) -> Mapping[ChatId, int]:
        """Which chats hold something unread, and how many of the unread messages name the user: of
        the user's newest `direct` (1 to 256) direct chats, and of these groups, each with an id as
        for `group_states`.
        """
        ...

    async def present(self, stretches: Collection[Stretch]) -> set[tuple[ChatId, MessageId]]:
        """Which messages there are in these stretches, so that a page would show them.

        For the audit: all chats in few questions. They are all in memory at once, so the caller
        keeps stretches short.
        """
        ...

    async def pointers(
        self, states: Collection[tuple[UserId, ChatId]]
    ) -> Mapping[tuple[UserId, ChatId], Pointers]:
        """How far these states have come; those of which nothing was ever written are left out."""
        ...

    async def read_clock(self, clock: Clock) -> Reading:
        """What the store's clock says, for the clock of this process; where that has none of its
        own, what this one says.
        """
        ...

    async def ping(self) -> None:
        """Raises Unavailable when the store does not answer, Malformed when it refuses a setting:
        that one is named.

        Answers within 2 s.
        """
        ...

    async def close(self) -> None:
        """Waits for calls under way, then closes files and connections."""
        ...
