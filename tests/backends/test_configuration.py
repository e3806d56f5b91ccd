"""The suites of the ports `StoredConfiguration` and `Administrators` over all databases, and the
copy that a process goes by.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest
import sqlalchemy as sa
from msgspec import structs

from backends.configuration import MAX_ADMINISTRATORS, Administrator, Revision
from backends.configuration.current import TIMING, Configuration, Timing
from backends.configuration.sql import CONFIGURATION, SqlAdministrators, SqlConfiguration
from backends.settings import Settings
from backends.telemetry import tracing
from backends.telemetry.metrics import value_of
from backends.wiring import Backends
from schemas.configuration import Limits, Messages, Values
from schemas.errors import Refused, Unavailable
from schemas.ids import random_id
from tests.support.configured import configure
from tests.support.until import until

NOW_MS = 1_790_000_000_000
FIRST = Revision("limits", 1, {"user_units": 500, "device_units": 70}, 1001, NOW_MS)


@pytest.fixture
async def stored(database):
    return SqlConfiguration(database)


@pytest.fixture
async def administrators(database):
    return SqlAdministrators(database)


# ---- what is stored ------------------------------------------------------------------------------


async def test_a_revision_comes_back_as_it_was_written(stored):
    """Whatever its values: they are not checked here."""
    other = Revision("signals", 1, {"typing": False, "new": "ü", "ratio": 0.25}, 1002, NOW_MS + 1)

    assert await stored.versions() == {}
    assert await stored.put(FIRST)
    assert await stored.put(other)
    assert await stored.versions() == {"limits": 1, "signals": 1}
    assert await stored.newest() == {"limits": FIRST, "signals": other}


async def test_a_version_is_written_once(stored):
    """Of two at once one is first; who knows an older one is told so."""
    second = replace(FIRST, version=2, values={})

    assert not await stored.put(second)
    assert sorted(await asyncio.gather(stored.put(FIRST), stored.put(FIRST))) == [False, True]
    assert sorted(await asyncio.gather(stored.put(second), stored.put(second))) == [False, True]
    assert await stored.newest() == {"limits": second}
    assert not await stored.put(replace(FIRST, author=7))


async def test_the_history_has_every_revision(stored):
    """Newest first, part by part; of its section alone."""
    all_of_it = [replace(FIRST, version=version, author=version) for version in range(1, 6)]
    for revision in all_of_it:
        assert await stored.put(revision)
    await stored.put(replace(FIRST, section="groups"))

    newest = await stored.history("limits", below=1 << 62, limit=3)
    assert newest == all_of_it[:1:-1]
    assert await stored.history("limits", below=3, limit=9) == all_of_it[1::-1]
    assert await stored.history("messages", below=1 << 62, limit=9) == []


@pytest.mark.parametrize(
    "content", ["", "[]", "null", "{", '"x"', "1", "[" * 100_000], ids=lambda content: content[:4]
)
async def test_a_row_that_no_program_has_written_is_told_as_one(stored, database, content):
    """And can be replaced by one that is right."""
    await stored.put(FIRST)
    update = sa.update(CONFIGURATION).values(content=content)
    await database.write(lambda connection: connection.execute(update))

    assert await stored.newest() == {"limits": replace(FIRST, values=None)}
    copy = Configuration(lambda: stored, Values(), clock=lambda: 0.0)
    await copy.look()
    assert copy.values == Values()
    assert await stored.put(replace(FIRST, version=2))
    await copy.look()
    assert copy.values.limits.user_units == 500


async def test_administrators_are_granted_and_revoked(administrators):
    """A repeat says that nothing was new."""
    one, other = sorted((random_id(), random_id()))

    assert await administrators.grant(other, now_ms=NOW_MS)
    assert await administrators.grant(one, now_ms=NOW_MS + 1)
    assert not await administrators.grant(one, now_ms=NOW_MS + 2)
    assert await administrators.all() == [
        Administrator(one, NOW_MS + 1),
        Administrator(other, NOW_MS),
    ]
    assert await administrators.has(one)
    assert await administrators.revoke(one)
    assert not await administrators.revoke(one)
    assert not await administrators.has(one)
    assert await administrators.has(other)


async def test_administrators_are_few(administrators):
    """Beyond it is refused, and not written."""
    users = sorted(random_id() for _ in range(MAX_ADMINISTRATORS))
    for user in users:
        await administrators.grant(user, now_ms=NOW_MS)

    with pytest.raises(Refused) as error:
        await administrators.grant(random_id(), now_ms=NOW_MS)

    assert error.value.code == "too_many"
    assert [one.user for one in await administrators.all()] == users
    assert not await administrators.grant(users[0], now_ms=NOW_MS)


# ---- what a process goes by ----------------------------------------------------------------------


class Stored:
    """In memory, and unavailable where a test says so."""

    def __init__(self):
        self.revisions, self.error, self.asked, self.delay_s = {}, None, [], 0.0

    def put(self, section, values, version=1):
        self.revisions[section] = Revision(section, version, values, 1001, NOW_MS)

    async def versions(self):
        return {name: one.version for name, one in (await self._answer("versions")).items()}

    async def newest(self):
        return dict(await self._answer("newest"))

    async def _answer(self, question):
        self.asked.append(question)
        await asyncio.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        return self.revisions


class Seconds:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def kept():
    return Stored()


@pytest.fixture
def seconds():
    return Seconds()


@pytest.fixture
def copy(kept, seconds):
    """Of a process that was told 4,000 units by its settings."""
    defaults = Values(limits=Limits(user_units=4_000))
    return Configuration(lambda: kept, defaults, clock=seconds)


async def test_a_copy_takes_what_is_stored(copy, kept):
    """What is not set has its default, which the settings say."""
    kept.put("limits", {"device_units": 7})
    await copy.refresh()

    assert copy.values == Values(limits=Limits(user_units=4_000, device_units=7))
    kept.put("limits", {}, version=2)
    await copy.refresh()
    assert copy.values == copy.defaults


async def test_a_look_reads_versions_alone(copy, kept):
    """The rest is read when one has changed."""
    for version in (1, 2):
        kept.put("messages", {"text_bytes": version}, version=version)
        for _ in range(3):
            await copy.look()

    assert copy.values.messages == Messages(text_bytes=2)
    assert kept.asked == ["versions", "newest", "versions", "versions"] * 2


async def test_followers_hear_of_changes_alone(copy, kept):
    """At once what holds, then each change; not what was only written again."""
    heard = []
    unfollow = copy.follow(heard.append)
    for version, text_bytes in enumerate((9, 9, 10), start=1):
        kept.put("messages", {"text_bytes": text_bytes}, version=version)
        await copy.look()

    assert [values.messages.text_bytes for values in heard] == [4_096, 9, 10]
    unfollow()
    kept.put("messages", {}, version=4)
    await copy.look()
    assert len(heard) == 3


@pytest.mark.parametrize(
    "values",
    [
        {"text_bytes": 0},
        {"text_bytes": 32_769},
        {"text_bytes": "9"},
        {"text_bytes": None, "pins": True},
        {"pins": 51, "text_bytes": 9},
    ],
)
async def test_a_bad_section_is_refused_and_the_old_one_stays(copy, kept, caplog, values):
    """Other sections are taken, and it is told once."""
    kept.put("messages", {"text_bytes": 8})
    await copy.look()
    refused = value_of("knchat_configuration_refused_total", section="messages")
    kept.put("messages", values, version=2)
    kept.put("groups", {"members": 5})
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await copy.look()

    assert copy.values.messages == Messages(text_bytes=8)
    assert copy.values.groups.members == 5
    (line,) = caplog.records
    wrong = "pins" if "pins" in values else "text_bytes"
    assert line.field == f"messages.{wrong}"
    assert " to " in line.error or "true" in line.error
    assert value_of("knchat_configuration_refused_total", section="messages") == refused + 1
    kept.put("messages", {"text_bytes": 10}, version=3)
    await copy.look()
    assert copy.values.messages == Messages(text_bytes=10)


async def test_what_a_newer_version_knows_is_left_out(copy, kept):
    """While an upgrade is under way both read it."""
    kept.put("messages", {"text_bytes": 8, "colours": 16})
    kept.put("colours", {"most": 3})
    await copy.refresh()

    expected = structs.replace(copy.defaults, messages=Messages(text_bytes=8))
    assert copy.values == expected


async def test_old_values_stay_while_the_database_is_unavailable(copy, kept, seconds, caplog):
    """The age tells, and one line; afterwards it is read again."""
    kept.put("messages", {"text_bytes": 8})
    await copy.look()
    kept.put("messages", {"text_bytes": 9}, version=2)
    kept.error = Unavailable("the database does not answer")
    seconds.now_s += 29
    await copy.look()
    seconds.now_s += 1
    await copy.look()

    assert copy.values.messages.text_bytes == 8
    assert len(caplog.records) == 1
    assert value_of("knchat_configuration_age_seconds") == 30
    kept.error = None
    await copy.look()
    assert copy.values.messages.text_bytes == 9
    assert value_of("knchat_configuration_age_seconds") == 0


async def test_a_database_that_hangs_is_not_waited_for(kept, seconds):
    """Longer than a read may take."""
    copy = Configuration(lambda: kept, Values(), clock=seconds, timing=Timing(timeout_s=0.01))
    kept.delay_s = 60.0
    await asyncio.wait_for(copy.look(), timeout=5)

    assert copy.values == Values()


async def test_the_first_read_is_waited_for_once(copy, kept, seconds):
    """By all who ask at once; while it fails the defaults hold, and it is not asked at each."""
    kept.error = Unavailable("the database does not answer")
    await asyncio.gather(*(copy.known() for _ in range(5)))
    assert (copy.values, kept.asked) == (copy.defaults, ["versions"])

    kept.error = None
    kept.put("messages", {"text_bytes": 8})
    assert await copy.known() == copy.defaults
    seconds.now_s += TIMING.interval_s
    all_at_once = await asyncio.gather(*(copy.known() for _ in range(5)))
    assert [values.messages.text_bytes for values in all_at_once] == [8] * 5
    await copy.known()
    assert kept.asked == ["versions", "versions", "newest"]


def test_processes_do_not_read_in_step():
    """Each wait is another; a change is seen within 5 s, two slow reads included."""
    waits = [TIMING.wait_s() for _ in range(100)]

    assert len(set(waits)) > 90
    assert TIMING.interval_s * 0.7 <= min(waits)
    assert max(waits) + 2 * TIMING.timeout_s <= 5.0


# ---- on the real stores of a process -------------------------------------------------------------


@pytest.fixture
async def opened(tmp_path):
    backends = Backends(Settings(data=tmp_path))
    yield backends
    await backends.close()


async def test_another_process_follows(opened, tmp_path):
    """It reads what this one has written."""
    other = Backends(Settings(data=tmp_path, text_bytes=77))
    await other.configuration.refresh()
    assert other.configuration.values.messages.text_bytes == 77
    await configure(opened, "messages", text_bytes=99)
    other.configuration._timing = Timing(interval_s=0.01)
    keeping = asyncio.create_task(other.configuration.keep())
    await until(lambda: other.configuration.values.messages.text_bytes == 99)
    keeping.cancel()
    await other.close()


async def test_log_level_and_trace_ratio_follow(opened, monkeypatch):
    """Those that the process has begun with stay until one is set."""
    levels, ratios = [], []
    monkeypatch.setattr("backends.wiring.logs.set_level", levels.append)
    monkeypatch.setattr("backends.wiring.tracing.set_ratio", ratios.append)
    await configure(opened, "messages", text_bytes=99)
    assert (levels, ratios) == ([], [])
    await configure(opened, "telemetry", log_level="DEBUG", trace_ratio=1)
    await configure(opened, "telemetry")

    assert (levels, ratios) == (["DEBUG", "INFO"], [1.0, 0.01])


def test_a_ratio_counts_only_where_spans_are_sent(monkeypatch):
    """Without a collector nothing is recorded, whatever is set."""
    monkeypatch.setattr(tracing, "_exporting", None)
    monkeypatch.setattr(tracing, "_ratio", 0.0)
    tracing.set_ratio(1.0)
    assert tracing._ratio == 0.0
    monkeypatch.setattr(tracing, "_exporting", object())
    tracing.set_ratio(1.0)
    assert tracing._ratio == 1.0
