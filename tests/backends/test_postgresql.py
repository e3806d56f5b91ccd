"""What is PostgreSQL's own behind the SQL adapters: wrong settings, connections that break or wear out, transactions that run again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest
import sqlalchemy as sa

from backends.accounts import Owner, Profile
from backends.accounts.owners import OWNERS, SqlOwners
from backends.accounts.sql import SqlAccounts
from backends.chats import HistoryMessage, Watermark
from backends.chats.sql import SqlChats
from backends.database import Database
from backends.postgresql import PREPARED, Server, engine_of
from schemas.errors import Malformed, Refused, Unavailable
from schemas.ids import EPOCH_MS, LATEST, direct_chat, first_id_at, random_id
from tests.backends.postgres import Postgres
from tests.proxy import proxy_to

NOW = first_id_at(EPOCH_MS + 86_400_000_000)


@pytest.fixture
async def database(postgres):
    """An open database with all tables, and nothing in them."""
    database = postgres.open(postgres.empty())
    yield database
    await database.close()


def ask(query):
    return lambda connection: connection.exec_driver_sql(query).scalar()


async def refusal(database):
    """What `ping` says is wrong; calls that events make are only told that it does not work now."""
    with pytest.raises(Malformed) as error:
        await database.ping()
    with pytest.raises(Unavailable):
        await database.read(ask("SELECT 1"))
    await database.close()
    return error.value


# ---- wrong settings ----


@pytest.mark.parametrize(
    "url",
    [
        "",
        "postgres://a@b/c",
        "postgresql://b/c",
        "postgresql://a@b",
        "postgresql://a@b/",
        "postgresql://a:secret@b/c",
        "postgresql://a@b/c?sslmode=require",
        "postgresql://a@b:0x/c",
        "postgresql://a@b:65536/c",
        "postgresql+psycopg://a@b/c",
    ],
)
def test_a_url_that_is_none_is_refused(url):
    """And what it holds is not repeated: it might be a password."""
    with pytest.raises(Malformed) as error:
        Database.postgresql(url)

    assert error.value.field == "KNCHAT_DATABASE"
    assert "secret" not in str(error.value)


async def test_a_wrong_password_is_named_and_never_shown(postgres):
    """Neither the right one nor the wrong one."""
    error = await refusal(postgres.open(postgres.empty(), password="hunter22"))
    seen = ""
    while error is not None:
        seen += f"{error} {error!r} {vars(error)}"
        error = error.__cause__

    assert "KNCHAT_DATABASE_PASSWORD" in seen
    assert "hunter22" not in seen
    assert postgres.options["password"] not in seen


async def test_no_password_is_a_wrong_one(postgres):
    """The driver would stumble over it."""
    assert (await refusal(postgres.open(postgres.empty(), password=""))).field == "KNCHAT_DATABASE_PASSWORD"


async def test_a_database_that_is_not_there_is_named(postgres):
    """It is nothing that comes back."""
    error = await refusal(postgres.open(f"{postgres.empty()}_gone"))

    assert error.field == "KNCHAT_DATABASE"
    assert "does not exist" in error.message


# ---- TLS ----


@pytest.fixture(scope="session")
def secure(secure_settings):
    """A server that asks for TLS and a password."""
    server = Postgres(secure_settings("postgres"))
    yield server
    server.close()


async def test_a_server_is_reached_over_tls_when_its_authority_is_known(secure):
    """Its certificate is checked, and the password is bound to it."""
    database = secure.open(secure.empty())
    await database.ping()
    encrypted = await database.read(ask("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    await database.close()

    assert encrypted is True


async def test_a_server_that_the_authority_does_not_vouch_for_is_refused(secure, tmp_path):
    """The right name signed by a stranger."""
    from servers.certificates import Certificates  # noqa: PLC0415 - one test needs another authority

    others = Certificates(tmp_path)
    others.make()

    assert (await refusal(secure.open(secure.empty(), ca=str(others.authority)))).field == "KNCHAT_DATABASE_CA"


async def test_a_server_by_another_name_is_refused(secure):
    """Its certificate is good, and of somebody else: 127.1 leads to 127.0.0.1, and does not stand in it."""
    elsewhere = secure.empty().replace("127.0.0.1", "127.1")

    assert (await refusal(secure.open(elsewhere))).field == "KNCHAT_DATABASE_CA"


async def test_tls_is_never_given_up_silently(postgres, secure):
    """An authority is set and the server speaks no TLS; the other way round the server refuses."""
    assert (await refusal(postgres.open(postgres.empty(), ca=secure.options["ca"]))).field == "KNCHAT_DATABASE_CA"
    assert (await refusal(secure.open(secure.empty(), ca=""))).field == "KNCHAT_DATABASE"


@pytest.mark.parametrize("content", [None, "", "no certificate"])
async def test_a_file_that_holds_no_authorities_is_a_wrong_setting(postgres, tmp_path, content):
    """Also when it has gone since the start."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)

    assert (await refusal(postgres.open(postgres.empty(), ca=str(file)))).field == "KNCHAT_DATABASE_CA"


