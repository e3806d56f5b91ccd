"""Gateways without a network that have typing and presence, and the sessions on them."""

import asyncio
import json
from dataclasses import dataclass, field

import pytest

from backends.groups import Change, Group
from gateway.presence.service import PresenceService
from gateway.presence.visibility import Visibility
from gateway.sessions.timers import TICK_S
from gateway.timing import Timing
from schemas.codec import JSON
from tests.gateway.wire import FIXED, connect, made_context

OFFLINE_AFTER_S = 10.0
TIMING = Timing(ephemeral_batch_s=0.05, offline_after_s=OFFLINE_AFTER_S)
"""What goes through the log waits a tenth of the time."""


class AllSee:
    """Users who block and hide nothing."""

    async def of(self, pairs):
        return [Visibility.ALL] * len(pairs)

    async def hear(self, pairs):
        return [True] * len(pairs)

    async def changed(self, since_ms):
        return {}


class WaitedFor:
    """Groups, whose answers a test waits for while its time stands still."""

    def __init__(self, groups):
        self._groups, self.under_way = groups, 0

    async def rosters(self, known):
        """As the port has it."""
        self.under_way += 1
        try:
            return await self._groups.rosters(known)
        finally:
            self.under_way -= 1


@dataclass
class PresenceGateway:
    """One gateway, whose time a test moves on."""

    at: object
    groups: WaitedFor
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
            while self.groups.under_way:
                await asyncio.sleep(0.001)


@pytest.fixture
async def gateways(backends):
    """Gateways of some of two partitions; of all by default."""
    made = []

    def make_one(
        *,
        served=frozenset({0, 1}),
        rules=None,
        appends=None,
        cache=None,
        groups=None,
        timing=TIMING,
    ):
        at, asked = made_context(partitions=(0, 1)), WaitedFor(groups or backends.groups)
        at.presence = PresenceService(
            at.hub,
            appends or backends.ephemeral_appends,
            cache or backends.cache,
            asked,
            rules or AllSee(),
            FIXED,
            partitions=2,
            served=lambda: served,
            clock=at.clock,
            call_soon=at.call_soon,
            timing=timing,
        )
        one = PresenceGateway(
            at, asked, [asyncio.create_task(part) for part in at.presence.parts()]
        )
        made.append(one)
        return one

    yield make_one
    for one in made:
        for task in one.tasks:
            task.cancel()
        await asyncio.gather(*one.tasks, return_exceptions=True)


@pytest.fixture
async def here(gateways):
    """One gateway that has been there for a while."""
    one = gateways()
    await one.passes(OFFLINE_AFTER_S + 1)
    return one


@pytest.fixture
def group(backends):
    """Makes groups, with an owner and members; the owner's change of one."""
    ids = iter(range(1, 1_000))

    def by(user):
        return Change(user, "phone", tuple(next(ids) for _ in range(3)))

    async def make_one(chat, owner, *members):
        asked = Group(chat, "Walks", "", "all", 0, 0, 0)
        await backends.groups.create(asked, members, by(owner), key=chat)
        return by

    return make_one
