"""Where a device stands in its deliveries, and which messages it has shown. No I/O. Source: protocol.md sections 2 and 4."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from schemas import frames
from schemas.ids import unix_ms_of

KEY_MS: Final = 24 * 3_600_000
"""So long a key is unique; later messages with it are others (protocol.md section 3)."""

# A client of the usual size shows some hundreds of messages between two reconnects; copies come within seconds.
REMEMBERED: Final = 10_000


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
        """False: a hole before this push, so come back with the cursor of the last one."""
        return push.n == self._n + 1

    def take(self, push: frames.Push) -> None:
        """This push has been kept, so the next hello need not ask for it."""
        self._n = push.n
        self.cursor = push.cursor
        if isinstance(push, frames.Message):
            self.see(push.message)

    def see(self, message: str) -> None:
        """An id was seen: later ids will be greater, whichever gateway mints them."""
        self.seen = max(self.seen, int(message))


class Shown:
    """Collapses copies of a message: by (chat, message), then by (sender, key), where the lowest id stays. Remembers the last 10,000."""

    def __init__(self) -> None:
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._keys: OrderedDict[tuple[str, str], str] = OrderedDict()

    def judge(self, message: frames.Message) -> tuple[bool, str | None]:
        """Whether to show it, and the id of the copy shown before that it stands for, if there is one."""
        if (message.chat, message.message) in self._ids:
            return False, None
        copy = self._keys.get((message.sender, message.key))
        if copy is not None and abs(unix_ms_of(int(copy)) - unix_ms_of(int(message.message))) >= KEY_MS:
            return True, None
        return (False, None) if copy is not None and int(copy) < int(message.message) else (True, copy)

    def keep(self, message: frames.Message) -> None:
        """It has been shown."""
        self._ids[message.chat, message.message] = None
        self._keys[message.sender, message.key] = message.message
        for remembered in (self._ids, self._keys):
            if len(remembered) > REMEMBERED:
                remembered.popitem(last=False)
