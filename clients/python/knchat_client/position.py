"""Where a device is in the log, which messages it has shown, and what is unread.

No I/O. Source: protocol.md sections 2 and 4.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from knchat_client.protocol import frames
from knchat_client.protocol.frames import UNREAD_SHOWN
from knchat_client.protocol.ids import unix_ms_of

KEY_MS: Final = 24 * 3_600_000
"""So long a key is unique; later messages with it are others (protocol.md section 3)."""

# A client of the usual size shows some hundreds of messages between two reconnects; copies come
# within seconds.
MAX_ENTRIES: Final = 10_000


class Position:
    """The newest cursor, the highest id seen, and the count of durable pushes in this session."""

    def __init__(self, cursor: str | None = None, seen: int = 0) -> None:
        self.cursor = cursor
        self.seen = seen
        self._n = 0

    def begin(self, result: str) -> None:
        """A new session: pushes count from 1. After `reset` the cursor means nothing any more."""
        self._n = 0
        if result == "reset":
            self.cursor = None

    def follows(self, push: frames.Push) -> bool:
        """False: a gap before this push, so reconnect with the cursor of the last one."""
        return push.n == self._n + 1

    def take(self, push: frames.Push) -> None:
        """This push has been kept, so the next hello need not ask for it."""
        self._n = push.n
        self.cursor = push.cursor
        if isinstance(push, frames.Message):
            self.see(push.message)
        elif isinstance(push, frames.Changed):
            self.see(push.version)

    def see(self, message: str) -> None:
        """An id was seen: later ids will be greater, whichever gateway makes them."""
        self.seen = max(self.seen, int(message))


class Shown:
    """Collapses copies of a message: by (chat, message), then by (sender, key), where the lowest id
    stays.

    Remembers the last 10,000.
    """

    def __init__(self) -> None:
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._keys: OrderedDict[tuple[str, str], str] = OrderedDict()

    def decide(self, message: frames.Message) -> tuple[bool, str | None]:
        """Whether to show it, and the id of the copy shown before that it stands for, if there is
        one.
        """
        if (message.chat, message.message) in self._ids:
            return False, None
        copy = self._keys.get((message.sender, message.key))
        if (
            copy is not None
            and abs(unix_ms_of(int(copy)) - unix_ms_of(int(message.message))) >= KEY_MS
        ):
            return True, None
        return (
            (False, None) if copy is not None and int(copy) < int(message.message) else (True, copy)
        )

    def keep(self, message: frames.Message) -> None:
        """It has been shown."""
        self._ids[message.chat, message.message] = None
        self._keys[message.sender, message.key] = message.message
        for entries in (self._ids, self._keys):
            if len(entries) > MAX_ENTRIES:
                entries.popitem(last=False)


@dataclass(slots=True)
class _Unread:
    """What a chat's last count said, and what others wrote above it: (read, upto), and ids with
    whether they name me.
    """

    said: tuple[int, int] = (0, 0)
    since: list[tuple[int, bool]] = field(default_factory=list)


class Counts:
    """Makes an `unread` push true for the moment when it comes: it was counted earlier, at
    another place.

    Remembers 10,000 chats.
    """

    def __init__(self) -> None:
        self._chats: OrderedDict[str, _Unread] = OrderedDict()

    def wrote(self, message: frames.Message, *, to: str) -> None:
        """Another user wrote this, and it was shown to this one."""
        since = self._of(message.chat).since
        since.append((int(message.message), to in (message.mentions or ())))
        del since[:-UNREAD_SHOWN]

    def told(self, push: frames.Unread) -> frames.Unread | None:
        """The push with what came above its `upto` added; None for one that says less than the last
        one did.
        """
        chat = self._of(push.chat)
        read, upto = said = int(push.read), int(push.upto)
        if said < chat.said:
            return None
        chat.said = said
        above = max(read, upto)
        chat.since = [one for one in chat.since if one[0] > above]
        mentions = push.mentions + sum(names for _, names in chat.since)
        return replace(
            push,
            unread=min(push.unread + len(chat.since), UNREAD_SHOWN),
            mentions=min(mentions, UNREAD_SHOWN),
        )

    def _of(self, chat: str) -> _Unread:
        found = self._chats.setdefault(chat, _Unread())
        self._chats.move_to_end(chat)
        if len(self._chats) > MAX_ENTRIES:
            self._chats.popitem(last=False)
        return found
