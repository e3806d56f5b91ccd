"""How many log-ins there may be: of one name, of one address, and at once; and what goes on while a
store is unavailable.
"""

from __future__ import annotations

import asyncio

import pytest

from backends.settings import Settings
from functions.domain import passwords
from functions.runtime.context import current_context
from schemas.errors import Unavailable
from tests.functions.callers import PASSWORD, Caller, problem

NOW_S = 1_800_000_000.0
"""Of the cache's clock: its windows begin with it."""


@pytest.fixture
def settings(tmp_path):
    """Small limits."""
    return Settings(data=tmp_path, failed_logins_per_minute=3, logins_per_minute=40)


async def guess(caller, name="ann", device="guess", password="wrong password"):
    return await caller.call(
        "POST", "/v1/sessions", {"user_name": name, "password": password, "device": device}
    )


async def test_guesses_from_one_network_are_slowed_down(ann, backends):
    """After three wrong ones within a minute there is one try in 5 s under this name from there;
    other names go on.
    """
    thief, other = (
        Caller(backends, address="192.0.2.66"),
        await Caller(backends, address="192.0.2.66").register(),
    )
    backends.reads.clock = lambda: NOW_S

    wrong = [await guess(thief) for _ in range(5)]
    backends.reads.clock = lambda: NOW_S + 5
    later = [await guess(thief) for _ in range(2)]

    assert [answer.status_code for answer in wrong] == [401, 401, 401, 429, 429]
    assert problem(wrong[-1])[:2] == (429, "rate_limited")
    assert wrong[-1].headers["retry-after"] == "5"
    assert [answer.status_code for answer in later] == [401, 429]
    assert (await other.log_in()).login
    backends.reads.clock = lambda: NOW_S + 66
    assert (await guess(thief, password=PASSWORD)).status_code == 201


async def test_no_user_can_lock_another_out(ann, backends):
    """Whatever is guessed elsewhere, the owner logs in from the usual network, changes the
    password, and refreshes.
    """
    backends.reads.clock = lambda: NOW_S
    for number in range(12):
        for _ in range(3):
            await guess(Caller(backends, address=f"198.51.100.{number}"))

    assert (await ann.renew()).status_code == 201
    tablet = await ann.on("tablet")
    assert (
        await tablet.call(
            "PUT", "/v1/me/password", {"password": PASSWORD, "new_password": PASSWORD + "!"}
        )
    ).status_code == 200


async def test_guesses_from_many_networks_are_slowed_down_together(ann, backends):
    """Five times as many wrong ones from all networks within an hour: each has one try in 30 s; the
    first one from a network gets in.
    """
    backends.reads.clock = lambda: NOW_S
    for number in range(15):
        assert (await guess(Caller(backends, address=f"198.51.100.{number}"))).status_code == 401
    late = Caller(backends, address="203.0.113.1")

    tried = [await guess(late) for _ in range(2)]

    assert [answer.status_code for answer in tried] == [401, 429]
    assert tried[-1].headers["retry-after"] == "30"
    assert (
        await guess(Caller(backends, address="203.0.113.2"), password=PASSWORD)
    ).status_code == 201


async def test_a_known_device_passes_beside_guesses_from_its_network(ann, backends):
    """It is counted on its own, and slowed down on its own."""
    backends.reads.clock = lambda: NOW_S
    for _ in range(4):
        await guess(ann)

    assert (await guess(ann)).status_code == 429
    known = [await guess(ann, device="phone") for _ in range(4)]
    assert [answer.status_code for answer in known] == [401, 401, 401, 429]
    backends.reads.clock = lambda: NOW_S + 5
    assert (await guess(ann, device="phone", password=PASSWORD)).status_code == 201


async def test_guesses_at_a_change_of_the_password_are_counted_on_their_own(ann, backends):
    """A stolen device cannot try without end, and log-ins are none of its business."""
    backends.reads.clock = lambda: NOW_S
    body = {"password": "wrong password", "new_password": "another good one"}

    tried = [(await ann.call("PUT", "/v1/me/password", body)).status_code for _ in range(5)]

    assert tried == [403, 403, 403, 429, 429]
    assert (await ann.log_in()).login


