"""Who gets what, in which order, and what becomes of those who are slow, too many, logged out or
silent.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.sessions.close import Close
from gateway.sessions.effects import SendFrame
from gateway.sessions.protocol import CURSOR_INTERVAL_S, STUCK_TIMEOUT_S, Session
from schemas import chat_pb2 as pb
from schemas import frames
from tests.gateway.wire import NOW_MS, NOW_S, RULES, Wire, claims, connect, hub

ANN, BEN = 11, 22


def message(number, users=(ANN,), *, sender=ANN, text="hi"):
    body = pb.Message(
        id=number,
        chat=f"d-{ANN}-{BEN}",
        sender=sender,
        key=f"k{number}",
        device="phone",
        body=pb.Send(text=text),
    )
    return pb.Delivery(users=users, message=body)


def unread(number, *, read):
    return pb.Delivery(users=[ANN], unread=pb.Unread(chat="d-11-22", unread=number, read=read))


def receipt(*, read=0, received=0):
    return pb.Delivery(
        users=[ANN], receipt=pb.Receipt(chat="d-11-22", user=BEN, read=read, received=received)
    )


def shown(wire):
    """What was pushed, by id."""
    return [frame.message for frame in wire.frames if isinstance(frame, frames.Message)]


def test_a_push_goes_to_every_device_of_everybody_it_is_for():
    """The sender's own devices get it too, and only they are told which device sent it."""
    at = hub()
    _, phone = connect(at, ANN, "phone")
    _, tablet = connect(at, ANN, "tablet", codec=frames.MSGPACK)
    _, ben = connect(at, BEN)

    at.deliver(0, 100, NOW_MS, [message(7, [ANN, BEN])])

    pushes = [wire.frames[-1] for wire in (phone, tablet, ben)]
    assert [(push.message, push.n, push.cursor) for push in pushes] == [
        ("7", 1, "epoch-1.0.100.1")
    ] * 3
    assert [push.device for push in pushes] == ["phone", "phone", frames.UNSET]


def test_whoever_resumes_gets_exactly_what_was_missed():
    """In order, counted from 1, then `live`, then live pushes."""
    at = hub()
    at.deliver(0, 100, NOW_MS, [message(1), message(2, [BEN]), message(3)])
    at.deliver(0, 101, NOW_MS, [message(4)])

    _, wire = connect(at, ANN, resume="epoch-1.0.100.1")
    at.deliver(0, 102, NOW_MS, [message(5)])

    assert [
        (frame.__class__.__name__, getattr(frame, "n", None), frame.cursor) for frame in wire.frames
    ] == [
        ("Message", 1, "epoch-1.0.100.3"),
        ("Message", 2, "epoch-1.0.101.1"),
        ("Live", None, "epoch-1.0.102.0"),
        ("Message", 3, "epoch-1.0.102.1"),
    ]
    assert shown(wire) == ["3", "4", "5"]


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
    at = hub()
    at.deliver(0, 100, NOW_MS - 121_000, [message(1)])
    at.deliver(0, 101, NOW_MS - 119_000, [message(2)])

    assert at.place(0, resume, NOW_MS) == ("reset", (101, 0))
    assert at.place(0, None, NOW_MS) == ("new", (101, 0))
    assert at.place(0, "epoch-1.0.102.0", NOW_MS) == ("resumed", (102, 0))


def test_a_slow_session_waits_and_misses_nothing():
    """It takes no more while its outbox is full, and goes on from its position in the replay buffer
    when there is room.
    """
    at = hub()
    _, wire = connect(at, ANN)
    wire.congested = True
    at.deliver(0, 100, NOW_MS, [message(1), message(2)])
    at.deliver(0, 101, NOW_MS, [message(3)])
    assert shown(wire) == []

    wire.congested = False
    at.on_writable(next(iter(at._sessions)))
    at.deliver(0, 102, NOW_MS, [message(4)])

    assert shown(wire) == ["1", "2", "3", "4"]
    assert [frame.n for frame in wire.frames if isinstance(frame, frames.Message)] == [1, 2, 3, 4]
    assert sum(isinstance(frame, frames.Live) for frame in wire.frames) == 1


