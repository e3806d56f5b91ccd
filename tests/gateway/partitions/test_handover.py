"""Sessions on their way to other gateways, without I/O."""

import pytest

from gateway.partitions.handover import MAX_PER_TICK, OWED_TIMEOUT_S, Handover
from schemas import frames
from tests.gateway.wire import NOW_S, connect, made_context

URL = "ws://new.example/v1/socket"


@pytest.fixture
def at():
    return made_context(partitions=(0, 1))


@pytest.fixture
def handover():
    return Handover()


def person(at, user, *, partition=0):
    connection, wire = connect(at, user, partition=partition)
    wire.take()
    return connection, wire


def test_a_session_is_told_where_to_go_and_closed(at, handover):
    """`moved` with the whole URL, then 4001."""
    connection, wire = person(at, 11)
    handover.begin([connection], URL)
    assert wire.frames == []

    handover.tick(NOW_S)

    assert wire.frames == [frames.Moved(url=URL)]
    assert wire.closed == (4001, "moved")
    assert at.hub.by_partition() == {}


def test_its_oks_come_before_the_end(at, handover):
    """It stays until the last of them has been told, or the time is over."""
    (patient, first), (hopeless, second) = person(at, 11), person(at, 22)
    patient.session.owed = hopeless.session.owed = 1
    handover.begin([patient, hopeless], URL)
    handover.tick(NOW_S)
    assert (first.closed, second.closed) == (None, None)

    patient.session.owed = 0
    handover.tick(NOW_S + OWED_TIMEOUT_S / 2)
    assert (first.closed, second.closed) == ((4001, "moved"), None)
    handover.tick(NOW_S + OWED_TIMEOUT_S)
    assert second.closed == (4001, "moved")


def test_a_crowd_goes_bit_by_bit(at, handover):
    """The others stay meanwhile, and one that has gone by itself is passed over."""
    people = [person(at, user) for user in range(1, MAX_PER_TICK + 3)]
    handover.begin([connection for connection, _ in people], URL)
    handover.tick(NOW_S)
    assert [wire.closed for _, wire in people].count(None) == 2

    at.hub.remove(people[-1][0])
    handover.tick(NOW_S)

    assert [wire.closed for _, wire in people[-2:]] == [(4001, "moved"), None]


def test_one_that_was_not_told_yet_may_stay_after_all(at, handover):
    """Of those partitions only."""
    (stays, one), (goes, other) = person(at, 11), person(at, 22, partition=1)
    handover.begin([stays, goes], URL)

    handover.cancel({0})
    handover.tick(NOW_S)

    assert (one.closed, other.closed) == (None, (4001, "moved"))
