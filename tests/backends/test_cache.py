"""The cache's suite over every adapter (a new one is one line in ADAPTERS), and what the embedded
one does as time goes by.
"""

from __future__ import annotations

import uuid

import pytest

from backends.cache import KEY_TTL_S, embedded
from backends.cache.embedded import EmbeddedCache
from backends.cache.redis import RedisCache
from backends.log.embedded.log import EmbeddedLog
from schemas.errors import Unavailable
from tests.backends.suite_cache import CacheSuite, claim, fresh, held
from tests.support.real import NEEDS


class _Embedded:
    """One cache with its log: its one process has one gateway."""

    def __init__(self, folder, settings):
        self.log = EmbeddedLog(folder / "log.db")
        self.cache = EmbeddedCache(self.log)

    def connect(self):
        return self.cache

    async def close(self):
        await self.cache.close()
        await self.log.close()


class _Redis:
    """As many caches as are asked for, under a prefix of their own."""

    def __init__(self, folder, settings):
        self.url, self.prefix = settings["redis"], f"{uuid.uuid4()}:"
        self.made = []

    def connect(self):
        self.made.append(RedisCache(self.url, prefix=self.prefix))
        return self.made[-1]

    async def close(self):
        for cache in self.made:
            await cache.close()


ADAPTERS = {"embedded": _Embedded, "redis": _Redis}


@pytest.fixture(params=ADAPTERS)
async def connect(request, tmp_path):
    """Makes one more cache on the same store. All are closed afterwards."""
    settings = request.getfixturevalue(NEEDS[request.param]) if request.param in NEEDS else None
    store = ADAPTERS[request.param](tmp_path, settings)
    yield store.connect
    await store.close()


@pytest.fixture
def cache(connect):
    """A cache."""
    return connect()


class TestCache(CacheSuite):
    """Runs the suite."""


@pytest.fixture
def timed(log):
    """An embedded cache whose clock is moved by hand."""
    return EmbeddedCache(log)


async def test_a_key_is_held_for_a_day(timed, clock, log):
    """To the last moment; then another may have it, whether it was swept or not."""
    first = claim()
    await timed.reserve([first])
    await log.run(lambda _: None, durable=False)  # writes it
    clock.now_s += KEY_TTL_S - 1
    assert await timed.reserve([claim(first.key)]) == [held(first)]
    clock.now_s += 1
    second = claim(first.key)

    assert await timed.reserve([second]) == [fresh(second)]
    assert await timed.reserve([claim(first.key)]) == [held(second)]


async def test_keys_whose_time_is_over_leave_the_file(timed, clock, log):
    """However many there are; younger ones stay."""
    await timed.reserve([claim() for _ in range(200)])
    clock.now_s += KEY_TTL_S / 2
    young = claim()
    await timed.reserve([young])
    clock.now_s += KEY_TTL_S / 2
    await log.expire()
    left = await log.run(
        lambda connection: connection.execute("SELECT key FROM keys").fetchall(), durable=False
    )

    assert left == [(young.key,)]


async def test_keys_hold_over_a_restart(tmp_path):
    """They lie in the log's file."""
    first, second = claim(), claim()
    for expected in (fresh, held):
        log = EmbeddedLog(tmp_path / "log.db")

        assert await EmbeddedCache(log).reserve([first, second]) == [
            expected(first),
            expected(second),
        ]
        await log.close()


async def test_a_window_begins_again(timed, clock):
    """Counters are of fixed windows."""
    counts = [await timed.hit("name", window_s=60) for _ in range(2)]
    clock.now_s += 60

    assert counts == [1, 2]
    assert await timed.hit("name", window_s=60) == 1


async def test_a_value_ends_with_its_time(timed, clock):
    """At its last second it is there, then it is not."""
    await timed.put("name", b"value", ttl_s=10)
    clock.now_s += 9
    assert await timed.get("name") == b"value"
    clock.now_s += 1

    assert await timed.get("name") is None


async def test_memory_is_bounded(tmp_path, log, monkeypatch):
    """What was put or counted longest ago goes first."""
    monkeypatch.setattr(embedded, "_MAX_VALUES", 2)
    monkeypatch.setattr(embedded, "_MAX_COUNTERS", 2)
    small = EmbeddedCache(log)
    for name in ("a", "b", "a", "c"):
        await small.put(name, name.encode(), ttl_s=60)
        await small.hit(name, window_s=60)

    assert [await small.get(name) for name in ("a", "b", "c")] == [b"a", None, b"c"]
    assert [await small.hit(name, window_s=60) for name in ("c", "a")] == [2, 3]
    assert await small.hit("b", window_s=60) == 1


async def test_a_closed_log_leaves_the_cache_unavailable(timed, log):
    """Keys cannot be written then; the caller goes on with its own memory."""
    await log.close()

    with pytest.raises(Unavailable):
        await timed.reserve([claim()])
    with pytest.raises(Unavailable):
        await timed.ping()