def test_a_slow_session_costs_the_others_nothing():
    """The same user's other device goes on as before."""
    at = hub()
    _, slow = connect(at, ANN, "slow")
    _, fast = connect(at, ANN, "fast")
    slow.congested = True

    at.deliver(0, 100, NOW_MS, [message(1)])

    assert (shown(slow), shown(fast)) == ([], ["1"])


def test_all_are_not_closed_in_one_turn():
    """Whoever is connected elsewhere on this loop goes on meanwhile; those who are to be closed are
    told nothing any more.
    """
    waiting = []
    at = hub(call_soon=waiting.append)
    wires = [connect(at, user)[1] for user in range(1, 201)]
    at.drain(0)
    told = [sum(isinstance(wire.frames[-1], frames.Drain) for wire in wires)]
    while waiting:
        waiting.pop(0)()
        told.append(sum(isinstance(wire.frames[-1], frames.Drain) for wire in wires))
    assert told == [64, 128, 192, 200]
    assert set(at.by_partition()) == {0}
    assert len(at.by_partition()[0]) == 200

    at.close_all(Close(1012, "restart"))
    assert (at.connections, at.by_partition(), at.closing) == (0, {}, 1)
    at.deliver(0, 100, NOW_MS, [message(1, range(1, 201))])
    closed = [sum(wire.closed is not None for wire in wires)]
    while waiting:
        waiting.pop(0)()
        closed.append(sum(wire.closed is not None for wire in wires))
    assert (closed, at.closing) == ([64, 128, 192, 200], 0)
    assert not any(isinstance(wire.frames[-1], frames.Message) for wire in wires)


def test_a_partition_is_closed_alone():
    """In turns too."""
    at = hub(partitions=(0, 1))
    _, here = connect(at, ANN)
    at.close_partition(1, Close(4006, "elsewhere"))
    assert here.closed is None
    at.close_partition(0, Close(4006, "elsewhere"))

    assert here.closed == (4006, "elsewhere")
    assert at.by_partition() == {}


def test_who_has_missed_much_takes_turns():
    """An array at a time, and whatever else there is to do comes between; what is new waits behind
    what was missed.
    """
    waiting = []
    at = hub(call_soon=waiting.append)
    _, ben = connect(at, BEN)
    at.deliver(0, 100, NOW_MS, [message(number) for number in range(1, 151)])
    _, ann = connect(at, ANN)

    told = [len(shown(ann))]
    at.deliver(0, 101, NOW_MS, [message(151, [ANN, BEN])])
    while waiting:
        waiting.pop(0)()
        told.append(len(shown(ann)))

    assert shown(ben) == ["151"]
    assert told == [64, 128, 151, 151]
    assert shown(ann) == [str(number) for number in range(1, 152)]
    assert isinstance(ann.frames[-1], frames.Live)


def test_a_session_that_takes_nothing_for_half_a_minute_is_closed():
    """4003: it may come back and resume."""
    at = hub()
    session, wire = connect(at, ANN)
    wire.congested = True
    at.deliver(0, 100, NOW_MS, [message(1)])

    session.on_activity(NOW_S + STUCK_TIMEOUT_S - 1)
    at.tick(NOW_S + STUCK_TIMEOUT_S - 0.5)
    assert wire.closed is None
    at.tick(NOW_S + STUCK_TIMEOUT_S + 0.25)
    assert wire.closed[0] == 4003


def test_a_session_that_falls_behind_the_ring_is_closed():
    """4003, not a hole: what it has not had is no longer here."""
    at = hub(kept_s=160)
    session, wire = connect(at, ANN)
    wire.congested = True
    for offset in range(100, 300):
        at.deliver(0, offset, NOW_MS + offset * 1_000, [message(offset)])
    at.forget(NOW_MS + 300_000)

    wire.congested = False
    at.on_writable(session)

    assert wire.closed[0] == 4003
    assert shown(wire) == []


