"""Wrong settings of the cache are named: passwords, users, databases, authorities."""

from __future__ import annotations

import pytest

from schemas.errors import Malformed
from tests.backends.cache_redis.calls import all_calls, unavailable
from tests.backends.suite_cache import claim, fresh

pytestmark = pytest.mark.timed


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("redis://{}/0", "s3cret-canary"),
        ("redis://knchat@{}/0", "s3cret-canary"),
        ("redis://knchat@{}/0", ""),
    ],
    ids=["default user", "user", "none"],
)
async def test_a_wrong_password_is_a_wrong_setting(url, password, connect, server, admin):
    """`ping` names it, which stops a start; calls go on without the cache.

    The secret is in no text.
    """
    admin.execute_command("ACL SETUSER knchat on >right ~* +@all")
    admin.config_set("requirepass", "right")
    try:
        cache = connect(url.format(server.place("redis").address), password=password)
        with pytest.raises(Malformed) as refusal:
            await cache.ping()
        await unavailable(*all_calls(cache))
    finally:
        admin.config_set("requirepass", "")

    assert refusal.value.field == "KNCHAT_REDIS_PASSWORD"
    assert "KNCHAT_REDIS_PASSWORD" in refusal.value.message
    assert (
        "canary" not in f"{refusal.value!r} {refusal.value.__cause__!r} {cache!r} "
        f"{cache._connection._connection!r}"
    )


async def test_a_password_of_a_user_is_taken(connect, server, admin):
    """With the few rights that are needed."""
    admin.execute_command(
        "ACL SETUSER small on >right ~small:* +get +set +incr +expire +eval +evalsha"
    )
    cache = connect(
        f"redis://small@{server.place('redis').address}/0", password="right", prefix="small:"
    )
    key = claim()
    await cache.ping()
    await cache.put("name", b"value", ttl_s=60)

    assert await cache.get("name") == b"value"
    assert await cache.reserve([key]) == [fresh(key)]


async def test_a_user_who_may_not_is_a_wrong_setting(connect, server, admin):
    """Its rights do not reach our keys, or our scripts."""
    address = server.place("redis").address
    for name, rights in (("keys", "~other:* +@all"), ("commands", "~* +get")):
        admin.execute_command(f"ACL SETUSER {name} on >right {rights}")
        with pytest.raises(Malformed) as refusal:
            await connect(f"redis://{name}@{address}/0", password="right").ping()

        assert refusal.value.field == "KNCHAT_REDIS"


async def test_a_database_that_is_not_there_is_a_wrong_setting(connect, server):
    """Redis has 16 unless told otherwise."""
    with pytest.raises(Malformed) as refusal:
        await connect(f"redis://{server.place('redis').address}/99").ping()
    assert refusal.value.field == "KNCHAT_REDIS"


async def test_tls_with_an_authority_of_ones_own(connect, secure_settings):
    """User, password and certificate as the settings say."""
    settings = secure_settings("redis")
    cache = connect(settings["redis"], password=settings["redis_password"], ca=settings["redis_ca"])
    await cache.ping()

    assert await cache.hit("name", window_s=60) == 1


async def test_an_unknown_authority_is_a_wrong_setting(connect, secure_settings):
    """The system's know nothing of it; nothing is sent to such a server."""
    settings = secure_settings("redis")
    with pytest.raises(Malformed) as refusal:
        await connect(settings["redis"], password=settings["redis_password"]).ping()
    assert refusal.value.field == "KNCHAT_REDIS_CA"
