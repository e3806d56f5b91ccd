"""What a session was told of typing and presence, and who may see whom."""

import asyncio

from gateway.presence.visibility import Visibility
from schemas import frames
from schemas.kinds.is_typing import IsTyping
from schemas.kinds.presence import Presence

ANN, BEN, CAT = 11, 22, 33


def told(wire):
    """The presences that it was told since the last look: user and state."""
    return [(int(one.user), one.state) for one in wire.take() if isinstance(one, Presence)]


def error(wire):
    """Code and `re` of the one error."""
    (found,) = [one for one in wire.take() if isinstance(one, frames.Error)]
    return found.code, found.re


def heard(wire):
    """Chat and user of what it was told."""
    return [(one.chat, one.user) for one in wire.take() if isinstance(one, IsTyping)]


class SameForAll:
    """Who may see whom: all see the same of all."""

    def __init__(self, visibility):
        self.visibility = visibility
        self.asked = []
        self.changes = {}
        self.known = asyncio.Event()
        self.known.set()

    async def of(self, pairs):
        self.asked += pairs
        await self.known.wait()
        return [self.visibility] * len(pairs)

    async def hear(self, pairs):
        return [one is not Visibility.NOTHING for one in await self.of(pairs)]

    async def changed(self, _since_ms):
        return self.changes
