"""How much a client may say: what is too fast is read later, what says nothing or comes too early
ends it.

No I/O and no clock: time is passed in. What users may ask for is their budget, in `protocol`.
"""

from __future__ import annotations

from typing import Final

from gateway.sessions import close
from gateway.sessions.close import Close

MAX_EARLY_BYTES: Final = 8_192
MAX_EARLY_FRAMES: Final = 10
"""What a client may send before its hello is answered: bytes on the wire, and WebSocket frames of
any kind.
"""
MIN_PAUSE_S: Final = 0.1
"""A client that is too fast is not read for so long at least: stopping and starting for each
message would cost more than it says.
"""
MESSAGE_BYTES: Final = 4_096
"""Longer ones count once for each of these, whatever they say."""
MAX_IDLE_FRAMES: Final = 100
"""WebSocket frames a second without a message: pings, pongs, fragments, empty arrays."""


class ReadLimits:
    """The limits of one client."""

    __slots__ = ("_early", "_idle", "_idle_since_s", "_room", "_room_s")

    def __init__(self, per_second: int, *, now_s: float) -> None:
        """`per_second`: so many messages at once it may say at first."""
        self._room = float(per_second)
        """Messages that it may still say at once, as of `_room_s`.

        Below zero: it is read again when it is back there.
        """
        self._room_s = self._idle_since_s = now_s
        self._idle = self._early = 0

    def take(self, messages: int, size: int, *, more: float, rate: int, now_s: float) -> float:
        """For how many seconds it is not read after so many messages of this size in all, so that
        they stay at `rate` a second, and as many at once.

        `more`: what they cost beyond that, as a page does.
        """
        passed = now_s - self._room_s
        said = max(messages, size // MESSAGE_BYTES) + more
        self._room = min(self._room + passed * rate, rate) - said
        self._room_s = now_s
        return max(MIN_PAUSE_S, -self._room / rate) if self._room < 0 else 0.0

    def on_idle_frame(self, now_s: float) -> Close | None:
        """A frame without a message: few are needed to show that the client is there."""
        if now_s - self._idle_since_s >= 1.0:
            self._idle, self._idle_since_s = 0, now_s
        self._idle += 1
        if self._idle > MAX_IDLE_FRAMES:
            return close.TOO_MANY_FRAMES.filled(limit=MAX_IDLE_FRAMES)
        return None

    def on_early_frame(self) -> Close | None:
        """A frame of any kind before the hello was answered."""
        self._early += 1
        return close.TOO_MUCH_EARLY if self._early > MAX_EARLY_FRAMES else None
