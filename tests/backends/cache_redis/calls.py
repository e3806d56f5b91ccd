"""Calls to a cache, and what they come to."""

from __future__ import annotations

import time

import pytest

from backends.cache.redis import CALL_TIMEOUT_S
from schemas.errors import Unavailable
from tests.backends.suite_cache import claim


def url_of(servers):
    """As the settings have it."""
    return servers.settings(["redis"])["KNCHAT_REDIS"]


async def unavailable(*calls):
    """All these are Unavailable, within their network time and what a busy machine adds."""
    for call in calls:
        began_s = time.monotonic()
        with pytest.raises(Unavailable):
            await call

        assert time.monotonic() - began_s < 2 * CALL_TIMEOUT_S + 0.05


def all_calls(cache):
    """One of each but `ping`."""
    return (
        cache.reserve([claim()], confirm=[claim()]),
        cache.release(1, "key"),
        cache.hit("name", window_s=60),
        cache.put("name", b"value", ttl_s=60),
        cache.get("name"),
    )
