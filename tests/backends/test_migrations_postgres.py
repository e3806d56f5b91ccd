"""Migrations of PostgreSQL: only `migrate` changes tables, and what needs them says what to do."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from backends.accounts import Profile
from backends.accounts.sql import SqlAccounts
from backends.sql import migrations
from schemas.errors import Malformed, Unavailable
from tests.backends.test_migrations import OLDER, check_upgraded, made_at

TABLES = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
INDEXES = "SELECT indexname FROM pg_indexes WHERE indexname LIKE '%trigrams' ORDER BY 1"


@pytest.fixture
async def empty(postgres):
    """A database that is not migrated."""
    database = postgres.open(postgres.make())
    yield database
    await database.close()


def ask(query):
    return lambda connection: connection.exec_driver_sql(query).scalars().all()


async def test_a_database_without_tables_asks_for_migrate_and_stays_empty(empty):
    """A function does not make tables; when they are there it works without a restart."""
    for call in (empty.ping, lambda: empty.write(ask("SELECT 1"))):
        with pytest.raises(
            Unavailable, match="not ready: it has no tables yet; run kn-chat migrate"
        ):
            await call()
    made = await empty.migrate()
    await empty.ping()

    assert [line.partition(": ")[2] for line in made] == [
        f"tables made, schema {migrations.REVISIONS[-1]}",
        "indexes for the search of names made",
    ]
    assert await empty.migrate() == []


async def test_an_older_schema_asks_for_migrate(empty, monkeypatch):
    """Its version and ours are named."""
    await empty.migrate()
    monkeypatch.setattr(migrations, "REVISIONS", (*migrations.REVISIONS, "9998"))
    with pytest.raises(
        Unavailable, match=r"it has schema [0-9]+, this kn-chat needs 9998; run kn-chat migrate"
    ):
        await empty.ping()


async def test_a_newer_schema_is_refused(empty):
    """An older program must not write into what it does not understand, and must not migrate it."""
    await empty.migrate()
    await empty.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE alembic_version SET version_num = '9999'"
        )
    )
    with pytest.raises(Unavailable, match="made by a newer kn-chat"):
        await empty.migrate()
    await empty.close()


async def test_all_migrations_at_once_succeed_and_one_does_it(postgres):
    """A Job may run twice, and so may a person."""
    url = postgres.make()
    databases = [postgres.open(url) for _ in range(4)]
    done = await asyncio.gather(*(database.migrate() for database in databases))
    for database in databases:
        await database.close()

    assert sorted(len(lines) for lines in done) == [0, 0, 0, 2]


async def test_a_migration_is_all_or_nothing(postgres):
    """A table that is in its way stops it; when that is gone everything is made."""
    url = postgres.make()
    engine = postgres.engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE chat_states (surprise TEXT)")
    database = postgres.open(url)
    with pytest.raises(Unavailable, match="cannot be migrated"):
        await database.migrate()
    with engine.connect() as connection:
        assert connection.exec_driver_sql(TABLES).scalar() == 1
        connection.exec_driver_sql("DROP TABLE chat_states")
    engine.dispose()

    assert len(await database.migrate()) == 2
    await database.close()


async def test_without_pg_trgm_the_search_works_and_migrate_says_what_it_lacks(postgres):
    """A role that may not create the extension; when it was created, the next `migrate` makes the
    indexes.
    """
    url = postgres.make()
    engine, name = postgres.engine(url), url.rpartition("/")[2]
    with engine.connect() as connection:
        # Without the right to create in the database there is no extension, but tables in `public`.
        connection.exec_driver_sql(f"REVOKE CREATE ON DATABASE {name} FROM current_user")
    database = postgres.open(url)
    lines = await database.migrate()
    accounts = SqlAccounts(database)
    await accounts.register(Profile(1, "anna", "Anna Ünal", version=1), "hash")
    found = await accounts.search("ÜNAL", limit=5)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"GRANT CREATE ON DATABASE {name} TO current_user")
    engine.dispose()
    again = await database.migrate()
    indexes = await database.read(ask(INDEXES))
    await database.close()

    assert "reads all accounts" in lines[-1]
    assert "permission denied" in lines[-1]
    assert [profile.user_name for profile in found] == ["anna"]
    assert again == [f"{name}: indexes for the search of names made"]
    assert indexes == ["accounts_folded_name_trigrams", "accounts_user_name_trigrams"]


async def test_a_database_that_cannot_hold_every_text_is_refused(postgres):
    """LATIN1 knows no emoji."""
    database = postgres.open(postgres.make("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"))
    with pytest.raises(Malformed, match="LATIN1") as error:
        await database.migrate()
    await database.close()

    assert error.value.field == "KNCHAT_DATABASE"


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
async def test_names_stand_in_the_order_of_their_bytes_whatever_the_locale(postgres, locale):
    """The same on every database, and so is what a search finds, though a locale may not know that
    letters beyond Z have capitals.
    """
    database = postgres.open(postgres.make(f"ENCODING 'UTF8' LOCALE '{locale}' TEMPLATE template0"))
    await database.migrate()
    accounts = SqlAccounts(database)
    names = ["same-b", "same_a", "same.c", "same1", "samea"]
    for number, name in enumerate(names, start=1):
        await accounts.register(Profile(number, name, "Ünal", version=1), "hash")
    found = await accounts.search("same", limit=9)
    folded = await accounts.search("\u00dcNAL", limit=9)
    collated = await database.read(
        lambda connection: sa.inspect(connection).get_columns("accounts")
    )
    await database.close()

    assert [profile.user_name for profile in found] == sorted(names)
    assert folded == found
    assert {column["name"]: getattr(column["type"], "collation", None) for column in collated}[
        "user_name"
    ] == "C"


async def test_log_ins_and_names_of_the_version_before_go_on(postgres):
    """As on SQLite."""
    url = postgres.make()
    engine = postgres.engine(url)
    with engine.connect() as connection:
        made_at(connection, "0001")
        for statement in OLDER.split(";"):
            connection.exec_driver_sql(statement)
    engine.dispose()
    database = postgres.open(url)
    lines = await database.migrate()
    await check_upgraded(database)
    await database.close()

    assert f"tables brought from 0001 to {migrations.REVISIONS[-1]}" in lines[0]
