"""The one clock of a process: whatever happens to the wall clock, its time goes on, and stays near
the truth.
"""

import asyncio
import time

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backends.clock import BELOW_MS, CORRECTED_S, OFF_S, SETTLE_TIMEOUT_S, Clock, elapsed_s
from schemas.errors import Unavailable
from tests.support.clock import STARTED_S, Machine

STEPS = st.sampled_from([-3_600.0, -10.0, 10.0, 300.0, 3_600.0, 90_000.0, -90_000.0]) | st.floats(
    -1e6, 1e6
)


class Alone(RuleBasedStateMachine):
    """Without a database: never back, and forwards by a second a minute at most
    beside what passes.
    """

    @initialize(wrong_s=STEPS)
    def start(self, wrong_s):
        self.machine = Machine(wrong_s)
        self.clock = self.machine.clock(alone=True)
        self.last = self.began = self.machine.wall(), self.machine.passed_s
        self.floors_s = 0.0

    @rule(step_s=STEPS)
    def wall_clock_is_set(self, step_s):
        self.machine.wrong_s += step_s

    @rule(seconds=st.floats(0, 100_000))
    def time_passes(self, seconds):
        self.machine.passed_s += seconds

    @rule(ahead_s=st.floats(-100, 100))
    def newest_record_is_found(self, ahead_s):
        unix_ms = int((self.clock.now_s() + ahead_s) * 1_000)
        self.clock.not_below(unix_ms)
        self.floors_s += max(0.0, ahead_s)
        assert self.clock.now_ms() >= unix_ms - 1

    @invariant()
    def goes_on(self):
        now_s, passed_s = self.clock.now_s(), self.machine.passed_s
        last_s, last_passed_s = self.last
        assert now_s - last_s >= passed_s - last_passed_s - 1e-3
        began_s, began_passed_s = self.began
        passed_since_s = passed_s - began_passed_s
        assert now_s - began_s <= passed_since_s * (1 + CORRECTED_S / 60) + self.floors_s + 1e-3
        self.last = now_s, passed_s


class ByDatabase(RuleBasedStateMachine):
    """With a database: its time, whatever the wall clock says, exact to what the question took."""

    @initialize(wrong_s=STEPS, took_s=st.floats(0, 5), late_s=st.floats(0, 5))
    def start(self, wrong_s, took_s, late_s):
        self.machine = Machine(wrong_s)
        self.clock = self.machine.clock(alone=False)
        self.error_s = took_s / 2 + 1e-3
        self.newest_ms = 0
        self.clock.synchronise(self.machine.reading(took_s=took_s, late_s=late_s))

    @rule(step_s=STEPS)
    def wall_clock_is_set(self, step_s):
        self.machine.wrong_s += step_s

    @rule(seconds=st.floats(0, 100_000))
    def time_passes(self, seconds):
        self.machine.passed_s += seconds

    @rule(took_s=st.floats(0, 5), late_s=st.floats(0, 5))
    def database_is_read(self, took_s, late_s):
        self.clock.synchronise(
            self.machine.reading(took_s=took_s, late_s=late_s), newest_ms=self.newest_ms
        )

    @rule()
    def id_is_made(self):
        self.newest_ms = max(self.newest_ms, self.clock.now_ms())

    @invariant()
    def tells_the_database_s_time(self):
        assert abs(self.clock.now_s() - self.machine.true_s()) <= self.error_s

    @precondition(lambda self: self.newest_ms)
    @invariant()
    def ids_can_go_on(self):
        assert self.clock.now_ms() >= self.newest_ms - BELOW_MS - 1


TestAlone = Alone.TestCase
TestByDatabase = ByDatabase.TestCase


@pytest.mark.parametrize("step_s", [-90_000.0, -3_600.0, -10.0, 10.0, 300.0, 3_600.0, 90_000.0])
@pytest.mark.parametrize("alone", [True, False])
def test_a_step_of_the_wall_clock_moves_nothing(alone, step_s):
    """An hour after it too a clock without a database has followed by a minute at most."""
    machine = Machine()
    clock = machine.clock(alone=alone)
    clock.synchronise(machine.reading())
    machine.wrong_s = step_s
    assert clock.now_s() == pytest.approx(machine.true_s(), abs=0.2)
    machine.passed_s += 3_600
    ahead_s = clock.now_s() - machine.true_s()
    assert (0 <= ahead_s <= 60.2) if alone else ahead_s == pytest.approx(0, abs=0.2)


