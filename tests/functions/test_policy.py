"""Which user may write to which: what is remembered of SQL's answers, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from backends.accounts import Profile
from backends.relations import Privacy, Relation, Side
from backends.settings import Settings
from backends.wiring import Backends
from functions.domain import policy
from functions.domain.policy import (
    COOLDOWN_S,
    FOLLOWED_TTL_S,
    FRESH_TTL_S,
    STALE_TTL_S,
    Policy,
    Verdict,
    is_told,
    members_of,
    verdict_of,
)
from functions.runtime.context import Context
from schemas.errors import Refused, Unavailable
from tests.functions.conftest import ALICE, BOB, CAROL, NOW_MS
from tests.support.clock import STARTED_S

MAY, PAIR, BACK = Verdict(), (ALICE, BOB), (BOB, ALICE)


class Clock:
    """Of a process, in seconds since the test began."""

    def __init__(self):
        self.passed_s = 0.0

    def elapsed_s(self):
        return STARTED_S + self.passed_s

    def now_ms(self):
        return NOW_MS + int(self.passed_s * 1_000)


class Asked:
    """Relations that count what they are asked, and answer or do not."""

    def __init__(self, relations):
        self.relations, self.answers, self.between_asked = relations, True, 0
        self.going_on = asyncio.Event()
        self.going_on.set()

    async def between(self, pairs):
        self.between_asked += 1
        if not self.answers:
            raise Unavailable("no answer")
        await self.going_on.wait()
        return await self.relations.between(pairs)

    async def changed(self, since_ms):
        if not self.answers:
            raise Unavailable("no answer")
        return await self.relations.changed(since_ms)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def asked(people, backends):
    return Asked(backends.relations)


@pytest.fixture
async def remembering(asked, clock):
    """A policy that looks for changes only when a test says so."""
    return never_looking(asked, clock)


def never_looking(asked, clock):
    made = Policy(asked, clock, follow_interval_s=1)
    made._follow = lambda: None
    return made


async def test_those_who_exist_may_write_to_each_other(remembering):
    """No user may write to one who does not exist."""
    assert await remembering.verdicts([PAIR, (ALICE, 4711)]) == {
        PAIR: MAY,
        (ALICE, 4711): Verdict("unknown_user"),
    }


async def test_a_refusal_is_never_remembered(remembering, backends, clock):
    """A new user may be written to at once, and who is unblocked writes on."""
    pair = (ALICE, 4711)
    await backends.relations.block(BOB, ALICE, now_ms=NOW_MS)
    before = await remembering.verdicts([pair, PAIR])
    await backends.accounts.register(Profile(4711, "late", "Late", 1), "-")
    await backends.relations.unblock(BOB, ALICE, now_ms=NOW_MS)

    assert before == {pair: Verdict("unknown_user"), PAIR: Verdict("forbidden", False)}
    assert await remembering.verdicts([pair, PAIR]) == {pair: MAY, PAIR: MAY}


async def test_people_who_talk_cost_a_query_a_minute(remembering, asked, clock):
    """As long as it is looked for changes, which is not done for each event."""
    for second in range(int(FRESH_TTL_S)):
        clock.passed_s = float(second)
        if second % 2:
            await remembering.look()
        assert await remembering.verdicts([PAIR]) == {PAIR: MAY}

        assert await remembering.verdicts([BACK]) == {BACK: MAY}

    assert asked.between_asked == 1
    clock.passed_s = FRESH_TTL_S
    await remembering.verdicts([PAIR, BACK])
    assert asked.between_asked == 2


async def test_one_direction_says_nothing_wrong_of_the_other(remembering, backends, asked):
    """Who may not be answered may write still, and the other way round."""
    await backends.relations.change_privacy(BOB, Privacy("contacts", version=1), now_ms=NOW_MS)

    assert await remembering.verdicts([BACK]) == {BACK: MAY}
    assert await remembering.verdicts([PAIR]) == {PAIR: Verdict("forbidden")}
    assert await remembering.verdicts([BACK]) == {BACK: MAY}
    assert asked.between_asked == 2


async def test_what_changes_is_seen_at_the_next_look(remembering, backends, clock, asked):
    """A block of one of the two; the others are still remembered."""
    await remembering.verdicts([PAIR, BACK, (ALICE, CAROL)])
    clock.passed_s = 1.0
    await backends.relations.block(BOB, ALICE, now_ms=clock.now_ms())
    await remembering.look()
    clock.passed_s = 2.0

    assert await remembering.verdicts([(ALICE, CAROL)]) == {(ALICE, CAROL): MAY}
    assert asked.between_asked == 1
    assert await remembering.verdicts([PAIR, BACK]) == {
        PAIR: Verdict("forbidden", False),
        BACK: Verdict("blocked", False),
    }


async def test_each_change_of_a_moment_is_seen(remembering, backends, clock):
    """Also the second one of a millisecond, or by a process whose clock is behind."""
    await backends.relations.block(BOB, CAROL, now_ms=NOW_MS)
    await remembering.look()
    clock.passed_s = 1.0
    await remembering.verdicts([PAIR])
    await backends.relations.block(BOB, ALICE, now_ms=NOW_MS - 5)
    clock.passed_s = 2.0
    await remembering.look()

    assert (await remembering.verdicts([PAIR]))[PAIR].refused == "forbidden"


async def test_a_change_that_is_committed_late_is_seen(remembering, backends, clock):
    """Its time lies before the last look."""
    await remembering.look()
    clock.passed_s = 3.0
    await remembering.verdicts([PAIR])
    await remembering.look()
    clock.passed_s = 4.0
    await backends.relations.block(BOB, ALICE, now_ms=NOW_MS + 1_000)
    await remembering.look()

    assert (await remembering.verdicts([PAIR]))[PAIR].refused == "forbidden"


async def test_an_answer_from_before_a_change_is_not_remembered(
    remembering, backends, clock, asked
):
    """It was asked before the block, and came after the look that saw it."""
    asked.going_on.clear()
    early = asyncio.create_task(remembering.verdicts([PAIR]))
    await asyncio.sleep(0)
    clock.passed_s = 0.5
    await backends.relations.block(BOB, CAROL, now_ms=clock.now_ms())
    await remembering.look()
    asked.going_on.set()
    await early
    clock.passed_s = 1.0
    await remembering.verdicts([PAIR])

    assert asked.between_asked == 2


async def test_without_looks_nothing_is_believed_for_long(remembering, backends, clock):
    """A process that was suspended, or whose looks fail, asks again."""
    await remembering.verdicts([PAIR])
    await backends.relations.block(BOB, ALICE, now_ms=NOW_MS)
    clock.passed_s = FOLLOWED_TTL_S - 0.1
    believed = await remembering.verdicts([PAIR])
    clock.passed_s = FOLLOWED_TTL_S

    assert believed == {PAIR: MAY}
    assert (await remembering.verdicts([PAIR]))[PAIR].refused == "forbidden"


async def test_those_who_talked_lately_go_on_while_sql_is_unavailable(remembering, clock, asked):
    """For 15 min; then it is unknown. Strangers wait."""
    await remembering.verdicts([PAIR])
    asked.answers = False
    told = {}
    for seconds in (0, FRESH_TTL_S, STALE_TTL_S - 1, STALE_TTL_S):
        clock.passed_s = seconds
        told[seconds] = (await remembering.verdicts([PAIR]))[PAIR]

    assert told == {0: MAY, FRESH_TTL_S: MAY, STALE_TTL_S - 1: MAY, STALE_TTL_S: None}
    assert await remembering.verdicts([(BOB, CAROL)]) == {(BOB, CAROL): None}


async def test_a_block_counts_while_sql_is_unavailable(remembering, backends, clock, asked):
    """What was seen last is not forgotten: then it is unknown who may write, and messages wait."""
    await remembering.verdicts([PAIR])
    clock.passed_s = 1.0
    await backends.relations.block(BOB, ALICE, now_ms=clock.now_ms())
    await remembering.look()
    asked.answers = False
    clock.passed_s = 2.0

    assert await remembering.verdicts([PAIR]) == {PAIR: None}


async def test_unavailable_sql_is_not_asked_for_a_while(remembering, clock, asked):
    """After a failure no event waits for the next one; after the cooldown SQL is asked again."""
    asked.answers = False
    unknown = await remembering.verdicts([PAIR])
    asked.answers = True
    still = await remembering.verdicts([PAIR])
    clock.passed_s = COOLDOWN_S
    again = await remembering.verdicts([PAIR])

    assert (unknown, still, again) == ({PAIR: None}, {PAIR: None}, {PAIR: MAY})


async def test_a_call_that_needs_no_sql_is_not_held_up_by_it(remembering, clock, asked):
    """It may hang: the call gets the cached answer, one question is asked behind it, and its answer
    is for later calls.
    """
    other = (ALICE, CAROL)
    await remembering.verdicts([PAIR])
    clock.passed_s = FRESH_TTL_S
    asked.answers = False
    await remembering.verdicts([PAIR])
    asked.answers, asked.between_asked = True, 0
    asked.going_on.clear()
    clock.passed_s += COOLDOWN_S
    told = [await remembering.verdicts([PAIR, other], wait=False) for _ in range(3)]
    times = asked.between_asked
    asked.going_on.set()
    async with asyncio.timeout(10):
        while (await remembering.verdicts([other], wait=False))[other] is None:
            await asyncio.sleep(0)

    assert told == [{PAIR: MAY, other: None}] * 3
    assert times <= 1


async def test_memory_is_bounded(people, asked, clock, monkeypatch):
    """The pair confirmed longest ago is forgotten first; so are all, when more users have changed
    than can be noted.
    """
    monkeypatch.setattr(policy, "MAX_ENTRIES", 4)
    remembering = never_looking(asked, clock)
    pairs = [PAIR, (ALICE, CAROL), (BOB, CAROL)]
    for pair in pairs:
        await remembering.verdicts([pair])
    asked.answers = False
    kept = await remembering.verdicts(pairs)
    asked.answers = True
    for user in (6, 7, 8, 9):
        await asked.relations.change_privacy(user, Privacy(version=1), now_ms=NOW_MS)
    await remembering.look()
    asked.answers = False

    assert kept == {PAIR: None, (ALICE, CAROL): MAY, (BOB, CAROL): MAY}
    assert await remembering.verdicts(pairs) == dict.fromkeys(pairs)


async def test_changes_are_looked_for_as_long_as_anything_is_remembered(people, asked, clock):
    """By itself, and no longer."""
    remembering = Policy(asked, clock, follow_interval_s=0)
    await remembering.verdicts([PAIR])
    await asked.relations.block(BOB, ALICE, now_ms=NOW_MS)
    async with asyncio.timeout(10):
        while not (await remembering.verdicts([PAIR]))[PAIR].refused:
            await asyncio.sleep(0)
        clock.passed_s = STALE_TTL_S
        await remembering._following


async def test_no_pairs_need_no_store(remembering, asked):
    """A note to oneself has no recipient to look up."""
    asked.answers = False

    assert await remembering.verdicts([]) == {}


def test_each_set_of_stores_has_its_own_memory(backends, tmp_path):
    """What one database said is not true of another."""
    one, other = Context(backends), Context(Backends(Settings(data=tmp_path / "other")))

    assert one.policy is one.policy
    assert one.policy is not other.policy


HERE, GONE, BLOCKS = Side(True), Side(exists=False), Side(True, blocks=True)
CLOSED, HIDDEN = Side(True, who_may_write="contacts"), Side(True, receipts=False)


@pytest.mark.parametrize(
    ("relation", "verdict"),
    [
        (Relation(HERE, HERE), Verdict()),
        (Relation(HERE, GONE), Verdict("unknown_user")),
        (Relation(BLOCKS, HERE), Verdict("blocked", False)),
        (Relation(HERE, BLOCKS), Verdict("forbidden", False)),
        (Relation(BLOCKS, BLOCKS), Verdict("blocked", False)),
        (Relation(HERE, CLOSED), Verdict("forbidden")),
        (Relation(HERE, CLOSED, contact=True), Verdict()),
        (Relation(CLOSED, HERE), Verdict()),
        (Relation(HERE, Side(True, blocks=True), contact=True), Verdict("forbidden", False)),
        (Relation(HIDDEN, HERE), Verdict(shares_receipts=False)),
        (Relation(HERE, HIDDEN), Verdict(shares_receipts=False)),
    ],
)
def test_a_relation_decides(relation, verdict):
    """A block stops both ways and tells nothing that privacy does not tell; hiding receipts is
    mutual.
    """
    assert verdict_of(relation) == verdict


def test_who_is_told():
    """A message passes or is refused; a mark is always taken, and told where both show receipts."""
    assert is_told(Verdict(), is_mine=False)
    assert is_told(Verdict(shares_receipts=False), is_mine=False)
    assert is_told(Verdict("forbidden"), is_mine=True)
    assert not is_told(Verdict("forbidden", shares_receipts=False), is_mine=True)
    for code, is_mine in (
        ("forbidden", False),
        ("blocked", False),
        ("unknown_user", False),
        ("unknown_user", True),
    ):
        with pytest.raises(Refused) as refusal:
            is_told(Verdict(code), is_mine=is_mine)
        assert refusal.value.code == code
    with pytest.raises(Unavailable):
        is_told(None, is_mine=True)


def test_only_its_people_know_a_chat():
    """A user outside it, and a question for a group, get unknown_chat."""
    assert members_of("d-1-2", 2) == (1, 2)
    for chat in ("d-1-2", "g-1"):
        with pytest.raises(Refused) as refusal:
            members_of(chat, 3)
        assert refusal.value.code == "unknown_chat"
