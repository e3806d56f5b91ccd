"""The cache on a Redis that is stopped, hangs, refuses us or is full: callers hear it in time, and
it comes back by itself.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import uuid

import pytest
import redis

from backends.cache import KEY_TTL_S
from backends.cache.redis import CALL_TIMEOUT_S
from schemas.errors import Unavailable
from tests.backends.cache_redis.calls import all_calls, unavailable, url_of
from tests.backends.suite_cache import claim, fresh, held
from tests.support.proxy import proxy_to
from tests.support.until import until_answered

pytestmark = pytest.mark.timed


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_it_comes_back_after_the_server_did(end, cache, server):
    """Away is said at once. What its file held is there again, without a word from us."""
    first = claim()
    await cache.reserve([first])
    await cache.put("name", b"value", ttl_s=60)
    # Which syncs what is there.
    redis.Redis.from_url(url_of(server)).execute_command("BGREWRITEAOF")
    getattr(server, end)("redis")
    await unavailable(*all_calls(cache))
    with pytest.raises(Unavailable):
        await cache.ping()
    server.start("redis")

    await cache.ping()
    assert await cache.reserve([claim(first.key)]) == [held(first)]
    assert await cache.get("name") == b"value"


async def test_after_a_loss_of_memory_keys_are_taken_again(cache, admin):
    """A Redis without persistence that restarts has forgotten: confirmations and repeats take their
    keys again.
    """
    first, second = claim(), claim()
    await cache.reserve([first, second])
    admin.flushall()
    await cache.reserve([], confirm=[first])

    assert await cache.reserve([claim(first.key), second]) == [
        held(first, confirmed=True),
        fresh(second),
    ]


async def test_a_server_that_hangs_costs_a_call_its_timeout_and_no_more(cache, server):
    """Answers that come late are dropped: those after them still go to whom they belong."""
    await cache.put("name", b"value", ttl_s=60)
    server.pause("redis")
    await unavailable(*all_calls(cache))
    server.resume("redis")

    assert [await cache.hit(f"after {number}", window_s=60) for number in range(3)] == [1, 1, 1]
    assert await cache.get("name") == b"value"


async def test_a_dead_connection_is_given_up(connect, server, admin):
    """The machine behind it went without a word: nothing ends the connection but us."""
    cache = connect(silence_timeout_s=2 * CALL_TIMEOUT_S)
    await cache.ping()
    before = cache._connection._connection
    server.pause("redis")
    await unavailable(*all_calls(cache))
    server.resume("redis")
    await cache.ping()

    assert cache._connection._connection is not before


async def test_a_server_that_hangs_at_the_start_is_unavailable(connect, server):
    """TCP connects, nothing answers: calls end in their time, `ping` in its 2 s; later it works."""
    cache = connect()
    server.pause("redis")
    await unavailable(*all_calls(cache))
    began_s = time.monotonic()
    with pytest.raises(Unavailable):
        await cache.ping()
    assert time.monotonic() - began_s < 2.5
    server.resume("redis")

    await cache.ping()


async def test_waiting_calls_are_bounded(connect, server):
    """Those that were given up count until they are answered: the server has them to do still."""
    cache = connect(max_waiting=3)
    await cache.ping()
    server.pause("redis")
    results = await asyncio.gather(*[cache.get("name") for _ in range(5)], return_exceptions=True)
    server.resume("redis")

    assert ["too many" in result.message for result in results] == [False, False, False, True, True]
    async with asyncio.timeout(5):
        await until_answered(cache.ping)


async def test_a_dead_connection_with_a_full_queue_is_given_up_too(connect, server):
    """No call waits for room: silence ends the connection."""
    cache = connect(max_waiting=1, silence_timeout_s=CALL_TIMEOUT_S)
    await cache.ping()
    server.pause("redis")
    await unavailable(cache.get("name"), cache.get("name"))
    server.resume("redis")

    async with asyncio.timeout(5):
        await until_answered(cache.ping)


async def test_an_event_loop_that_stalled_does_not_take_the_server_for_silent(cache):
    """The answer has come long since: it is read before the timeout."""
    await cache.ping()
    for _ in range(3):
        call = asyncio.create_task(cache.hit("name", window_s=60))
        await asyncio.sleep(0)  # it is written now
        time.sleep(3 * CALL_TIMEOUT_S)

        assert await call > 0


async def test_a_connection_may_take_longer_than_a_call(connect, server):
    """Over a slow connection, with TLS: the first calls go on without it, and then it is there."""
    async with proxy_to("127.0.0.1", server.place("redis").port()) as proxy:
        cache = connect(f"redis://127.0.0.1:{proxy.port}/3")
        proxy.hold()
        await unavailable(*all_calls(cache))
        proxy.release()
        await cache._connection._opening

        assert await cache.hit("name", window_s=60) == 1


async def test_a_full_server_is_unavailable(cache, admin):
    """With noeviction it refuses what is new, and says so to `ping` too."""
    admin.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unavailable, match="memory"):
            await cache.reserve([claim()])
        with pytest.raises(Unavailable, match="memory"):
            await cache.ping()
    finally:
        admin.config_set("maxmemory", 0)

    await cache.ping()


async def test_a_primary_that_was_demoted_is_left(cache, admin):
    """Its name may lead to the new one: it is asked for again."""
    await cache.ping()
    before = cache._connection._connection
    admin.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(Unavailable):
            await cache.reserve([claim()])
    finally:
        admin.replicaof("NO", "ONE")
    await cache.ping()

    assert cache._connection._connection is not before


async def test_everything_ends_with_its_time(cache, admin):
    """All in Redis expires: keys, counters, values."""
    first, second = claim(), claim()
    await cache.reserve([first])
    await cache.reserve([second], confirm=[first])
    await cache.release(first.user, first.key)
    await cache.hit("name", window_s=60)
    await cache.put("name", b"value", ttl_s=600)
    times = sorted(admin.ttl(name) for name in admin.keys(f"{cache._prefix}*"))

    assert times == pytest.approx([60, 600, KEY_TTL_S, KEY_TTL_S], abs=2)


async def test_scripts_that_were_forgotten_are_sent_again(cache, admin):
    """A server that restarted, or another one behind the same name, knows none."""
    first = claim()
    await cache.reserve([first])
    admin.script_flush()

    assert await cache.reserve([claim(first.key)]) == [held(first)]


async def test_after_the_end_nothing_is_asked(cache):
    """A closed cache does not connect again."""
    await cache.ping()
    await cache.close()

    await unavailable(*all_calls(cache))


PROGRAM = """
import asyncio, json, sys
from backends.cache import Claim
from backends.cache.redis import RedisCache

async def main(url, prefix, first_id):
    cache = RedisCache(url, prefix=prefix)
    await cache.ping()
    print("ready", flush=True)
    sys.stdin.readline()
    answers = []
    for batch in range(100):
        start = int(first_id) + 20 * batch
        claims = [Claim(1, f"{batch}-{n}", start + n, b"12345678") for n in range(20)]
        answers += [(held.id, held.fresh) for held in await cache.reserve(claims)]
    print(json.dumps(answers), flush=True)
    await cache.close()

asyncio.run(main(*sys.argv[1:]))
"""


def test_processes_that_race_for_keys_agree(server):
    """Two gateways reserve the same 2,000 keys at once: each key is fresh for exactly one, and both
    name its id.
    """
    prefix = f"{uuid.uuid4()}:"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, url_of(server), prefix, str(first_id)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first_id in (10_000, 20_000)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    one, other = (json.loads(process.communicate(timeout=30)[0]) for process in started)

    assert [a for a, _ in one] == [b for b, _ in other]
    assert all(mine != its for (_, mine), (_, its) in zip(one, other, strict=True))
