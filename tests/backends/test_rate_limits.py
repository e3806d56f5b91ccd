"""Buckets: what may be drawn, when there is enough again, and what a clock that goes back does not
do.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.rate_limits import Allowance, Bucket, Buckets


def test_a_full_bucket_gives_all_at_once_and_then_by_the_second():
    """3,000 units, then 100 a second; a wait is true: after it there is enough, and not before."""
    bucket = Bucket(Allowance(3_000, 100))

    assert [bucket.draw(1_000, 50.0) for _ in range(3)] == [0.0] * 3
    assert (wait_s := bucket.draw(20, 50.0)) == pytest.approx(0.2)
    assert bucket.draw(20, 50.0 + 0.9 * wait_s) > 0
    assert bucket.draw(20, 50.0 + wait_s) == 0.0
    assert bucket.draw(1, 50.0 + wait_s) == pytest.approx(0.01)


@given(st.lists(st.tuples(st.floats(0.01, 30), st.floats(0, 3)), max_size=60))
def test_no_caller_spends_more_than_is_allowed(tries):
    """In any stretch of time: what was there at once, and what came meanwhile."""
    bucket, now_s, spent = Bucket(Allowance(50, 10)), 1_000.0, 0.0
    for cost, later_s in tries:
        now_s += later_s
        if bucket.draw(cost, now_s) == 0.0:
            spent += cost
        assert spent <= 50 + 10 * (now_s - 1_000.0) + 0.01


def test_a_clock_that_goes_back_costs_one_filling_at_most():
    """A bucket is never emptier than empty."""
    bucket = Bucket(Allowance(10, 1))
    bucket.draw(10, 1_000_000.0)

    assert bucket.draw(1, 0.0) == pytest.approx(1)


def test_what_was_used_longest_ago_is_forgotten():
    """The number of buckets is bounded."""
    buckets, one = Buckets(2), Allowance(1, 0.1)
    for name in ("a", "b", "a", "c"):
        buckets.draw([(name, one)], 1, 0.0)

    assert buckets.draw([("a", one)], 1, 0.0).wait_s > 0
    assert buckets.draw([("b", one)], 1, 0.0).wait_s == 0.0
