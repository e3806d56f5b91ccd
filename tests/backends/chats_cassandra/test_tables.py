"""Cassandra's tables: who makes them, which version is taken, where settings lead."""

# ruff: noqa: S608 - the names in these statements are ours

from __future__ import annotations

import asyncio

import pytest
from cassandra import OperationTimedOut

from backends.chats import HistoryMessage, cassandra_schema
from backends.chats.cassandra_schema import STEPS
from backends.chats.cassandra_searches import bucket_of
from backends.chats.rules import hour_of
from backends.settings import Settings
from backends.wiring import Backends
from schemas.errors import Unavailable
from schemas.ids import direct_chat, direct_members, random_id
from tests.backends.chat_pairs import BUCKET_MS, NOW, Pair, ids_of, newest, state_of
from tests.backends.chats_cassandra.answered import until_answered
from tests.support import until


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
        "chats_by_hour",
        "chats_of_user",
        "mentions",
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


@pytest.fixture
def first(keyspaces, monkeypatch):
    """A keyspace of the first schema, with five chats of a user, who has only received in a sixth;
    the user, and the chats, newest first.
    """
    with monkeypatch.context() as patch:
        patch.setattr(cassandra_schema, "STEPS", STEPS[:1])
        name = keyspaces.make()
    me, chats = random_id(), []
    for number in range(6):
        chat, at = direct_chat(me, random_id()), NOW - (number * BUCKET_MS << 22)
        pointer = "newest" if number < 5 else "received"
        keyspaces.run(
            f"INSERT INTO {name}.chat_states (user, chat, {pointer}) VALUES ({me}, '{chat}', {at}) "
            f"USING TIMESTAMP {at}"
        )
        chats.append(chat)
    monkeypatch.setattr(cassandra_schema, "_STATES_AT_ONCE", 2)
    return name, me, chats


async def test_data_of_the_first_schema_go_through_all_steps(connect, keyspaces, first):
    """All chats are listed by their hours, and count as answered: what their users have sent was
    not kept then. What comes after it is as it ought to be.
    """
    name, me, before = first
    chats = connect(name)
    done = await chats.migrate()
    states, _ = await until.until_answered(lambda: chats.states(me, after=None, limit=9))
    listed = keyspaces.run(f"SELECT bucket, hour, chat FROM {name}.chats_by_hour")
    days = keyspaces.run(f"SELECT bucket FROM {name}.user_buckets WHERE user = {me}")

    assert len(done) == len(STEPS) - 1
    assert [(state.chat, state.sent) for state in states] == [(chat, 1) for chat in before[:5]]
    buckets = [bucket_of(state.newest) for state in states]
    hours = [hour_of(state.newest) for state in states]
    assert sorted(listed, reverse=True) == [*zip(buckets, hours, before[:5], strict=True)]
    assert [bucket for (bucket,) in days] == buckets
    new = Pair()
    old = next(user for user in direct_members(before[1]) if user != me)
    await chats.put(
        [new.message(NOW + 1), HistoryMessage(NOW + 2, before[1], old, "k", "hi", 0, NOW + 2)]
    )
    assert (await state_of(chats, new.ben, new.chat)).sent == 0
    assert (await state_of(chats, me, before[1])).sent == 1
    await chats.put([HistoryMessage(NOW + 3, before[1], me, "k", "hi", 0, NOW + 3)])
    assert (await state_of(chats, me, before[1])).sent == NOW + 3


async def test_a_migration_that_died_is_done_again(connect, first, monkeypatch):
    """In the middle of its data too; meanwhile nothing serves."""
    name, me, before = first
    pages = cassandra_schema._pages_of_states
    steps = []

    def dying(*place):
        steps.append(place)
        for page in pages(*place):
            yield page
            if len(steps) == 2:  # behind the first page
                raise OperationTimedOut

    chats = connect(name)
    with monkeypatch.context() as patch:
        patch.setattr(cassandra_schema, "_pages_of_states", dying)
        with pytest.raises(Unavailable):
            await chats.migrate()
    with pytest.raises(Unavailable, match="kn-chat migrate"):
        await chats.ping()
    done = await chats.migrate()
    states, _ = await until.until_answered(lambda: chats.states(me, after=None, limit=9))

    died = next(n for n, step in enumerate(STEPS, 1) if cassandra_schema._CHATS_BY_HOUR in step)
    assert done == [
        f"keyspace {name}: tables brought from {n - 1} to {n}" for n in range(died, len(STEPS) + 1)
    ]
    assert [(state.chat, state.sent) for state in states] == [(chat, 1) for chat in before[:5]]


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
