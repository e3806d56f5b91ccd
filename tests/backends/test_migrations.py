"""Migrations: what they make is what the code expects, newer data are refused, and any number of
processes may begin at once.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import backends.account_events.sql
import backends.accounts.log_ins
import backends.accounts.sql
import backends.accounts.suspensions
import backends.chats.sql
import backends.configuration.sql
import backends.coordination.generators
import backends.coordination.owners
import backends.files.sql
import backends.groups.sql
import backends.preferences.sql
import backends.relations.sql
import backends.search.sql
from backends.accounts import Ending
from backends.chats import Change, HistoryMessage
from backends.chats.rules import hour_of
from backends.sql import migrations
from backends.sql.database import METADATA, Database
from schemas.errors import Unavailable
from schemas.ids import GENERATORS, random_id
from tests.backends.chat_pairs import NOW, Pair


# Not compared on SQLite; the suite of accounts shows that it is there.
@pytest.mark.filterwarnings("ignore:.*expression-based index")
async def test_the_migrated_tables_are_those_of_the_code(database):
    """Columns, types, keys and indexes; what serves the search for names is its own."""

    def difference(connection):
        def ours(name, _kind, _parents):
            return not str(name).startswith(("account_names", "search_tokens")) and not str(
                name
            ).endswith("_trigrams")

        context = MigrationContext.configure(
            connection, opts={"include_name": ours, "compare_type": True}
        )
        return compare_metadata(context, METADATA)

    assert set(METADATA.tables) == {
        "account_events",
        "accounts",
        "administrators",
        "blocks",
        "configuration",
        "configuration_history",
        "contacts",
        "devices",
        "endings",
        "file_grants",
        "files",
        "generators",
        "group_members",
        "groups",
        "log_in_notices",
        "owners",
        "pending_commands",
        "privacy",
        "mentions",
        "messages",
        "reactions",
        "hidden_messages",
        "pins",
        "chat_preferences",
        "chat_states",
        "search_messages",
        "search_hidden",
    }
    assert await database.read(difference) == []


async def test_messages_and_states_are_clustered_by_their_keys(tmp_path):
    """A page is one stretch of the table, not a row here and a row there.

    PostgreSQL has no such tables.
    """
    database = Database.sqlite(tmp_path / "data.db")
    tables = "SELECT name, sql FROM sqlite_master WHERE name IN ('messages', 'chat_states')"
    rows = await database.read(lambda connection: connection.exec_driver_sql(tables).all())
    await database.close()

    assert len(rows) == 2
    assert all("WITHOUT ROWID" in sql for _, sql in rows)


async def test_the_database_keeps_the_hour_of_a_chats_newest_message(database):
    """Of states that are made and moved, by code that does not know of it too."""
    chats, pair = backends.chats.sql.SqlChats(database), Pair()
    hours = "SELECT newest, hour FROM chat_states"
    for at in (NOW, NOW + (5 * 3_600_000 << 22), 1):
        await chats.put([pair.message(at)])
        rows = await database.read(lambda connection: connection.exec_driver_sql(hours).all())

        assert len(rows) == 2
        assert all(hour == hour_of(newest) for newest, hour in rows)


async def test_all_generators_are_there_from_the_start(database):
    """12 bits of an id."""
    table = backends.coordination.generators.GENERATORS
    query = sa.select(
        sa.func.count(), sa.func.min(table.c.generator), sa.func.max(table.c.generator)
    )

    assert await database.read(lambda connection: connection.execute(query).one()) == (
        GENERATORS,
        0,
        GENERATORS - 1,
    )


def test_the_list_of_revisions_is_what_lies_in_the_folder():
    """The list saves importing Alembic at every start."""
    scripts = ScriptDirectory(next(iter(migrations.__path__)))

    assert (
        tuple(revision.revision for revision in reversed(list(scripts.walk_revisions())))
        == migrations.REVISIONS
    )
    assert scripts.get_heads() == [migrations.REVISIONS[-1]]


async def make(path):
    database = Database.sqlite(path)
    await database.ping()
    await database.close()


def change(path, statement):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def dump(path):
    connection = sqlite3.connect(path)
    lines = list(connection.iterdump())
    connection.close()
    return lines


async def test_newer_data_are_refused_in_one_line_and_left_alone(tmp_path):
    """An older program must not write into what it does not understand."""
    path = tmp_path / "data.db"
    await make(path)
    change(path, "UPDATE alembic_version SET version_num = '9999'")
    was = dump(path)
    database = Database.sqlite(path)
    for call in (database.ping, lambda: database.write(lambda connection: None)):
        with pytest.raises(Unavailable) as error:
            await call()

        assert str(error.value) == (
            "data.db was made by a newer kn-chat (its schema is 9999, this one knows up to "
            f"{migrations.REVISIONS[-1]}): "
            "upgrade kn-chat, or choose another data folder"
        )
    await database.close()

    assert dump(path) == was


async def test_a_migration_is_all_or_nothing(tmp_path):
    """A table that is in its way stops it; when that is gone the next start makes everything."""
    path = tmp_path / "data.db"
    change(path, "CREATE TABLE chat_states (surprise TEXT)")
    was = dump(path)
    database = Database.sqlite(path)
    with pytest.raises(Unavailable, match="cannot be opened"):
        await database.ping()

    assert dump(path) == was
    change(path, "DROP TABLE chat_states")
    await database.ping()
    await database.close()


async def test_an_empty_version_table_is_migrated_from_the_start(tmp_path):
    """Alembic leaves it so after a downgrade to nothing."""
    path = tmp_path / "data.db"
    change(path, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    await make(path)

    assert any("messages" in line for line in dump(path))


OPENER = """
import asyncio, sys
from pathlib import Path
from backends.accounts.sql import SqlAccounts
from backends.sql.database import Database

