"""The small parts: the table of keys, marks on hold, the timer wheel, who may come in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.publishing.coalescer import HOLD_INTERVAL_S, MAX_HELD, MAX_HELD_PER_USER, MarkCoalescer
from gateway.publishing.idempotency import Accepted, IdempotencyKeys, Known, Pending
from gateway.sessions.timers import TICK_S, TimerWheel
from gateway.transport.admission import check_origin, codec_name, problem
from gateway.transport.interface import Request
from schemas import chat_pb2 as pb
from schemas.errors import ChatError, Malformed, Refused, Unavailable

ANN = 11


# ---- keys ----------------------------------------------------------------------------------------


def test_the_key_used_longest_ago_is_forgotten():
    """A use counts; one that is under way is never forgotten."""
    keys = IdempotencyKeys(limit=3)
    pending = Known(1, b"", 0.0)
    pending.pending = Pending(pb.Command(), 1, 0.0, pending)
    keys.put(ANN, "pending", pending)
    for name in ("a", "b"):
        keys.put(ANN, name, Known(2, b"", 0.0))
    keys.get(ANN, "a", 1.0)
    keys.put(ANN, "c", Known(3, b"", 0.0))

    assert [name for name in ("pending", "a", "b", "c") if keys.get(ANN, name, 1.0)] == [
        "pending",
        "a",
        "c",
    ]
    assert keys.get(22, "a", 1.0) is None


def test_only_the_first_of_those_who_wait_is_no_duplicate():
    """Whoever joined it repeats; each is told once."""
    told = []
    pending = Pending(pb.Command(), 1, 0.0, None, [told.append, told.append])

    pending.settle(Accepted(7, duplicate=False))
    pending.settle(Accepted(8, duplicate=False))

    assert told == [Accepted(7, duplicate=False), Accepted(7, duplicate=True)]


# ---- marks ---------------------------------------------------------------------------------------


def mark(read=0, received=0, *, chat="d-11-22", user=ANN, device="phone"):
    return pb.Command(
        user=user, device=device, chat=chat, mark=pb.Mark(read=read, received=received)
    )


def test_the_newest_watermarks_go_on_after_a_second():
    """Per user and chat; each of the two only moves forward, and all who asked are told."""
    marks, told = MarkCoalescer(), []
    marks.hold(mark(5, 9), lambda outcome: told.append(("first", outcome)), 10.0)
    marks.hold(mark(7, 7, device="tablet"), lambda outcome: told.append(("second", outcome)), 10.9)
    marks.hold(mark(1, chat="d-11-33"), lambda _: None, 10.5)

    assert marks.pop_due(10.9) == []
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
    marks, told = MarkCoalescer(), []
    marks.hold(mark(7, 9), lambda _: None, 10.0)
    (held,) = marks.pop_due(11.0)
    marks.hold(mark(1, 1, device="late"), told.append, 11.5)
    assert told == []  # what the log has not confirmed may be lost
    assert len(marks.pop_due(12.5)) == 1

    held.settle(Accepted(1, duplicate=False))
    for number, late in enumerate([mark(1, 1), mark(7, 9), mark(0, 8)], 1):
        marks.hold(late, told.append, 13.0)
        assert told == [Accepted(1, duplicate=True)] * number
    for news in (mark(8, 8), mark(0, 10), mark(1, user=22), mark(1, chat="d-11-33")):
        marks.hold(news, told.append, 13.0)

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
    marks = MarkCoalescer()
    marks.hold(mark(7, 9), lambda _: None, 10.0)
    marks.pop_due(11.0)[0].settle(Unavailable("the log is away"))
    marks.hold(mark(7, 9), lambda _: None, 12.0)

    assert len(marks.pop_due(13.0)) == 1


def test_marks_on_hold_are_bounded():
    """Beyond that the client is told to mark again."""
    marks = MarkCoalescer()
    for number in range(MAX_HELD):
        marks.hold(mark(1, user=number + 1), lambda _: None, 0.0)

    with pytest.raises(Unavailable):
        marks.hold(mark(1, user=MAX_HELD + 1), lambda _: None, 0.0)
    marks.hold(mark(2, user=1), lambda _: None, 0.0)


def test_one_user_does_not_hold_all_marks():
    """512 chats in a second are enough for one; others go on, and a second later there is room
    again.
    """
    marks = MarkCoalescer()
    for number in range(MAX_HELD_PER_USER):
        marks.hold(mark(1, chat=f"d-{ANN}-{number + 100}"), lambda _: None, 0.0)

    with pytest.raises(Refused) as refusal:
        marks.hold(mark(1, chat=f"d-{ANN}-99"), lambda _: None, 0.0)
    assert (refusal.value.code, refusal.value.retry_after_s) == ("rate_limited", HOLD_INTERVAL_S)
    marks.hold(mark(1, user=ANN + 1), lambda _: None, 0.0)
    assert len(marks.pop_due(HOLD_INTERVAL_S)) == MAX_HELD_PER_USER + 1
    marks.hold(mark(1, chat=f"d-{ANN}-99"), lambda _: None, HOLD_INTERVAL_S)


# ---- the wheel -----------------------------------------------------------------------------------


class Entry:
    def __init__(self):
        self.timer_tick = -1


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5)), max_size=30))
def test_a_visit_is_neither_early_nor_late(steps):
    """Whatever the order: at its time or at most a tick after, and an earlier visit replaces a
    later one.
    """
    timers, now_s = TimerWheel(0.0), 0.0
    planned = {}
    for after_s, step_s in steps:
        entry = Entry()
        timers.schedule(entry, now_s + after_s)
        planned[entry] = now_s + after_s
        now_s += step_s
        for due in timers.pop_due(now_s):
            at_s = planned.pop(due)
            assert at_s <= now_s
        assert all(at_s > now_s - 2 * TICK_S for at_s in planned.values())

    while planned:
        now_s += TICK_S
        for due in timers.pop_due(now_s):
            del planned[due]
        assert now_s < 10_000


def test_an_earlier_visit_replaces_a_later_one():
    """One visit, at the earlier time; after it another can be planned."""
    timers, entry = TimerWheel(0.0), Entry()
    timers.schedule(entry, 10.0)
    timers.schedule(entry, 5.0)
    timers.schedule(entry, 7.0)

    assert timers.pop_due(5.25) == [entry]
    assert timers.pop_due(20.0) == []
    timers.schedule(entry, 1.0)
    assert timers.pop_due(20.25) == [entry]


# ---- who may come in -----------------------------------------------------------------------------


def request(origin=None, host="chat.example:8081", subprotocols=()):
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    return Request(
        path="/v1/socket", query="", headers=headers, subprotocols=subprotocols, client=""
    )


OWN = "http://chat.example:8081"


@pytest.mark.parametrize(
    ("origin", "allowed", "host"),
    [
        (None, (), "chat.example:8081"),
        (OWN, (), "chat.example:8081"),
        ("https://chat.example:8081", (), "chat.example:8081"),
        ("http://CHAT.example:8081", (), "chat.Example:8081"),
        ("https://chat.example", (), "chat.example"),
        ("https://chat.example", (), "chat.example:443"),
        ("http://[::1]:8081", (), "[::1]:8081"),
        ("http://anything.else", ("*",), "chat.example:8081"),
        ("null", ("*",), "chat.example:8081"),
        ("https://app.example", ("https://app.example",), "chat.example:8081"),
        ("https://app.example:443", ("https://app.example", "http://b"), "chat.example:8081"),
        (
            "capacitor://localhost",
            ("https://app.example", "capacitor://localhost"),
            "chat.example:8081",
        ),
        ("app://obsidian.md", ("app://obsidian.md",), "chat.example:8081"),
        ("file://", ("file://",), "chat.example:8081"),
        ("null", ("null",), "chat.example:8081"),
    ],
)
def test_origins_that_may_connect(origin, allowed, host):
    """No browser, the own host, or what the setting names."""
    check_origin(request(origin, host), allowed)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("null", ()),
        ("", ()),
        ("http://chat.example", ()),
        ("http://chat.example:8082", ()),
        ("http://chat.example:8081.evil.example", ()),
        ("http://evil-chat.example:8081", ()),
        ("http://chat.example.evil:8081", ()),
        ("http://sub.chat.example:8081", ()),
        ("http://chat.example:8081@evil.example", ()),
        ("http://chat.example:8081/", ()),
        ("http://chat.example:8081?x", ()),
        ("http://chat.example:8081#x", ()),
        ("http://chat.example:99999", ()),
        ("http://chat.example:port", ()),
        ("http://[chat.example:8081", ()),
        ("file://chat.example:8081", ()),
        ("chat.example:8081", ()),
        ("http://evil.example, http://chat.example:8081", ()),
        (OWN, ("https://app.example",)),
        ("http://app.example", ("https://app.example",)),
        ("https://app.example.evil", ("https://app.example",)),
        ("https://sub.app.example", ("https://app.example",)),
        ("null", ("https://app.example",)),
        ("null", ("capacitor://localhost",)),
        ("capacitor://localhost", ()),
        ("capacitor://localhost:1", ("capacitor://localhost",)),
        ("ionic://localhost", ("capacitor://localhost",)),
    ],
)
def test_origins_that_may_not(origin, allowed):
    """Suffixes, sub-domains, ports, user names, schemes, `null`."""
    with pytest.raises(Refused) as refusal:
        check_origin(request(origin), allowed)

    assert (refusal.value.code, refusal.value.status) == ("forbidden", 403)


def test_an_own_host_that_is_none():
    """A Host header that cannot be read welcomes nobody."""
    with pytest.raises(Refused):
        check_origin(request(OWN, "chat.example:port"), ())


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((), None),
        (("knchat.v1.json",), "knchat.v1.json"),
        (("knchat.v1.msgpack", "knchat.v1.json"), "knchat.v1.msgpack"),
        (("other", "knchat.v1.json"), "knchat.v1.json"),
    ],
)
def test_the_subprotocol(offered, chosen):
    """The client's first that is ours; none offered is JSON."""
    assert codec_name(request(subprotocols=offered)) == chosen


def test_only_unknown_subprotocols():
    """HTTP 400: there is nothing to speak."""
    with pytest.raises(Malformed):
        codec_name(request(subprotocols=("other", "KNCHAT.v1.json")))


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (Refused("not_found", "no"), 404, ()),
        (Unavailable("later", retry_after_s=0.2), 503, (("Retry-After", "1"),)),
        (ChatError("stale", "s"), 409, ()),
    ],
)
def test_errors_over_http(error, status, headers):
    """One shape; what is temporary says when to come again."""
    response = problem(error)

    assert (response.status, response.headers, response.content_type) == (
        status,
        headers,
        "application/json",
    )
    assert response.body.startswith(b'{"code":"' + error.code.encode() + b'","message":')
