"""Who asks over HTTP: tokens that do not count, or no longer, and how soon the end of a device is
known everywhere.
"""

from __future__ import annotations

import time

import pytest

from schemas.ids import UserId
from schemas.tokens import claims_of
from tests.functions.callers import problem


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic YTpi",
        "bearer a.b.c",
        "Token {token}",
        "{token}",
        "Bearer {token} x",
    ],
)
async def test_a_call_without_a_good_token_is_refused(ann, header):
    """One answer for all of them, with the scheme that is wanted."""
    answer = await ann.call(
        "GET", "/v1/me", headers={"authorization": header.format(token=ann.login["access_token"])}
    )

    assert problem(answer)[:2] == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_an_expired_token_says_refresh(ann, backends):
    """So that a client knows what to do."""
    user, now_ms = UserId(int(ann.user)), int(time.time() * 1_000)
    old = backends.signing_key.sign(
        claims_of(user, "phone", issued_ms=now_ms - 1_000_000, token_s=900)
    )

    answer = await ann.call("GET", "/v1/me", headers={"authorization": f"Bearer {old}"})

    assert problem(answer)[:2] == (401, "unauthorized")
    assert "refresh" in answer.json()["message"]


async def test_a_token_of_a_device_that_is_not_logged_in_is_refused(ann, backends):
    """SQL knows what the cache has forgotten."""
    user, now_ms = UserId(int(ann.user)), int(time.time() * 1_000)
    other = backends.signing_key.sign(
        claims_of(user, "never-logged-in", issued_ms=now_ms, token_s=900)
    )

    answer = await ann.call("GET", "/v1/me", headers={"authorization": f"Bearer {other}"})

    assert problem(answer)[:2] == (401, "unauthorized")


async def test_a_token_older_than_the_log_in_is_refused(ann, backends):
    """A device that was logged out and in again does not bring its older tokens back."""
    user, now_ms = UserId(int(ann.user)), int(time.time() * 1_000)
    older = backends.signing_key.sign(
        claims_of(user, "phone", issued_ms=now_ms - 60_000, token_s=900)
    )

    answer = await ann.call("GET", "/v1/me", headers={"authorization": f"Bearer {older}"})

    assert problem(answer)[:2] == (401, "unauthorized")


async def test_what_another_process_ended_counts_5_s_later_at_most(ann, backends):
    """A cache of one's own hears of nothing; what it remembers ends, and SQL is asked again."""
    await backends.log_ins.end(UserId(int(ann.user)), "phone", now_ms=0)
    remembered = await ann.get("/v1/me")
    now = time.time()
    backends.reads.clock = lambda: now + 5.001

    assert remembered.status_code == 200
    assert problem(await ann.get("/v1/me"))[:2] == (401, "unauthorized")


async def test_a_token_whose_time_has_not_come_is_a_matter_of_waiting(ann, backends):
    """Some clock is wrong: 503, so that no client is told to log in."""
    user, now_ms = UserId(int(ann.user)), int(time.time() * 1_000)
    early = backends.signing_key.sign(
        claims_of(user, "phone", issued_ms=now_ms + 120_000, token_s=900)
    )

    answer = await ann.call("GET", "/v1/me", headers={"authorization": f"Bearer {early}"})

    assert problem(answer)[:2] == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1
