"""`scripts/load --groups` in small, without its bounds for time, since tests share their machine;
and what those bounds find.
"""

from __future__ import annotations

import math
import re

import pytest

from measure import groups, load, report
from measure.groups import Size
from measure.members import Said
from measure.run import running

ONES = report.Latency(1, 2, 3, 999.0, 10)


def sizes(cpu_us):
    return [Size(members, cpu_us(members), ONES) for members in groups.SIZES]


def broken(*, cpu_us=lambda members: 1_000 + 20 * members, ones=ONES, direct_us=1_000.0, p99=11.0):
    """Which bounds do not hold."""
    bounds = groups.bounds_of(sizes(cpu_us), ones, direct_us, (10.0, p99))
    return [bounds.index(bound) for bound in bounds if not bound.holds]


def test_what_groups_should_not_do_is_found():
    """Late members, dear deliveries, a steep slope, slow direct chats, each by itself."""
    assert broken() == []
    assert broken(ones=groups.latency([20.0, 1_001.0])) == [0]
    assert broken(ones=groups.latency([20.0, None])) == [0]
    assert broken(direct_us=50.0) == [1]
    assert broken(cpu_us=lambda members: 200.0 * members) == [2]
    assert broken(p99=12.1) == [3]


def test_the_slope_is_that_of_the_logarithms():
    """Twice as much for twice as many is 1; the same for all is 0. What is not known is nan."""
    assert groups.slope_of(sizes(lambda members: 7.0 * members)) == pytest.approx(1.0)
    assert groups.slope_of(sizes(lambda _: 7.0)) == pytest.approx(0.0)
    assert groups.slope_of(sizes(lambda members: 9.0 * math.sqrt(members))) == pytest.approx(0.5)
    assert broken(cpu_us=lambda _: math.nan) == []


def test_who_has_got_what_is_counted():
    """Once each, however often it comes; a second id for a key is a mistake."""
    said = Said("g-1", 2, 2)
    ann, ben = bytearray(2), bytearray(2)
    said.due_ns = [1_000_000, 2_000_000]
    assert said.number_of(f"{said.run}-1") == 1
    assert said.number_of("other-1") is None
    said.note(0, "70", ann, 3_000_000)
    said.note(0, "70", ann, 4_000_000)
    said.note(0, "70", ben, 5_000_000)
    said.note(1, "71", ann, 6_000_000)
    said.note(1, "72", ben, 7_000_000)

    assert said.figures() == {
        "sent": 2, "missing": 0, "two_ids": 1, "ids": ["70", "71"], "to_all_ms": [4.0, 5.0],
        "again": 1,
    }  # fmt: skip


@pytest.mark.timed
@pytest.mark.slow
async def test_groups_under_load_from_end_to_end(capfd, monkeypatch):
    """On the embedded default; the large group is above the size up to which all get the body."""
    monkeypatch.setattr(groups, "MAX_TO_ALL_MS", 60_000.0)
    monkeypatch.setattr(groups, "MAX_P99_RATIO", 1_000.0)
    options = load.parse(
        [
            *("--groups", "--clients", "4", "--rate", "20", "--seconds", "3", "--warm-up", "1"),
            *("--sizes", "2,20", "--group-seconds", "2", "--large", "1010", "--connected", "10"),
        ]
    )
    async with running(options) as run:
        _, more = await groups.groups(run)

    shown = capfd.readouterr().out
    assert more["broken"] == [], shown
    told = re.search(r"the large group: 200 messages, told (\d+),", shown)
    assert told, shown
    assert 0 < int(told[1]) <= 9 * 200  # once until a member asks
