"""The publisher while its Redis is stopped or hangs: sends go on at once, and what Redis missed it
is told later.
"""

import asyncio
import random
import time

import pytest

from backends.settings import Settings
from backends.telemetry.metrics import value_of
from backends.wiring import Backends
from gateway.publishing.message_ids import MessageIds
from gateway.publishing.publisher import Publisher
from gateway.publishing.reservations import CACHE_COOLDOWN_S, MAX_CONFIRMS
from schemas import chat_pb2 as pb
from tests.support.clock import Clock

pytestmark = pytest.mark.timed

# 50 ms of patience with Redis, and what a busy machine adds to an append.
SOON_S = 0.25


@pytest.fixture
def server(fragile):
    """A Redis of the tests' own, which runs."""
    fragile.start("redis")
    return fragile


@pytest.fixture
def settings(tmp_path, server):
    """The embedded log, and the cache on Redis."""
    return Settings(data=tmp_path, redis=server.settings(["redis"])["KNCHAT_REDIS"])


@pytest.fixture
def clock():
    """Of the publishers."""
    return Clock()


@pytest.fixture
async def publishers(backends, clock):
    """Makes publishers on the same log and Redis, as gateways that come and go."""
    message_ids = MessageIds(backends.generators, "test", clock=backends.clock)
    await message_ids.claim()
    made = []

    def another(on=backends):
        made.append(Publisher(on.appends, on.cache, message_ids, in_flight=2, clock=clock))
        return made[-1]

    yield another
    for publisher in made:
        await publisher.close()


@pytest.fixture
def user():
    """Whose keys are unused."""
    return random.getrandbits(62)


def submit(publisher, user, key):
    """The outcome, in time."""
    outcome = asyncio.get_running_loop().create_future()
    command = pb.Command(
        user=user, device="phone", key=key, chat="d-11-22", send=pb.Send(text="hi")
    )
    publisher.submit(command, outcome.set_result)
    return outcome


async def took_s(publisher, user, key):
    """How long a send took."""
    began_s = time.monotonic()
    await submit(publisher, user, key)
    return time.monotonic() - began_s


@pytest.mark.parametrize("fault", ["stop", "kill", "pause"])
async def test_sends_go_on_without_redis(fault, publishers, user, server, clock, settings):
    """One call finds out, at most 50 ms; for 5 s no call asks again.

    Back again, it learns what it missed, and so do other gateways.
    """
    publisher = publishers()
    await submit(publisher, user, "before")
    away = value_of("knchat_cache_away_total")
    getattr(server, fault)("redis")
    times = [await took_s(publisher, user, f"away {number}") for number in range(20)]
    first = await submit(publisher, user, "away 0")

    assert max(times) < SOON_S
    assert sum(times[1:]) < 19 * SOON_S / 2
    assert first.duplicate
    assert value_of("knchat_cache_away_total") == away + 1

    (server.resume if fault == "pause" else server.start)("redis")
    clock.now_s += CACHE_COOLDOWN_S
    await submit(publisher, user, "after")
    await publisher.flush()
    elsewhere = Backends(settings)
    try:
        repeat = await submit(publishers(elsewhere), user, "away 0")
    finally:
        await elsewhere.close()
    assert (repeat.id, repeat.duplicate) == (first.id, True)


async def test_what_redis_missed_is_told_in_parts(publishers, user, server, clock, backends):
    """A minute's keys in one call would take longer than a call may, each time again."""
    publisher = publishers()
    server.pause("redis")
    await asyncio.gather(
        *[submit(publisher, user, f"key {number}") for number in range(2 * MAX_CONFIRMS + 10)]
    )
    server.resume("redis")
    await backends.cache.ping()
    clock.now_s += CACHE_COOLDOWN_S
    left = [len(publisher._reservations._unconfirmed)]
    while publisher._reservations._unconfirmed:
        await publisher._reservations._confirm()
        left.append(len(publisher._reservations._unconfirmed))

    assert left == [2 * MAX_CONFIRMS + 10, MAX_CONFIRMS + 10, 10, 0]
