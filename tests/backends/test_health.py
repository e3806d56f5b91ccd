"""What probes and starts ask the ports: who is missing is named in time, wrong settings are told
from servers that are unavailable.
"""

import asyncio
import logging
import sqlite3
from contextlib import closing

import pytest

from backends.health import Health
from backends.settings import Settings
from backends.wiring import Backends
from schemas.errors import Malformed, Unavailable, Unfit


@pytest.fixture
async def backends(tmp_path):
    """The embedded ones."""
    opened = Backends(Settings(data=tmp_path))
    yield opened
    await opened.close()


@pytest.fixture
def answer(backends, monkeypatch):
    """Makes the ping of a port raise this error, or do what a function does."""

    def answer(port, what):
        async def ping():
            if isinstance(what, Exception):
                raise what
            return await what()

        monkeypatch.setattr(getattr(backends, port), "ping", ping)

    return answer


async def test_nothing_is_missing(backends):
    """Every port that can be asked, embedded."""
    ports = ("appends", "reads", "cache", "chats", "accounts", "public_keys")
    assert backends.signing_key

    assert await backends.health.missing(ports) == []
    await backends.health.check(ports)


async def test_what_is_missing_is_named_once(backends, answer):
    """By words that operators know; both ports of the embedded log are one thing."""
    answer("appends", Unavailable("the disk is full"))
    answer("chats", Unavailable("no answer"))

    assert await backends.health.missing(["appends", "reads", "chats", "accounts"]) == [
        "log (embedded)",
        "chats (sql)",
    ]


async def test_a_store_of_another_version_says_what_to_do(tmp_path):
    """Waiting does not help there, so the probe shows the store's own words; a newer one is no
    reason to end, either.
    """
    backends = Backends(Settings(data=tmp_path))
    await backends.accounts.ping()
    await backends.close()
    with closing(sqlite3.connect(tmp_path / "data.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'later'")
        database.commit()
    backends = Backends(Settings(data=tmp_path))

    (missing,) = await backends.health.missing(["accounts"])
    assert missing.startswith("accounts (sql): ")
    assert "made by a newer kn-chat" in missing
    await backends.health.check(["accounts"])
    await backends.close()


async def test_an_unfit_store_is_unavailable(backends, answer):
    """To all but operators it is an unavailable store."""
    answer("chats", Unfit("the keyspace knchat is not there: run `kn-chat migrate`"))

    assert await backends.health.missing(["chats"]) == [
        "chats (sql): the keyspace knchat is not there: run `kn-chat migrate`"
    ]
    await backends.health.check(["chats"])


async def test_a_wrong_setting_is_named(backends, answer):
    """With its name, which not every message begins with."""
    answer("cache", Malformed("it refuses our password", field="KNCHAT_REDIS_PASSWORD"))

    assert await backends.health.missing(["cache"]) == [
        "cache (embedded): KNCHAT_REDIS_PASSWORD: it refuses our password"
    ]
    with pytest.raises(Malformed, match="KNCHAT_REDIS_PASSWORD") as refusal:
        await backends.health.check(["accounts", "cache"])
    assert refusal.value.field == "KNCHAT_REDIS_PASSWORD"


async def test_a_start_goes_on_without_what_is_unavailable(backends, answer, caplog):
    """It is said in the log; the probe names it until it is there."""
    caplog.set_level(logging.WARNING)
    answer("chats", Unavailable("no answer"))
    await backends.health.check(["accounts", "chats"])

    assert [record.part for record in caplog.records] == ["chats (sql)"]


async def test_a_package_that_is_not_installed_is_named(backends, answer):
    """An image holds the drivers of the stores that it was made for."""
    answer("chats", ModuleNotFoundError("no module", name="cassandra"))

    assert await backends.health.missing(["chats"]) == [
        "chats (sql): the package cassandra is not installed here"
    ]


async def test_a_ping_that_hangs_is_asked_once(backends, answer):
    """No caller waits longer than a probe may, and however many probes come,
    one ping is under way.
    """
    backends.health = Health(backends, ready_timeout_s=0.02)
    pings, answers = [], asyncio.Event()

    async def hang():
        pings.append(1)
        await answers.wait()

    answer("chats", hang)
    first = await asyncio.gather(*[backends.health.missing(["chats"]) for _ in range(5)])
    again = await backends.health.missing(["chats"])
    answers.set()
    await asyncio.sleep(0)

    assert [*first, again] == [["chats (sql)"]] * 6
    assert len(pings) == 1
    assert await backends.health.missing(["chats"]) == []
    assert len(pings) == 2


async def test_a_start_has_a_longer_timeout_than_a_probe(backends, answer):
    """A busy machine takes its time to load drivers: a wrong setting that is told only then still
    stops the start.
    """
    backends.health = Health(backends, ready_timeout_s=0.02)
    loaded = asyncio.Event()

    async def refuse():
        await loaded.wait()
        raise Malformed("it refuses our password", field="KNCHAT_REDIS_PASSWORD")

    answer("cache", refuse)
    starting = asyncio.create_task(backends.health.check(["cache"]))
    assert await backends.health.missing(["cache"]) == ["cache (embedded)"]
    loaded.set()

    with pytest.raises(Malformed, match="KNCHAT_REDIS_PASSWORD"):
        await starting
