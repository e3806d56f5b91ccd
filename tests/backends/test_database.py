"""What the SQL adapters stand on: a database that is full, locked or none at all is Unavailable,
and nothing that returned is lost.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys

import pytest
import sqlalchemy as sa

from backends.accounts.log_ins import SqlLogIns
from backends.accounts.sql import SqlAccounts
from backends.chats import HistoryMessage, Watermark
from backends.chats.sql import SqlChats
from backends.chats.sql_tables import MESSAGES
from backends.relations.sql import SqlRelations
from backends.sql.database import Database
from schemas.errors import Unavailable
from schemas.ids import EPOCH_MS, LATEST, ChatId, MessageId, UserId, direct_chat, first_id_at

NOW = first_id_at(EPOCH_MS + 86_400_000_000)
CHAT = direct_chat(1, 2)


def message(id_, text="hello"):
    return HistoryMessage(
        MessageId(id_), ChatId(CHAT), UserId(1), "key", text, MessageId(0), MessageId(id_)
    )


async def ids_in(chats):
    page = await chats.page(CHAT, direction="before", anchor=LATEST, limit=256)
    return [found.id for found in page.messages]


# ---- a database that cannot be had ----


async def test_nothing_is_opened_before_the_first_call(tmp_path):
    """A function that never asks makes no file."""
    database = Database.sqlite(tmp_path / "data.db")
    SqlChats(database)
    SqlAccounts(database)
    await database.close()

    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_no_database_is_unavailable(tmp_path):
    """It is left as it was, and the error names what is wrong."""
    path = tmp_path / "data.db"
    path.write_bytes(b"not a database at all" * 100)
    database = Database.sqlite(path)
    with pytest.raises(Unavailable, match="not a database"):
        await database.ping()
    await database.close()

    assert path.read_bytes() == b"not a database at all" * 100


async def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path):
    """A file stands in its place."""
    (tmp_path / "file").write_text("")
    database = Database.sqlite(tmp_path / "file" / "data.db")
    with pytest.raises(Unavailable, match="folder cannot be made"):
        await database.ping()

    await database.close()


async def test_a_folder_in_place_of_the_file_is_unavailable(tmp_path):
    """And when it is gone, the next call opens the database."""
    (tmp_path / "data.db").mkdir()
    database = Database.sqlite(tmp_path / "data.db")
    with pytest.raises(Unavailable, match="cannot be opened"):
        await database.ping()
    (tmp_path / "data.db").rmdir()
    await database.ping()

    await database.close()


async def test_an_error_of_the_driver_is_unavailable_with_its_cause(tmp_path):
    """The log says what it was, without what people wrote; clients see nothing of it."""
    database = Database.sqlite(tmp_path / "data.db")
    with pytest.raises(Unavailable) as error:
        await database.read(
            lambda connection: connection.execute(
                sa.text("SELECT :text FROM missing"), {"text": "a secret"}
            )
        )
    await database.close()

    assert str(error.value) == "the database does not answer"
    assert "no such table: missing" in str(error.value.__cause__)
    assert "a secret" not in str(error.value.__cause__)


async def test_a_write_waits_for_another_process_and_gives_up_in_time(tmp_path):
    """Its thread is free again when the caller is told."""
    # To make the tables a busy machine may need longer.
    before = Database.sqlite(tmp_path / "data.db")
    await SqlChats(before).put([message(NOW)])
    await before.close()
    database = Database.sqlite(tmp_path / "data.db", timeout_s=0.5)
    chats = SqlChats(database)
    other = sqlite3.connect(tmp_path / "data.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable):
        await chats.put([message(NOW + 1)])
    readable = await ids_in(chats)
    other.execute("ROLLBACK")
    other.close()
    await chats.put([message(NOW + 2)])

    assert readable == [NOW]
    assert await ids_in(chats) == [NOW + 2, NOW]
    await database.close()


async def test_a_failed_write_leaves_nothing(tmp_path):
    """A transaction is all or nothing, whatever raised in it."""
    database = Database.sqlite(tmp_path / "data.db")

    def half(connection):
        connection.exec_driver_sql("INSERT INTO owners VALUES (1, 'url', 1)")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(half)
    rows = await database.read(
        lambda connection: connection.exec_driver_sql("SELECT * FROM owners").all()
    )
    await database.close()

    assert rows == []


async def test_close_waits_for_writes_under_way(tmp_path):
    """What was begun is there afterwards; what comes later is refused."""
    database = Database.sqlite(tmp_path / "data.db")
    chats = SqlChats(database)
    writes = [asyncio.create_task(chats.put([message(NOW + number)])) for number in range(20)]
    await asyncio.sleep(0)
    await database.close()
    with pytest.raises(Unavailable):
        await database.ping()
    await asyncio.gather(*writes)
    again = Database.sqlite(tmp_path / "data.db")

    assert len(await ids_in(SqlChats(again))) == 20
    await again.close()


async def test_every_commit_reaches_the_disk(tmp_path):
    """The offset of the log moves on when `persist` has returned, so its rows must not depend on
    the page cache.
    """
    database = Database.sqlite(tmp_path / "data.db")
    pragmas = ["journal_mode", "synchronous"]
    values = await database.write(
        lambda connection: [
            connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() for pragma in pragmas
        ]
    )
    await database.close()

    assert values == ["wal", 2]


# ---- plans ----


async def test_no_query_of_a_hot_path_reads_more_than_its_rows(tmp_path):
    """In a chat of a million messages a page is as quick as in a new one: every table is entered by
    its key.
    """
    database = Database.sqlite(tmp_path / "data.db")
    chats, accounts, log_ins = SqlChats(database), SqlAccounts(database), SqlLogIns(database)
    relations = SqlRelations(database)
    await chats.put([message(NOW)])
    statements = []
    sa.event.listen(
        database._engine,  # only the engine knows what is really asked
        "before_cursor_execute",
        lambda _connection, _cursor, statement, values, _context, _many: statements.append(
            (statement, values)
        ),
    )
    await chats.mark([Watermark(UserId(2), CHAT, NOW, NOW)])
    for direction in ("before", "after", "around"):
        await chats.page(CHAT, direction=direction, anchor=NOW, limit=50)
    await chats.digest(CHAT, first=NOW, last=LATEST)
    await chats.states(UserId(2), after=None, limit=50)
    await chats.unread(UserId(2), [CHAT])
    await accounts.profiles([UserId(1)])
    await accounts.credentials("anna")
    await relations.between([(UserId(1), UserId(2))])
    await relations.changed(NOW)
    await relations.contacts(UserId(1), after=UserId(0), limit=50)
    await relations.blocks(UserId(1), after=UserId(0), limit=50)
    await relations.unpublished(limit=50)
    await log_ins.device_of("family")
    await log_ins.device(1, "phone")
    await accounts.search("anna", limit=5)

    def plan(statement, values):
        return lambda connection: [
            row.detail
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]

    asked = [
        (statement, values) for statement, values in statements if statement.startswith("SELECT")
    ]
    plans = {statement: await database.read(plan(statement, values)) for statement, values in asked}
    await database.close()

    tables = ("messages", "chat_states", "accounts", "devices", "blocks", "privacy")
    scanned = {
        statement: [
            step for step in steps if step.startswith("SCAN") and step.split()[1].startswith(tables)
        ]
        for statement, steps in plans.items()
    }
    assert len(plans) >= 8
    assert [statement for statement, steps in scanned.items() if steps] == []
    assert [
        s
        for s, steps in plans.items()
        if "TEMP B-TREE" in str(steps) and "chat_states" not in s and "account_names" not in s
    ] == []
    [listing] = [steps for s, steps in plans.items() if "chat_states.hour <=" in s]
    assert "SEARCH chat_states USING INDEX chat_states_hour (user=? AND hour>? AND hour<?)" in (
        listing
    )


# ---- a full disk ----


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder):
    """Takes all space that is left."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4_096):
                pass
        except OSError:
            return


