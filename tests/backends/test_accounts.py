"""The suite of the `Accounts` port, over all databases.

Users and names are random, so a database may hold other tests' accounts too.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

import pytest

from backends.accounts import Profile
from backends.accounts.sql import SqlAccounts
from schemas.errors import Malformed, Refused, Unavailable
from schemas.ids import random_id
from tests.backends.conftest import DATABASES
from tests.support.avatars import avatar_of, idle_since


@pytest.fixture
async def accounts(database):
    return SqlAccounts(database)


def profile(user_name=None, display_name="Anna", **more):
    return Profile(
        random_id(), user_name or f"u{secrets.token_hex(8)}", display_name, version=1, **more
    )


# ---- accounts ----


async def test_an_account_comes_back_as_it_was_registered(accounts):
    """By its name with its hash, and by its id."""
    anna = profile(
        display_name="Anna Ünal \U0001f600",
        phone="+49 1",
        email="a@example.org",
        settings={"theme": "dark", "n": [1, None]},
    )
    await accounts.register(anna, "hash")

    assert await accounts.credentials(anna.user_name) == (anna, "hash", 0)
    assert await accounts.profiles([anna.user]) == {anna.user: anna}
    assert await accounts.password_hash(anna.user) == "hash"


async def test_what_was_not_given_comes_back_as_none(accounts):
    """Phone, email and settings are optional."""
    ben = profile()
    await accounts.register(ben, "hash")

    assert (await accounts.profiles([ben.user]))[ben.user] == ben


async def test_unknown_users_have_nothing(accounts):
    """No account, no hash."""
    assert await accounts.credentials("unregistered") is None
    assert await accounts.password_hash(random_id()) is None
    assert await accounts.profiles([random_id()]) == {}
    assert await accounts.profiles([]) == {}


async def test_a_taken_name_is_refused_whatever_its_capitals(accounts):
    """The first one keeps it."""
    first = profile()
    await accounts.register(first, "hash")
    for name in (first.user_name, first.user_name.upper()):
        with pytest.raises(Refused) as error:
            await accounts.register(profile(name), "other")

        assert error.value.code == "name_taken"
    assert await accounts.credentials(first.user_name) == (first, "hash", 0)


async def test_a_taken_id_asks_for_another(accounts):
    """Two random ids may meet; the caller mints a new one."""
    first = profile()
    await accounts.register(first, "hash")
    with pytest.raises(Unavailable):
        await accounts.register(replace(profile(), user=first.user), "other")

    assert await accounts.profiles([first.user]) == {first.user: first}


async def test_of_many_registrations_of_one_name_at_once_one_succeeds(accounts):
    """The database decides, not a look before."""
    rivals = [profile("the-" + secrets.token_hex(8))]
    rivals += [replace(rivals[0], user=random_id()) for _ in range(9)]
    results = await asyncio.gather(
        *(accounts.register(rival, "hash") for rival in rivals), return_exceptions=True
    )

    assert [getattr(result, "code", None) for result in results].count("name_taken") == 9
    assert len(await accounts.profiles([rival.user for rival in rivals])) == 1


async def test_a_password_is_replaced_only_if_it_still_is_the_old_one(accounts):
    """Two changes at once: the second sees that it came too late."""
    anna = profile()
    await accounts.register(anna, "old")

    assert await accounts.set_password_hash(anna.user, "new", was="old")
    assert not await accounts.set_password_hash(anna.user, "newer", was="old")
    assert not await accounts.set_password_hash(random_id(), "new", was="old")
    assert await accounts.password_hash(anna.user) == "new"


async def test_profiles_are_those_that_exist(accounts):
    """Ids that fit into no column belong to no user."""
    anna, ben = profile(), profile()
    await accounts.register(anna, "hash")
    await accounts.register(ben, "hash")
    users = [anna.user, ben.user, random_id(), 0, 1 << 63, 1 << 64]

    assert (await accounts.profiles(users)).keys() == {anna.user, ben.user}
    assert await accounts.profiles([]) == {}


async def test_a_profile_changes_only_from_the_version_before(accounts):
    """Of two changes of one version the first wins."""
    anna = profile()
    await accounts.register(anna, "hash")
    changed = replace(
        anna, display_name="Anna the second", email="new@example.org", settings={"a": 1}, version=2
    )

    assert await accounts.change_profile(changed, now_ms=7)
    late = replace(anna, display_name="too late", version=2)
    assert not await accounts.change_profile(late, now_ms=7)
    assert await accounts.credentials(anna.user_name) == (changed, "hash", 0)


async def test_a_profile_refers_to_its_avatar(accounts, database):
    """To one of the user's own that is complete and made ready, until it has another."""
    anna = profile()
    await accounts.register(anna, "hash")
    first, second = [await avatar_of(database, anna.user) for _ in range(2)]
    shown = replace(anna, avatar=first, version=2)
    assert await accounts.change_profile(shown, now_ms=7)
    assert (await accounts.profiles([anna.user]))[anna.user] == shown
    assert await idle_since(database, first) == 0

    for wrong in (
        await avatar_of(database, anna.user + 1),
        await avatar_of(database, anna.user, purpose="message"),
        await avatar_of(database, anna.user, state="held"),
        "5",
    ):
        with pytest.raises(Refused, match="avatar file"):
            await accounts.change_profile(replace(shown, avatar=wrong, version=3), now_ms=8)
    broken = await avatar_of(database, anna.user, previews="none")
    with pytest.raises(Malformed):
        await accounts.change_profile(replace(shown, avatar=broken, version=3), now_ms=8)
    late = replace(anna, avatar=second, version=2)
    assert not await accounts.change_profile(late, now_ms=8)
    assert await idle_since(database, second) == 1

    assert await accounts.change_profile(replace(shown, avatar=second, version=3), now_ms=9)
    assert (await idle_since(database, first), await idle_since(database, second)) == (9, 0)
    assert await accounts.change_profile(replace(shown, avatar="", version=4), now_ms=10)
    assert await idle_since(database, second) == 10