# ---- servers that are away ----


async def test_a_port_where_nobody_listens_is_told_at_once(postgres):
    """Refused connections cost nobody time, and for a moment nobody tries again."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        database = Database.postgresql(f"postgresql://a@127.0.0.1:{nobody.getsockname()[1]}/b")
        began = time.monotonic()
        calls = await asyncio.gather(*(database.read(ask("SELECT 1")) for _ in range(100)), return_exceptions=True)
        took_s = time.monotonic() - began
    await database.close()

    assert {type(error) for error in calls} == {Unavailable}
    assert took_s < 1


async def test_a_server_that_takes_connections_and_says_nothing_is_given_up(postgres):
    """One call waits for it; those behind learn from that."""
    with socket.create_server(("127.0.0.1", 0), backlog=99) as silent:
        database = Database.postgresql(f"postgresql://a@127.0.0.1:{silent.getsockname()[1]}/b")
        began = time.monotonic()
        calls = await asyncio.gather(*(database.read(ask("SELECT 1")) for _ in range(100)), return_exceptions=True)
        took_s = time.monotonic() - began
        await database.close()

    assert {type(error) for error in calls} == {Unavailable}
    assert took_s < 3


async def test_whoever_speaks_something_else_is_unavailable(postgres):
    """A web server, say, at a wrong port."""

    async def answer(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        database = Database.postgresql(f"postgresql://a@127.0.0.1:{server.sockets[0].getsockname()[1]}/b")
        with pytest.raises(Unavailable):
            await database.ping()
        await database.close()


# ---- connections that break ----


async def test_connections_that_were_ended_meanwhile_are_made_anew_unseen(postgres):
    """A server that was restarted, a firewall that forgot them: the next call works, and so do all after it."""
    database = postgres.open(postgres.empty())
    await asyncio.gather(*(database.read(ask("SELECT pg_sleep(0.05)")) for _ in range(4)), database.write(ask("SELECT 1")))
    postgres.end_connections()
    reads = await asyncio.gather(*(database.read(ask(f"SELECT {number}")) for number in range(8)))
    postgres.end_connections()
    await SqlOwners(database).own([Owner(1, "wss://one", 1)])
    owner = await SqlOwners(database).owner_of(1)
    await database.close()

    assert reads == [*range(8)]
    assert owner == Owner(1, "wss://one", 1)


@contextlib.asynccontextmanager
async def through_proxy(postgres):
    """A line to hold or cut, and the URL of the database behind it."""
    at, _, name = postgres.empty().removeprefix("postgresql://knchat@").partition("/")
    async with proxy_to("127.0.0.1", int(at.partition(":")[2])) as proxy:
        yield proxy, f"postgresql://knchat@127.0.0.1:{proxy.port}/{name}"


@pytest.mark.parametrize("writing", [False, True])
async def test_a_line_that_is_cut_in_the_middle_of_a_question_is_asked_again(postgres, writing):
    """Nothing had been committed, so it can be; once, on a new line."""
    async with through_proxy(postgres) as (proxy, url):
        database, other = postgres.open(url), postgres.open(postgres.empty())
        question = f"DO $$ BEGIN PERFORM pg_sleep(0.5) /* {random_id()} */; END $$"
        asked = asyncio.create_task((database.write if writing else database.read)(lambda connection: connection.exec_driver_sql(question)))
        asking = sa.text("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = :question")
        while not await other.read(lambda connection: connection.execute(asking, {"question": question}).scalar()):
            await asyncio.sleep(0.01)
        cut = await proxy.cut()
        await asked
        await database.close()
        await other.close()

    assert cut >= 1


async def test_a_line_that_goes_silent_is_dropped(postgres):
    """Its answer may come yet: whoever is given that line next must not take it for theirs."""
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


async def test_work_whose_commit_nobody_answered_is_not_done_again(database):
    """It may have been committed: the caller, who knows what a repeat means, is told."""
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
    database, owners = postgres.open(url, timeout_s=1), SqlOwners(postgres.open(url))
    mine = SqlOwners(database)
    await mine.own([Owner(1, "wss://one", 1)])
    engine = postgres.engine(url)
    with engine.connect().execution_options(writing=True) as holder, holder.begin():
        holder.exec_driver_sql("UPDATE owners SET generation = 5")
        with pytest.raises(Unavailable):
            await mine.own([Owner(1, "wss://two", 6)])
        during = await mine.owner_of(1)
    after = await mine.owner_of(1)
    await mine.own([Owner(1, "wss://three", 7)])
    engine.dispose()

    assert (during, after) == (Owner(1, "wss://one", 1), Owner(1, "wss://one", 5))
    assert await owners.owner_of(1) == Owner(1, "wss://three", 7)
    await database.close()
    await owners._database.close()


async def test_what_somebody_who_vanished_had_locked_is_free_again(postgres):
    """A process that was cut off in the middle of a transaction says nothing more; the server ends it."""
    url = postgres.empty()
    database, vanished = postgres.open(url), engine_of(Server(url, **postgres.options), connections=1, timeout_s=0.5)
    mine = SqlOwners(database)
    await mine.own([Owner(1, "wss://one", 1)])
    with vanished.connect().execution_options(writing=True) as holder:
        transaction = holder.begin()
        holder.exec_driver_sql("UPDATE owners SET generation = 5")
        await mine.own([Owner(1, "wss://two", 2)])
        with pytest.raises(sa.exc.DBAPIError):
            transaction.commit()
    vanished.dispose()

    assert await mine.owner_of(1) == Owner(1, "wss://two", 2)
    await database.close()


def test_a_peer_that_vanishes_is_noticed(postgres):
    """Within a minute, also by a connection that nobody uses."""
    connection = Server(postgres.empty(), **postgres.options).connect(5)
    line = connection._usock
    kept = line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
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
            connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '{code}'; END $$")
        return len(ran)

    assert await database.write(work) == 4
    assert await database.read(lambda connection: connection.exec_driver_sql("SELECT partition FROM owners").scalars().all()) == [4]


async def test_it_does_not_run_again_for_ever(database):
    """After some tries the caller is told."""
    ran = []

    def work(connection):
        ran.append(1)
        connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")

    with pytest.raises(Unavailable):
        await database.write(work)

    assert len(ran) == 6


async def test_two_transactions_that_wait_for_each_other_both_succeed(database):
    """The server ends one of them, and it runs again."""
    await SqlOwners(database).own([Owner(1, "", 0), Owner(2, "", 0)])
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

    assert await database.read(lambda connection: connection.exec_driver_sql("SELECT generation FROM owners").scalars().all()) == [2, 2]


# ---- prepared statements ----


async def test_a_table_that_changes_under_prepared_statements_is_read_on(postgres):
    """A migration changes a column's type while processes run: their connections begin anew."""
    url = postgres.make()
    database = postgres.open(url)
    await database.migrate()
    owners = SqlOwners(database)
    await owners.own([Owner(1, "wss://one", 1)])
    for _ in range(8):
        await owners.owner_of(1)
    engine = postgres.engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE owners ALTER COLUMN url TYPE varchar(99), ALTER COLUMN generation TYPE numeric")
    engine.dispose()
    found = await asyncio.gather(*(owners.owner_of(1) for _ in range(8)))
    await database.close()

    assert found == [Owner(1, "wss://one", 1)] * 8


