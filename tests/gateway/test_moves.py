"""Sessions on their way to other gateways, without I/O."""

import pytest

from gateway.moves import IN_ONE_TICK, OWED_S, Moves
from schemas import frames
from tests.gateway.wire import NOW_S, connect, hub

URL = "ws://new.example/v1/socket"


@pytest.fixture
def at():
    return hub(partitions=(0, 1))


@pytest.fixture
def moves(at):
    return Moves(at.do)


def person(at, user, *, partition=0):
    session, wire = connect(at, user, partition=partition)
    wire.take()
    return session, wire


def test_a_session_is_told_where_to_go_and_closed(at, moves):
    """`moved` with the whole URL, then 4001."""
    session, wire = person(at, 11)
    moves.begin([session], URL)
    assert wire.frames == []

    moves.tick(NOW_S)

    assert wire.frames == [frames.Moved(url=URL)]
    assert wire.closed == (4001, "moved")
    assert at.by_partition() == {}


def test_its_oks_come_before_the_end(at, moves):
    """It stays until the last of them has been told, or the time is over."""
    (patient, first), (hopeless, second) = person(at, 11), person(at, 22)
    patient.owed = hopeless.owed = 1
    moves.begin([patient, hopeless], URL)
    moves.tick(NOW_S)
    assert (first.closed, second.closed) == (None, None)

    patient.owed = 0
    moves.tick(NOW_S + OWED_S / 2)
    assert (first.closed, second.closed) == ((4001, "moved"), None)
    moves.tick(NOW_S + OWED_S)
    assert second.closed == (4001, "moved")


def test_a_crowd_goes_bit_by_bit(at, moves):
    """The others stay meanwhile, and who has gone by itself is passed over."""
    people = [person(at, user) for user in range(1, IN_ONE_TICK + 3)]
    moves.begin([session for session, _ in people], URL)
    moves.tick(NOW_S)
    assert [wire.closed for _, wire in people].count(None) == 2

    at.left(people[-1][0])
    moves.tick(NOW_S)

    assert [wire.closed for _, wire in people[-2:]] == [(4001, "moved"), None]


def test_who_was_not_told_yet_may_stay_after_all(at, moves):
    """Of those partitions only."""
    (stays, one), (goes, other) = person(at, 11), person(at, 22, partition=1)
    moves.begin([stays, goes], URL)

    moves.cancel({0})
    moves.tick(NOW_S)

    assert (one.closed, other.closed) == (None, (4001, "moved"))