async def test_guesses_at_once_are_limited_too(ann):
    """Those that wait for their turn are counted before they are hashed."""
    body = {"user_name": "ann", "password": "wrong password", "device": "guess"}

    answers = await asyncio.gather(*(ann.call("POST", "/v1/sessions", body) for _ in range(20)))

    assert sum(answer.status_code == 401 for answer in answers) <= 3 + passwords.MAX_CONCURRENT
    assert {answer.status_code for answer in answers} == {401, 429}


async def test_unregistered_names_are_limited_alike(ann):
    """Else the limit would tell who has an account."""
    body = {"user_name": "unregistered", "password": "wrong password", "device": "guess"}

    ann.backends.reads.clock = lambda: NOW_S
    answers = [await ann.call("POST", "/v1/sessions", body) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]


async def test_one_address_is_limited(ann, backends):
    """Log-ins and registrations together; an IPv6 customer's addresses are one; other addresses go
    on.
    """
    body = {"user_name": "unregistered", "password": "wrong password", "device": "guess"}
    noisy = [Caller(backends, address=f"2001:db8:1:2::{n:x}") for n in range(42)]
    quiet = Caller(backends, address="2001:db8:1:3::1")
    backends.reads.clock = lambda: 1_800_000_000.0

    tried = [
        await caller.call(
            "POST", "/v1/users" if n % 2 else "/v1/sessions", {**body, "user_name": f"name{n}"}
        )
        for n, caller in enumerate(noisy)
    ]

    assert [answer.status_code for answer in tried] == [401, 201] * 20 + [429, 429]
    assert problem(tried[-1])[:2] == (429, "rate_limited")
    assert tried[-1].headers["retry-after"] == "2"  # 40 a minute are one in 1.5 s
    assert (await quiet.register()).user


async def test_with_the_cache_unavailable_log_ins_go_on(ann, backends):
    """Guesses are counted by this process meanwhile, no other log-in is stopped, and SQL says which
    devices stand.
    """

    def no_clock() -> float:
        raise Unavailable("the cache does not answer")

    await backends.cache.put("slow:ann", b"30", ttl_s=60)
    backends.reads.clock = no_clock

    assert (await ann.log_in()).login
    assert (
        problem(
            await ann.call(
                "POST", "/v1/sessions", {"user_name": "ann", "password": "wrong one", "device": "x"}
            )
        )[0]
        == 401
    )
    guesses = [
        await ann.call(
            "POST", "/v1/sessions", {"user_name": "ann", "password": "wrong one", "device": "x"}
        )
        for _ in range(4)
    ]
    # Three with the one before.
    assert [answer.status_code for answer in guesses] == [
        401,
        401,
        429,
        429,
    ]
    assert 15 <= int(guesses[3].headers["retry-after"]) <= 20  # three a minute
    assert (await ann.get("/v1/me")).status_code == 200
    del backends.reads.clock


async def test_more_than_can_wait_are_unavailable(ann, backends):
    """A flood of log-ins costs bounded memory and answers at once."""
    current_context().passwords._turns._most = 3
    body = {"user_name": "ann", "password": PASSWORD, "device": "phone"}

    # Of one address few come so far at once.
    callers = [Caller(backends, address=f"192.0.2.{n}") for n in range(10)]
    answers = await asyncio.gather(
        *(caller.call("POST", "/v1/sessions", body) for caller in callers)
    )

    assert sorted({answer.status_code for answer in answers}) == [201, 503]
    # The first may be done before the last has come.
    assert 4 <= sum(answer.status_code == 201 for answer in answers) < 10
    assert {answer.headers["retry-after"] for answer in answers if answer.status_code == 503} == {
        "1"
    }


async def test_without_the_database_calls_are_unavailable(ann, backends):
    """Nothing is answered that is not known."""
    await backends._database.close()

    answers = [
        await ann.call(
            "POST", "/v1/sessions", {"user_name": "ann", "password": PASSWORD, "device": "phone"}
        ),
        await ann.renew(),
        await ann.get("/v1/devices"),
    ]

    assert {problem(answer)[:2] for answer in answers} == {(503, "unavailable")}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
