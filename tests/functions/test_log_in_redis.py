"""Log-ins over a Redis that is stopped or hangs: limits are skipped and counted, SQL says which
devices stand.
"""

import time

import pytest

from backends.settings import Settings
from backends.telemetry.metrics import value_of
from tests.functions.callers import Caller, problem

# A log-in asks Redis three times, 50 ms each; the rest is argon2 on a busy machine. Waiting for
# Redis would take over 12 s.
SOON_S = 5


@pytest.fixture
def server(fragile):
    """A Redis of the tests' own, which runs."""
    fragile.start("redis")
    yield fragile
    fragile.resume("redis")


@pytest.fixture
def settings(tmp_path, server):
    """The embedded stores, and the cache on Redis."""
    return Settings(data=tmp_path, redis=server.settings(["redis"])["KNCHAT_REDIS"])


@pytest.mark.parametrize("fault", ["stop", "pause"])
async def test_log_in_goes_on_without_redis(fault, backends, server):
    """In time; afterwards revocations and limits count again."""
    ann = await (await Caller(backends).register()).log_in()
    skipped = {
        use: value_of("knchat_cache_skipped_total", use=use) for use in ("limits", "revocations")
    }
    getattr(server, fault)("redis")
    began_s = time.monotonic()
    await ann.log_in("tablet")
    took_s = time.monotonic() - began_s
    me = await ann.get("/v1/me")
    ended = await ann.call("DELETE", "/v1/sessions/current")
    refused = await ann.get("/v1/me")

    assert took_s < SOON_S
    assert (me.status_code, ended.status_code) == (200, 204)
    assert problem(refused)[:2] == (401, "unauthorized")
    assert all(
        value_of("knchat_cache_skipped_total", use=use) > before for use, before in skipped.items()
    )

    (server.resume if fault == "pause" else server.start)("redis")
    await backends.cache.ping()
    body = {"user_name": ann.name, "password": "a wrong password", "device": "x"}
    answers = [(await ann.call("POST", "/v1/sessions", body)).status_code for _ in range(23)]
    assert set(answers[:20]) == {401}
    assert 429 in answers[20:]