def test_missed_pushes_stop_at_a_full_outbox():
    """A resume of megabytes takes as many turns as the peer needs, each of at most half a frame and
    one push.
    """
    at = hub()
    for offset in range(100, 400):
        at.deliver(0, offset, NOW_MS, [message(offset, text="x" * 1_000)])

    class Narrow(Wire):
        def send(self, payload, *, text):
            super().send(payload, text=text)
            self.congested = True

    session, wire = connect(at, ANN, wire=Narrow())
    turns = 0
    while session.position is not None:
        turns += 1
        wire.congested = False
        at.on_writable(session)

    assert shown(wire) == [str(number) for number in range(100, 400)]
    assert turns > 5
    assert isinstance(wire.frames[-1], frames.Live)


def test_watermarks_that_newer_ones_outdate_are_not_pushed_late():
    """Only what is still news takes an `n`; a later one that says less replaces nothing."""
    at = hub()
    at.deliver(
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
    assert [(push.unread, push.read) for push in pushes if isinstance(push, frames.Unread)] == [
        (2, "6"),
        (1, "5"),
    ]
    assert [(push.read, push.received) for push in pushes if isinstance(push, frames.Receipt)] == [
        ("4", "10")
    ]


def test_watermarks_only_go_on():
    """The log has the marks of a user's devices in any order: one that says less is told to nobody,
    live or late, and keeps its place.
    """
    at = hub()
    _, live = connect(at, ANN)
    at.deliver(0, 100, NOW_MS, [receipt(read=4, received=4), receipt(read=1, received=1)])
    at.deliver(
        0,
        101,
        NOW_MS + 3_600_000,
        [receipt(read=4, received=4), receipt(read=2, received=6), receipt(read=5)],
    )
    _, late = connect(at, ANN, "tablet", resume="epoch-1.0.100.1")

    told = [
        (push.cursor, push.read, push.received)
        for push in live.frames
        if isinstance(push, frames.Receipt)
    ]
    assert told == [
        ("epoch-1.0.100.1", "4", "4"),
        ("epoch-1.0.101.2", "4", "6"),
        ("epoch-1.0.101.3", "5", "6"),
    ]
    assert [
        (push.n, push.cursor, push.read) for push in late.frames if isinstance(push, frames.Receipt)
    ] == [(1, "epoch-1.0.101.3", "5")]


def test_a_message_that_comes_again_is_not_told_again():
    """What a dispatcher repeats takes no `n` for a minute, live or late.

    Who is new to it gets it.
    """
    at = hub()
    _, live = connect(at, ANN)
    _, ben = connect(at, BEN)
    at.deliver(0, 100, NOW_MS, [message(1), message(2)])
    at.deliver(0, 101, NOW_MS + 59_000, [message(1), message(3), message(2, [ANN, BEN])])
    at.deliver(0, 102, NOW_MS + 240_000, [message(1)])
    _, late = connect(at, ANN, "tablet", resume="epoch-1.0.100.0")

    for wire in (live, late):
        pushes = [frame for frame in wire.frames if isinstance(frame, frames.Message)]
        assert [(push.message, push.n) for push in pushes] == [
            ("1", 1),
            ("2", 2),
            ("3", 3),
            ("2", 4),
            ("1", 5),
        ]
    assert shown(ben) == ["2"]


def test_a_partition_that_is_taken_over_again_is_filled_again():
    """What was told of it before is no reason to leave it out of the replay buffer."""
    at = hub()
    at.deliver(0, 100, NOW_MS, [message(1), receipt(read=4)])
    at.drop(0)
    at.open(0, 100)
    at.deliver(0, 100, NOW_MS, [message(1), receipt(read=4)])

    _, wire = connect(at, ANN)
    assert [type(frame) for frame in wire.frames] == [frames.Message, frames.Receipt, frames.Live]


def test_a_background_session_is_woken_by_few_things():
    """Messages and bad news; the rest takes no `n`, late or live."""
    at = hub()
    refused = pb.Delivery(
        users=[ANN], refused=pb.Refused(chat="d-11-22", message=1, key="k", code="forbidden")
    )
    at.deliver(0, 100, NOW_MS, [message(1), unread(1, read=1), refused])

    _, wire = connect(at, ANN, background=True)
    at.deliver(
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


def test_a_newer_session_of_a_device_replaces_the_older():
    """4409 for the older one; other devices stay, and the user's last session leaves nothing
    behind.
    """
    at = hub()
    _, older = connect(at, ANN, "phone")
    _, tablet = connect(at, ANN, "tablet")
    newer_session, newer = connect(at, ANN, "phone")

    assert older.closed[0] == 4409
    assert (tablet.closed, newer.closed) == (None, None)
    at.deliver(0, 100, NOW_MS, [message(1)])
    assert (shown(older), shown(tablet), shown(newer)) == ([], ["1"], ["1"])

    for session in tuple(at._sessions):
        at.remove(session)
    at.remove(newer_session)
    assert (at.connections, at._by_user, at._by_id) == (0, {}, {})


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 40_000), min_size=1, max_size=12),
    st.sampled_from([frames.JSON, frames.MSGPACK]),
)
def test_arrays_of_what_was_missed_fit_a_frame(sizes, codec):
    """However long the messages are, in either codec: the wire refuses more than 64 KiB, and
    nothing is left out.
    """
    at = hub(limit_bytes=2**24)
    at.deliver(
        0, 100, NOW_MS, [message(number, text="x" * size) for number, size in enumerate(sizes, 1)]
    )
    _, wire = connect(at, ANN, codec=codec)

    assert shown(wire) == [str(number) for number in range(1, len(sizes) + 1)]
    assert [push.n for push in wire.frames if isinstance(push, frames.Message)] == list(
        range(1, len(sizes) + 1)
    )


