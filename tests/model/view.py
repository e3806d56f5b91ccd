"""What a device shows: built from a snapshot and from pushes, as protocol.md section 4 says clients
do. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.model.messages import (
    Change,
    Changes,
    GroupShown,
    Message,
    Mine,
    Shown,
    is_group,
    shown_to,
    unread,
)


class View:
    """The local view of one device of a user. All may be applied in any order, and again."""

    def __init__(self, user: str, *, excused: Iterable[int] = ()) -> None:
        """`excused`: commands whose refusal was told before."""
        self.user = user
        self.is_loaded = False
        """False: read chats and history again, after `new` and `reset`."""
        self.was_reset = False
        self.refused: dict[int, str] = {}
        """Refused commands: id -> code."""
        self.excused = frozenset(excused)
        self._messages: dict[str, dict[int, Message]] = {}
        self._changes: dict[str, dict[int, Changes]] = {}
        """Of pushes alone; pages hold theirs already."""
        self._pins: dict[str, frozenset[int]] = {}
        """As a snapshot has them: what pushes say counts more."""
        self._marks: dict[str, dict[str, tuple[int, int]]] = {}
        self._groups: dict[str, dict[bool, int]] = {}
        """Group -> whether the user is in it -> the newest version that says so."""
        self._shown_groups: dict[str, tuple[int, GroupShown | None]] = {}
        self._mine: dict[str, tuple[int, Mine]] = {}
        """Chat -> version and what the user wants of it; 0: as a snapshot has it."""
        self._contacts: dict[str, tuple[int, str]] = {}
        self._counted: dict[str, tuple[int, int, int, int]] = {}
        """Chat -> (read, upto, unread, mentions) as the server has counted last."""

    # ---- snapshot --------------------------------------------------------------------------------

    def begin(self, result: str) -> None:
        """A session has begun: what was missed comes, or all is to be read again."""
        if result == "resumed":
            return
        self.is_loaded, self.was_reset = False, self.was_reset or result == "reset"
        # Of these a snapshot does not say how new it is.
        self._mine.clear()
        self._contacts.clear()
        for of_chat in self._changes.values():
            for changes in of_chat.values():
                changes.pin = None

    def take_state(self, state: Mapping[str, Any]) -> None:
        """One of the list of chats."""
        chat = state["chat"]
        if "version" in state:
            version = int(state["version"])
            self._member(chat, version, is_in=True)
            self._show_group(chat, version, GroupShown.of(state))
        if chat not in self._mine or not self._mine[chat][0]:
            self._mine[chat] = 0, Mine.of(state)
        self._mark(chat, self.user, int(state["received"]), int(state["read"]))
        self._messages.setdefault(chat, {})

    def take_pins(self, chat: str, pins: Iterable[Mapping[str, Any]]) -> None:
        """The list of a chat's pins."""
        self._pins[chat] = frozenset(int(pin["message"]) for pin in pins)

    def take_receipts(self, chat: str, receipts: Iterable[Mapping[str, Any]]) -> None:
        """The list of how far each of a chat's people has come."""
        for one in receipts:
            self._mark(chat, one["user"], int(one["received"]), int(one["read"]))

    def take_contact(self, contact: Mapping[str, Any]) -> None:
        """One of the list of contacts, or of a push: the greater version counts."""
        told = int(contact["version"]), contact["state"]
        self._contacts[contact["user"]] = max(self._contacts.get(contact["user"], told), told)

    def take_message(self, message: Mapping[str, Any]) -> None:
        """One of a page, or of a push; the events of groups are left out."""
        if "event" in message:
            return
        shown = Message(
            int(message["message"]),
            message["sender"],
            message["key"],
            message.get("text", ""),
            int(message.get("reply_to", 0)),
            int(message.get("edited", 0)),
            int(message.get("version", message["message"])),
            "deleted" in message,
            frozenset(
                (each["emoji"], user)
                for each in message.get("reactions", ())
                for user in each["users"]
            ),
            frozenset(message.get("mentions", ())),
            message.get("file", {}).get("file", ""),
        )
        known = self._messages.setdefault(message["chat"], {})
        was = known.get(shown.message, shown)
        assert (was.sender, was.key, was.reply_to) == (shown.sender, shown.key, shown.reply_to)
        if "version" in message or shown.message not in known:  # a push holds no changes
            known[shown.message] = shown

    # ---- pushes ----------------------------------------------------------------------------------

    def apply(self, push: Mapping[str, Any]) -> None:
        """A durable push; types that it does not know are ignored, as clients do."""
        taken = getattr(self, f"on_{push['type']}", None)
        if taken is not None:
            taken(push)

    def on_message(self, push: Mapping[str, Any]) -> None:
        self.take_message(push)

    def on_contact(self, push: Mapping[str, Any]) -> None:
        self.take_contact(push)

    def on_chat(self, push: Mapping[str, Any]) -> None:
        """Of a group that the user has come into the history is to be read; what was said in one
        that is the user's no longer is gone.
        """
        chat, version, part = push["chat"], int(push["version"]), push["part"]
        if part == "mine":
            self._mine[chat] = max(
                self._mine.get(chat, (0, Mine())), (version, Mine.of(push)), key=lambda one: one[0]
            )
            return
        is_in = part != "deleted"
        was_in = self._is_in(chat)
        self._member(chat, version, is_in=is_in)
        if part == "group":
            self._show_group(chat, version, GroupShown.of(push))
        if is_in and not was_in and self._is_in(chat):
            self.is_loaded = False
        if was_in and not self._is_in(chat):
            for held in (self._messages, self._changes, self._pins, self._marks, self._counted):
                held.pop(chat, None)

    def on_changed(self, push: Mapping[str, Any]) -> None:
        of_chat = self._changes.setdefault(push["chat"], {})
        of_chat.setdefault(int(push["message"]), Changes()).apply(
            push["op"],
            Change(int(push["version"]), push.get("text", "")),
            push["by"],
            emoji=push.get("emoji", ""),
            for_=push.get("for", ""),
        )

    def on_receipt(self, push: Mapping[str, Any]) -> None:
        received, read = int(push.get("received", 0)), int(push.get("read", 0))
        self._mark(push["chat"], push["user"], received, read)

    def on_unread(self, push: Mapping[str, Any]) -> None:
        told = (int(push["read"]), int(push["upto"]), push["unread"], push["mentions"])
        self._mark(push["chat"], self.user, 0, told[0])
        if told[:2] >= self._counted.get(push["chat"], (0, 0, 0, 0))[:2]:
            self._counted[push["chat"]] = told

    def on_refused(self, push: Mapping[str, Any]) -> None:
        self.refused[int(push["message"])] = push["code"]

    # ---- what is seen ----------------------------------------------------------------------------

    def shown(self) -> dict[str, Shown]:
        """Each chat with a message, by its id."""
        return {
            chat: Shown(
                self._shown(chat),
                *unread(self._shown(chat), self.user, self._read(chat)),
                dict(self._marks_of(chat)),
                self._pinned(chat),
                self._mine.get(chat, (0, Mine()))[1],
                self._shown_groups.get(chat, (0, None))[1],
            )
            for chat in self._messages
            if self._shown(chat) and (not is_group(chat) or self._is_in(chat))
        }

    def contacts(self) -> dict[str, str]:
        """Other user -> state, but for none."""
        return {user: state for user, (_, state) in self._contacts.items() if state != "none"}

    def badges(self) -> dict[str, tuple[int, int]]:
        """Unread and mentions as `unread` pushes say it, where one came for the newest watermark:
        the number told, and what has come above it.
        """
        badges = {}
        for chat, (read, upto, *counts) in self._counted.items():
            if read == self._read(chat):
                above = unread(self._shown(chat), self.user, upto)
                badges[chat] = (min(999, counts[0] + above[0]), min(999, counts[1] + above[1]))
        return badges

    def messages(self, chat: str) -> list[int]:
        """The ids that it shows of a chat, in order."""
        return sorted(self._shown(chat))

    def _read(self, chat: str) -> int:
        return self._marks_of(chat).get(self.user, (0, 0))[1]

    def _member(self, chat: str, version: int, *, is_in: bool) -> None:
        known = self._groups.setdefault(chat, {})
        known[is_in] = max(known.get(is_in, 0), version)

    def _is_in(self, chat: str) -> bool:
        known = self._groups.get(chat, {})
        return known.get(True, 0) > known.get(False, 0)

    def _show_group(self, chat: str, version: int, shown: GroupShown) -> None:
        if version >= self._shown_groups.get(chat, (0, shown))[0]:
            self._shown_groups[chat] = version, shown

    def _shown(self, chat: str) -> dict[int, Message]:
        return shown_to(self.user, self._messages.get(chat, {}), self._changes.get(chat, {}))

    def _pinned(self, chat: str) -> frozenset[int]:
        """Of messages that are shown, not deleted for all."""
        told = {
            number: one.pin.value == "pin"
            for number, one in self._changes.get(chat, {}).items()
            if one.pin is not None
        }
        loaded = self._pins.get(chat, frozenset())
        return frozenset(
            number
            for number, message in self._shown(chat).items()
            if not message.is_deleted and told.get(number, number in loaded)
        )

    def _marks_of(self, chat: str) -> dict[str, tuple[int, int]]:
        return self._marks.setdefault(chat, {})

    def _mark(self, chat: str, user: str, received: int, read: int) -> None:
        was = self._marks_of(chat).get(user, (0, 0))
        self._marks_of(chat)[user] = (max(was[0], received, read), max(was[1], read))
