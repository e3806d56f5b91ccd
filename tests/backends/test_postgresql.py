"""What is PostgreSQL's own behind the SQL adapters: wrong settings, TLS, unavailable servers,
what errors tell, plans.
"""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
import sqlalchemy as sa

from backends.accounts import Profile
from backends.accounts.log_ins import SqlLogIns
from backends.accounts.sql import SqlAccounts
from backends.chats import HistoryMessage, Watermark
from backends.chats.sql import SqlChats
from backends.sql.database import Database
from schemas.errors import Malformed, Refused, Unavailable
from schemas.ids import EPOCH_MS, LATEST, direct_chat, first_id_at
from tests.support.postgres import Postgres, ask

NOW = first_id_at(EPOCH_MS + 86_400_000_000)


@pytest.fixture
async def database(postgres):
    """An open database with all tables, and nothing in them."""
    database = postgres.open(postgres.empty())
    yield database
    await database.close()


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
    assert (
        await refusal(postgres.open(postgres.empty(), password=""))
    ).field == "KNCHAT_DATABASE_PASSWORD"


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
    """The right name, signed by an unknown authority."""
    from servers.certificates import Certificates  # noqa: PLC0415 - for one test

    others = Certificates(tmp_path)
    others.make()

    assert (
        await refusal(secure.open(secure.empty(), ca=str(others.authority)))
    ).field == "KNCHAT_DATABASE_CA"


async def test_a_server_by_another_name_is_refused(secure):
    """Its certificate is good, and of another: 127.1 leads to 127.0.0.1, and
    does not stand in it.
    """
    elsewhere = secure.empty().replace("127.0.0.1", "127.1")

    assert (await refusal(secure.open(elsewhere))).field == "KNCHAT_DATABASE_CA"


async def test_tls_is_never_given_up_silently(postgres, secure):
    """An authority is set and the server speaks no TLS; the other way round the server refuses."""
    assert (
        await refusal(postgres.open(postgres.empty(), ca=secure.options["ca"]))
    ).field == "KNCHAT_DATABASE_CA"
    assert (await refusal(secure.open(secure.empty(), ca=""))).field == "KNCHAT_DATABASE"


@pytest.mark.parametrize("content", [None, "", "no certificate"])
async def test_a_file_that_holds_no_authorities_is_a_wrong_setting(postgres, tmp_path, content):
    """Also when it has gone since the start."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)

    assert (
        await refusal(postgres.open(postgres.empty(), ca=str(file)))
    ).field == "KNCHAT_DATABASE_CA"


# ---- unavailable servers ----


@pytest.mark.timed
async def test_a_port_without_a_server_is_told_at_once(postgres):
    """Refused connections cost no time, and for a moment none is tried again."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        database = Database.postgresql(f"postgresql://a@127.0.0.1:{unused.getsockname()[1]}/b")
        began = time.monotonic()
        calls = await asyncio.gather(
            *(database.read(ask("SELECT 1")) for _ in range(100)), return_exceptions=True
        )
        took_s = time.monotonic() - began
    await database.close()

    assert {type(error) for error in calls} == {Unavailable}
    assert took_s < 1


@pytest.mark.timed
async def test_a_server_that_takes_connections_and_says_nothing_is_given_up(postgres):
    """One call waits for it; those behind learn from that."""
    with socket.create_server(("127.0.0.1", 0), backlog=99) as silent:
        database = Database.postgresql(f"postgresql://a@127.0.0.1:{silent.getsockname()[1]}/b")
        began = time.monotonic()
        calls = await asyncio.gather(
            *(database.read(ask("SELECT 1")) for _ in range(100)), return_exceptions=True
        )
        took_s = time.monotonic() - began
        await database.close()

    assert {type(error) for error in calls} == {Unavailable}
    assert took_s < 3


async def test_a_server_of_another_protocol_is_unavailable(postgres):
    """A web server, say, at a wrong port."""

    async def answer(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        database = Database.postgresql(
            f"postgresql://a@127.0.0.1:{server.sockets[0].getsockname()[1]}/b"
        )
        with pytest.raises(Unavailable):
            await database.ping()
        await database.close()


# ---- what errors tell ----


async def test_errors_do_not_quote_what_people_wrote(database):
    """PostgreSQL adds whole rows to some of its errors."""
    accounts = SqlAccounts(database)
    await accounts.register(Profile(1, "a-secret", "x", 1), "hash")
    await accounts.register(Profile(2, "ben", "x", 1), "hash")
    with pytest.raises(Refused) as refused:
        await accounts.change_profile(Profile(2, "a-secret", "x", 2), now_ms=7)
    with pytest.raises(Unavailable) as failed:
        await database.write(
            lambda connection: connection.execute(
                sa.text("INSERT INTO accounts VALUES (:n)"), {"n": 77_777}
            )
        )
    text = f"{refused.value.__cause__} {failed.value.__cause__}"

    assert refused.value.code == "name_taken"
    assert "null value in column" in text
    assert "a-secret" not in text
    assert "77777" not in text


# ---- plans ----


async def test_every_query_of_a_hot_path_can_be_served_by_an_index(database):
    """In a chat of a million messages a page is as quick as in a new one."""
    chats, accounts, log_ins, chat = (
        SqlChats(database),
        SqlAccounts(database),
        SqlLogIns(database),
        direct_chat(1, 2),
    )
    await chats.put([HistoryMessage(NOW, chat, 1, "key", "hello", 0, NOW)])
    statements = []
    sa.event.listen(
        database._engine,  # only the engine knows what is really asked
        "before_cursor_execute",
        lambda _connection, _cursor, statement, values, _context, _many: statements.append(
            (statement, values)
        ),
    )
    await chats.mark([Watermark(2, chat, NOW, NOW)])
    for direction in ("before", "after", "around"):
        await chats.page(chat, direction=direction, anchor=NOW, limit=50)
    await chats.digest(chat, first=NOW, last=LATEST)
    await chats.states(2, after=None, limit=50)
    await chats.unread(2, [chat])
    await accounts.profiles([1])
    await accounts.profiles([1])
    await accounts.credentials("anna")
    await log_ins.device_of("family")
    await log_ins.device(1, "phone")
    await accounts.search("anna", limit=5)

    def plan(statement, values):
        def work(connection):
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            return [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", values)]

        return work

    asked = {
        statement: values for statement, values in statements if statement.startswith("SELECT")
    }
    plans = {
        statement: await database.write(plan(statement, values))
        for statement, values in asked.items()
    }

    assert len(plans) >= 9
    assert [statement for statement, steps in plans.items() if "Seq Scan" in str(steps)] == []
    assert [
        steps
        for statement, steps in plans.items()
        if "LIKE" in statement and "trigrams" not in str(steps)
    ] == []
