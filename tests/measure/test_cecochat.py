"""CecoChat's scenario counts reactions that are lost on the way, and finds none where all are."""

import pytest

from measure.cecochat import Client, misshown, untold
from measure.record import Record
from measure.swarm import Frame
from measure.target import User

CHAT = "d-1-2"
LIKE = ("7", "👍", "1")


@pytest.fixture
def pair():
    """Two clients of one chat: the first one's like was told to both."""
    first, second = (
        Client(User(number, user, "", "", "ws://127.0.0.1:1"), peer, "r", Record(1), "x")
        for number, user, peer in ((0, "1", "2"), (1, "2", "1"))
    )
    first.changes.append("9")
    first.stays.add(LIKE)
    for client in (first, second):
        client._take(Frame("changed", n=1, version="9", message="7"), 0)
    return first, second


def test_reactions_that_are_told_and_shown_are_well(pair):
    """Nothing is counted."""
    assert (untold(pair), misshown(pair, {CHAT: {LIKE}})) == (0, 0)


def test_a_reaction_that_a_client_was_not_told_of_is_counted(pair):
    """For each client that misses it."""
    pair[0].changes.append("10")
    assert untold(pair) == 2
    pair[1]._take(Frame("changed", n=2, version="10", message="7"), 0)

    assert untold(pair) == 1


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        ({CHAT: set()}, 1),
        ({}, 1),
        ({CHAT: {LIKE, ("6", "👍", "1")}}, 1),
        ({CHAT: {("7", "😂", "1")}}, 2),
        ({CHAT: {LIKE}, "d-3-4": {("8", "👍", "3")}}, 1),
    ],
)
def test_reactions_that_are_missing_or_too_many_are_counted(pair, shown, wrong):
    """Of each chat, whether its clients know of it or not."""
    assert misshown(pair, shown) == wrong


def test_answers_to_reactions_are_no_messages(pair):
    """Their numbers lie above those of all messages."""
    pair[0]._take(Frame("ok", re=2, message="7", version="9"), 0)

    assert list(pair[0]._record.acked) == [0]
