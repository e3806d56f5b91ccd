"""Connections to PostgreSQL that break or wear out, transactions that run again, and statements
that are prepared once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest
import sqlalchemy as sa

from backends.accounts.sql import SqlAccounts
from backends.coordination import PartitionOwner
from backends.coordination.owners import OWNERS, SqlPartitionOwners
from backends.sql.postgresql import MAX_PREPARED, Server, engine_of
from schemas.errors import Unavailable
from schemas.ids import random_id
from tests.support.postgres import ask
from tests.support.proxy import proxy_to


@pytest.fixture
async def database(postgres):
    """An open database with all tables, and nothing in them."""
    database = postgres.open(postgres.empty())
    yield database
    await database.close()


# ---- connections that break ----


async def test_connections_that_were_ended_meanwhile_are_replaced_unseen(postgres):
    """A server that was restarted, a firewall that forgot them: the next call works, and so do all
    after it.
    """
    database = postgres.open(postgres.empty())
    await asyncio.gather(
        *(database.read(ask("SELECT pg_sleep(0.05)")) for _ in range(4)),
        database.write(ask("SELECT 1")),
    )
    postgres.end_connections()
    reads = await asyncio.gather(*(database.read(ask(f"SELECT {number}")) for number in range(8)))
    postgres.end_connections()
    await SqlPartitionOwners(database).own([PartitionOwner(1, "wss://one", 1)])
    owner = await SqlPartitionOwners(database).owner_of(1)
    await database.close()

    assert reads == [*range(8)]
    assert owner == PartitionOwner(1, "wss://one", 1)


@contextlib.asynccontextmanager
async def through_proxy(postgres):
    """A proxy to hold or cut connections, and the URL of the database behind it."""
    at, _, name = postgres.empty().removeprefix("postgresql://knchat@").partition("/")
    async with proxy_to("127.0.0.1", int(at.partition(":")[2])) as proxy:
        yield proxy, f"postgresql://knchat@127.0.0.1:{proxy.port}/{name}"


@pytest.mark.parametrize("writing", [False, True])
async def test_a_query_whose_connection_is_cut_is_sent_again(postgres, writing):
    """Nothing had been committed, so it can be; once, on a new connection."""
    async with through_proxy(postgres) as (proxy, url):
        database, other = postgres.open(url), postgres.open(postgres.empty())
        question = f"DO $$ BEGIN PERFORM pg_sleep(0.5) /* {random_id()} */; END $$"
        asked = asyncio.create_task(
            (database.write if writing else database.read)(
                lambda connection: connection.exec_driver_sql(question)
            )
        )
        asking = sa.text(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = :question"
        )
        while not await other.read(
            lambda connection: connection.execute(asking, {"question": question}).scalar()
        ):
            await asyncio.sleep(0.01)
        cut = await proxy.cut()
        await asked
        await database.close()
        await other.close()

    assert cut >= 1


async def test_a_connection_that_goes_silent_is_dropped(postgres):
    """Its answer may come yet: the next user of the connection must not take it for its own."""
    async with through_proxy(postgres) as (proxy, url):
        engine = engine_of(Server(url, **postgres.options), connections=1, timeout_s=0.3)

        def asked():
            with engine.connect() as connection:
                return connection.exec_driver_sql("SELECT 1").scalar()

        await asyncio.to_thread(asked)
        proxy.hold()
        with pytest.raises(sa.exc.InterfaceError) as error:
            await asyncio.to_thread(asked)
        proxy.release()
        engine.dispose()

    assert error.value.connection_invalidated


async def test_work_whose_commit_was_not_answered_is_not_done_again(database):
    """It may have been committed: the caller, which knows what a repeat means, gets an error."""
    ran = []

    def work(connection):
        ran.append(1)
        connection.exec_driver_sql("CREATE TEMPORARY TABLE once (n int)")
        connection.exec_driver_sql(
            "CREATE FUNCTION pg_temp.leave() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'"
        )
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER leave AFTER INSERT ON once DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION pg_temp.leave()"
        )
        connection.exec_driver_sql("INSERT INTO once VALUES (1)")

    with pytest.raises(Unavailable):
        await database.write(work)

    assert ran == [1]


@pytest.mark.timed
async def test_a_statement_that_takes_too_long_is_ended_by_the_server(postgres):
    """In time for its caller, and the connection goes on being used."""
    database = postgres.open(postgres.empty(), timeout_s=1)
    line = await database.write(ask("SELECT pg_backend_pid()"))
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await database.write(ask("SELECT pg_sleep(9)"))
    took_s = time.monotonic() - began
    after = await database.write(ask("SELECT pg_backend_pid()"))
    await database.close()

    assert took_s <= 1.1
    assert after == line


async def test_a_write_waits_for_anothers_lock_and_gives_up_in_time(postgres):
    """Then what it wanted is not there, and the next one works."""
    url = postgres.empty()
    database, owners = postgres.open(url, timeout_s=1), SqlPartitionOwners(postgres.open(url))
    mine = SqlPartitionOwners(database)
    await mine.own([PartitionOwner(1, "wss://one", 1)])
    engine = postgres.engine(url)
    with engine.connect().execution_options(writing=True) as holder, holder.begin():
        holder.exec_driver_sql("UPDATE owners SET generation = 5")
        with pytest.raises(Unavailable):
            await mine.own([PartitionOwner(1, "wss://two", 6)])
        during = await mine.owner_of(1)
    after = await mine.owner_of(1)
    await mine.own([PartitionOwner(1, "wss://three", 7)])
    engine.dispose()

    assert (during, after) == (PartitionOwner(1, "wss://one", 1), PartitionOwner(1, "wss://one", 5))
    assert await owners.owner_of(1) == PartitionOwner(1, "wss://three", 7)
    await database.close()
    await owners._database.close()


async def test_what_a_vanished_client_had_locked_is_free_again(postgres):
    """A process that was cut off in the middle of a transaction says nothing more; the server ends
    it.
    """
    url = postgres.empty()
    database, vanished = (
        postgres.open(url),
        engine_of(Server(url, **postgres.options), connections=1, timeout_s=0.5),
    )
    mine = SqlPartitionOwners(database)
    await mine.own([PartitionOwner(1, "wss://one", 1)])
    with vanished.connect().execution_options(writing=True) as holder:
        transaction = holder.begin()
        holder.exec_driver_sql("UPDATE owners SET generation = 5")
        await mine.own([PartitionOwner(1, "wss://two", 2)])
        with pytest.raises(sa.exc.DBAPIError):
            transaction.commit()
    vanished.dispose()

    assert await mine.owner_of(1) == PartitionOwner(1, "wss://two", 2)
    await database.close()


def test_a_peer_that_vanishes_is_noticed(postgres):
    """Within a minute, also by an unused connection."""
    connection = Server(postgres.empty(), **postgres.options).connect(5)
    line = connection._usock
    kept = (
        line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    )
    connection.close()

    assert kept == (1, 30)


# ---- transactions that run again ----


@pytest.mark.parametrize("code", ["40001", "40P01"])
async def test_a_transaction_that_was_rolled_back_for_another_runs_again(database, code):
    """YugabyteDB asks for it often. What it had done before is not there twice."""
    ran = []

    def work(connection):
        ran.append(1)
        connection.execute(OWNERS.insert().values(partition=len(ran), url="", generation=1))
        if len(ran) < 4:
            connection.exec_driver_sql(
                f"DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '{code}'; END $$"
            )
        return len(ran)

    assert await database.write(work) == 4
    assert await database.read(
        lambda connection: (
            connection.exec_driver_sql("SELECT partition FROM owners").scalars().all()
        )
    ) == [4]


async def test_it_does_not_run_again_without_end(database):
    """After some tries the caller is told."""
    ran = []

    def work(connection):
        ran.append(1)
        connection.exec_driver_sql(
            "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"
        )

    with pytest.raises(Unavailable):
        await database.write(work)

    assert len(ran) == 6


async def test_two_transactions_that_wait_for_each_other_both_succeed(database):
    """The server ends one of them, and it runs again."""
    await SqlPartitionOwners(database).own([PartitionOwner(1, "", 0), PartitionOwner(2, "", 0)])
    both = asyncio.Barrier(2)
    loop = asyncio.get_running_loop()
    met, more = [], OWNERS.update().values(generation=OWNERS.c.generation + 1)

    def crosswise(first, second):
        def work(connection):
            connection.execute(more.where(OWNERS.c.partition == first))
            if first not in met:
                met.append(first)
                asyncio.run_coroutine_threadsafe(both.wait(), loop).result(timeout=3)
            connection.execute(more.where(OWNERS.c.partition == second))

        return work

    await asyncio.gather(database.write(crosswise(1, 2)), database.write(crosswise(2, 1)))

    assert await database.read(
        lambda connection: (
            connection.exec_driver_sql("SELECT generation FROM owners").scalars().all()
        )
    ) == [2, 2]


# ---- prepared statements ----


async def test_a_table_that_changes_under_prepared_statements_is_read_on(postgres):
    """A migration changes a column's type while processes run: their connections begin again."""
    url = postgres.make()
    database = postgres.open(url)
    await database.migrate()
    owners = SqlPartitionOwners(database)
    await owners.own([PartitionOwner(1, "wss://one", 1)])
    for _ in range(8):
        await owners.owner_of(1)
    engine = postgres.engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE owners ALTER COLUMN url TYPE varchar(99), ALTER COLUMN generation TYPE "
            "numeric"
        )
    engine.dispose()
    found = await asyncio.gather(*(owners.owner_of(1) for _ in range(8)))
    await database.close()

    assert found == [PartitionOwner(1, "wss://one", 1)] * 8


async def test_a_statement_is_prepared_once_and_their_number_is_bounded(database):
    """However many users are asked for: one statement.

    Beyond the bound they are parsed each time, and work.
    """
    accounts = SqlAccounts(database)
    for number in range(1, 20):
        await accounts.profiles([*range(1, number)])
    prepared = await database.read(
        ask("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%accounts%'")
    )

    def many(connection):
        values = [
            connection.execute(sa.text(f"SELECT :n + {number}"), {"n": 1}).scalar()
            for number in range(MAX_PREPARED + 20)
        ]
        return values, connection.exec_driver_sql(
            "SELECT count(*) FROM pg_prepared_statements"
        ).scalar()

    values, after = await database.read(many)

    assert prepared <= 1
    assert values == [1 + number for number in range(MAX_PREPARED + 20)]
    assert after == MAX_PREPARED
