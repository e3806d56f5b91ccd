"""What comes out of the log counts once, and a hello goes on from the right place in it."""

import pytest

from schemas import chat_pb2 as pb
from schemas import frames
from schemas.kinds.changed import Changed
from schemas.kinds.mark import Receipt
from schemas.kinds.message import Message
from tests.gateway.pushes import ANN, BEN, message, receipt, shown
from tests.gateway.wire import NOW_MS, connect, made_context


@pytest.mark.parametrize(
    "resume",
    [
        "epoch-2.0.100.0",
        "epoch-1.1.100.0",
        "epoch-1.0.99.9",
        "epoch-1.0.102.1",
        "epoch-1.0.103.0",
        "nonsense",
    ],
)
def test_a_cursor_that_leads_nowhere_is_a_reset(resume):
    """Another epoch, another partition, before the buffer or behind the log's end: reload from
    history; the last two minutes are pushed.

    What is only outside the replay buffer has been waited for by then (test_resume.py).
    """
    at = made_context()
    at.feed.deliver(0, 100, NOW_MS - 121_000, [message(1)])
    at.feed.deliver(0, 101, NOW_MS - 119_000, [message(2)])

    assert at.feed.place(0, resume, NOW_MS) == ("reset", (101, 0))
    assert at.feed.place(0, None, NOW_MS) == ("new", (101, 0))
    assert at.feed.place(0, "epoch-1.0.102.0", NOW_MS) == ("resumed", (102, 0))


def test_watermarks_only_go_on():
    """The log has the marks of a user's devices in any order: one that says less is not told,
    live or late, and keeps its place.
    """
    at = made_context()
    _, live = connect(at, ANN)
    at.feed.deliver(0, 100, NOW_MS, [receipt(read=4, received=4), receipt(read=1, received=1)])
    at.feed.deliver(
        0,
        101,
        NOW_MS + 3_600_000,
        [receipt(read=4, received=4), receipt(read=2, received=6), receipt(read=5)],
    )
    _, late = connect(at, ANN, "tablet", resume="epoch-1.0.100.1")

    told = [
        (push.cursor, push.read, push.received) for push in live.frames if isinstance(push, Receipt)
    ]
    assert told == [
        ("epoch-1.0.100.1", "4", "4"),
        ("epoch-1.0.101.2", "4", "6"),
        ("epoch-1.0.101.3", "5", "6"),
    ]
    assert [
        (push.n, push.cursor, push.read) for push in late.frames if isinstance(push, Receipt)
    ] == [(1, "epoch-1.0.101.3", "5")]


def test_a_message_that_comes_again_is_not_told_again():
    """What a dispatcher repeats takes no `n` for a minute, live or late.

    Who is new to it gets it.
    """
    at = made_context()
    _, live = connect(at, ANN)
    _, ben = connect(at, BEN)
    at.feed.deliver(0, 100, NOW_MS, [message(1), message(2)])
    at.feed.deliver(0, 101, NOW_MS + 59_000, [message(1), message(3), message(2, [ANN, BEN])])
    at.feed.deliver(0, 102, NOW_MS + 240_000, [message(1)])
    _, late = connect(at, ANN, "tablet", resume="epoch-1.0.100.0")

    for wire in (live, late):
        pushes = [frame for frame in wire.frames if isinstance(frame, Message)]
        assert [(push.message, push.n) for push in pushes] == [
            ("1", 1),
            ("2", 2),
            ("3", 3),
            ("2", 4),
            ("1", 5),
        ]
    assert shown(ben) == ["2"]


def test_a_pin_of_a_group_is_told_as_a_change_and_as_an_event():
    """Both have the command's id; each of them comes once."""
    at = made_context()
    _, live = connect(at, ANN)
    changed = pb.Changed(chat="g-1", message=5, version=9, op="pin", by=BEN)
    for offset in (100, 101):
        told = [pb.Delivery(users=[ANN], changed=changed), message(9)]
        at.feed.deliver(0, offset, NOW_MS, told)

    pushes = [type(frame) for frame in live.frames if isinstance(frame, frames.Push)]
    assert pushes == [Changed, Message]


def test_a_partition_that_is_taken_over_again_is_filled_again():
    """What was told of it before is no reason to leave it out of the replay buffer."""
    at = made_context()
    at.feed.deliver(0, 100, NOW_MS, [message(1), receipt(read=4)])
    at.feed.drop(0)
    at.feed.open(0, 100)
    at.feed.deliver(0, 100, NOW_MS, [message(1), receipt(read=4)])

    _, wire = connect(at, ANN)
    assert [type(frame) for frame in wire.frames] == [Message, Receipt, frames.Live]