async def test_a_change_to_a_taken_name_is_refused(accounts):
    """The unique name holds for changes too."""
    anna, ben = profile(), profile()
    await accounts.register(anna, "hash")
    await accounts.register(ben, "hash")
    taken = replace(anna, user_name=ben.user_name, version=2)
    with pytest.raises(Refused) as error:
        await accounts.change_profile(taken, now_ms=7)

    assert error.value.code == "name_taken"
    assert await accounts.profiles([anna.user]) == {anna.user: anna}


# ---- search ----


async def names(accounts, text, limit=50):
    return [found.user_name for found in await accounts.search(text, limit=limit)]


async def test_search_finds_substrings_of_both_names_in_any_case(accounts):
    """From 3 characters on."""
    mark = secrets.token_hex(6)
    await accounts.register(profile(f"{mark}.zoe", f"Zoë of {mark}"), "hash")
    await accounts.register(profile(f"b-{mark}", "Anna"), "hash")
    await accounts.register(profile(None, f"Anna {mark.upper()} Ünal"), "hash")
    last = (await accounts.search(f"{mark} ünal", limit=50))[-1].user_name

    assert sorted(await names(accounts, mark)) == sorted([f"{mark}.zoe", f"b-{mark}", last])
    assert await names(accounts, mark.upper()) == await names(accounts, mark)
    assert await names(accounts, f"OF {mark[:4]}") == [f"{mark}.zoe"]
    assert await names(accounts, f"{mark} ünal") == [last]
    assert await names(accounts, mark, limit=2) == (await names(accounts, mark))[:2]


async def test_who_is_named_so_comes_before_who_is_named_something_like_it(accounts):
    """Whole names, beginnings of names, words in them, parts of words; user names first."""
    mark = f"m{secrets.token_hex(6)}"
    ranked = [
        (mark, "Anna"),
        (f"b{mark}", mark.upper()),
        (f"{mark}.z", "Anna"),
        (f"c{mark}", f"{mark}ina Anna"),
        (f"d{mark}", f"Anna {mark}"),
        (f"e{mark}", f"Anna x{mark}"),
        (f"f{mark}", "Anna"),
    ]
    for name, display_name in reversed(ranked):
        await accounts.register(profile(name, display_name), "hash")

    assert await names(accounts, mark) == [name for name, _ in ranked]
    assert await names(accounts, mark.upper(), limit=1) == [mark]


async def test_names_are_found_however_they_are_written(accounts):
    """Case folded, as Unicode says, and composed."""
    mark = secrets.token_hex(6)
    await accounts.register(profile(f"a{mark}", f"Stra\u00dfe {mark}"), "hash")
    await accounts.register(
        profile(f"b{mark}", f"\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3 {mark}"), "hash"
    )

    assert await names(accounts, f"STRASSE {mark}") == [f"a{mark}"]
    assert await names(accounts, f"\u03bf\u03b4\u03c5\u03c3\u03c3\u03b5\u03c5\u03c2 {mark}") == [
        f"b{mark}"
    ]


@pytest.mark.parametrize(
    "special",
    [
        "%",
        "_",
        "\\",
        '"',
        "*",
        "^",
        "(",
        ")",
        ":",
        "' OR 1",
        " AND ",
        " NOT ",
        "-",
        "+",
        "{",
        "\U0001f600",
    ],
)
async def test_search_takes_every_character_as_itself(accounts, special):
    """Neither LIKE nor a full-text query may be spoken through it."""
    mark = secrets.token_hex(4)
    await accounts.register(profile(None, f"x{mark}{special}y"), "hash")
    await accounts.register(profile(None, f"x{mark}ay"), "hash")

    assert [
        found.display_name for found in await accounts.search(f"{mark}{special}y", limit=9)
    ] == [f"x{mark}{special}y"]


@pytest.mark.parametrize("text", ["\0\0\0", "ab\0cd", '"""', "%%%", "___", "   "])
async def test_a_search_that_nothing_matches_is_empty(accounts, text):
    """Strange texts are no errors."""
    await accounts.register(profile(), "hash")

    assert await accounts.search(text, limit=9) == []


async def test_search_follows_a_changed_name(accounts):
    """The old name is found no more."""
    old, new = secrets.token_hex(6), secrets.token_hex(6)
    anna = profile(None, f"Anna {old}")
    await accounts.register(anna, "hash")
    changed = replace(anna, display_name=f"Anna {new}", version=2)
    await accounts.change_profile(changed, now_ms=7)

    assert await accounts.search(old, limit=9) == []
    assert [found.user for found in await accounts.search(new, limit=9)] == [anna.user]


async def test_ping_answers(accounts):
    """A database that is there."""
    await accounts.ping()
    await accounts.close()


@pytest.mark.parametrize("name", DATABASES)
async def test_a_search_ends_in_time(open_database, name):
    """What would read for long is given up, says what to do, and leaves its
    connection as it was.
    """
    database = open_database(name, search_timeout_s=0.1)
    slow = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000000) "
        "SELECT count(*) FROM n"
    )
    with pytest.raises(Unavailable, match="give more of the name"):
        await database.search(lambda connection: connection.exec_driver_sql(slow).scalar())
    found = await database.search(
        lambda connection: connection.exec_driver_sql("SELECT 5").scalar()
    )
    await database.close()

    assert found == 5
