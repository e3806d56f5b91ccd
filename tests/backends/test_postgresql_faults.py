"""A PostgreSQL of the tests' own that stops, hangs and is killed, under an
adapter that lives on.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from backends.chats import HistoryMessage
from backends.chats.sql import SqlChats
from backends.settings import Settings
from backends.sql.database import Database
from backends.sql.postgresql import COOLDOWN_S
from schemas.errors import Unavailable
from schemas.ids import EPOCH_MS, LATEST, direct_chat, first_id_at
from tests.support.postgres import ask
from tests.support.until import until_answered

pytestmark = [pytest.mark.slow, pytest.mark.real]

NOW = first_id_at(EPOCH_MS + 86_400_000_000)
CHAT = direct_chat(1, 2)
TIMEOUT_S = 2


@pytest.fixture
async def database(fragile):
    """An open database with all tables."""
    fragile.start("postgres")
    settings = Settings.from_env(fragile.settings(["postgres"]))
    database = Database.postgresql(
        settings.database, password=settings.database_password, timeout_s=TIMEOUT_S
    )
    await database.migrate()
    yield database
    fragile.start("postgres")
    await database.close()


def message(number):
    return HistoryMessage(NOW + number, CHAT, 1, f"k{number}", "x" * 100, 0, NOW + number)


async def seconds_of(call):
    """How long it took to say Unavailable."""
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await call
    return time.monotonic() - began


@pytest.mark.timed
async def test_a_stopped_server_is_unavailable_at_once_and_available_again_by_itself(
    fragile, database
):
    """No call waits for it, however many there are, and no restart is needed."""
    chats = SqlChats(database)
    await chats.put([message(0)])
    fragile.stop("postgres")
    waited = await asyncio.gather(
        *(seconds_of(database.read(ask("SELECT 1"))) for _ in range(50)),
        seconds_of(chats.put([message(1)])),
    )
    fragile.start("postgres")
    began_s = time.monotonic()
    await until_answered(database.ping)
    back_s = time.monotonic() - began_s
    await chats.put([message(1)])
    page = await chats.page(CHAT, direction="before", anchor=LATEST, limit=9)

    assert max(waited) < 1
    assert back_s < COOLDOWN_S + 1
    assert [found.id for found in page.messages] == [NOW + 1, NOW]


async def test_a_server_that_hangs_is_given_up_in_time_and_no_answer_goes_to_another_question(
    fragile, database
):
    """Its late answers must not be taken for those of the next questions."""
    await asyncio.gather(*(database.read(ask("SELECT pg_sleep(0.1)")) for _ in range(4)))
    fragile.pause("postgres")
    waited = await asyncio.gather(
        *(seconds_of(database.read(ask(f"SELECT {number}"))) for number in range(50))
    )
    again = await seconds_of(database.read(ask("SELECT 1")))
    fragile.resume("postgres")
    await until_answered(database.ping)
    answers = await asyncio.gather(
        *(database.read(ask(f"SELECT {number}")) for number in range(100, 150))
    )

    assert max(waited) < TIMEOUT_S + 0.5
    assert again < TIMEOUT_S + 0.5
    assert answers == [*range(100, 150)]


async def test_a_hanging_write_leaves_its_thread_and_its_lock(fragile, database):
    """Threads are free again when the server is, and no transaction of ours
    holds what others want.
    """
    chats = SqlChats(database)
    await chats.put([message(0)])
    fragile.pause("postgres")
    await asyncio.gather(*(seconds_of(chats.put([message(0)])) for _ in range(6)))
    fragile.resume("postgres")
    await until_answered(database.ping)
    await asyncio.wait_for(
        asyncio.gather(*(chats.put([message(number)]) for number in range(6))), TIMEOUT_S
    )
    page = await chats.page(CHAT, direction="before", anchor=LATEST, limit=9)

    assert [found.id - NOW for found in page.messages] == [5, 4, 3, 2, 1, 0]


WRITER = """
import asyncio, sys
from backends.chats import HistoryMessage
from backends.chats.sql import SqlChats
from backends.sql.database import Database
from backends.settings import Settings
from schemas.errors import Unavailable
from schemas.ids import direct_chat

async def main():
    settings, chat, first = Settings.from_env(), direct_chat(3, 4), int(sys.argv[1])
    password, text = settings.database_password, "x" * 300
    chats = SqlChats(Database.postgresql(settings.database, password=password, timeout_s=2))
    for start in range(first, first + 1_000_000, 8):
        ids = range(start, start + 8)
        try:
            await chats.put([HistoryMessage(id_, chat, 3, "key", text, 0, id_) for id_ in ids])
        except Unavailable:
            await asyncio.sleep(0.05)
        else:
            print(start, flush=True)

asyncio.run(main())
"""


async def test_what_had_returned_is_there_after_kill_9_of_the_server(fragile, database):
    """Three times, in the middle of writes; what was not acknowledged is there whole or not at all,
    and the writer goes on by itself.
    """
    environ = fragile.settings(["postgres"])
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(NOW)], stdout=subprocess.PIPE, text=True, env=environ
    )
    acknowledged = []
    try:
        for _ in range(3):
            acknowledged += [int(writer.stdout.readline()) for _ in range(20)]
            fragile.kill("postgres")
            fragile.start("postgres")
        acknowledged += [int(writer.stdout.readline()) for _ in range(20)]
    finally:
        writer.kill()
        acknowledged += [
            int(line)
            for line in writer.stdout.read().splitlines(keepends=True)
            if line.endswith("\n")
        ]
        writer.stdout.close()
        writer.wait()
    await until_answered(database.ping)
    query = "SELECT id FROM messages WHERE chat = 'd-3-4'"
    there = await database.read(lambda connection: set(connection.exec_driver_sql(query).scalars()))

    assert {first + number for first in acknowledged for number in range(8)} <= there
    assert len(there) % 8 == 0
