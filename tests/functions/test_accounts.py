"""People register, are found, and change what others see of them."""

from __future__ import annotations

import asyncio
import unicodedata
from dataclasses import replace

import pytest

from functions.endpoints import accounts
from functions.endpoints.accounts import register
from functions.runtime.context import current_context
from schemas import endpoints
from schemas.ids import UserId
from tests.functions.callers import PASSWORD, Caller, problem


@pytest.fixture
async def ann(backends):
    """A user who is logged in."""
    return await (
        await Caller(backends).register(
            "ann", display_name="Ann Ash", phone="+49 30 1", email="ann@example.org"
        )
    ).log_in()


async def test_a_user_registers(backends):
    """The answer is the whole profile; ids and versions are decimal strings; the name is folded;
    what is not there is left out.
    """
    caller = Caller(backends)

    answer = await caller.call(
        "POST", "/v1/users", {"user_name": "Ann.Ash_9-x", "password": PASSWORD}
    )

    assert answer.status_code == 201
    assert answer.json() == {
        "user": answer.json()["user"],
        "user_name": "ann.ash_9-x",
        "display_name": "ann.ash_9-x",
        "version": "1",
    }
    assert 0 < int(answer.json()["user"]) < 2**62
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_taken_name_is_refused_whatever_its_capitals(ann):
    """One name, one user."""
    answer = await ann.call("POST", "/v1/users", {"user_name": "ANN", "password": PASSWORD})

    assert problem(answer) == (409, "name_taken", "user_name")


async def test_two_registrations_of_one_name_at_once(backends):
    """One gets it."""
    callers = [Caller(backends) for _ in range(4)]

    answers = await asyncio.gather(
        *(
            caller.call("POST", "/v1/users", {"user_name": "same", "password": PASSWORD})
            for caller in callers
        )
    )

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user_name", "ab"),
        ("user_name", "a" * 33),
        ("user_name", "ann ash"),
        ("user_name", "änn"),
        ("user_name", "\u212aelvin"),  # KELVIN SIGN, whose small letter is k
        ("user_name", "ann\n"),
        ("user_name", ""),
        ("user_name", 5),
        ("user_name", None),
        ("user_name", ["ann"]),
        ("password", "1234567"),
        ("password", "x" * 257),
        ("password", 12_345_678),
        ("password", None),
        ("display_name", ""),
        ("display_name", "x" * 65),
        ("display_name", "a\0b"),
        ("display_name", "a\x85b"),
        ("display_name", {}),
        ("phone", ""),
        ("phone", "1" * 33),
        ("email", "x" * 255),
        ("email", "a\r\nbcc"),
    ],
)
async def test_a_wrong_field_is_named(backends, field, value):
    """Nothing is stored, and the answer never shows what was sent."""
    body = {"user_name": "ann", "password": PASSWORD, field: value}

    answer = await Caller(backends).call("POST", "/v1/users", body)

    assert problem(answer) == (400, "malformed", field)
    assert PASSWORD not in answer.text
    assert await backends.accounts.credentials("ann") is None


@pytest.mark.parametrize("missing", ["user_name", "password"])
async def test_a_missing_field_is_named(backends, missing):
    """As a wrong one is."""
    body = {"user_name": "ann", "password": PASSWORD}
    del body[missing]

    assert problem(await Caller(backends).call("POST", "/v1/users", body)) == (
        400,
        "malformed",
        missing,
    )


async def test_limits_of_lengths_are_characters(backends):
    """A password of 256 and a name of 64 characters of any script are taken; unknown fields are
    ignored.
    """
    caller, password, name = Caller(backends), "🔑" * 256, "字" * 64

    made = await caller.call(
        "POST",
        "/v1/users",
        {"user_name": "a" * 32, "password": password, "display_name": name, "later": 1},
    )
    login = await caller.call(
        "POST", "/v1/sessions", {"user_name": "A" * 32, "password": password, "device": "x" * 64}
    )

    assert made.json()["display_name"] == name
    assert login.status_code == 201


async def test_a_password_is_the_same_on_every_keyboard(backends):
    """Composed and decomposed accents are one password."""
    caller = Caller(backends)
    await caller.call(
        "POST",
        "/v1/users",
        {"user_name": "ann", "password": unicodedata.normalize("NFC", "Grüße über alles")},
    )

    body = {
        "user_name": "ann",
        "password": unicodedata.normalize("NFD", "Grüße über alles"),
        "device": "phone",
    }

    assert (await caller.call("POST", "/v1/sessions", body)).status_code == 201


async def test_a_given_id_registers_once(backends):
    """A demonstration user is the same after every start, and keeps what was changed meanwhile."""
    body = endpoints.NewUser(user_name="dora", password=PASSWORD)
    first = await register(body, current_context(), user=UserId(1009))
    changed = replace(first, display_name="Dora", version=2)
    await backends.accounts.change_profile(changed, now_ms=7)

    again = await register(body, current_context(), user=UserId(1009))

    assert (again.user, again.display_name, again.version) == (1009, "Dora", 2)
    with pytest.raises(accounts.Refused, match="taken"):
        await register(body, current_context(), user=UserId(1010))


# ---- profiles ------------------------------------------------------------------------------------


async def test_my_profile_shows_more_than_others_see(ann, backends):
    """Phone, email and settings are mine alone."""
    other = await (await Caller(backends).register()).log_in()
    public = {"user": ann.user, "user_name": "ann", "display_name": "Ann Ash", "version": "1"}

    assert (await ann.get("/v1/me")).json() == {
        **public,
        "phone": "+49 30 1",
        "email": "ann@example.org",
    }
    assert (await other.get(f"/v1/users/{ann.user}")).json() == public
    assert (await other.get("/v1/users", ids=ann.user)).json() == {"users": [public]}
    assert (await other.get("/v1/users", search="ann ash")).json() == {"users": [public]}