def test_too_many_sessions():
    """4429 for the one too many; those that are there stay."""
    at = hub()
    wires = [connect(at, ANN, f"device-{number}")[1] for number in range(4)]

    assert [wire.closed and wire.closed[0] for wire in wires] == [None, None, None, 4429]


def test_a_revocation_ends_sessions_and_refuses_older_tokens():
    """Only those of the device, and only tokens from before; until no such token can live."""
    at = hub()
    _, phone = connect(at, ANN, "phone", issued_ms=NOW_MS - 10)
    _, tablet = connect(at, ANN, "tablet", issued_ms=NOW_MS - 10)
    _, ben = connect(at, BEN, "phone", issued_ms=NOW_MS - 10)

    at.deliver(
        0,
        100,
        NOW_MS,
        [pb.Delivery(users=[ANN], revoked=pb.Revoked(device="phone", before_ms=NOW_MS))],
    )

    assert [wire.closed and wire.closed[0] for wire in (phone, tablet, ben)] == [4403, None, None]
    assert at.revocation_of(claims(ANN, "phone", issued_ms=NOW_MS - 1))
    assert not at.revocation_of(claims(ANN, "phone", issued_ms=NOW_MS))
    assert not at.revocation_of(claims(ANN, "tablet", issued_ms=NOW_MS - 1))
    at.forget(NOW_MS + 899_000)
    assert at.revocation_of(claims(ANN, "phone", issued_ms=NOW_MS - 1))
    at.forget(NOW_MS + 900_001)
    assert not at.revocation_of(claims(ANN, "phone", issued_ms=NOW_MS - 1))


def test_a_revocation_lasts_as_long_as_a_token_from_a_faster_clock():
    """The clock that signs may be ahead of the log's: it is its time that counts."""
    at = hub()

    at.deliver(
        0,
        100,
        NOW_MS,
        [pb.Delivery(users=[ANN], revoked=pb.Revoked(device="phone", before_ms=NOW_MS + 50_000))],
    )

    at.forget(NOW_MS + 940_000)
    assert at.revocation_of(claims(ANN, "phone", issued_ms=NOW_MS + 49_999))


