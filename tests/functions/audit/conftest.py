"""Opened stores of each kind, and the way from the log to history over them."""

from __future__ import annotations

import pytest

from tests.functions.audit.line import Line, registered
from tests.functions.stores import opened

STORES = {"embedded": (), "kafka": ("kafka", "postgres"), "cassandra": ("kafka", "cassandra")}
"""The servers of each."""


@pytest.fixture(params=STORES)
async def stores(request, tmp_path):
    """Opened stores that all functions use."""
    async with opened(request, tmp_path, *STORES[request.param]) as backends:
        yield backends


@pytest.fixture
async def line(stores, event_targets):
    """The line over each kind of stores; Alice and Bob are there."""
    line = Line(stores, event_targets)
    line.event_targets.ALICE, line.event_targets.BOB = (
        await registered(stores),
        await registered(stores),
    )
    first, second = sorted((line.event_targets.ALICE, line.event_targets.BOB))
    line.event_targets.CHAT = f"d-{first}-{second}"
    make = line.commands
    line.commands = lambda count, **fields: make(
        count, **{"sender": line.event_targets.ALICE, "chat": line.event_targets.CHAT, **fields}
    )
    return line
