"""Cassandra behind a line that can be cut, and adapters on it."""

from __future__ import annotations

from functools import partial

import pytest

from backends.chats.cassandra import CassandraChats
from tests.backends.chats_cassandra.answered import TIMEOUT_S
from tests.support.proxy import proxy_to


@pytest.fixture
async def connect(keyspaces):
    """Opens adapters, by default on the keyspace of all tests. All are closed afterwards."""
    opened = []

    def another(keyspace=None, **options):
        opened.append(CassandraChats(keyspaces.nodes(keyspace or keyspaces.shared, **options)))
        return opened[-1]

    yield another
    for chats in opened:
        await chats.close()


@pytest.fixture
async def proxy(cassandra_settings):
    """A proxy before Cassandra that can cut connections."""
    host, _, port = cassandra_settings["cassandra"][0].rpartition(":")
    async with proxy_to(host, int(port)) as proxy:
        yield proxy


@pytest.fixture
def behind(connect, proxy):
    """Opens adapters behind that proxy, with a short timeout."""
    return partial(connect, places=(f"127.0.0.1:{proxy.port}",), timeout_s=TIMEOUT_S)


@pytest.fixture
def chats(behind):
    """One of them."""
    return behind()