def test_a_revocation_without_a_device_ends_them_all():
    """A new password, say."""
    at = hub()
    wires = [connect(at, ANN, device, issued_ms=NOW_MS - 10)[1] for device in ("phone", "tablet")]

    at.deliver(0, 100, NOW_MS, [pb.Delivery(users=[ANN], revoked=pb.Revoked(before_ms=NOW_MS))])

    assert [wire.closed[0] for wire in wires] == [4403, 4403]
    assert at.revocation_of(claims(ANN, "new", issued_ms=NOW_MS - 1))


def test_the_budget_of_a_user():
    """All sessions of a user draw from one; another user has his own; it outlives them until it is
    full again.
    """
    at = hub()
    phone, tablet, other = (
        connect(at, user, device)[0]
        for user, device in ((ANN, "phone"), (ANN, "tablet"), (BEN, "phone"))
    )

    assert [session.budget.draw(200, NOW_S) for session in (phone, tablet, phone)] == [0.0] * 3
    assert tablet.budget.draw(10, NOW_S) == pytest.approx(1)
    assert other.budget.draw(1, NOW_S) == 0.0
    at.remove(phone)
    at.remove(tablet)
    at.tick(NOW_S + 59)
    at.forget(NOW_MS)
    assert connect(at, ANN)[0].budget is phone.budget
    at.remove(at._by_user[ANN][0])
    at.tick(NOW_S + 61)
    at.forget(NOW_MS)
    assert connect(at, ANN)[0].budget is not phone.budget


def test_heartbeats():
    """A ping after 30 s of silence, the end after 60; any sign of life begins anew."""
    at = hub()
    session, wire = connect(at, ANN)

    at.tick(NOW_S + 29)
    assert wire.pings == 0
    at.tick(NOW_S + 30.25)
    at.tick(NOW_S + 31)
    assert wire.pings == 1
    session.on_activity(NOW_S + 50)
    at.tick(NOW_S + 79)
    assert wire.pings == 1
    at.tick(NOW_S + 80.25)
    assert wire.pings == 2
    at.tick(NOW_S + 109)
    assert wire.closed is None
    at.tick(NOW_S + 110.25)
    assert wire.closed[0] == 4002


def test_a_token_ends():
    """`expiring` a minute before, close 4004 within a second of the end."""
    at = hub()
    session, wire = connect(at, ANN, token_s=300)
    wire.take()

    for second in range(1, 300):
        session.on_activity(NOW_S + second)
        at.tick(NOW_S + second)
    assert [type(frame) for frame in wire.frames] == [frames.Expiring]
    assert wire.closed is None
    at.tick(NOW_S + 300.25)
    assert wire.closed[0] == 4004


def test_a_refresh_moves_the_end():
    """And the next warning comes before the new end."""
    at = hub()
    session, wire = connect(at, ANN, token_s=300)
    session.on_activity(NOW_S + 240)
    at.tick(NOW_S + 241)
    session.renew(
        claims(ANN, "phone", issued_ms=NOW_MS + 250_000, token_s=300),
        now_s=NOW_S + 250,
        now_ms=NOW_MS + 250_000,
    )

    for second in range(251, 550):
        session.on_activity(NOW_S + second)
        at.tick(NOW_S + second)

    assert [type(frame) for frame in wire.frames] == [frames.Live, frames.Expiring, frames.Expiring]
    assert wire.closed is None


def test_a_short_token_warns_in_its_last_third():
    """Once for each token: who refreshes at every `expiring` does so at two thirds of each life,
    not all the time.
    """
    at = hub()
    session, wire = connect(at, ANN, token_s=6)
    warned_at = []

    for quarter in range(1, 4 * 20):
        now_s, now_ms = NOW_S + quarter / 4, NOW_MS + quarter * 250
        at.tick(now_s)
        if any(isinstance(frame, frames.Expiring) for frame in wire.take()):
            warned_at.append(now_s - NOW_S)
            session.renew(
                claims(ANN, "phone", issued_ms=now_ms, token_s=6), now_s=now_s, now_ms=now_ms
            )

    assert wire.closed is None
    assert warned_at == pytest.approx([4, 8, 12, 16], abs=1.1)