async def main():
    database = Database.sqlite(Path(sys.argv[1]))
    sys.stdin.readline()
    await SqlAccounts(database).profiles([1])
    await database.close()
    print(sorted({name.partition(".")[0] for name in sys.modules} & {"alembic", "mako"}))

asyncio.run(main())
"""


def opened_by(path, processes):
    command = [sys.executable, "-W", "error", "-c", OPENER, str(path)]
    pipes = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    running = [subprocess.Popen(command, **pipes) for _ in range(processes)]
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [(*process.communicate(timeout=60), process.returncode) for process in running]


def test_processes_that_start_at_once_on_an_empty_folder_all_succeed(tmp_path):
    """One migrates, the others wait for it. The folder's name may hold anything."""
    for attempt in range(3):
        results = opened_by(tmp_path / f"100% {attempt}" / "data.db", 4)

        assert [(stderr, code) for _, stderr, code in results] == [("", 0)] * 4


def test_data_of_this_version_are_opened_without_alembic(tmp_path):
    """It would double the time of a cold start."""
    opened_by(tmp_path / "data.db", 1)

    assert opened_by(tmp_path / "data.db", 1) == [("[]\n", "", 0)]


async def test_several_databases_of_one_process_may_be_made_at_once(tmp_path):
    """Alembic's state is global, so they take turns."""
    databases = [Database.sqlite(tmp_path / str(number % 2) / "data.db") for number in range(4)]
    await asyncio.gather(*(database.read(lambda connection: None) for database in databases))
    user = random_id()
    await databases[0].write(
        lambda connection: connection.execute(
            backends.coordination.owners.OWNERS.insert().values([(1, "u", user)])
        )
    )
    generation = sa.select(backends.coordination.owners.OWNERS.c.generation)

    assert [
        await database.read(lambda connection: connection.execute(generation).scalar())
        for database in databases
    ] == [
        user,
        None,
        user,
        None,
    ]
    for database in databases:
        await database.close()


def made_at(connection, revision):
    """The tables of an older version."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", next(iter(migrations.__path__)))
    command.upgrade(config, revision)


OLDER = """
INSERT INTO accounts ("user", user_name, display_name, version, password_hash)
VALUES (1, 'jose', 'Jose\u0301', 1, 'hash'), (2, 'bo', 'Bo', 1, 'x'),
    (3, 'ute', 'Ute Stra\u00dfe', 1, 'x'), (4, 'zoe', 'Zo\u00cb', 1, 'x');