async def test_a_statement_is_prepared_once_and_their_number_is_bounded(database):
    """However many users are asked for: one statement. Beyond the bound they are parsed each time, and work."""
    accounts = SqlAccounts(database)
    for number in range(1, 20):
        await accounts.known([*range(1, number)])
    prepared = await database.read(ask("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%accounts%'"))

    def many(connection):
        values = [connection.execute(sa.text(f"SELECT :n + {number}"), {"n": 1}).scalar() for number in range(PREPARED + 20)]
        return values, connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar()

    values, after = await database.read(many)

    assert prepared <= 1
    assert values == [1 + number for number in range(PREPARED + 20)]
    assert after == PREPARED


# ---- what errors tell ----


async def test_errors_do_not_quote_what_people_wrote(database):
    """PostgreSQL adds whole rows to some of its errors."""
    accounts = SqlAccounts(database)
    await accounts.register(Profile(1, "a-secret", "x", 1), "hash")
    await accounts.register(Profile(2, "ben", "x", 1), "hash")
    with pytest.raises(Refused) as refused:
        await accounts.change_profile(Profile(2, "a-secret", "x", 2))
    with pytest.raises(Unavailable) as failed:
        await database.write(lambda connection: connection.execute(sa.text("INSERT INTO accounts VALUES (:n)"), {"n": 77_777}))
    text = f"{refused.value.__cause__} {failed.value.__cause__}"

    assert refused.value.code == "name_taken"
    assert "null value in column" in text
    assert "a-secret" not in text
    assert "77777" not in text