def test_a_quiet_session_is_told_how_far_it_is():
    """Every five minutes, and only when there is something to tell."""
    at = hub()
    session, wire = connect(at, ANN, token_s=10_000)
    wire.take()

    def pass_by(seconds):
        start = session.last_activity_s
        for step in range(int(seconds)):
            session.on_activity(start + step)
            at.tick(start + step)

    pass_by(CURSOR_INTERVAL_S + 2)
    assert wire.take() == []
    at.deliver(0, 100, NOW_MS, [message(1, [BEN])])
    pass_by(CURSOR_INTERVAL_S + 2)
    assert [frame.cursor for frame in wire.take()] == ["epoch-1.0.101.0"]
    pass_by(CURSOR_INTERVAL_S + 2)
    assert wire.take() == []


def test_nobody_stays_without_a_hello():
    """4404 after five seconds, whatever else it sends."""
    at = hub()
    wire = Wire()
    session = Session(wire, wire.codec, RULES, now_s=NOW_S)
    at.add(session)

    session.on_activity(NOW_S + 4)
    at.tick(NOW_S + 4.75)
    assert wire.closed is None
    at.tick(NOW_S + 5.25)
    assert wire.closed[0] == 4404


def test_replies_to_a_slow_session_are_bounded():
    """A slow consumer, which asks and does not read its replies, is closed at twice its outbox."""
    at = hub()
    session, wire = connect(at, ANN)
    wire.congested = True

    said = 0
    while wire.closed is None:
        at.execute(session, SendFrame(frames.Pong(time="x" * 100)))
        said += 1

    assert wire.closed[0] == 4003
    assert said < 200
    at.execute(session, SendFrame(frames.Pong(time="never said")))
    assert len(wire.frames) <= said + 1


def test_a_slow_session_gets_no_pages():
    """48 KiB each are too much for a full outbox: it shall ask again."""
    at = hub()
    session, wire = connect(at, ANN)
    session._asked = {1: (1, NOW_S + 10), 2: (2, NOW_S + 10)}
    wire.congested = True

    at.answer(
        pb.Answer(session=session.id, re=1),
        frames.Page(re=1, chat="d-11-22", messages=[], more_before=False, more_after=False),
    )
    wire.congested = False
    at.answer(
        pb.Answer(session=session.id, re=2),
        frames.Page(re=2, chat="d-11-22", messages=[], more_before=False, more_after=False),
    )
    at.answer(
        pb.Answer(session=session.id, re=2),
        frames.Page(re=2, chat="d-11-22", messages=[], more_before=False, more_after=False),
    )
    at.answer(
        pb.Answer(session="other", re=2),
        frames.Page(re=2, chat="d-11-22", messages=[], more_before=False, more_after=False),
    )

    assert [(type(frame), frame.re) for frame in wire.frames[1:]] == [
        (frames.Error, 1),
        (frames.Page, 2),
    ]


def test_a_delivery_in_the_wrong_partition_is_not_pushed():
    """Its cursor would lead nowhere."""
    at = hub(partitions=(0, 1))
    _, wire = connect(at, ANN)

    at.deliver(1, 100, NOW_MS, [message(1)])

    assert shown(wire) == []


def test_drain_spreads_the_returns():
    """Everybody is told another time within what was given, and can go on meanwhile."""
    at = hub()
    wires = [connect(at, user)[1] for user in range(100, 150)]

    at.drain(5_000)

    times = [wire.frames[-1].reconnect_after_ms for wire in wires]
    assert all(0 <= time <= 5_000 for time in times)
    assert len(set(times)) > 30
    at.close_all(Close(1012, "restart"))
    assert [wire.closed[0] for wire in wires] == [1012] * 50


