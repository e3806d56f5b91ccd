"""What one connection is sent, in which order, and what becomes of it when it is slow."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sessions.connection import STUCK_TIMEOUT_S
from schemas import chat_pb2 as pb
from schemas import frames
from schemas.codec import JSON, MSGPACK
from schemas.kinds.history import Page
from schemas.kinds.mark import Receipt
from schemas.kinds.message import Message
from schemas.kinds.unread import Unread
from tests.gateway.pushes import ANN, BEN, message, receipt, shown, unread
from tests.gateway.wire import NOW_MS, NOW_S, Wire, ask, connect, made_context


def test_a_resume_brings_exactly_what_was_missed():
    """In order, counted from 1, then `live`, then live pushes."""
    at = made_context()
    at.feed.deliver(0, 100, NOW_MS, [message(1), message(2, [BEN]), message(3)])
    at.feed.deliver(0, 101, NOW_MS, [message(4)])

    _, wire = connect(at, ANN, resume="epoch-1.0.100.1")
    at.feed.deliver(0, 102, NOW_MS, [message(5)])

    assert [
        (frame.__class__.__name__, getattr(frame, "n", None), frame.cursor) for frame in wire.frames
    ] == [
        ("Message", 1, "epoch-1.0.100.3"),
        ("Message", 2, "epoch-1.0.101.1"),
        ("Live", None, "epoch-1.0.102.0"),
        ("Message", 3, "epoch-1.0.102.1"),
    ]
    assert shown(wire) == ["3", "4", "5"]


def test_a_slow_session_waits_and_misses_nothing():
    """It takes no more while its outbox is full, and goes on from its position in the replay buffer
    when there is room.
    """
    at = made_context()
    connection, wire = connect(at, ANN)
    wire.congested = True
    at.feed.deliver(0, 100, NOW_MS, [message(1), message(2)])
    at.feed.deliver(0, 101, NOW_MS, [message(3)])
    assert shown(wire) == []

    wire.congested = False
    connection.on_writable()
    at.feed.deliver(0, 102, NOW_MS, [message(4)])

    assert shown(wire) == ["1", "2", "3", "4"]
    assert [frame.n for frame in wire.frames if isinstance(frame, Message)] == [1, 2, 3, 4]
    assert sum(isinstance(frame, frames.Live) for frame in wire.frames) == 1


def test_a_slow_session_costs_the_others_nothing():
    """The same user's other device goes on as before."""
    at = made_context()
    _, slow = connect(at, ANN, "slow")
    _, fast = connect(at, ANN, "fast")
    slow.congested = True

    at.feed.deliver(0, 100, NOW_MS, [message(1)])

    assert (shown(slow), shown(fast)) == ([], ["1"])


def test_one_that_has_missed_much_takes_turns():
    """An array at a time, and whatever else there is to do comes between; what is new waits behind
    what was missed.
    """
    waiting = []
    at = made_context(call_soon=waiting.append)
    _, ben = connect(at, BEN)
    at.feed.deliver(0, 100, NOW_MS, [message(number) for number in range(1, 151)])
    _, ann = connect(at, ANN)

    told = [len(shown(ann))]
    at.feed.deliver(0, 101, NOW_MS, [message(151, [ANN, BEN])])
    while waiting:
        waiting.pop(0)()
        told.append(len(shown(ann)))

    assert shown(ben) == ["151"]
    assert told == [64, 128, 151, 151]
    assert shown(ann) == [str(number) for number in range(1, 152)]
    assert isinstance(ann.frames[-1], frames.Live)


def test_a_session_that_takes_nothing_for_half_a_minute_is_closed():
    """4003: it may come back and resume."""
    at = made_context()
    connection, wire = connect(at, ANN)
    wire.congested = True
    at.feed.deliver(0, 100, NOW_MS, [message(1)])

    connection.session.on_activity(NOW_S + STUCK_TIMEOUT_S - 1)
    at.run_timers(NOW_S + STUCK_TIMEOUT_S - 0.5)
    assert wire.closed is None
    at.run_timers(NOW_S + STUCK_TIMEOUT_S + 0.25)
    assert wire.closed[0] == 4003


def test_a_session_that_falls_behind_the_replay_buffer_is_closed():
    """4003, not a hole: what it has not had is no longer here."""
    at = made_context(kept_s=160)
    connection, wire = connect(at, ANN)
    wire.congested = True
    for offset in range(100, 300):
        at.feed.deliver(0, offset, NOW_MS + offset * 1_000, [message(offset)])
    at.feed.forget(NOW_MS + 300_000)

    wire.congested = False
    connection.on_writable()

    assert wire.closed[0] == 4003
    assert shown(wire) == []


