"""A stalled event loop, seen by the clock."""

from gateway.partitions.stall_detector import STALL_TIMEOUT_S, StallDetector
from tests.support.clock import Clock


def test_standing_still_is_noticed_once():
    """At the first beat after it, however long the time from the making to the first."""
    time, ends = Clock(), []
    detector = StallDetector(lambda: ends.append(time.now_s), clock=time)
    time.now_s += 100
    detector.beat()
    time.now_s += STALL_TIMEOUT_S - 0.01
    detector.beat()
    assert ends == []

    time.now_s += STALL_TIMEOUT_S
    detector.beat()
    detector.beat()

    assert ends == [time.now_s]
