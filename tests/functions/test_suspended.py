"""A suspended user: tokens stop counting, log-ins are refused, and each says why."""

from __future__ import annotations

import pytest

from backends.wiring import Backends
from functions.domain import valid_tokens
from functions.runtime.context import current_context, use_backends
from schemas.ids import UserId
from tests.functions.callers import PASSWORD, Caller, problem


@pytest.fixture
def suspend(backends):
    """Suspends a caller as an operator does: in the database, by another process."""

    async def suspended(caller):
        operators = Backends(backends.settings)
        ending = await operators.suspensions.suspend(
            UserId(int(caller.user)), now_ms=operators.clock.now_ms()
        )
        await operators.close()
        return ending

    return suspended


@pytest.fixture
def nothing_cached(backends, monkeypatch):
    """What SQL said is believed for 5 s: here those are over."""

    async def forgotten(*_):
        return None

    monkeypatch.setattr(backends.cache, "get", forgotten)


async def log_in(caller, password=PASSWORD):
    body = {"user_name": caller.name, "password": password, "device": "tablet"}
    return await caller.call("POST", "/v1/sessions", body)


async def test_tokens_of_a_suspended_user_stop_counting(ann, suspend, nothing_cached):
    """Access tokens, the refresh token, and the one call that takes ended tokens."""
    await suspend(ann)

    assert problem(await ann.get("/v1/me"))[:2] == (403, "suspended")
    assert problem(await ann.renew())[:2] == (403, "suspended")
    body = {"password": PASSWORD, "new_password": "another horse battery"}
    assert problem(await ann.call("PUT", "/v1/me/password", body))[:2] == (403, "suspended")


async def test_they_stop_counting_within_what_is_remembered(ann, suspend, monkeypatch):
    """A process that asked SQL a moment ago believes it for TTL_S at most."""
    puts = []
    put = ann.backends.cache.put

    async def noted(name, value, *, ttl_s):
        puts.append((name, ttl_s))
        await put(name, value, ttl_s=ttl_s)

    monkeypatch.setattr(ann.backends.cache, "put", noted)
    await (await ann.on("laptop")).get("/v1/me")
    await suspend(ann)
    await ann.get("/v1/me")

    assert {ttl_s for _, ttl_s in puts} == {valid_tokens.TTL_S} == {5}


async def test_the_outbox_tells_the_caches(ann, suspend):
    """Whichever process publishes the ending next: from then on no process waits."""
    ending = await suspend(ann)
    await current_context().outbox.publish([ending])

    assert problem(await ann.get("/v1/me"))[:2] == (403, "suspended")


async def test_a_log_in_says_so_to_who_knows_the_password(ann, suspend):
    """And to no other: a guesser learns nothing of the account."""
    await suspend(ann)

    assert problem(await log_in(ann))[:2] == (403, "suspended")
    assert problem(await log_in(ann, "a wrong password"))[:2] == (401, "unauthorized")


async def test_after_it_a_new_log_in_counts_and_an_old_token_does_not(
    ann, suspend, backends, nothing_cached
):
    """The user is told to log in again."""
    await suspend(ann)
    await backends.suspensions.resume(UserId(int(ann.user)))

    assert problem(await ann.get("/v1/me"))[:2] == (401, "unauthorized")
    assert problem(await ann.renew())[:2] == (401, "unauthorized")
    again = await ann.on("phone")
    assert (await again.get("/v1/me")).status_code == 200


async def test_others_do_not_notice(ann, suspend, backends, nothing_cached):
    """Their tokens go on; the profile is still there."""
    ben = await (await Caller(backends).register("ben")).log_in()
    await suspend(ann)

    assert (await ben.get("/v1/me")).status_code == 200
    assert (await ben.get(f"/v1/users/{ann.user}")).status_code == 200


async def test_a_process_that_begins_later_refuses_at_once(ann, suspend, backends):
    """It knows nothing but what SQL says."""
    await suspend(ann)
    other = Backends(backends.settings)
    use_backends(other)

    assert problem(await ann.get("/v1/me"))[:2] == (403, "suspended")
    use_backends(backends)
    await other.close()
