"""Refresh tokens: how a device stays logged in, how a stolen one is found out, and when a log-in is
over.
"""

from __future__ import annotations

import asyncio
import time

from functions.domain import token_rotation
from functions.endpoints import devices
from schemas.ids import UserId, parse_id_or_time, unix_ms_of
from tests.functions.callers import PASSWORD, at, problem, revoked


async def test_a_refresh_token_gives_new_tokens(ann):
    """The same answer as a log-in's; the old access token stays good for its time."""
    answer = await ann.renew()

    assert answer.status_code == 201
    assert set(answer.json()) == set(ann.login)
    assert answer.json()["refresh_token"] != ann.login["refresh_token"]
    assert (await ann.get("/v1/me")).status_code == 200
    ann.login = answer.json()
    assert (await ann.get("/v1/me")).status_code == 200


async def test_a_lost_answer_can_be_asked_for_again(ann, backends, monkeypatch):
    """For 2 minutes after the first use, so a cut connection logs no device out."""
    first, again = [(await ann.renew()).json()["refresh_token"] for _ in range(2)]
    at(backends, monkeypatch, 119)
    third = (await ann.renew()).json()["refresh_token"]

    assert first == again == third
    assert (await ann.renew(first)).status_code == 201


async def test_after_two_minutes_the_token_before_ends_the_device(
    ann, backends, monkeypatch, topics
):
    """Its holder was robbed, or is the thief; repeats meanwhile do not make the time longer."""
    stolen = ann.login["refresh_token"]
    for seconds in (0, 100):
        at(backends, monkeypatch, seconds)
        newest = (await ann.renew(stolen)).json()["refresh_token"]
    at(backends, monkeypatch, 121)

    assert problem(await ann.renew(stolen))[:2] == (401, "unauthorized")
    assert problem(await ann.renew(newest))[:2] == (401, "unauthorized")
    assert await revoked(topics) == [(int(ann.user), "phone")]


async def test_the_next_token_cannot_be_derived(ann, backends):
    """Neither from the tokens before nor from the row that was there with them."""
    user = UserId(int(ann.user))
    before = await backends.log_ins.device(user, "phone")
    following = (await ann.renew()).json()["refresh_token"].split(".")[2]

    assert following != token_rotation._following(
        ann.login["refresh_token"].split(".")[2], before.salt
    )


async def test_a_log_in_that_is_not_used_is_over_after_60_days(ann, backends, monkeypatch, topics):
    """As by a log-out: its gateway is told, and it is no device of mine any more."""
    laptop = await ann.on("laptop")
    day_s = 86_400
    at(backends, monkeypatch, 59 * day_s)
    ann.login = (await ann.renew()).json()
    at(backends, monkeypatch, 61 * day_s)
    late = await laptop.renew()
    ann.login = (await ann.renew()).json()

    assert problem(late)[:2] == (401, "unauthorized")
    assert await revoked(topics) == [(int(ann.user), "laptop")]
    assert [device["device"] for device in (await ann.get("/v1/devices")).json()["devices"]] == [
        "phone"
    ]


async def test_a_log_in_is_over_after_a_year_however_it_is_used(ann, backends, monkeypatch):
    """Its last access token ends with it."""
    day_s = 86_400
    for day in range(50, 365, 50):
        at(backends, monkeypatch, day * day_s)
        ann.login = (await ann.renew()).json()
    at(backends, monkeypatch, 365 * day_s - 300)
    last = (await ann.renew()).json()
    at(backends, monkeypatch, 365 * day_s + 1)

    life_ms = (
        unix_ms_of(parse_id_or_time(last["access_expires"], name="access_expires"))
        - (time.time() + 365 * day_s - 300) * 1_000
    )
    assert life_ms < 301_000
    assert problem(await ann.renew(last["refresh_token"]))[:2] == (401, "unauthorized")
    assert (await backends.log_ins.devices(UserId(int(ann.user)))) == []


async def test_many_uses_at_once_give_one_token(ann):
    """Two tabs that renew at the same time stay logged in."""
    answers = await asyncio.gather(*(ann.renew() for _ in range(8)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1


async def test_a_use_that_others_overtake_every_time_asks_to_try_again(ann, monkeypatch):
    """The tries are bounded; no device is logged out for being unlucky."""
    monkeypatch.setattr(devices, "_MAX_RETRIES", 0)
    unlucky = await ann.renew()
    monkeypatch.undo()

    assert problem(unlucky)[:2] == (503, "unavailable")
    assert (await ann.renew()).status_code == 201


async def test_a_chain_of_tokens_goes_on(ann, backends):
    """Generation by generation, and the device shows when it was last seen."""
    token = ann.login["refresh_token"]
    for generation in range(2, 12):
        answer = await ann.renew(token)
        token = answer.json()["refresh_token"]
        assert token.split(".")[:2] == [ann.login["refresh_token"].split(".")[0], str(generation)]

    (device,) = await backends.log_ins.devices(UserId(int(ann.user)))
    assert device.generation == 11
    assert device.seen_ms >= device.created_ms


async def test_a_dead_token_ends_the_device(ann, topics, backends):
    """One was stolen: no server can tell by which of the two, so both are out, and the gateway is
    told.
    """
    stolen = ann.login["refresh_token"]
    second = (await ann.renew()).json()
    third = (await ann.renew(second["refresh_token"])).json()

    reused = await ann.renew(stolen)

    assert problem(reused)[:2] == (401, "unauthorized")
    assert problem(await ann.renew(third["refresh_token"]))[:2] == (401, "unauthorized")
    assert problem(await ann.renew(stolen))[:2] == (401, "unauthorized")
    ann.login = third
    assert problem(await ann.get("/v1/me"))[:2] == (401, "unauthorized")
    assert await revoked(topics) == [(int(ann.user), "phone")]
    assert await backends.log_ins.devices(UserId(int(ann.user))) == []
    assert (await (await ann.log_in()).get("/v1/me")).status_code == 200


async def test_tokens_of_no_log_in_are_refused_and_end_nothing(ann, topics):
    """Unknown families, guessed secrets, later generations, other texts."""
    family, generation, secret = ann.login["refresh_token"].split(".")
    forged = "A" * 42 + ("A" if secret[-1] != "A" else "E")
    guesses = [
        f"{'A' * 22}.1.{secret}",
        f"{family}.1.{forged}",
        f"{family}.2.{secret}",
        f"{family}.9999999999.{secret}",
        f"{family}.01.{secret}",
        f"{family}.0.{secret}",
        f"{family}.1.{secret}A",
        f"{family}.1.{secret}\n",
        f"{family}.\u0661.{secret}",
        f"{family}.{secret}",
        "x",
        ann.login["access_token"],
    ]

    for guess in guesses:
        status, code, field = problem(await ann.renew(guess))
        assert (status, code) == (
            (401, "unauthorized") if len(guess) <= 256 else (400, "malformed")
        ), (guess, field)

    assert generation == "1"
    assert (await ann.renew()).status_code == 201
    assert await revoked(topics) == []


async def test_only_hashes_of_secrets_are_kept(ann, settings):
    """A reader of the database cannot renew."""
    token = ann.login["refresh_token"]
    secret = token.split(".")[2].encode()

    kept = b"".join(file.read_bytes() for file in settings.data.glob("data.db*"))

    assert token.split(".")[0].encode() in kept
    assert secret not in kept
    assert PASSWORD.encode() not in kept
