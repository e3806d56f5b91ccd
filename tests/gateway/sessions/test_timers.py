"""The timer wheel."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.sessions.timers import TICK_S, TimerWheel


class Entry:
    def __init__(self):
        self.timer_tick = -1


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5)), max_size=30))
def test_a_visit_is_neither_early_nor_late(steps):
    """Whatever the order: at its time or at most a tick after, and an earlier visit replaces a
    later one.
    """
    timers, now_s = TimerWheel(0.0), 0.0
    planned = {}
    for after_s, step_s in steps:
        entry = Entry()
        timers.schedule(entry, now_s + after_s)
        planned[entry] = now_s + after_s
        now_s += step_s
        for due in timers.pop_due(now_s):
            at_s = planned.pop(due)
            assert at_s <= now_s
        assert all(at_s > now_s - 2 * TICK_S for at_s in planned.values())

    while planned:
        now_s += TICK_S
        for due in timers.pop_due(now_s):
            del planned[due]
        assert now_s < 10_000


def test_an_earlier_visit_replaces_a_later_one():
    """One visit, at the earlier time; after it another can be planned."""
    timers, entry = TimerWheel(0.0), Entry()
    timers.schedule(entry, 10.0)
    timers.schedule(entry, 5.0)
    timers.schedule(entry, 7.0)

    assert timers.pop_due(5.25) == [entry]
    assert timers.pop_due(20.0) == []
    timers.schedule(entry, 1.0)
    assert timers.pop_due(20.25) == [entry]
