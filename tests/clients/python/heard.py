"""What a client of the scripted server hears."""

from __future__ import annotations

import asyncio

from knchat_client import Connected, Disconnected, frames
from tests.clients.python.scripted import TIMEOUT_S


async def events(client, count):
    """The next events, without news of the connection."""
    found = []
    async with asyncio.timeout(TIMEOUT_S):
        async for event in client.events():
            if not isinstance(event, Connected | Disconnected | frames.Live):
                found.append(event)
            if len(found) == count:
                return found
    raise AssertionError("the events ended")


async def ids(client, count):
    return [event.message for event in await events(client, count)]


async def news(client, kind):
    """The next piece of news of this kind."""
    async with asyncio.timeout(TIMEOUT_S):
        async for event in client.events():
            if isinstance(event, kind):
                return event
    raise AssertionError("the events ended")
