"""Cassandra's tables: who makes them, which version is taken, where settings lead."""

# ruff: noqa: S608 - the names in these statements are ours

from __future__ import annotations

import asyncio

import pytest

from backends.chats import cassandra_schema
from backends.chats.cassandra_schema import STEPS
from backends.settings import Settings
from backends.wiring import Backends
from schemas.errors import Unavailable
from tests.backends.chat_pairs import NOW, ids_of, newest
from tests.backends.chats_cassandra.answered import until_answered


async def test_without_tables_it_says_what_to_do_and_works_once_they_are_there(connect, keyspaces):
    """Functions may start before the job that migrates; they need no restart."""
    name = keyspaces.name()
    chats = connect(name)
    with pytest.raises(Unavailable, match="kn-chat migrate"):
        await chats.ping()
    done = await connect(name).migrate()
    await until_answered(chats.ping)

    assert [line.split(":")[0] for line in done] == [f"keyspace {name}"] * (1 + len(STEPS))
    assert await chats.migrate() == []


async def test_any_number_may_migrate_at_once(connect, keyspaces):
    """All end well, and each table is there once."""
    name = keyspaces.name()
    await asyncio.gather(*(connect(name).migrate() for _ in range(3)))

    await connect(name).ping()
    rows = keyspaces.run(
        f"SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{name}'"
    )
    assert [table for (table,) in rows] == [
        "chat_buckets",
        "chat_heads",
        "chat_pins",
        "chat_states",
        "chats_of_user",
        "messages",
        "schema_steps",
        "user_buckets",
    ]


async def test_a_keyspace_that_was_there_keeps_its_replication(connect, keyspaces):
    """Operators with several data centres make it themselves."""
    name = keyspaces.name()
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    keyspaces.run(f"CREATE KEYSPACE {name} WITH replication = {replication}")
    await connect(name, replication=2).migrate()

    [(kept,)] = keyspaces.run(
        f"SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{name}'"
    )
    assert kept["class"].endswith("SimpleStrategy")


async def test_a_newer_schema_is_refused(connect, keyspaces):
    """An old kn-chat must not write what a new one would misread."""
    name = keyspaces.make()
    keyspaces.run(
        f"INSERT INTO {name}.schema_steps (name, step) VALUES ('chats', 99) USING TIMESTAMP 99"
    )
    for call in (connect(name).ping, connect(name).migrate):
        with pytest.raises(Unavailable, match="newer kn-chat"):
            await call()


async def test_an_older_schema_is_refused_until_it_is_migrated(connect, keyspaces, monkeypatch):
    """Only the steps that are missing are taken."""
    name = keyspaces.make()
    monkeypatch.setattr(
        cassandra_schema,
        "STEPS",
        (*STEPS, ("ALTER TABLE {keyspace}.chat_states ADD muted bigint",)),
    )
    monkeypatch.setattr(cassandra_schema, "VERSION", len(STEPS) + 1)
    chats = connect(name)
    with pytest.raises(Unavailable, match="kn-chat migrate"):
        await chats.ping()
    done = await chats.migrate()
    await until_answered(chats.ping)

    assert done == [f"keyspace {name}: tables brought from {len(STEPS)} to {len(STEPS) + 1}"]


async def test_chats_from_before_count_as_answered(connect, keyspaces, monkeypatch, pair):
    """What their users have sent was not kept then."""
    name = keyspaces.name()
    with monkeypatch.context() as patch:
        older = STEPS[: next(n for n, step in enumerate(STEPS) if cassandra_schema._SENT in step)]
        patch.setattr(cassandra_schema, "STEPS", older)
        patch.setattr(cassandra_schema, "VERSION", len(older))
        await connect(name).migrate()
    keyspaces.run(
        f"INSERT INTO {name}.chat_states (user, chat, newest) VALUES "
        f"({pair.ben}, '{pair.chat}', {NOW}) USING TIMESTAMP {NOW}"
    )
    chats = connect(name)
    await chats.migrate()
    await chats.put([pair.message(NOW + 1, sender=pair.anna)])

    [state] = await chats.unread(pair.ben, [pair.chat])
    assert (state.newest, state.sent) == (NOW + 1, 1)


async def test_the_settings_lead_there(keyspaces, cassandra_settings, tmp_path, pair):
    """KNCHAT_CHATS=cassandra, and `migrate` of all stores makes its tables too."""
    backends = Backends(
        Settings(
            data=tmp_path,
            chats="cassandra",
            cassandra_keyspace=keyspaces.name(),
            **cassandra_settings,
        )
    )
    done = await backends.migrate()
    await backends.chats.put([pair.message(NOW)])

    made = [line for line in done if backends.settings.cassandra_keyspace in line]
    assert made == done[-1 - len(STEPS) :]
    assert ids_of(await newest(backends.chats, pair.chat)) == [NOW]
    await backends.close()
