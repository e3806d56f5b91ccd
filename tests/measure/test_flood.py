"""What one account can take from all others: a short `scripts/bench flood` with a loose bound,
since tests share their machine.
"""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from functions.runtime import openapi
from measure import flood, flood_tasks
from measure.other_user import User, Waits
from schemas.codec import CODECS, JSON
from schemas.kinds import CLIENT_FRAMES

LOOSE = Namespace(most=10, noise=1_000, seconds=3)
UNREGISTERED = User("unregistered", "1", "", "", "")


def test_every_call_and_frame_can_be_flooded_with():
    """A new one cannot be without its row."""
    names = set(flood.tasks(UNREGISTERED))

    assert {call.name for call in openapi.described_endpoints()} <= names
    assert CLIENT_FRAMES.keys() - {"hello"} <= names


FLOODER = User("flooder", "1234", "a-token", "refresh.1.token", "ws://127.0.0.1:1/v1/socket")


@pytest.mark.parametrize(
    "call", openapi.described_endpoints(), ids=[each.name for each in openapi.described_endpoints()]
)
def test_a_flood_asks_for_what_the_call_takes(call):
    """What is refused as malformed would flood with nothing: bodies, queries and paths are read."""
    task = flood.tasks(FLOODER)[call.name]

    assert "{" not in task["path"]
    if call.body is not None:
        call.body.read(json.dumps(task["body"]).encode())
    if call.query is not None:
        call.query.read(dict(parse_qsl(urlsplit(task["path"]).query)))


@pytest.mark.parametrize("tag", sorted(CLIENT_FRAMES.keys() - {"hello"}))
def test_a_flood_says_frames_that_are_understood(tag):
    """And those with a limit ask for the most."""
    frame = flood.tasks(FLOODER)[tag]["frame"]

    said = CODECS[JSON].incoming(json.dumps({**frame, "id": 1}).encode())
    assert type(said) is CLIENT_FRAMES[tag]
    assert getattr(said, "limit", 256) == 256


def test_what_is_new_is_flooded_with_by_itself():
    """Fields that no one has given a value for."""

    class Toy(msgspec.Struct):
        size: Annotated[int, msgspec.Meta(le=100)]
        purpose: Literal["one", "two"]
        words: Annotated[str, msgspec.Meta(min_length=7)]
        deep: dict[str, int]
        flag: bool
        optional: str = ""

    _, components = msgspec.json.schema_components([Toy])
    made = flood_tasks.example_of(components["Toy"], components, {"flag": False})

    assert made == {"size": 100, "purpose": "one", "words": "floodxx", "deep": {}, "flag": False}
    assert msgspec.convert(made, Toy)


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
