"""`ChatView`: one chat as its pages and pushes say it is now, in whatever order they come.

Source: protocol.md section 3, "changes".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from knchat_client.protocol import frames

USERS_SHOWN: Final = 10
"""Of each emoji, by the server."""

Cell = tuple[str, str]
"""An emoji, and the user who put it to the message."""


@dataclass(slots=True)
class _Known:
    """What is known of one message; the base is as it was sent, or as a page shows it."""

    base: frames.HistoryMessage | None = None
    text: str | UnsetType = UNSET
    edited: int = 0
    deleted: int = 0
    version: int = 0
    hidden: bool = False
    reactions: dict[Cell, tuple[int, bool]] = field(default_factory=dict)
    """What was pushed: the newest version of each, and whether it is gone. A page may be older or
    newer than that, but no push is missed: so the push counts.
    """


class ChatView:
    """The messages of one chat, out of pages that are loaded and pushes that are applied.

    Load a page after `connect`, then apply every push, also those that came before the page. After
    `Reload` begin with a new one.
    """

    def __init__(self, chat: str) -> None:
        self.chat = chat
        self.unsure: set[str] = set()
        """Messages with an emoji of more users than a page shows, which was changed since: load
        them again (`around` the id, limit 1).
        """
        self._known: dict[str, _Known] = {}
        self._is_told = False
        """It is a large group: of some of its messages it tells only that there are more."""
        self._told: set[int] = set()
        self._paged = 0
        self._more = False
        """Above the newest that a page has shown."""

    @property
    def load_after(self) -> str | None:
        """The id to ask for history `after`, of a large group that has told of messages which no
        page has shown yet: ask at most once a second. None: nothing is missing.
        """
        if self._told:
            missing = min(self._told) - 1
            return str(min(missing, self._paged) if self._paged else missing)
        return str(self._paged) if self._is_told and self._more else None

    @property
    def messages(self) -> Sequence[frames.HistoryMessage]:
        """All that are known, newest first."""
        return [
            _shown(known)
            for _, known in sorted(self._known.items(), key=lambda one: -int(one[0]))
            if known.base is not None and not known.hidden
        ]

    def load(self, page: frames.Page) -> None:
        """Takes the messages of a page of this chat."""
        if page.messages and int(page.messages[0].message) >= self._paged:
            self._paged, self._more = int(page.messages[0].message), page.more_after
        for message in page.messages:
            self._told.discard(int(message.message))
            known = self._of(message.message)
            known.base = message
            known.version = max(known.version, int(message.version))
            if isinstance(message.deleted, str):
                known.deleted = max(known.deleted, int(message.deleted))
            if _is_behind(known, message):
                self.unsure.add(message.message)
            else:
                self.unsure.discard(message.message)

    def apply(self, push: frames.Push) -> None:
        """Takes a message, a change of one, or that there is one; other pushes, and those of other
        chats, change nothing.
        """
        match push:
            case frames.Message() if push.chat == self.chat:
                known = self._of(push.message)
                if known.base is None:
                    known.base = _sent(push)
                    known.version = max(known.version, int(push.message))
            case frames.Newer() if push.chat == self.chat:
                self._is_told = True
                there = self._known.get(push.newest)
                if there is None or there.base is None:
                    self._told.add(int(push.newest))
            case frames.Changed() if push.chat == self.chat:
                self._change(self._of(push.message), push)
            case _:
                pass

    def _change(self, known: _Known, push: frames.Changed) -> None:
        version = int(push.version)
        match push.op:
            case "edit" if version > known.edited:
                known.edited, known.text = version, push.text
            case "delete" if push.for_ == "me":
                known.hidden = True
                self._told.discard(int(push.message))
                return
            case "delete":
                known.deleted = max(known.deleted, version)
            case "react" | "unreact" if isinstance(push.emoji, str):
                cell = push.emoji, push.by
                change = version, push.op == "unreact"
                known.reactions[cell] = max(known.reactions.get(cell, (0, False)), change)
                if known.base is not None and _is_cut(known.base, push.emoji):
                    self.unsure.add(push.message)
            case "pin" | "unpin":
                return
        known.version = max(known.version, version)

    def _of(self, message: str) -> _Known:
        return self._known.setdefault(message, _Known())


def _sent(push: frames.Message) -> frames.HistoryMessage:
    return frames.HistoryMessage(
        chat=push.chat,
        message=push.message,
        sender=push.sender,
        key=push.key,
        time=push.time,
        version=push.message,
        reactions=[],
        text=push.text,
        file=push.file,
        reply_to=push.reply_to,
        mentions=push.mentions,
        event=push.event,
    )


def _shown(known: _Known) -> frames.HistoryMessage:
    """The message with what has changed it."""
    base = known.base
    assert base is not None  # noqa: S101 - the caller has looked
    version = str(known.version)
    if known.deleted:
        return replace(
            base,
            version=version,
            text=UNSET,
            file=UNSET,
            mentions=UNSET,
            edited=UNSET,
            deleted=str(known.deleted),
            reactions=[],
        )
    edited = int(base.edited) if isinstance(base.edited, str) else 0
    return replace(
        base,
        version=version,
        text=known.text if known.edited > edited else base.text,
        edited=str(max(edited, known.edited)) if edited or known.edited else UNSET,
        reactions=_reactions(base, known),
    )


def _reactions(base: frames.HistoryMessage, known: _Known) -> list[frames.Reactions]:
    counts = {one.emoji: one.count for one in base.reactions}
    users = {one.emoji: set(one.users) for one in base.reactions}
    for (emoji, user), (_, gone) in known.reactions.items():
        there = users.setdefault(emoji, set())
        if user not in there and _is_cut(base, emoji):
            continue  # the page does not tell whether it counts this user
        if gone == (user in there):
            counts[emoji] = counts.get(emoji, 0) + (-1 if gone else 1)
            (there.discard if gone else there.add)(user)
    return [
        frames.Reactions(emoji, counts[emoji], sorted(users[emoji], key=int)[:USERS_SHOWN])
        for emoji in sorted(counts)
        if counts[emoji] > 0
    ]


def _is_cut(base: frames.HistoryMessage, emoji: str) -> bool:
    """Whether the page shows not all users of this emoji."""
    return any(one.emoji == emoji and one.count > len(one.users) for one in base.reactions)


def _is_behind(known: _Known, page: frames.HistoryMessage) -> bool:
    """Whether a reaction was pushed that the page does not count, at an emoji of which it does not
    show all users.
    """
    return any(
        version > int(page.version) and _is_cut(page, emoji)
        for (emoji, _), (version, _) in known.reactions.items()
    )