INSERT INTO devices ("user", device, device_name, family, generation,
    token_hash, previous_hash, salt, created_ms, seen_ms)
VALUES (1, 'phone', '', 'f', 3, 'new', 'old', 'salt', 1000, 5000);
INSERT INTO messages (chat, id, sender, key, text, reply_to, version)
VALUES ('d-1-2', 7, 1, 'k', 'hello', 0, 7);
INSERT INTO chat_states ("user", chat, newest, received, read) VALUES (2, 'd-1-2', 7, 0, 0)
"""


async def test_log_ins_and_names_of_the_version_before_go_on(tmp_path):
    """Devices stay logged in, at the epoch that they have; names are found in
    their composed form; messages are there, unread, and can be changed.
    """
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'data.db'}")
    with engine.connect() as connection, connection.begin():
        made_at(connection, "0001")
        for statement in OLDER.split(";"):
            connection.exec_driver_sql(statement)
    engine.dispose()
    database = Database.sqlite(tmp_path / "data.db")
    await check_upgraded(database)
    await database.close()


async def test_what_was_to_be_told_before_suspensions_is_still_to_be_told(tmp_path):
    """An ending of the version before; its account is not suspended, and can be."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'data.db'}")
    with engine.connect() as connection, connection.begin():
        made_at(connection, "0007")
        connection.exec_driver_sql(OLDER.split(";", maxsplit=1)[0])
        connection.exec_driver_sql(
            'INSERT INTO endings ("user", device, before_ms, epoch, kept) '
            "VALUES (1, 'phone', 5, 0, '')"
        )
    engine.dispose()
    database = Database.sqlite(tmp_path / "data.db")
    log_ins = backends.accounts.log_ins.SqlLogIns(database)
    suspensions = backends.accounts.suspensions.SqlSuspensions(database)

    assert await log_ins.unpublished(limit=9) == [Ending(1, "phone", 5)]
    assert not await suspensions.is_suspended(1)
    assert await suspensions.suspend(1, now_ms=9) == Ending(1, "", 9, 1, suspended=True)
    assert await suspensions.is_suspended(1)
    await database.close()


async def check_upgraded(database):
    await _check_messages(backends.chats.sql.SqlChats(database))
    log_ins, accounts = (
        backends.accounts.log_ins.SqlLogIns(database),
        backends.accounts.sql.SqlAccounts(database),
    )
    (phone,) = await log_ins.devices(1)

    assert phone == await log_ins.device_of("f")
    assert (phone.generation, phone.rotated_ms, phone.seen_ms, phone.epoch) == (3, 5_000, 5_000, 0)
    assert [found.display_name for found in await accounts.search("jos\u00e9", limit=5)] == [
        "Jos\u00e9"
    ]
    for text, user_name in (("STRASSE", "ute"), ("zo\u00eb", "zoe"), ("zoe", "zoe")):
        assert [one.user_name for one in await accounts.search(text, limit=5)] == [user_name]
    assert await log_ins.unpublished(limit=9) == []
    assert (
        await log_ins.change_password(
            1,
            "new",
            was="hash",
            kept=replace(phone, token_hash=b"x", previous_hash=None, salt=b"y"),
        )
        is not None
    )


async def _check_messages(chats):
    chat, place = "d-1-2", ("d-1-2", 7)
    sent = HistoryMessage(7, chat, 1, "k", "hello", reply_to=0, version=7)

    assert await chats.find([place]) == {place: sent}
    [state] = await chats.unread(2, [chat])
    assert (state.unread, state.sent) == (1, 1)
    await chats.put([sent])
    await chats.change([Change("edit", chat, 7, 9, 1, "new"), Change("react", chat, 7, 8, 2, "👍")])
    changed = (await chats.find([place]))[place]
    assert (changed.text, changed.version, len(changed.reactions)) == ("new", 9, 1)
    await chats.put([HistoryMessage(10, chat, 1, "k2", "you", 0, 10, file="{}", mentions=(2,))])
    [state] = await chats.unread(2, [chat])
    assert (state.unread, state.mentions) == (2, 1)