def test_missed_pushes_stop_at_a_full_outbox():
    """A resume of megabytes takes as many turns as the peer needs, each of at most half a frame and
    one push.
    """
    at = made_context()
    for offset in range(100, 400):
        at.feed.deliver(0, offset, NOW_MS, [message(offset, text="x" * 1_000)])

    class Narrow(Wire):
        def send(self, payload, *, text):
            super().send(payload, text=text)
            self.congested = True

    connection, wire = connect(at, ANN, wire=Narrow())
    turns = 0
    while connection.position is not None:
        turns += 1
        wire.congested = False
        connection.on_writable()

    assert shown(wire) == [str(number) for number in range(100, 400)]
    assert turns > 5
    assert isinstance(wire.frames[-1], frames.Live)


def test_watermarks_that_newer_ones_outdate_are_not_pushed_late():
    """Only what is still news takes an `n`; a later one that says less replaces nothing."""
    at = made_context()
    at.feed.deliver(
        0,
        100,
        NOW_MS,
        [
            unread(3, read=5),
            receipt(read=4, received=9),
            unread(2, read=6),
            receipt(received=10),
            unread(1, read=5),
        ],
    )

    _, wire = connect(at, ANN)

    pushes = [frame for frame in wire.frames if isinstance(frame, frames.Push)]
    assert [push.n for push in pushes] == [1, 2, 3]
    assert [(push.unread, push.read) for push in pushes if isinstance(push, Unread)] == [
        (2, "6"),
        (1, "5"),
    ]
    assert [(push.read, push.received) for push in pushes if isinstance(push, Receipt)] == [
        ("4", "10")
    ]


def test_a_background_session_is_woken_by_few_things():
    """Messages and bad news; the rest takes no `n`, late or live."""
    at = made_context()
    refused = pb.Delivery(
        users=[ANN], refused=pb.Refused(chat="d-11-22", message=1, key="k", code="forbidden")
    )
    at.feed.deliver(0, 100, NOW_MS, [message(1), unread(1, read=1), refused])

    _, wire = connect(at, ANN, background=True)
    at.feed.deliver(
        0,
        101,
        NOW_MS,
        [unread(2, read=2), pb.Delivery(users=[ANN], failed=pb.Failed(message=2, key="k"))],
    )

    assert [
        (frame.__class__.__name__, frame.n)
        for frame in wire.frames
        if isinstance(frame, frames.Push)
    ] == [
        ("Message", 1),
        ("Refused", 2),
        ("Failed", 3),
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 40_000), min_size=1, max_size=12),
    st.sampled_from([JSON, MSGPACK]),
)
def test_arrays_of_what_was_missed_fit_a_frame(sizes, codec):
    """However long the messages are, in either codec: the wire refuses more than 64 KiB, and
    nothing is left out.
    """
    at = made_context(limit_bytes=2**24)
    at.feed.deliver(
        0, 100, NOW_MS, [message(number, text="x" * size) for number, size in enumerate(sizes, 1)]
    )
    _, wire = connect(at, ANN, codec=codec)

    assert shown(wire) == [str(number) for number in range(1, len(sizes) + 1)]
    assert [push.n for push in wire.frames if isinstance(push, Message)] == list(
        range(1, len(sizes) + 1)
    )


def test_replies_to_a_slow_session_are_bounded():
    """A slow consumer, which asks and does not read its replies, is closed at twice its outbox."""
    at = made_context()
    connection, wire = connect(at, ANN)
    wire.congested = True

    said = 0
    while wire.closed is None:
        connection.send(frames.Pong(time="x" * 100))
        said += 1

    assert wire.closed[0] == 4003
    assert said < 200
    connection.send(frames.Pong(time="never said"))
    assert len(wire.frames) <= said + 1


def test_a_slow_session_gets_no_pages():
    """48 KiB each are too much for a full outbox: it shall ask again."""
    at = made_context()
    connection, wire = connect(at, ANN)
    ask(connection, 1, 2)
    wire.congested = True

    at.hub.answer(
        pb.Answer(session=connection.session.id, re=1),
        Page(re=1, chat="d-11-22", messages=[], more_before=False, more_after=False),
    )
    wire.congested = False
    at.hub.answer(
        pb.Answer(session=connection.session.id, re=2),
        Page(re=2, chat="d-11-22", messages=[], more_before=False, more_after=False),
    )
    at.hub.answer(
        pb.Answer(session=connection.session.id, re=2),
        Page(re=2, chat="d-11-22", messages=[], more_before=False, more_after=False),
    )
    at.hub.answer(
        pb.Answer(session="other", re=2),
        Page(re=2, chat="d-11-22", messages=[], more_before=False, more_after=False),
    )

    assert [(type(frame), frame.re) for frame in wire.frames[1:]] == [
        (frames.Error, 1),
        (Page, 2),
    ]
