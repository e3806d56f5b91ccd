"""A Redis of the tests' own, and caches on it."""

from __future__ import annotations

import uuid

import pytest
import redis

from backends.cache.redis import RedisCache
from tests.backends.cache_redis.calls import url_of


@pytest.fixture
def server(fragile):
    """A Redis of the tests' own, which runs."""
    fragile.start("redis")
    return fragile


@pytest.fixture
def admin(server):
    """What an operator says to it."""
    with redis.Redis.from_url(url_of(server)) as admin:
        yield admin


@pytest.fixture
async def connect(server):
    """Makes caches with a prefix of their own. All are closed afterwards."""
    made = []

    def another(url=None, **options):
        made.append(RedisCache(url or url_of(server), **{"prefix": f"{uuid.uuid4()}:", **options}))
        return made[-1]

    yield another
    for cache in made:
        await cache.close()


@pytest.fixture
def cache(connect):
    """A cache."""
    return connect()