# ---- plans ----


async def test_every_query_of_a_hot_path_can_be_served_by_an_index(database):
    """In a chat of a million messages a page is as quick as in a new one."""
    chats, accounts, chat = SqlChats(database), SqlAccounts(database), direct_chat(1, 2)
    await chats.put([HistoryMessage(NOW, chat, 1, "key", "hello", 0, NOW)])
    statements = []
    sa.event.listen(
        database._engine,  # nobody else knows what is really asked
        "before_cursor_execute",
        lambda _connection, _cursor, statement, values, _context, _many: statements.append((statement, values)),
    )
    await chats.mark([Watermark(2, chat, NOW, NOW)])
    for direction in ("before", "after", "around"):
        await chats.page(chat, direction=direction, anchor=NOW, limit=50)
    await chats.digest(chat, first=NOW, last=LATEST)
    await chats.states(2, after=None, limit=50)
    await chats.unread(2, [chat])
    await accounts.known([1])
    await accounts.profiles([1])
    await accounts.credentials("anna")
    await accounts.device_of("family")
    await accounts.search("anna", limit=5)

    def plan(statement, values):
        def work(connection):
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            return [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", values)]

        return work

    asked = {statement: values for statement, values in statements if statement.startswith("SELECT")}
    plans = {statement: await database.write(plan(statement, values)) for statement, values in asked.items()}

    assert len(plans) >= 9
    assert [statement for statement, steps in plans.items() if "Seq Scan" in str(steps)] == []
    assert [steps for statement, steps in plans.items() if "LIKE" in statement and "trigrams" not in str(steps)] == []