class Deliveries(RuleBasedStateMachine):
    """Everybody's screen against the whole log, over slow peers, cuts, resumes and a replay buffer
    that forgets.

    Whatever happens, a device sees its user's deliveries without hole or repetition from its last
    cursor on, or is told so.
    """

    def __init__(self):
        super().__init__()
        self.now_s = NOW_S
        self.log = []
        self.devices = {}

    @initialize()
    def begin(self):
        self.hub = hub(limit_bytes=30_000, kept_s=100)
        self.offset = 100

    @rule(
        receivers=st.lists(st.lists(st.sampled_from((ANN, BEN)), unique=True), max_size=3),
        size=st.integers(0, 2_000),
    )
    def deliver(self, receivers, size):
        deliveries = [
            message(self.offset * 10 + index, users, text="x" * size)
            for index, users in enumerate(receivers)
        ]
        self.log += [((self.offset, index), each) for index, each in enumerate(deliveries)]
        self.hub.deliver(0, self.offset, NOW_MS + round((self.now_s - NOW_S) * 1_000), deliveries)
        self.offset += 1

    @rule(user=st.sampled_from((ANN, BEN)), device=st.sampled_from(("phone", "tablet")))
    def connect(self, user, device):
        self._look(user, device)
        old = self.devices.get((user, device))
        session, wire = connect(
            self.hub, user, device, resume=old and old["cursor"], now_s=self.now_s
        )
        place = self.hub.place(0, old and old["cursor"], NOW_MS)[0] if old else "new"
        fresh = old is None or place == "reset"
        begin = tuple(int(part) for part in old["cursor"].split(".")[2:]) if not fresh else None
        self.devices[user, device] = {
            "session": session,
            "wire": wire,
            "cursor": old["cursor"] if old and not fresh else f"epoch-1.0.{self.offset}.0",
            "next": begin,
            "n": 0,
        }

    @rule(user=st.sampled_from((ANN, BEN)), device=st.sampled_from(("phone", "tablet")))
    def cut(self, user, device):
        if (user, device) in self.devices:
            self._look(user, device)
            self.hub.remove(self.devices[user, device]["session"])

    @rule(
        user=st.sampled_from((ANN, BEN)),
        device=st.sampled_from(("phone", "tablet")),
        slow=st.booleans(),
    )
    def slow_down(self, user, device, slow):
        held = self.devices.get((user, device))
        if held is not None and held["wire"].congested is not slow:
            held["wire"].congested = slow
            held["wire"].buffered_bytes = 0
            if not slow:
                self.hub.on_writable(held["session"])

    @rule(seconds=st.integers(0, 20))
    def wait(self, seconds):
        self.now_s += seconds
        for held in self.devices.values():
            held["session"].on_activity(self.now_s)
        self.hub.tick(self.now_s)
        self.hub.forget(NOW_MS + round((self.now_s - NOW_S) * 1_000))

    @invariant()
    def everybody_sees_what_the_log_holds(self):
        for user, device in self.devices:
            self._look(user, device)

    def _look(self, user, device):
        held = self.devices.get((user, device))
        if held is None:
            return
        for frame in held["wire"].take():
            if isinstance(frame, frames.Message):
                held["n"] += 1
                assert frame.n == held["n"]
                expected = [
                    (place, each)
                    for place, each in self.log
                    if user in each.users and (held["next"] is None or place >= held["next"])
                ]
                place = next(
                    place for place, each in self.log if str(each.message.id) == frame.message
                )
                if held["next"] is not None:
                    assert expected[0][0] == place
                held["next"] = (place[0], place[1] + 1)
                held["cursor"] = frame.cursor
        live = held["session"] in self.hub._sessions and held["session"].position is None
        if live and held["next"] is not None:
            assert not [
                place for place, each in self.log if user in each.users and place >= held["next"]
            ]


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
