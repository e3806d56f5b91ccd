"""A client logged in at the scripted server, and sessions to play with."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from knchat_client import Client
from tests.clients.python.scripted import Http, Server, gateway_of
from tests.journeys.conftest import PASSWORD


@pytest.fixture(scope="session")
def http():
    http = Http()
    yield http
    http.stop()


@pytest.fixture
async def server(http):
    http.server = server = Server()
    server.url = http.url
    async with gateway_of(server) as server.gateway:
        yield server


@pytest.fixture
async def make_client(server):
    """Clients that are logged in, and closed at the end of the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(**options):
            client = await stack.enter_async_context(Client(server.url, **options))
            await client.log_in("alice", "password-1")
            return client

        yield make


@pytest.fixture
async def connect(server, make_client):
    """A client with a session that has been welcomed: (client, the server's end of it)."""

    async def connect(result="new", *, welcome=None, **options):
        client = await make_client(**options)
        connecting = asyncio.create_task(client.connect())
        session = await server.session()
        await session.welcome(result, **welcome or {})
        await connecting
        return client, session

    return connect


@pytest.fixture
async def log_in():
    """Clients that are closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def log_in(user, **options):
            client = await stack.enter_async_context(Client(user.http, **options))
            await client.log_in(user.name, PASSWORD)
            return client

        yield log_in
