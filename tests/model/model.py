"""What must be so, given what the server has acknowledged: a plain Python class, no I/O.

How a new kind extends the model, the views and the rules:

1. `Model` gets what the server said ok to: a method in the past tense (`edited`, `member_removed`),
   and what follows from it in `chats_of`, the one description of what a user is shown. What is
   shown of a chat is a row of `Shown` (messages.py); what users are to each other is in people.py.
2. `View` (view.py) gets the push, as `on_<type>`, and what pages and lists hold of it in
   `take_message` or `take_state`; what it shows of it goes into `View.shown`.
3. `fresh` (fresh.py) gets what a fresh snapshot over HTTP shows of it, in the same row.
4. `rules_<subject>.py` gets a class with the rules, which send frames by `Device.send` and tell the
   model in the callback of their `ok`; `Machine` (machine.py) inherits from it.

Everything else stays: `World.settle` compares model, views and fresh snapshots whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from tests.model.messages import (
    Change,
    Changes,
    GroupShown,
    Message,
    Mine,
    Shown,
    is_group,
    is_of,
    shown_to,
    unread,
)
from tests.model.people import People

ADMINS = ("admin", "owner")


@dataclass(frozen=True)
class Member:
    """One member of a group."""

    role: str
    joined: int
    """The id of the event that says so; until that is known, the first of its millisecond."""


@dataclass
class Group:
    """A group as its calls have answered."""

    name: str
    from_join: bool
    members: dict[str, Member] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return next(user for user, one in self.members.items() if one.role == "owner")


class Model:
    """What was acknowledged."""

    def __init__(self) -> None:
        self.people = People()
        self.groups: dict[str, Group] = {}
        self._messages: dict[str, dict[int, Message]] = {}
        self._marks: dict[tuple[str, str], tuple[int, int]] = {}
        self._changes: dict[str, dict[int, Changes]] = {}
        self._mine: dict[tuple[str, str], Mine] = {}
        self._reacted: dict[tuple[str, str], set[int]] = {}
        self.refused: dict[int, tuple[str, str]] = {}
        """Commands that got their `ok` and have no effect: their ids -> whose they are, and the
        code.
        """
        self.doubtful: dict[int, str] = {}
        """Those that may be refused without a difference: their ids -> whose they are."""

    # ---- what was acknowledged -------------------------------------------------------------------

    def sent(self, chat: str, message: Message) -> None:
        """A message got its `ok`."""
        if code := self.refusal(message.sender, chat):
            self.refused[message.message] = message.sender, code
            return
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
        self.refused[message] = user, "unknown_user"

    def changed(
        self, chat: str, message: int, op: str, change: Change, by: str, **more: str
    ) -> None:
        """A change got its `ok`. It may be refused where the message is deleted for all meanwhile:
        that makes no difference to what is shown.
        """
        if code := self.refusal(by, chat, op, for_me=more.get("for_") == "me"):
            self.refused[change.version] = by, code
            return
        self.doubtful[change.version] = by
        of_chat = self._changes.setdefault(chat, {})
        of_chat.setdefault(message, Changes()).apply(op, change, by, **more)
        # A reaction that is taken away is an answer as well, whether there was one or not.
        if op in {"react", "unreact"}:
            self._reacted.setdefault((chat, by), set()).add(message)

    def take_events(self, joined: Mapping[tuple[str, str], set[int]]) -> None:
        """The ids of the events by which users came into groups, as history has them."""
        for (chat, user), events in joined.items():
            members = self.groups[chat].members if chat in self.groups else {}
            if (member := members.get(user)) is not None:
                for event in events:
                    if is_of(event, member.joined):
                        members[user] = replace(member, joined=event)

    def wanted(self, chat: str, user: str, mine: Mine) -> None:
        """What a user wants of a chat is this now."""
        self._mine[chat, user] = mine

    def refusal(self, user: str, chat: str, op: str = "send", *, for_me: bool = False) -> str:
        """Why a command that got its `ok` has no effect; empty: it has one."""
        if for_me:
            return ""
        if is_group(chat):
            role = self.groups[chat].members[user].role
            is_lacking = op in {"pin", "unpin"} and role not in ADMINS
            return "forbidden" if role == "reader" or is_lacking else ""
        one, other = chat.split("-")[1:]
        return self.people.refusal(user, other if one == user else one)

    def forget(self, chat: str) -> None:
        """A group was deleted."""
        self._messages.pop(chat, None)

    # ---- what follows ----------------------------------------------------------------------------

    def messages(self, chat: str, user: str) -> dict[int, Message]:
        """What was acknowledged in a chat and this user may see, by id."""
        group = self.groups.get(chat)
        messages = self._messages.get(chat, {})
        if group is None or not group.from_join:
            return messages
        since = group.members[user].joined
        return {number: one for number, one in messages.items() if number >= since}

    def people_of(self, chat: str) -> set[str]:
        """Who is in a chat."""
        return {*(self.groups[chat].members if is_group(chat) else chat.split("-")[1:])}

    def _shown_marks(
        self, chat: str, user: str, marks: Mapping[str, tuple[int, int]]
    ) -> dict[str, tuple[int, int]]:
        return {
            one: mark
            for one, mark in marks.items()
            if one in self.people_of(chat) and self.people.shows_receipts(user, one)
        }

    def chats_of(self, user: str) -> Iterator[tuple[str, Shown]]:
        """What a user is shown: each chat with a message."""
        for chat in self._messages:
            group = self.groups.get(chat)
            if user not in (chat.split("-")[1:] if group is None else group.members):
                continue
            marks = {one: mark for (of, one), mark in self._marks.items() if of == chat}
            changes = self._changes.get(chat, {})
            shown = shown_to(user, self.messages(chat, user), changes)
            if not shown:
                continue
            # What came before the user did counts as read.
            read = max(
                marks.get(user, (0, 0))[1], 0 if group is None else group.members[user].joined
            )
            yield (
                chat,
                Shown(
                    shown,
                    *unread(shown, user, read),
                    self._shown_marks(chat, user, marks),
                    self._pins(chat, shown),
                    self._mine.get((chat, user), Mine()),
                    None if group is None else self._group(group, user),
                ),
            )

    def _pins(self, chat: str, shown: Mapping[int, Message]) -> frozenset[int]:
        return frozenset(
            number
            for number, one in self._changes.get(chat, {}).items()
            if one.pin is not None and one.pin.value == "pin"
            if number in shown and not shown[number].is_deleted
        )

    @staticmethod
    def _group(group: Group, user: str) -> GroupShown:
        return GroupShown(group.name, group.members[user].role, len(group.members))

    def request(self, chat: str, user: str) -> bool | None:
        """Whether a chat is a stranger's that waits for an answer; None: it is not known, because a
        reaction may have come too late.
        """
        if is_group(chat) or not self.people.is_request(user, chat):
            return False
        if any(one.sender == user for one in self._messages[chat].values()):
            return False
        reacted = self._reacted.get((chat, user), set())
        changes = self._changes.get(chat, {})
        if any(not changes[number].deleted for number in reacted):
            return False
        return None if reacted else True
