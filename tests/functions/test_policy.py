"""Which user may write to which: what is remembered of SQL's answers, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from backends.settings import Settings
from backends.wiring import Backends
from functions.domain import policy
from functions.domain.policy import (
    COOLDOWN_S,
    FRESH_TTL_S,
    STALE_TTL_S,
    Policy,
    check_known,
    members_of,
)
from functions.runtime.context import Context
from schemas.errors import Refused, Unavailable
from tests.support.clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def unavailable(tmp_path):
    """Accounts whose database cannot be opened."""
    (tmp_path / "unavailable" / "data.db").mkdir(parents=True)
    opened = Backends(Settings(data=tmp_path / "unavailable"))
    yield opened.accounts
    await opened.close()


async def test_existing_users_are_known(people, backends, clock, event_targets):
    """Others are not."""
    known = await Policy(clock).known(
        {event_targets.ALICE, event_targets.BOB, 4711}, backends.accounts
    )

    assert known == {event_targets.ALICE: True, event_targets.BOB: True, 4711: False}


async def test_a_no_is_never_remembered(people, backends, clock):
    """A new user is known at once."""
    remembering = Policy(clock)
    before = await remembering.known({4711}, backends.accounts)
    from backends.accounts import Profile  # noqa: PLC0415 - one test needs it

    await backends.accounts.register(Profile(4711, "late", "Late", 1), "-")

    assert (before, await remembering.known({4711}, backends.accounts)) == (
        {4711: False},
        {4711: True},
    )


async def test_a_yes_is_cached_for_a_minute_and_kept_while_sql_is_unavailable(
    people, backends, unavailable, clock, event_targets
):
    """Fresh answers ask no store; stale ones serve for 15 min while SQL is unavailable; then it is
    unknown.
    """
    remembering = Policy(clock)
    start = clock.now_s
    await remembering.known({event_targets.BOB}, backends.accounts)
    told = {}
    for seconds in (0, FRESH_TTL_S - 1, FRESH_TTL_S, STALE_TTL_S - 1, STALE_TTL_S):
        clock.now_s = start + seconds
        told[seconds] = (await remembering.known({event_targets.BOB}, unavailable))[
            event_targets.BOB
        ]

    assert told == {
        0: True,
        FRESH_TTL_S - 1: True,
        FRESH_TTL_S: True,
        STALE_TTL_S - 1: True,
        STALE_TTL_S: None,
    }


async def test_unavailable_sql_is_not_asked_for_a_while(
    people, backends, unavailable, clock, event_targets
):
    """After a failure no event waits for the next one; after the cooldown SQL is asked again."""
    remembering = Policy(clock)
    unknown = await remembering.known({event_targets.BOB}, unavailable)
    still = await remembering.known({event_targets.BOB}, backends.accounts)
    clock.now_s += COOLDOWN_S
    again = await remembering.known({event_targets.BOB}, backends.accounts)

    assert (unknown, still, again) == (
        {event_targets.BOB: None},
        {event_targets.BOB: None},
        {event_targets.BOB: True},
    )


async def test_a_call_that_needs_no_sql_is_not_held_up_by_it(
    people, backends, clock, event_targets
):
    """It may hang: the call gets the cached answer, one question is asked behind it, and its answer
    is for later calls.
    """
    remembering, asked = Policy(clock), Hanging(backends.accounts)
    await remembering.known({event_targets.BOB}, backends.accounts)
    clock.now_s += FRESH_TTL_S
    await remembering.known({event_targets.BOB}, Hanging(None))
    clock.now_s += COOLDOWN_S
    told = [
        await remembering.known({event_targets.BOB, event_targets.CAROL}, asked, wait=False)
        for _ in range(3)
    ]
    asked.going_on.set()
    async with asyncio.timeout(10):
        while (await remembering.known({event_targets.CAROL}, backends.accounts, wait=False))[
            event_targets.CAROL
        ] is None:
            await asyncio.sleep(0)

    assert told == [{event_targets.BOB: True, event_targets.CAROL: None}] * 3
    assert asked.times == 1


class Hanging:
    """Accounts that answer later. None: that do not answer at all."""

    def __init__(self, accounts):
        self._accounts, self.going_on, self.times = accounts, asyncio.Event(), 0

    async def known(self, users):
        self.times += 1
        if self._accounts is None:
            raise Unavailable("no answer")
        await self.going_on.wait()
        return await self._accounts.known(users)


async def test_memory_is_bounded(people, backends, unavailable, clock, event_targets, monkeypatch):
    """The user confirmed longest ago is forgotten first."""
    monkeypatch.setattr(policy, "MAX_ENTRIES", 2)
    remembering = Policy(clock)
    for user in (event_targets.ALICE, event_targets.BOB, event_targets.CAROL):
        await remembering.known({user}, backends.accounts)

    assert await remembering.known(
        {event_targets.ALICE, event_targets.BOB, event_targets.CAROL}, unavailable
    ) == {
        event_targets.ALICE: None,
        event_targets.BOB: True,
        event_targets.CAROL: True,
    }


async def test_a_check_of_no_users_needs_no_store(unavailable, clock):
    """A note to oneself has no recipient to look up."""
    assert await Policy(clock).known(set(), unavailable) == {}


def test_each_set_of_stores_has_its_own_memory(backends, tmp_path):
    """What one database said is not true of another."""
    one, other = Context(backends), Context(Backends(Settings(data=tmp_path / "other")))

    assert one.policy is one.policy
    assert one.policy is not other.policy


def test_what_is_known_decides():
    """Yes passes, no is refused, silence is tried again."""
    check_known([1], {1: True})
    with pytest.raises(Refused, match="no such user"):
        check_known([1, 2], {1: True, 2: False})
    with pytest.raises(Unavailable):
        check_known([1, 2], {1: True, 2: None})


def test_only_its_people_know_a_chat():
    """A user outside it, and a question for a group, get unknown_chat."""
    assert members_of("d-1-2", 2) == (1, 2)
    for chat in ("d-1-2", "g-1"):
        with pytest.raises(Refused) as refusal:
            members_of(chat, 3)
        assert refusal.value.code == "unknown_chat"
