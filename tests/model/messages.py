"""Messages and their changes as they are shown, by the model and by devices' views. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

UNREAD_SHOWN = 999
_EPOCH_MS = 1_704_067_200_000
_ID_BITS = 22


@dataclass(frozen=True)
class Message:
    """A message as it is shown."""

    message: int
    sender: str
    key: str
    text: str
    reply_to: int = 0
    edited: int = 0
    version: int = 0
    """Of its newest edit or reaction, else its id; 0 when it is deleted: what comes too late for
    that may be refused.
    """
    is_deleted: bool = False
    reactions: frozenset[tuple[str, str]] = frozenset()
    """(emoji, user) of those in force."""
    mentions: frozenset[str] = frozenset()
    file: str = ""
    """Its id."""

    def changed(self, changes: Changes) -> Message:
        """As it is with these changes."""
        if changes.deleted or self.is_deleted:
            return Message(self.message, self.sender, self.key, "", self.reply_to, is_deleted=True)
        shown = self
        if changes.edit is not None and changes.edit.version > shown.edited:
            shown = replace(shown, text=changes.edit.value, edited=changes.edit.version)
        on = {cell for cell, change in changes.reactions.items() if change.value == "react"}
        reactions = (shown.reactions - changes.reactions.keys()) | on
        version = max(self.version, changes.version)
        return replace(shown, version=version, reactions=frozenset(reactions))


@dataclass(frozen=True)
class Change:
    """A change as it was acknowledged: its version decides what is in force."""

    version: int
    value: str = ""


@dataclass
class Changes:
    """All changes of one message, in any order: of each cell the newest wins, and a deletion for
    all over all of them.
    """

    edit: Change | None = None
    deleted: int = 0
    hidden_from: set[str] = field(default_factory=set)
    reactions: dict[tuple[str, str], Change] = field(default_factory=dict)
    """(emoji, user) -> the newest change: `react` or `unreact`."""
    pin: Change | None = None
    """The newest of `pin` and `unpin`."""
    version: int = 0

    def apply(self, op: str, change: Change, by: str, *, emoji: str = "", for_: str = "") -> None:
        """A change that was acknowledged, or pushed."""
        if op in {"edit", "react", "unreact"}:
            self.version = max(self.version, change.version)
        match op:
            case "edit":
                self.edit = _newer(self.edit, change)
            case "delete" if for_ == "me":
                self.hidden_from.add(by)
            case "delete":
                self.deleted = max(self.deleted, change.version)
            case "react" | "unreact":
                cell = emoji, by
                self.reactions[cell] = _newer(self.reactions.get(cell), Change(change.version, op))
            case "pin" | "unpin":
                self.pin = _newer(self.pin, Change(change.version, op))


def _newer(one: Change | None, other: Change) -> Change:
    """Of one version that which takes away: a limit has refused the other."""
    if one is None or (one.version, one.value) < (other.version, other.value):
        return other
    return one


@dataclass(frozen=True)
class Mine:
    """What a user wants of a chat."""

    muted_until: str = ""
    pinned: bool = False
    archived: int = 0
    draft: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Mine:
        """As a state, a push or an answer says it."""
        return cls(
            fields.get("muted_until", ""),
            fields.get("pinned", False),
            int(fields.get("archived", 0)),
            fields.get("draft", ""),
        )


@dataclass(frozen=True)
class GroupShown:
    """What a member is shown of a group."""

    name: str
    role: str
    members: int

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> GroupShown:
        """As a state or a push says it."""
        return cls(fields["name"], fields["role"], fields["members"])


@dataclass
class Shown:
    """One chat as a user sees it."""

    messages: dict[int, Message] = field(default_factory=dict)
    unread: int = 0
    mentions: int = 0
    marks: dict[str, tuple[int, int]] = field(default_factory=dict)
    """User -> (received, read), of all who have marked."""
    pins: frozenset[int] = frozenset()
    mine: Mine = field(default_factory=Mine)
    group: GroupShown | None = None


def direct_chat(one: str, other: str) -> str:
    """Both sides derive it."""
    lower, higher = sorted((int(one), int(other)))
    return f"d-{lower}-{higher}"


def is_group(chat: str) -> bool:
    """Whether it is no direct chat."""
    return chat.startswith("g-")


def first_id(time: str) -> int:
    """The first id of a time's millisecond."""
    unix_ms = round(datetime.fromisoformat(time).timestamp() * 1_000)
    return (unix_ms - _EPOCH_MS) << _ID_BITS


def is_of(number: int, first: int) -> bool:
    """Whether an id is of the millisecond of that first one."""
    return number >> _ID_BITS == first >> _ID_BITS


def shown_to(
    user: str, messages: Mapping[int, Message], changes: Mapping[int, Changes]
) -> dict[int, Message]:
    """The messages of a chat as they are now, without those that the user has deleted."""
    return {
        number: message.changed(changes.get(number, Changes()))
        for number, message in messages.items()
        if user not in changes.get(number, Changes()).hidden_from
    }


def unread(messages: Mapping[int, Message], user: str, read: int) -> tuple[int, int]:
    """How many messages of others lie above a user's watermark, as it is shown, and how many of
    them name the user; deleted ones do not count.
    """
    above = [
        each
        for number, each in messages.items()
        if number > read and each.sender != user and not each.is_deleted
    ]
    named = sum(user in each.mentions for each in above)
    return min(UNREAD_SHOWN, len(above)), min(UNREAD_SHOWN, named)
