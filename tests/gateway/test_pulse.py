"""A process that stood still, seen by the clock."""

from gateway.pulse import STILL_S, Pulse
from tests.clock import Clock


def test_standing_still_is_noticed_once():
    """At the first beat after it, however long the time from the making to the first."""
    time, ends = Clock(), []
    pulse = Pulse(lambda: ends.append(time.now_s), clock=time)
    time.now_s += 100
    pulse.beat()
    time.now_s += STILL_S - 0.01
    pulse.beat()
    assert ends == []

    time.now_s += STILL_S
    pulse.beat()
    pulse.beat()

    assert ends == [time.now_s]