@pytest.mark.parametrize("alone", [True, False])
def test_a_suspend_is_counted(alone):
    machine = Machine()
    clock = machine.clock(alone=alone)
    clock.synchronise(machine.reading())
    machine.passed_s += 1_200
    assert clock.now_s() == pytest.approx(machine.true_s(), abs=0.01)


def test_a_database_that_falls_back_stops_no_ids():
    """It goes down to what the mint bears, and the next reading a little further, until it is
    there.
    """
    machine = Machine()
    clock = machine.clock(alone=False)
    clock.synchronise(machine.reading())
    newest_ms = clock.now_ms()
    for minute in range(1, 6):
        clock.synchronise(machine.reading(wrong_s=-4.0), newest_ms=newest_ms)
        assert clock.now_s() - machine.true_s() == pytest.approx(
            max(-4.0, -minute * BELOW_MS / 1_000), abs=0.01
        )
        newest_ms = clock.now_ms()
    clock.synchronise(machine.reading(wrong_s=-3_600.0), newest_ms=newest_ms - 3_600_000)
    assert clock.now_s() - machine.true_s() == pytest.approx(-3_600.0, abs=0.01), (
        "no id was made for an hour"
    )


async def test_it_says_why_it_cannot_be_trusted():
    machine = Machine()
    alone, led = machine.clock(alone=True), machine.clock(alone=False)
    await alone.ping()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(led.ping(), 0.01)
    led.synchronise(machine.reading())
    await led.ping()
    assert alone.remark == led.remark == ""
    machine.wrong_s = -3_600.0
    assert alone.remark == "clock: this machine's is 3600 s behind what has passed since the start"
    assert led.remark == "clock: this machine's is 3600 s behind the database's"
    machine.wrong_s = OFF_S - 1
    assert alone.remark == ""


async def test_it_follows_a_store_until_cancelled(monkeypatch):
    """One that is unavailable is asked again, and meanwhile time goes on."""
    machine = Machine(300.0)
    clock = machine.clock(alone=False)
    answers = iter([Unavailable("no answer"), machine.reading(), machine.reading(wrong_s=7.0)])
    asked = asyncio.Event()

    class Store:
        async def read_clock(self, clock):
            answer = next(answers, None)
            if isinstance(answer, Unavailable):
                raise answer
            if answer is None:
                asked.set()
                await asyncio.Event().wait()
            return answer

    async def sleep(seconds, *, while_settled=False):
        machine.passed_s += seconds

    monkeypatch.setattr(clock, "sleep", sleep)
    keeping = asyncio.create_task(clock.keep(Store()))
    await asked.wait()
    keeping.cancel()
    await asyncio.wait([keeping])

    assert clock.now_s() - machine.true_s() == pytest.approx(7.0, abs=0.01)
    await machine.clock(alone=True).keep(Store()), "has none to follow"


async def test_after_a_suspend_it_is_settled_when_a_store_has_set_it():
    """Until then it goes by what the machine says has passed: tokens of others would be early or
    late.
    """
    machine = Machine()
    clock = machine.clock(alone=False)
    clock.synchronise(machine.reading())
    await clock.settled()
    machine.suspend(1_200)
    assert not clock.is_settled
    settled = asyncio.create_task(clock.settled())
    await asyncio.wait_for(clock.sleep(1_000, while_settled=True), 1), "its keeper is woken"
    assert not settled.done()
    clock.synchronise(machine.reading(wrong_s=-1_200.0))
    await asyncio.wait_for(settled, 1)

    assert clock.now_s() == pytest.approx(machine.true_s() - 1_200, abs=0.01)
    machine.suspend(1_200)
    assert machine.clock(alone=True).is_settled


async def test_a_store_that_is_unavailable_holds_up_once_a_suspend():
    machine = Machine()
    clock = machine.clock(alone=False)
    machine.suspend(60)
    began_s = time.monotonic()
    await clock.settled()
    assert time.monotonic() - began_s > SETTLE_TIMEOUT_S - 0.1
    assert clock.is_settled


async def test_a_sleep_counts_what_a_suspended_machine_sleeps():
    """It does not wait for the rest when that has passed meanwhile."""
    passed = iter([0.0, 0.0, 59.999, 1_200.0])
    await Clock(alone=True, elapsed=lambda: next(passed)).sleep(60.0)
    assert not [*passed]


def test_the_real_ones_go_on():
    before_s = elapsed_s()
    assert Clock(alone=True).now_s() > STARTED_S - 1e9
    assert elapsed_s() >= before_s
