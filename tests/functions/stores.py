"""Opened stores of each kind, for tests of functions over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from backends.log.kafka.brokers import Brokers
from backends.log.kafka.topics import KafkaTopics
from backends.settings import Settings
from backends.wiring import Backends
from functions.runtime.context import Timing, use_backends
from tests.support.real import NEEDS, topic_prefix
from tests.support.sqlite import migrated


@asynccontextmanager
async def opened(request, folder, *servers, **settings) -> AsyncIterator[Backends]:
    """Stores that all functions use: on these servers (kafka, postgres, cassandra), the others
    embedded. Topics and the database are the test's own; so is the keyspace, where the settings
    name one.
    """
    given = {"data": folder}
    if "kafka" in servers:
        given |= {"log": "kafka", **request.getfixturevalue(NEEDS["kafka"])}
    if "postgres" not in servers:
        migrated(folder / "data.db")
    else:
        given["database"] = request.getfixturevalue("postgres").empty()
        password = request.getfixturevalue(NEEDS["postgres"])["database_password"]
        given["database_password"] = password
    if "cassandra" in servers:
        given |= {"chats": "cassandra", **request.getfixturevalue(NEEDS["cassandra"])}
        given["cassandra_keyspace"] = request.getfixturevalue("keyspaces").shared
    backends = Backends(Settings(**given | settings))
    if "kafka" in servers:
        backends.__dict__["_brokers"] = brokers = Brokers(
            backends.settings.kafka, prefix=topic_prefix()
        )
        await KafkaTopics(brokers, replication=1, delivery_partitions=12).create()
    if "postgres" in servers:
        await backends.migrate()
    use_backends(backends, Timing(index_delay_s=0))
    try:
        yield backends
    finally:
        use_backends(None)
        await backends.close()
