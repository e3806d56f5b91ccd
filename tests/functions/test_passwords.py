"""Passwords: how they are kept, which may be chosen, and what ends when one is changed."""

from __future__ import annotations

import asyncio
import unicodedata

import argon2
import pytest

from backends.accounts import Profile
from functions.domain import passwords
from functions.runtime.context import current_context
from schemas.errors import Unavailable
from schemas.ids import UserId
from schemas.topics import DELIVERIES
from tests.functions.callers import PASSWORD, Caller, problem


async def test_passwords_are_kept_as_argon2id(ann, backends):
    """OWASP's least, each with its own salt; the hash for unknown names costs the same."""
    kept = await backends.accounts.password_hash(UserId(int(ann.user)))
    parameters = argon2.extract_parameters(kept)

    assert (
        parameters.type,
        parameters.time_cost,
        parameters.memory_cost,
        parameters.parallelism,
    ) == (argon2.Type.ID, 2, 19_456, 1)
    assert argon2.extract_parameters(passwords.DUMMY_HASH) == parameters


async def test_old_parameters_are_renewed_at_the_next_log_in(ann, backends):
    """The hash gets today's parameters once, and fits the same password."""
    user = UserId(int(ann.user))
    old = argon2.PasswordHasher(time_cost=1, memory_cost=1_024, parallelism=1).hash(PASSWORD)
    await backends.accounts.set_password_hash(
        user, old, was=await backends.accounts.password_hash(user)
    )

    await ann.log_in()
    fresh = await backends.accounts.password_hash(user)
    await ann.log_in()

    assert argon2.extract_parameters(fresh).memory_cost == 19_456
    assert await backends.accounts.password_hash(user) == fresh


async def test_a_new_password_counts_at_once(ann, topics):
    """The old one is of no use; this device goes on with new tokens, all others are logged out and
    told by one delivery.
    """
    laptop, tablet = await ann.on("laptop"), await ann.on("tablet")
    older = dict(laptop.login)

    answer = await laptop.call(
        "PUT", "/v1/me/password", {"password": PASSWORD, "new_password": "another good one"}
    )

    assert (answer.status_code, answer.json()["user"]) == (200, ann.user)
    assert problem(await laptop.get("/v1/me"))[:2] == (401, "unauthorized")
    laptop.login |= answer.json()
    assert (await laptop.get("/v1/me")).status_code == 200
    assert [problem(await other.get("/v1/me"))[:2] for other in (ann, tablet)] == [
        (401, "unauthorized")
    ] * 2
    assert [problem(await other.renew())[:2] for other in (ann, tablet)] == [
        (401, "unauthorized")
    ] * 2
    assert problem(await laptop.renew(older["refresh_token"]))[:2] == (401, "unauthorized")
    assert (await laptop.renew()).status_code == 201
    body = {"user_name": "ann", "device": "new"}
    assert (
        await ann.call("POST", "/v1/sessions", {**body, "password": PASSWORD})
    ).status_code == 401
    assert (
        await ann.call("POST", "/v1/sessions", {**body, "password": "another good one"})
    ).status_code == 201
    deliveries = await topics.items(DELIVERIES)
    (told,) = [one.revoked for one in deliveries if one.HasField("revoked")]
    assert (told.device, told.epoch, told.kept) == ("", 1, "laptop")


async def test_a_new_password_ends_a_thief_on_the_same_device(ann):
    """The thief has copied the tokens and keeps in step: neither the thief's access token nor the
    refresh token counts, though the device goes on.
    """
    thief = Caller(ann.backends)
    ann.login = (await ann.renew()).json()
    thief.login = (await ann.renew()).json()
    assert (await thief.get("/v1/devices")).status_code == 200

    answer = await ann.call(
        "PUT", "/v1/me/password", {"password": PASSWORD, "new_password": "another good one"}
    )
    ann.login |= answer.json()

    assert problem(await thief.get("/v1/me"))[:2] == (401, "unauthorized")
    assert problem(await thief.renew())[:2] == (401, "unauthorized")
    assert (await ann.renew()).status_code == 201


async def test_a_repeat_of_a_change_whose_answer_was_lost_gives_the_same_outcome(
    ann, backends, monkeypatch, topics
):
    """The database has done it and the answer was lost: the same call, with the token that it
    ended, gives new tokens.
    """
    change = backends.log_ins.change_password

    async def done_unheard(*args, **more):
        await change(*args, **more)
        raise Unavailable("the database does not answer")

    body = {"password": PASSWORD, "new_password": "another good one"}
    monkeypatch.setattr(backends.log_ins, "change_password", done_unheard)
    first = await ann.call("PUT", "/v1/me/password", body)
    monkeypatch.undo()
    assert problem(first)[:2] == (503, "unavailable")

    guessed = await ann.call("PUT", "/v1/me/password", body | {"new_password": "a guess of it"})
    again = await ann.call("PUT", "/v1/me/password", body)
    ann.login |= again.json()

    assert problem(guessed)[:2] == (401, "unauthorized")
    assert again.status_code == 200
    assert ((await ann.get("/v1/me")).status_code, (await ann.renew()).status_code) == (200, 201)
    assert (await backends.log_ins.device(UserId(int(ann.user)), "phone")).epoch == 1
    assert {delivery.revoked.epoch for delivery in await topics.items(DELIVERIES)} == {0, 1}


