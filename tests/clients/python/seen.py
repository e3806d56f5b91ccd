"""What clients of a real server see, waited for."""

from __future__ import annotations

import asyncio

from knchat_client import frames

TIMEOUT_S = 30


async def messages(client, count):
    """The next messages of `events`."""
    found = []
    async with asyncio.timeout(TIMEOUT_S):
        async for event in client.events():
            if isinstance(event, frames.Message):
                found.append(event)
            if len(found) == count:
                break
    return found


async def event_of(client, kind):
    async with asyncio.timeout(TIMEOUT_S):
        async for event in client.events():
            if isinstance(event, kind):
                return event
    raise AssertionError("the events ended")


async def digest_of(client, chat, first, last, *, count):
    """The digest once history, which follows the log, holds so many messages;
    it never holds more.
    """
    async with asyncio.timeout(TIMEOUT_S):
        async for digest in repeated(client.digest, chat, first=first, last=last):
            assert digest.count <= count
            if digest.count == count:
                return digest
    raise AssertionError


async def repeated(call, *arguments, **named):
    """The call's results, some time between them: there is nothing to wait on."""
    while True:
        yield await call(*arguments, **named)
        await asyncio.sleep(0.05)
