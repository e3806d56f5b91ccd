"""Gateways without a network that have typing and presence, and the sessions on them."""

import asyncio
import json
from dataclasses import dataclass, field

import pytest

from gateway.presence import mailbox
from gateway.presence.service import PresenceService
from gateway.presence.visibility import Sight
from gateway.sessions.timers import TICK_S
from schemas.codec import JSON
from tests.gateway.wire import connect, made_context

OFFLINE_AFTER_S = 10.0
COLLECT_S = 0.05
"""Instead of half a second."""


class AllSee:
    """Users who block and hide nothing."""

    async def of(self, pairs):
        return [Sight.ALL] * len(pairs)

    async def hear(self, pairs):
        return [True] * len(pairs)

    async def changed(self, since_ms):
        return {}


@dataclass
class Moments:
    """One gateway, whose time a test moves on."""

    at: object
    tasks: list = field(default_factory=list)

    @property
    def presence(self):
        return self.at.presence

    def connect(self, user, device="phone", *, background=False, codec=JSON, wire=None):
        """A session of this user; its connection and its wire."""
        connection, wire = connect(
            self.at,
            user,
            device,
            background=background,
            codec=codec,
            wire=wire,
            now_s=self.at.clock.now_s,
        )
        self.presence.on_arrived(connection)
        return connection, wire

    def say(self, connection, frame):
        """What a client says, as JSON."""
        connection.on_message(json.dumps(frame).encode(), text=True)

    async def watching(self, user, *users, device="desk", **more):
        """A session that watches these; what it was told is taken."""
        connection, wire = self.connect(user, device, **more)
        self.say(connection, {"type": "watch", "users": [str(one) for one in users]})
        await self.passes(12)
        wire.take()
        return connection, wire

    async def passes(self, seconds):
        """So much time passes, tick by tick."""
        for _ in range(round(seconds / TICK_S)):
            self.at.clock.now_s += TICK_S
            self.presence.tick(self.at.clock.now_s)
            for _ in range(3):
                await asyncio.sleep(0)


@pytest.fixture
async def moments(backends, monkeypatch):
    """Gateways of some of two partitions; of all by default."""
    monkeypatch.setattr(mailbox, "COLLECT_S", COLLECT_S)
    made = []

    def make_one(*, served=frozenset({0, 1}), sights=None, appends=None, cache=None):
        at = made_context(partitions=(0, 1))
        at.presence = PresenceService(
            at.hub,
            appends or backends.ephemeral_appends,
            cache or backends.cache,
            sights or AllSee(),
            partitions=2,
            served=lambda: served,
            clock=at.clock,
            call_soon=at.call_soon,
            offline_after_s=OFFLINE_AFTER_S,
        )
        one = Moments(at, [asyncio.create_task(part) for part in at.presence.parts()])
        made.append(one)
        return one

    yield make_one
    for one in made:
        for task in one.tasks:
            task.cancel()
        await asyncio.gather(*one.tasks, return_exceptions=True)


@pytest.fixture
async def here(moments):
    """One gateway that has been there for a while."""
    one = moments()
    await one.passes(OFFLINE_AFTER_S + 1)
    return one
