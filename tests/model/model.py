"""What must be so, given what the server has acknowledged: a plain Python class, no I/O.

How a new kind extends the model, the views and the rules:

1. `Model` gets what the server said ok to: a method in the past tense (`edited`, `member_removed`),
   and what follows from it in `chats_of`, the one description of what a user is shown. What is
   shown of a chat is a row of `Shown`.
2. `View` (view.py) gets the push, as `on_<type>`, and what pages and lists hold of it in
   `take_message` or `take_state`; what it shows of it goes into `View.shown`.
3. `fresh` (fresh.py) gets what a fresh snapshot over HTTP shows of it, in the same row.
4. `rules_<subject>.py` gets a class with the rules, which send frames by `Device.send` and tell the
   model in the callback of their `ok`; `Machine` (machine.py) inherits from it.

Everything else stays: `World.settle` compares model, views and fresh snapshots whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

UNREAD_SHOWN = 999


@dataclass(frozen=True)
class Message:
    """A message as it is shown."""

    message: int
    sender: str
    key: str
    text: str
    reply_to: int = 0
    edited: int = 0
    is_deleted: bool = False
    reactions: frozenset[tuple[str, str]] = frozenset()
    """(emoji, user) of those in force."""

    def changed(self, changes: Changes) -> Message:
        """As it is with these changes."""
        if changes.deleted or self.is_deleted:
            return replace(self, text="", edited=0, is_deleted=True, reactions=frozenset())
        shown = self
        if changes.edit is not None and changes.edit.version > shown.edited:
            shown = replace(shown, text=changes.edit.value, edited=changes.edit.version)
        on = {cell for cell, change in changes.reactions.items() if change.value == "react"}
        reactions = (shown.reactions - changes.reactions.keys()) | on
        return replace(shown, reactions=frozenset(reactions))


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

    def apply(self, op: str, change: Change, by: str, *, emoji: str = "", for_: str = "") -> None:
        """A change that was acknowledged, or pushed."""
        match op:
            case "edit":
                if self.edit is None or self.edit.version < change.version:
                    self.edit = change
            case "delete" if for_ == "me":
                self.hidden_from.add(by)
            case "delete":
                self.deleted = max(self.deleted, change.version)
            case "react" | "unreact":
                was = self.reactions.get((emoji, by))
                if was is None or was.version < change.version:
                    self.reactions[emoji, by] = Change(change.version, op)


@dataclass
class Shown:
    """One chat as a user sees it."""

    messages: dict[int, Message] = field(default_factory=dict)
    unread: int = 0
    marks: dict[str, tuple[int, int]] = field(default_factory=dict)
    """User -> (received, read), of all who have marked."""


def direct_chat(one: str, other: str) -> str:
    """Both sides derive it."""
    lower, higher = sorted((int(one), int(other)))
    return f"d-{lower}-{higher}"


def is_group(chat: str) -> bool:
    """Of a group neither members nor others' watermarks can be compared: who came later was not
    told of those.
    """
    return chat.startswith("g-")


def shown_marks(
    user: str, chat: str, marks: dict[str, tuple[int, int]]
) -> dict[str, tuple[int, int]]:
    """The watermarks of a chat that a user is shown: of a group the user's own."""
    people = {user} if is_group(chat) else set(chat.split("-")[1:])
    return {one: mark for one, mark in marks.items() if one in people and mark != (0, 0)}


def shown_to(
    user: str, messages: dict[int, Message], changes: dict[int, Changes]
) -> dict[int, Message]:
    """The messages of a chat as they are now, without those that the user has deleted."""
    return {
        number: message.changed(changes.get(number, Changes()))
        for number, message in messages.items()
        if user not in changes.get(number, Changes()).hidden_from
    }


def unread(chat: str, messages: dict[int, Message], user: str, read: int) -> int:
    """How many messages of others lie above a user's watermark, as it is shown; deleted ones do not
    count. 0 in groups, where it begins with an event that the model does not know.
    """
    if is_group(chat):
        return 0
    above = sum(
        each.sender != user and not each.is_deleted
        for number, each in messages.items()
        if number > read
    )
    return min(UNREAD_SHOWN, above)


class Model:
    """What was acknowledged."""

    def __init__(self) -> None:
        self.groups: dict[str, list[str]] = {}
        """Group -> its members, the owner first."""
        self._messages: dict[str, dict[int, Message]] = {}
        self._marks: dict[tuple[str, str], tuple[int, int]] = {}
        self._changes: dict[str, dict[int, Changes]] = {}
        self.refused: dict[int, str] = {}
        """Commands that got their `ok` and may be refused: their ids -> whose they are."""

    def sent(self, chat: str, message: Message) -> None:
        """A message got its `ok`."""
        known = self._messages.setdefault(chat, {})
        assert known.get(message.message, message) == message, "one id for two messages"
        same_key = [
            each.message
            for each in known.values()
            if (each.sender, each.key) == (message.sender, message.key)
        ]
        assert same_key in ([], [message.message]), "two ids for one key"
        known[message.message] = message

    def marked(self, chat: str, user: str, *, received: int, read: int) -> None:
        """A mark got its `ok`: watermarks only move forward, and read implies received."""
        was = self._marks.get((chat, user), (0, 0))
        self._marks[chat, user] = (max(was[0], received, read), max(was[1], read))

    def sent_in_vain(self, message: int, user: str) -> None:
        """A message to a user who does not exist got its `ok`."""
        self.refused[message] = user

    def changed(
        self, chat: str, message: int, op: str, change: Change, by: str, **more: str
    ) -> None:
        """A change got its `ok`. It may be refused where the message is deleted for all meanwhile:
        that makes no difference to what is shown.
        """
        self.refused[change.version] = by
        of_chat = self._changes.setdefault(chat, {})
        of_chat.setdefault(message, Changes()).apply(op, change, by, **more)

    def messages(self, chat: str) -> dict[int, Message]:
        """What was acknowledged in a chat, by id."""
        return self._messages.get(chat, {})

    def chats_of(self, user: str) -> Iterator[tuple[str, Shown]]:
        """What a user is shown: each chat with a message."""
        for chat, messages in self._messages.items():
            if user not in self.groups.get(chat, chat.split("-")[1:]):
                continue
            marks = {one: mark for (of, one), mark in self._marks.items() if of == chat}
            read = marks.get(user, (0, 0))[1]
            shown = shown_to(user, messages, self._changes.get(chat, {}))
            if shown:
                marks = shown_marks(user, chat, marks)
                yield chat, Shown(shown, unread(chat, shown, user, read), marks)