async def test_a_profile_changes_by_its_version(ann):
    """What is left out stays; null takes away; the version goes up by one."""
    first = await ann.call(
        "PATCH",
        "/v1/me",
        {"version": "1", "display_name": "Änne", "settings": {"theme": "dark", "x": [None, 1.5]}},
    )
    second = await ann.call("PATCH", "/v1/me", {"version": "2", "phone": None, "email": "a@b.c"})

    profile = {
        "user": ann.user,
        "user_name": "ann",
        "display_name": "Änne",
        "settings": {"theme": "dark", "x": [None, 1.5]},
    }
    assert first.json() == {
        **profile,
        "version": "2",
        "phone": "+49 30 1",
        "email": "ann@example.org",
    }
    assert (
        second.json()
        == {**profile, "version": "3", "email": "a@b.c"}
        == (await ann.get("/v1/me")).json()
    )


async def test_an_old_version_is_stale(ann):
    """Two devices that change one profile: the second is told, and nothing of it is stored."""
    await ann.call("PATCH", "/v1/me", {"version": "1", "display_name": "First"})

    answers = [
        await ann.call("PATCH", "/v1/me", {"version": version, "display_name": "Second"})
        for version in ("1", "0", "3", "9" * 18)
    ]

    assert {problem(answer) for answer in answers} == {(409, "stale", "version")}
    assert (await ann.get("/v1/me")).json()["display_name"] == "First"


async def test_of_changes_at_once_one_wins(ann):
    """The database decides."""
    answers = await asyncio.gather(
        *(ann.call("PATCH", "/v1/me", {"version": "1", "display_name": f"n{n}"}) for n in range(6))
    )

    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409, 409]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "version"),
        ({"version": 1}, "version"),
        ({"version": "01"}, "version"),
        ({"version": "9" * 19}, "version"),
        ({"version": "1", "display_name": None}, "display_name"),
        ({"version": "1", "display_name": ""}, "display_name"),
        ({"version": "1", "phone": "a\tb"}, "phone"),
        ({"version": "1", "settings": []}, "settings"),
        ({"version": "1", "settings": {"x": "y" * 4_096}}, "settings"),
        ({"version": "1", "settings": {"x": "\0"}}, "settings"),
    ],
)
async def test_a_wrong_change_is_refused(ann, body, field):
    """The place is named and the profile stays."""
    assert problem(await ann.call("PATCH", "/v1/me", body)) == (400, "malformed", field)
    assert (await ann.get("/v1/me")).json()["version"] == "1"


async def test_settings_that_are_no_json_numbers_are_refused(ann):
    """NaN would make answers that no client can read."""
    answer = await ann.call(
        "PATCH",
        "/v1/me",
        content=b'{"version": "1", "settings": {"x": NaN}}',
        headers={"content-type": "application/json"},
    )

    assert problem(answer) == (400, "malformed", "settings")


# ---- finding users -------------------------------------------------------------------------------


async def test_users_are_found_by_a_part_of_a_name(ann, backends):
    """User names and display names, any case, beginnings of names and words first, else by user
    name, as many as asked for; signs mean themselves.
    """
    for name, shown in (
        ("beanna", "x"),
        ("carl", "Johanna"),
        ("dan_an", "100% ANN"),
        ("emil", "Emil"),
    ):
        await Caller(backends).register(name, display_name=shown)

    async def names(text, **query):
        return [
            user["user_name"]
            for user in (await ann.get("/v1/users", search=text, **query)).json()["users"]
        ]

    assert await names("aNN") == ["ann", "dan_an", "beanna", "carl"]
    assert await names("ann", limit=2) == ["ann", "dan_an"]
    assert await names("n_a") == ["dan_an"]
    assert await names("0% ") == ["dan_an"]
    assert await names("unregistered") == []


async def test_ids_keep_their_order_and_unknown_ones_are_left_out(ann, backends):
    """So a client can ask for a page of a group."""
    other = await Caller(backends).register()

    found = await ann.get("/v1/users", ids=f"{other.user},7,{ann.user},{other.user}")

    assert [user["user"] for user in found.json()["users"]] == [other.user, ann.user]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "search"),
        ({"search": "ann", "ids": "1"}, "search"),
        ({"search": "an"}, "search"),
        ({"search": "x" * 65}, "search"),
        ({"search": "a\0b"}, "search"),
        ({"ids": ""}, "ids"),
        ({"ids": "1,,2"}, "ids"),
        ({"ids": "1,x"}, "ids"),
        ({"ids": "0"}, "ids"),
        ({"ids": str(2**63)}, "ids"),
        ({"ids": ",".join(map(str, range(1, 258)))}, "ids"),
        ({"search": "ann", "limit": 0}, "limit"),
        ({"search": "ann", "limit": 257}, "limit"),
        ({"search": "ann", "limit": "many"}, "limit"),
        ({"search": ["ann", "bob"]}, "query"),
    ],
)
async def test_a_wrong_search_is_refused(ann, query, field):
    """The place is named."""
    assert problem(await ann.get("/v1/users", **query)) == (400, "malformed", field)


async def test_an_unknown_user_is_unknown(ann):
    """And what is no id is malformed."""
    assert problem(await ann.get("/v1/users/7")) == (404, "unknown_user", "user")
    assert problem(await ann.get("/v1/users/seven")) == (400, "malformed", "user")
