"""What every adapter of `Chats` does alike, and without a store.

Which rows can be written, how the rows of one call melt together, where a page ends, what a digest
is. It knows no adapter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

from backends.chats import (
    NO_MESSAGE,
    Change,
    Digest,
    HistoryMessage,
    Reaction,
    Watermark,
)
from schemas.errors import Malformed
from schemas.ids import (
    EPOCH_MS,
    LATEST,
    ChatId,
    MessageId,
    UserId,
    direct_members,
    parse_chat,
    unix_ms_of,
)

MAX_DIGEST: Final = 1_024
HOUR_MS: Final = 3_600_000

Messages = dict[tuple[ChatId, MessageId], HistoryMessage]
"""The messages of a call."""
States = dict[tuple[UserId, ChatId], tuple[int, int, int, int]]
"""How far to move each state: newest, received, read, sent; 0 moves nothing."""


@dataclass(slots=True)
class Changed:
    """What the changes of a call make of one message; 0: nothing."""

    text: str = ""
    edited: int = 0
    deleted: int = 0
    version: int = 0
    hidden: dict[UserId, int] = field(default_factory=dict)
    """For whom, and the version."""
    reactions: dict[tuple[UserId, str], tuple[int, bool]] = field(default_factory=dict)
    """The newest version of each user's each emoji, and whether it takes the emoji away: of two of
    one version that one wins.
    """
    pin: tuple[int, bool, UserId] | None = None
    """The same of the pin, and whose it is."""


def put_rows(messages: Iterable[HistoryMessage]) -> tuple[Messages, States]:
    """What a `put` writes. Raises Malformed for a message that no chat can hold."""
    sent: Messages = {}
    states: States = {}
    for message in messages:
        for user in _members_of(message):
            own = message.id if user == message.sender else 0
            _move(states, user, message.chat, newest=message.id, sent=own)
        sent[message.chat, message.id] = message
    return sent, states


def mention_rows(messages: Messages) -> list[tuple[UserId, ChatId, MessageId]]:
    """Whom messages of others name: user, chat and message, in order."""
    return sorted(
        (user, chat, message)
        for (chat, message), row in messages.items()
        for user in row.mentions
        if user != row.sender
    )


def change_rows(changes: Iterable[Change]) -> dict[tuple[ChatId, MessageId], Changed]:
    """What a `change` writes. Raises Malformed for one that no chat can hold."""
    rows: dict[tuple[ChatId, MessageId], Changed] = {}
    for change in changes:
        version, user = change.version, change.user
        parse_chat(change.chat)
        _check_ids(user)
        if not 0 < change.message < version <= LATEST:
            raise Malformed("a change's version lies above its message's id", field="message")
        row = rows.setdefault((change.chat, change.message), Changed())
        match change.op:
            case "edit":
                if version > row.edited:
                    row.text, row.edited = change.value, version
            case "delete":
                row.deleted = max(row.deleted, version)
            case "hide":
                row.hidden[user] = max(row.hidden.get(user, 0), version)
            case "react" | "unreact":
                cell = user, change.value
                row.reactions[cell] = max(
                    row.reactions.get(cell, (0, False)), (version, change.op == "unreact")
                )
            case "pin" | "unpin":
                row.pin = max(row.pin or (0, False, user), (version, change.op == "unpin", user))
        if change.op in {"edit", "delete", "react", "unreact"}:
            row.version = max(row.version, version)
    return rows


def answer_rows(changes: Iterable[Change]) -> States:
    """What a `change` writes into states: who reacts in a direct chat has answered.

    Also with a reaction that is taken away: one that a limit refused is kept as that, and may be
    accepted when its command comes again.
    """
    states: States = {}
    for change in changes:
        if change.op in {"react", "unreact"} and direct_members(change.chat) is not None:
            _move(states, change.user, change.chat, sent=change.version)
    return states


def as_it_is(message: HistoryMessage, reactions: Iterable[Reaction]) -> HistoryMessage:
    """The message with its reactions; without anything when it was deleted for all."""
    if message.deleted:
        return replace(message, text="", edited=NO_MESSAGE, file="", mentions=())
    given = tuple(sorted(reactions, key=lambda reaction: (reaction.emoji, reaction.user)))
    return replace(message, reactions=given) if given else message


def may_have_reactions(message: HistoryMessage) -> bool:
    """Whether its version is one of a reaction, or may hide one."""
    return not message.deleted and message.version > message.id


def heads_of(messages: Messages) -> dict[ChatId, MessageId]:
    """The newest of these messages in each group."""
    heads: dict[ChatId, MessageId] = {}
    for chat, message in messages:
        if direct_members(chat) is None:
            heads[chat] = max(heads.get(chat, message), message)
    return heads


def mark_rows(watermarks: Iterable[Watermark]) -> States:
    """What a `mark` writes. Raises Malformed for ids and chats that cannot exist."""
    states: States = {}
    for mark in watermarks:
        _check_ids(mark.user, mark.received, mark.read)
        _move(
            states,
            mark.user,
            parse_chat(mark.chat),
            received=max(mark.received, mark.read),
            read=mark.read,
        )
    return states


def _move(
    states: States,
    user: UserId,
    chat: ChatId,
    *,
    newest: int = 0,
    received: int = 0,
    read: int = 0,
    sent: int = 0,
) -> None:
    was = states.get((user, chat), (0, 0, 0, 0))
    states[user, chat] = (
        max(was[0], newest),
        max(was[1], received),
        max(was[2], read),
        max(was[3], sent),
    )


def _members_of(message: HistoryMessage) -> Iterable[UserId]:
    members = direct_members(parse_chat(message.chat))
    _check_ids(message.sender, message.reply_to, *message.mentions)
    if not 0 < message.id < LATEST or message.version != message.id or not message.sender:
        raise Malformed("a message is put as it was sent, under an id", field="message")
    return members or ()


def _check_ids(*ids: int) -> None:
    if min(ids) < 0 or max(ids) > LATEST:
        raise Malformed(f"an id lies between 0 and {LATEST}", field="message")


def hour_of(message: int) -> int:
    """The hour, counted from the epoch of ids, that an id lies in."""
    return (unix_ms_of(message) - EPOCH_MS) // HOUR_MS


def within(number: int) -> int:
    """A number that fits into a column.

    LATEST is no id, so what is beyond it, where drivers would raise, finds nothing either.
    """
    return min(number, LATEST)


def digest_of(rows: Sequence[Sequence[int]]) -> Digest:
    """The digest of (id, version) rows. Raises Malformed when there are more than MAX_DIGEST."""
    if len(rows) > MAX_DIGEST:
        raise Malformed(f"the range holds more than {MAX_DIGEST} messages", field="to")
    hash_ = 0
    for message, version in rows:
        hash_ ^= int.from_bytes(sha256(b"%d:%d" % (message, version)).digest()[:8], "big")
    return Digest(len(rows), hash_)
