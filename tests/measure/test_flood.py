"""What one account can take from all others: a short `scripts/bench flood` with a loose bound,
since tests share their machine.
"""

from __future__ import annotations

import json
from argparse import Namespace

import pytest

from functions.runtime import openapi
from measure import flood
from measure.other_user import User, Waits
from schemas.kinds import CLIENT_FRAMES

LOOSE = Namespace(most=10, noise=1_000, seconds=3)
UNREGISTERED = User("unregistered", "1", "", "", "")


def test_every_call_and_frame_can_be_flooded_with():
    """A new one cannot be without its row."""
    names = set(flood.tasks(UNREGISTERED))

    assert {call.name for call in openapi.described_endpoints()} <= names
    assert CLIENT_FRAMES.keys() - {"hello"} <= names


def test_what_a_flood_should_not_do_is_found():
    """Slower others, a time that is not true, and no limit at all."""
    strict = Namespace(most=1.3, noise=1, seconds=20)
    calm, slow = (
        Waits([10.0] * 100, [5.0] * 100, [50.0]),
        Waits([20.0] * 100, [5.5] * 100, [50.0]),
    )
    told = {"told": {"ok": 9_000}, "limited": 0, "true": False}

    def rounds(told, *waits):
        return [flood.Round(calm, each, told) for each in waits]

    assert flood.problems("send", rounds(told, slow), strict) == [
        "ack p99 10.0 -> 20.0 ms",
        "the time it was told was not true",
        "9000 times, and never rate_limited",
    ]
    good = {**told, "limited": 1, "true": True}
    assert flood.problems("send", rounds(good, calm), strict) == []
    assert flood.problems("send", rounds(good, slow, calm, calm), strict) == []
    assert flood.problems("send", rounds(good, slow, calm, slow), strict) == [
        "ack p99 10.0 -> 20.0 ms"
    ]


@pytest.mark.timed
@pytest.mark.slow
async def test_one_account_does_not_make_others_wait(tmp_path):
    """Pages, searches and hashes, with small budgets: the flooder is told the true time, others are
    served.
    """
    product = flood.Flood(
        tmp_path,
        {"KNCHAT_USER_UNITS": "100", "KNCHAT_DEVICE_UNITS": "60", "KNCHAT_USER_UNITS_PER_S": "50"},
    )
    await product.start()
    try:
        calm = await product.other.measure(2)
        for name in ("history", "GET /v1/users", "PUT /v1/me/password"):
            told, waits = await product.flood(name, LOOSE.seconds)

            assert flood.problems(name, [flood.Round(calm, waits, told)], LOOSE) == [], name
            assert told["limited"], (name, json.dumps(told))
    finally:
        await product.stop()
