"""The mass reconnect of `scripts/bench presence` in small, with a loose bound for time, since tests
share their machine; the bounds of what is told are exact.
"""

from argparse import Namespace
from collections import Counter

import pytest

from measure import presence
from measure.presence import Phase

SMALL = Namespace(
    sessions=200, watch=20, within=1, calm=2, most=20, noise=1_000, real=False, gateways=1
)
STRICT = Namespace(most=2, noise=1)


def test_what_a_storm_should_not_do_is_found():
    """Slower deliveries, messages of presence too close to each other, errors."""
    calm = Phase("calm", [10.0] * 100)
    counted = Counter(messages=5, presences=9, bytes=7)

    def found(**told):
        return presence.problems(
            [Phase("storm", [19.0] * 100, counted + Counter(**told))], calm, STRICT
        )

    assert found() == []
    assert found(too_soon=1) == ["storm: {'too_soon': 1}"]
    assert found(errors=2, closed=1) == ["storm: {'errors': 2, 'closed': 1}"]
    assert presence.problems([Phase("storm", [21.0] * 100, counted)], calm, STRICT) == [
        "storm: deliveries p99 10.0 -> 21.0 ms"
    ]


@pytest.mark.timed
@pytest.mark.slow
async def test_a_mass_reconnect_is_one_message_a_session(capfd):
    """Users who are back within ten seconds were never away: what is told is the answer to `watch`,
    once.
    """
    assert await presence.measure(SMALL) == 0, capfd.readouterr().out

    rows = {
        line[:30].strip(): line[30:].split()
        for line in capfd.readouterr().out.splitlines()
        if line[:30].strip() and not line.startswith("phase")
    }
    assert int(rows["reconnect, watching none"][2]) == 0
    assert int(rows["calm, watching 20"][2]) == 0
    for storm in ("reconnect, and watch 20", "reconnect, watching 20"):
        messages, presences = map(int, rows[storm][2:4])
        assert presences >= SMALL.sessions * SMALL.watch
        assert messages <= 3 * SMALL.sessions
