"""Who may write to whom: what is remembered of SQL's answers, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from backends.settings import Settings
from backends.wiring import Backends
from functions import policy
from functions.context import Context
from functions.policy import FRESH_S, PAUSE_S, STALE_S, Policy, check_known, members_of
from schemas.errors import Refused, Unavailable
from tests.clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def away(tmp_path):
    """Accounts whose database cannot be opened."""
    (tmp_path / "away" / "data.db").mkdir(parents=True)
    opened = Backends(Settings(data=tmp_path / "away"))
    yield opened.accounts
    await opened.close()


async def test_those_who_exist_are_known(people, backends, clock, doors):
    """A stranger is not, and neither is nobody."""
    known = await Policy(clock).known({doors.ALICE, doors.BOB, 4711}, backends.accounts)

    assert known == {doors.ALICE: True, doors.BOB: True, 4711: False}


async def test_a_no_is_never_remembered(people, backends, clock):
    """Who registers is known at once."""
    remembering = Policy(clock)
    before = await remembering.known({4711}, backends.accounts)
    from backends.accounts import Profile  # noqa: PLC0415 - one test needs it

    await backends.accounts.register(Profile(4711, "late", "Late", 1), "-")

    assert (before, await remembering.known({4711}, backends.accounts)) == ({4711: False}, {4711: True})


async def test_a_yes_is_believed_for_a_minute_and_kept_while_sql_is_away(people, backends, away, clock, doors):
    """Fresh answers ask nobody; stale ones serve for 15 min while SQL is away; then nobody can say."""
    remembering = Policy(clock)
    start = clock.now_s
    await remembering.known({doors.BOB}, backends.accounts)
    told = {}
    for seconds in (0, FRESH_S - 1, FRESH_S, STALE_S - 1, STALE_S):
        clock.now_s = start + seconds
        told[seconds] = (await remembering.known({doors.BOB}, away))[doors.BOB]

    assert told == {0: True, FRESH_S - 1: True, FRESH_S: True, STALE_S - 1: True, STALE_S: None}


async def test_sql_that_is_away_is_left_alone_for_a_while(people, backends, away, clock, doors):
    """After a failure nobody waits for the next one; after the pause SQL is asked again."""
    remembering = Policy(clock)
    nobody_can_say = await remembering.known({doors.BOB}, away)
    still = await remembering.known({doors.BOB}, backends.accounts)
    clock.now_s += PAUSE_S
    again = await remembering.known({doors.BOB}, backends.accounts)

    assert (nobody_can_say, still, again) == ({doors.BOB: None}, {doors.BOB: None}, {doors.BOB: True})


async def test_who_is_not_patient_does_not_wait_for_sql_that_was_away(people, backends, clock, doors):
    """It may hang: he is told what is remembered, one question is asked behind him, and its answer is for those who come after."""
    remembering, asked = Policy(clock), Hanging(backends.accounts)
    await remembering.known({doors.BOB}, backends.accounts)
    clock.now_s += FRESH_S
    await remembering.known({doors.BOB}, Hanging(None))
    clock.now_s += PAUSE_S
    told = [await remembering.known({doors.BOB, doors.CAROL}, asked, patient=False) for _ in range(3)]
    asked.going_on.set()
    async with asyncio.timeout(10):
        while (await remembering.known({doors.CAROL}, backends.accounts, patient=False))[doors.CAROL] is None:
            await asyncio.sleep(0)

    assert told == [{doors.BOB: True, doors.CAROL: None}] * 3
    assert asked.times == 1


class Hanging:
    """Accounts that answer later. None: that do not answer at all."""

    def __init__(self, accounts):
        self._accounts, self.going_on, self.times = accounts, asyncio.Event(), 0

    async def known(self, users):
        self.times += 1
        if self._accounts is None:
            raise Unavailable("away")
        await self.going_on.wait()
        return await self._accounts.known(users)


async def test_memory_is_bounded(people, backends, away, clock, doors, monkeypatch):
    """The user confirmed longest ago is forgotten first."""
    monkeypatch.setattr(policy, "REMEMBERED", 2)
    remembering = Policy(clock)
    for user in (doors.ALICE, doors.BOB, doors.CAROL):
        await remembering.known({user}, backends.accounts)

    assert await remembering.known({doors.ALICE, doors.BOB, doors.CAROL}, away) == {doors.ALICE: None, doors.BOB: True, doors.CAROL: True}


async def test_who_asks_nobody_needs_no_store(away, clock):
    """A note to oneself has no recipient to look up."""
    assert await Policy(clock).known(set(), away) == {}


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
    """A stranger, and whoever asks for a group, hears that there is none."""
    assert members_of("d-1-2", 2) == (1, 2)
    for chat in ("d-1-2", "g-1"):
        with pytest.raises(Refused) as refusal:
            members_of(chat, 3)
        assert refusal.value.code == "unknown_chat"
