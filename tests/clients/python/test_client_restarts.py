"""The client and a server that is killed, started again, or gives out short-lived tokens."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from knchat_client import Connected, Disconnected, frames
from tests.clients.python.seen import TIMEOUT_S, event_of, messages, repeated
from tests.journeys.conftest import Dev, new_user


@pytest.fixture
def own_dev(tmp_path):
    """A server of this test's own, to end as it likes."""
    with contextlib.ExitStack() as stack:

        def start(**environ):
            server = Dev(
                tmp_path / "data", "--no-demo", environ={"KNCHAT_DRAIN_S": "0", **environ}
            ).start()
            stack.callback(server.stop)
            return server

        yield start


async def test_a_server_that_is_killed_and_restarted(own_dev, log_in):
    """kill -9 in the middle: the clients come back by themselves, nothing acknowledged is missing,
    nothing comes twice.
    """
    dev = own_dev()
    ann, ben = new_user(dev.http, "ann"), new_user(dev.http, "ben")
    anns, bens = await log_in(ann, listen=False), await log_in(ben)
    await anns.connect()
    await bens.connect()

    async def write(first, last):
        return [
            (await anns.send(f"message {n}", to=ben.user, timeout_s=TIMEOUT_S)).message
            for n in range(first, last)
        ]

    before = await write(0, 20)
    writing = asyncio.create_task(write(20, 40))
    await asyncio.sleep(0.02)  # somewhere in the middle of them
    dev.kill()
    await asyncio.to_thread(dev.start)
    after = await writing

    heard = await messages(bens, 40)
    assert sorted(int(message.message) for message in heard) == [
        int(message) for message in before + after
    ]
    assert dev.stop() == 0
    await event_of(bens, Disconnected)


async def test_short_lived_tokens_are_renewed_in_the_session(own_dev, log_in):
    """The session outlives many access tokens without a break."""
    dev = own_dev(KNCHAT_TOKEN_S="8")
    ann = new_user(dev.http, "ann")
    client = await log_in(ann)
    await client.connect()
    first = client.login.access_token
    async with asyncio.timeout(TIMEOUT_S):
        async for _ in repeated(client.ping):
            # Two thirds of its life are over, and the session has a newer one.
            if client._session._token != first:
                break
    await client.send("note to myself", to=ann.user)
    found = []
    async for event in client.events():
        found.append(type(event))
        if isinstance(event, frames.Message):
            break

    assert [kind for kind in found if kind is not frames.Unread] == [
        Connected,
        frames.Live,
        frames.Message,
    ]
    assert dev.stop() == 0
    await client.close()
