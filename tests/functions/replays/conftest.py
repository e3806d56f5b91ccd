"""The world over stores of each kind."""

from __future__ import annotations

import random

import pytest

from tests.functions.replays.world import World
from tests.functions.stores import opened

SERVERS = {"embedded": (), "cassandra": ("kafka", "postgres", "cassandra")}
"""Of each kind of stores."""
PLENTY = 10**9
"""Of every budget: it is not tested how much one may ask for."""


@pytest.fixture(params=SERVERS)
async def make_world(request, tmp_path, event_targets):
    """Makes the world of a seed, over stores that are empty."""
    settings = dict.fromkeys(("user_units", "user_units_per_s", "device_units"), PLENTY)
    keyspaces = None
    if request.param == "cassandra":
        keyspaces = request.getfixturevalue("keyspaces")
        settings["cassandra_keyspace"] = keyspaces.make()
    async with opened(request, tmp_path, *SERVERS[request.param], **settings) as backends:

        async def made(seed):
            dice = random.Random(seed)  # noqa: S311 - a shuffle
            world = World(backends, event_targets, dice, keyspaces=keyspaces)
            await world.begin()
            return world

        yield made