async def test_a_full_disk_is_unavailable_and_works_again_when_there_is_space(small_disk):
    """What had been acknowledged is there, what was refused is not, and reading goes on."""
    database = Database.sqlite(small_disk / "data.db")
    chats = SqlChats(database)
    await chats.put([message(NOW)])
    fill(small_disk)
    refused, kept = 0, [NOW]
    for number in range(1, 40):
        try:
            await chats.put([message(NOW + number, text="x" * 4_096)] * 1)
        except Unavailable:
            refused += 1
        else:
            kept.append(NOW + number)
    readable = await ids_in(chats)
    (small_disk / "filler").unlink()
    await chats.put([message(NOW + 100)])

    assert refused > 0
    assert readable == sorted(kept, reverse=True)
    assert await ids_in(chats) == [NOW + 100, *sorted(kept, reverse=True)]
    await database.close()


async def test_a_database_is_made_when_there_is_space_again(small_disk):
    """A disk that is full at the first start needs no other help."""
    fill(small_disk)
    database = Database.sqlite(small_disk / "data.db")
    with pytest.raises(Unavailable):
        await database.ping()
    (small_disk / "filler").unlink()
    await database.ping()

    await database.close()


# ---- kill -9 ----

WRITER = """
import asyncio, sys
from pathlib import Path
from backends.chats import HistoryMessage, Watermark
from backends.chats.sql import SqlChats
from backends.sql.database import Database
from schemas.ids import direct_chat

async def main():
    chats = SqlChats(Database.sqlite(Path(sys.argv[1])))
    chat, first, text = direct_chat(1, 2), int(sys.argv[2]), "x" * 300
    for start in range(first, first + 1_000_000, 8):
        ids = range(start, start + 8)
        await chats.put([HistoryMessage(id_, chat, 1, "key", text, 0, id_) for id_ in ids])
        await chats.mark([Watermark(2, chat, start, start)])
        print(start + 7, flush=True)

asyncio.run(main())
"""


async def test_what_a_killed_process_had_written_is_there(tmp_path):
    """Kill -9 between two instructions, five times: every message of a put that returned, and no
    half of one that did not.
    """
    path, first = tmp_path / "data.db", NOW
    for acknowledged in (1, 3, 10, 40, 90):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(first)], stdout=subprocess.PIPE, text=True
        )
        lines = [writer.stdout.readline() for _ in range(acknowledged)]
        writer.kill()
        lines += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        last = int([line for line in lines if line.endswith("\n")][-1])
        database = Database.sqlite(path)
        chats = SqlChats(database)
        written = sa.select(sa.func.count()).select_from(MESSAGES).where(MESSAGES.c.id >= first)
        count = await database.read(
            lambda connection, query=written: connection.execute(query).scalar()
        )
        [state] = await chats.unread(UserId(2), [CHAT])
        integrity = await database.read(
            lambda connection: connection.exec_driver_sql("PRAGMA integrity_check").scalar()
        )
        await database.close()

        assert count >= last - first + 1
        assert count % 8 == 0
        assert state.newest == first + count - 1
        assert state.read >= last - 7
        assert integrity == "ok"
        first += 1_000_000