async def test_a_device_that_is_logged_out_changes_no_password(ann):
    """Though the call takes the token of a log-in that has ended, for its own repeat."""
    await ann.call("DELETE", "/v1/sessions/current")

    answer = await ann.call(
        "PUT", "/v1/me/password", {"password": PASSWORD, "new_password": "another good one"}
    )

    assert problem(answer)[:2] == (401, "unauthorized")
    assert (await ann.log_in()).login


async def test_a_new_password_counts_while_the_log_is_unavailable(ann, backends):
    """All in one step: the answer is a success, and the old tokens are dead."""
    laptop = await ann.on("laptop")
    await backends.appends.close()

    answer = await laptop.call(
        "PUT", "/v1/me/password", {"password": PASSWORD, "new_password": "another good one"}
    )

    assert answer.status_code == 200
    assert problem(await ann.get("/v1/me"))[:2] == (401, "unauthorized")
    assert problem(await ann.renew())[:2] == (401, "unauthorized")
    assert [
        (ending.epoch, ending.kept) for ending in await backends.log_ins.unpublished(limit=9)
    ] == [(1, "laptop")]


@pytest.mark.parametrize(
    "password", ["password", "12345678", "Password", "TRUSTNO1", "annabelle", "ANNABELLE"]
)
async def test_what_is_guessed_first_is_no_password(ann, backends, password):
    """The commonest, and one's own name, in any case; nothing is made or changed.

    Who has one already still logs in.
    """
    caller = Caller(backends)
    new = {"user_name": "annabelle", "password": password}
    registered = await caller.call("POST", "/v1/users", new)
    changed = await ann.call(
        "PUT", "/v1/me/password", {"password": PASSWORD, "new_password": "password"}
    )

    assert problem(registered) == (400, "malformed", "password")
    assert problem(changed) == (400, "malformed", "new_password")
    assert await backends.accounts.credentials("annabelle") is None
    weak = await current_context().passwords.hash("password")
    await backends.accounts.register(Profile(7, "weak", "Weak", 1), weak)
    assert (
        await caller.call(
            "POST", "/v1/sessions", {"user_name": "weak", "password": "password", "device": "x"}
        )
    ).status_code == 201


@pytest.mark.parametrize("name", ["e\u0301" * 5 + "abc", "e\u0301" * 256])
async def test_the_length_of_a_password_counts_when_it_is_composed(backends, name):
    """A keyboard that writes accents apart is as good as another: 8 to 256 of what comes of it, at
    every endpoint.
    """
    caller = Caller(backends)
    composed = unicodedata.normalize("NFC", name)
    for number, chosen in enumerate((name, composed)):
        body = {"user_name": f"name{number}", "password": chosen}
        assert (await caller.call("POST", "/v1/users", body)).status_code == 201
        for typed in (name, composed):
            answer = await caller.call(
                "POST", "/v1/sessions", {**body, "password": typed, "device": "x"}
            )
            assert answer.status_code == 201
    short = {"user_name": "short", "password": "e\u0301" * 7}
    assert problem(await caller.call("POST", "/v1/users", short)) == (400, "malformed", "password")


async def test_a_wrong_old_password_changes_nothing(ann, backends):
    """Forbidden, not unauthorized: the token is good."""
    answer = await ann.call(
        "PUT", "/v1/me/password", {"password": "wrong password", "new_password": "another good one"}
    )

    assert problem(answer) == (403, "forbidden", "password")
    assert (await ann.log_in()).login


async def test_of_two_new_passwords_at_once_one_wins(ann, backends):
    """The other is told that it came too late, or that its old password is old."""
    answers = await asyncio.gather(
        *(
            ann.call(
                "PUT",
                "/v1/me/password",
                {"password": PASSWORD, "new_password": f"another good one {n}"},
            )
            for n in range(2)
        )
    )

    assert min(answer.status_code for answer in answers) == 200
    assert {problem(answer)[:2] for answer in answers if answer.status_code != 200} <= {
        (409, "stale"),
        (403, "forbidden"),
    }
    assert len({answer.status_code for answer in answers}) == 2
