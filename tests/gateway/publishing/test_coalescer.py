"""Watermarks on hold."""

import pytest

from gateway.publishing.coalescer import HOLD_INTERVAL_S, MAX_HELD, MAX_HELD_PER_USER, Coalescer
from gateway.publishing.idempotency import Accepted
from schemas import chat_pb2 as pb
from schemas.errors import Refused, Unavailable
from schemas.kinds import COMMAND_BODIES

ANN = 11
MARK = COMMAND_BODIES["mark"]


def mark(read=0, received=0, *, chat="d-11-22", user=ANN, device="phone"):
    return pb.Command(
        user=user, device=device, chat=chat, mark=pb.Mark(read=read, received=received)
    )


def test_the_newest_watermarks_go_on_after_half_a_second():
    """Per user and chat; each of the two only moves forward, and all who asked are told."""
    marks, told = Coalescer(), []
    marks.hold(MARK, mark(5, 9), lambda outcome: told.append(("first", outcome)), 10.0)
    marks.hold(
        MARK, mark(7, 7, device="tablet"), lambda outcome: told.append(("second", outcome)), 10.4
    )
    marks.hold(MARK, mark(1, chat="d-11-33"), lambda _: None, 10.3)

    assert marks.pop_due(10.4) == []
    (held,) = marks.pop_due(10.0 + HOLD_INTERVAL_S)
    assert (held.command.mark.read, held.command.mark.received, held.command.device) == (
        7,
        9,
        "tablet",
    )
    held.settle(Accepted(1, duplicate=False))
    assert [name for name, _ in told] == ["first", "second"]
    assert [each.command.chat for each in marks.pop_due(12.0)] == ["d-11-33"]
    assert marks.pop_due(99.0) == []


def test_a_mark_that_says_nothing_new_goes_no_further():
    """A device that comes late, or marks again: it is told at once what was marked, and the log,
    the store and the others are spared.
    """
    marks, told = Coalescer(), []
    marks.hold(MARK, mark(7, 9), lambda _: None, 10.0)
    (held,) = marks.pop_due(11.0)
    marks.hold(MARK, mark(1, 1, device="late"), told.append, 11.5)
    assert told == []  # what the log has not confirmed may be lost
    assert len(marks.pop_due(12.5)) == 1

    held.settle(Accepted(1, duplicate=False))
    for number, late in enumerate([mark(1, 1), mark(7, 9), mark(0, 8)], 1):
        marks.hold(MARK, late, told.append, 13.0)
        assert told == [Accepted(1, duplicate=True)] * number
    for news in (mark(8, 8), mark(0, 10), mark(1, user=22), mark(1, chat="d-11-33")):
        marks.hold(MARK, news, told.append, 13.0)

    assert len(told) == 3
    assert [
        (each.command.user, each.command.chat, each.command.mark.read)
        for each in marks.pop_due(14.0)
    ] == [
        (ANN, "d-11-22", 8),
        (22, "d-11-22", 1),
        (ANN, "d-11-33", 1),
    ]


def test_a_mark_that_failed_is_not_known():
    """The next one goes on."""
    marks = Coalescer()
    marks.hold(MARK, mark(7, 9), lambda _: None, 10.0)
    marks.pop_due(11.0)[0].settle(Unavailable("the log is unavailable"))
    marks.hold(MARK, mark(7, 9), lambda _: None, 12.0)

    assert len(marks.pop_due(13.0)) == 1


def test_marks_on_hold_are_bounded():
    """Beyond that the client is told to mark again."""
    marks = Coalescer()
    for number in range(MAX_HELD):
        marks.hold(MARK, mark(1, user=number + 1), lambda _: None, 0.0)

    with pytest.raises(Unavailable):
        marks.hold(MARK, mark(1, user=MAX_HELD + 1), lambda _: None, 0.0)
    marks.hold(MARK, mark(2, user=1), lambda _: None, 0.0)


def test_one_user_does_not_hold_all_marks():
    """512 chats in a second are enough for one; others go on, and a second later there is room
    again.
    """
    marks = Coalescer()
    for number in range(MAX_HELD_PER_USER):
        marks.hold(MARK, mark(1, chat=f"d-{ANN}-{number + 100}"), lambda _: None, 0.0)

    with pytest.raises(Refused) as refusal:
        marks.hold(MARK, mark(1, chat=f"d-{ANN}-99"), lambda _: None, 0.0)
    assert (refusal.value.code, refusal.value.retry_after_s) == ("rate_limited", HOLD_INTERVAL_S)
    marks.hold(MARK, mark(1, user=ANN + 1), lambda _: None, 0.0)
    assert len(marks.pop_due(HOLD_INTERVAL_S)) == MAX_HELD_PER_USER + 1
    marks.hold(MARK, mark(1, chat=f"d-{ANN}-99"), lambda _: None, HOLD_INTERVAL_S)
