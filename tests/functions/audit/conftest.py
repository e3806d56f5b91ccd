"""Opened stores of each kind, and the way from the log to history over them."""

from __future__ import annotations

import pytest

from backends.log.kafka.brokers import Brokers
from backends.log.kafka.topics import KafkaTopics
from backends.settings import Settings
from backends.wiring import Backends
from functions.runtime.context import use_backends
from tests.functions.audit.line import Line, registered
from tests.support.real import NEEDS, topic_prefix

STORES = ("embedded", "kafka", "cassandra")
"""kafka: with PostgreSQL behind; cassandra: with Kafka before."""


@pytest.fixture(params=STORES)
async def stores(request, tmp_path):
    """Opened stores that all functions use."""
    settings = {"data": tmp_path}
    if request.param != "embedded":
        settings |= {"log": "kafka", **request.getfixturevalue(NEEDS["kafka"])}
        if request.param == "kafka":
            server = request.getfixturevalue("postgres")
            settings |= {
                "database": server.empty(),
                "database_password": request.getfixturevalue("postgres_settings")[
                    "database_password"
                ],
            }
        else:
            settings |= request.getfixturevalue(NEEDS["cassandra"])
            settings |= {
                "chats": "cassandra",
                "cassandra_keyspace": request.getfixturevalue("keyspaces").shared,
            }
    opened = Backends(Settings(**settings))
    if request.param != "embedded":
        opened.__dict__["_brokers"] = brokers = Brokers(
            opened.settings.kafka, prefix=topic_prefix()
        )
        await KafkaTopics(brokers, replication=1, delivery_partitions=12).create()
    if request.param == "kafka":
        await opened.migrate()
    use_backends(opened)
    yield opened
    use_backends(None)
    await opened.close()


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
