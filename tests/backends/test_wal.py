"""The write-ahead logs of both files stay short, however steadily they are read."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import asynccontextmanager, closing

import pytest
import sqlalchemy as sa

from backends.log import ProducerRecord
from backends.sql import wal
from backends.sql.database import Database
from schemas.topics import DELIVERIES
from tests.support.events import event

LONG = 2 * 2**20
TIMEOUT_S = 60


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """A tenth of what it is, so that the tests need to write little."""
    monkeypatch.setattr(wal, "CUT_BYTES", LONG)
    monkeypatch.setattr(wal, "RETRY_BYTES", LONG // 4)
    monkeypatch.setattr(wal, "WARN_BYTES", 2 * LONG)


@asynccontextmanager
async def endless(*calls):
    """Each is called again and again meanwhile."""

    async def again(call):
        while True:
            await call()

    tasks = [asyncio.create_task(again(call)) for call in calls]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.fixture
async def database(request, tmp_path):
    """On SQLite; a test may give options by its parameter."""
    opened = Database.sqlite(tmp_path / "data.db", **getattr(request, "param", {}))
    await opened.write(
        lambda connection: connection.exec_driver_sql(
            "CREATE TABLE things (number INTEGER PRIMARY KEY, body BLOB)"
        )
    )
    await grow(opened, 100)
    yield opened
    await opened.close()


async def grow(database, times):
    """Writes so many times 64 KiB over the same rows; the greatest size that the write-ahead log
    had.
    """
    most = 0
    for number in range(times):
        await database.write(
            lambda connection, number=number: connection.execute(
                sa.text("INSERT OR REPLACE INTO things VALUES (:number, :body)"),
                {"number": number % 20, "body": bytes(65_536)},
            )
        )
        most = max(most, size_of(database._place))
    return most


def size_of(path):
    return path.with_name(f"{path.name}-wal").stat().st_size


async def test_of_data_db_while_six_read_without_a_pause(database):
    """191 MiB beside 12 MiB of data were seen after half a minute: there was no moment without a
    reader in which it could begin again.
    """

    async def read():
        await database.read(
            lambda connection: connection.exec_driver_sql(
                "SELECT sum(length(hex(body))) FROM things"
            ).scalar_one()
        )

    async with asyncio.timeout(TIMEOUT_S), endless(*[read] * 6):
        most = await grow(database, 3 * LONG // 65_536)

    assert most < 1.5 * LONG


async def test_of_log_db_while_two_processes_read_without_a_pause(make, tmp_path):
    """The same, and appends wait for no reader longer than for a page."""
    log, other = make(), make()
    path = tmp_path / "data" / "log.db"
    some = [ProducerRecord(DELIVERIES, event(data=bytes(65_536)), 0) for _ in range(8)]
    await log.append(some)
    most = 0

    def reads(of):
        return lambda: of.read(DELIVERIES, 0, 0, max_records=500)

    async with asyncio.timeout(TIMEOUT_S), endless(*[reads(log)] * 3, *[reads(other)] * 3):
        for _ in range(4 * LONG // (8 * 65_536)):
            await log.append(some)
            most = max(most, size_of(path))

    assert most < 4 * LONG  # it looks every 4 MiB that it has written


@pytest.mark.parametrize("database", [{"cut_timeout_ms": 20}], indirect=True)
async def test_a_read_without_an_end_is_told_of_once(database, caplog):
    """Nothing waits for it but half a second now and then; when it is over the file is cut."""
    with closing(sqlite3.connect(database._place, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM things").fetchone()
        with caplog.at_level(logging.WARNING):
            await grow(database, 3 * LONG // 65_536)
        assert size_of(database._place) > 2 * LONG
        reader.execute("COMMIT")
    await grow(database, LONG // 65_536)

    assert size_of(database._place) < LONG
    assert [record.message for record in caplog.records] == [
        "a reader does not end, and so a file grows"
    ]
