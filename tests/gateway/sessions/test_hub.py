"""Who gets what, and who must go: too many sessions, spent budgets, and what is done to all."""

import pytest

from gateway.sessions.close import Close
from schemas import frames
from schemas.codec import MSGPACK
from schemas.kinds.message import Message
from tests.gateway.pushes import ANN, BEN, message, shown
from tests.gateway.wire import NOW_MS, NOW_S, connect, made_context


def test_a_push_goes_to_every_device_of_all_its_users():
    """The sender's own devices get it too, and only they are told which device sent it."""
    at = made_context()
    _, phone = connect(at, ANN, "phone")
    _, tablet = connect(at, ANN, "tablet", codec=MSGPACK)
    _, ben = connect(at, BEN)

    at.feed.deliver(0, 100, NOW_MS, [message(7, [ANN, BEN])])

    pushes = [wire.frames[-1] for wire in (phone, tablet, ben)]
    assert [(push.message, push.n, push.cursor) for push in pushes] == [
        ("7", 1, "epoch-1.0.100.1")
    ] * 3
    assert [push.device for push in pushes] == ["phone", "phone", frames.UNSET]


def test_in_a_group_the_sender_alone_is_told_the_device():
    """Wherever the sender stands among its users; each session has its own numbers."""
    at = made_context()
    wires = {user: connect(at, user)[1] for user in (5, ANN, BEN, 33)}
    at.feed.deliver(0, 99, NOW_MS, [message(6, [BEN])])

    at.feed.deliver(0, 100, NOW_MS, [message(7, [5, ANN, BEN, 33])])

    pushes = {user: wire.frames[-1] for user, wire in wires.items()}
    assert {user: push.device for user, push in pushes.items()} == {
        user: "phone" if user == ANN else frames.UNSET for user in wires
    }
    assert {user: push.n for user, push in pushes.items()} == {5: 1, ANN: 1, BEN: 2, 33: 1}


def test_a_delivery_in_the_wrong_partition_is_not_pushed():
    """Its cursor would lead nowhere."""
    at = made_context(partitions=(0, 1))
    _, wire = connect(at, ANN)

    at.feed.deliver(1, 100, NOW_MS, [message(1)])

    assert shown(wire) == []


def test_all_are_not_closed_in_one_turn():
    """Everything else on this loop goes on meanwhile; those that are to be closed are sent nothing
    any more.
    """
    waiting = []
    at = made_context(call_soon=waiting.append)
    wires = [connect(at, user)[1] for user in range(1, 201)]
    at.hub.drain(0)
    told = [sum(isinstance(wire.frames[-1], frames.Drain) for wire in wires)]
    while waiting:
        waiting.pop(0)()
        told.append(sum(isinstance(wire.frames[-1], frames.Drain) for wire in wires))
    assert told == [*range(16, 200, 16), 200]
    assert set(at.hub.by_partition()) == {0}
    assert len(at.hub.by_partition()[0]) == 200

    at.hub.close_all(Close(1012, "restart"))
    assert (at.hub.connections, at.hub.by_partition(), at.hub.closing) == (0, {}, 1)
    at.feed.deliver(0, 100, NOW_MS, [message(1, range(1, 201))])
    closed = [sum(wire.closed is not None for wire in wires)]
    while waiting:
        waiting.pop(0)()
        closed.append(sum(wire.closed is not None for wire in wires))
    assert (closed, at.hub.closing) == ([*range(16, 200, 16), 200], 0)
    assert not any(isinstance(wire.frames[-1], Message) for wire in wires)


def test_a_partition_is_closed_alone():
    """In turns too, and its connections get nothing any more from the first one on."""
    waiting = []
    at = made_context(partitions=(0, 1), call_soon=waiting.append)
    wires = [connect(at, user)[1] for user in range(1, 101)]
    _, elsewhere = connect(at, 1_000, partition=1)
    waiting.clear()
    at.hub.close_partition(0, Close(4006, "elsewhere"))
    at.feed.deliver(0, 100, NOW_MS, [message(1, range(1, 101))])

    assert set(at.hub.by_partition()) == {1}
    assert [wire.closed for wire in wires].count((4006, "elsewhere")) == 16
    while waiting:
        waiting.pop()()
    assert [wire.closed for wire in wires].count((4006, "elsewhere")) == 100
    assert not any(shown(wire) for wire in wires)
    assert elsewhere.closed is None


def test_drain_spreads_the_returns():
    """Each is told another time within what was given, and can go on meanwhile."""
    at = made_context()
    wires = [connect(at, user)[1] for user in range(100, 150)]

    at.hub.drain(5_000)

    times = [wire.frames[-1].reconnect_after_ms for wire in wires]
    assert all(0 <= time <= 5_000 for time in times)
    assert len(set(times)) > 30
    at.hub.close_all(Close(1012, "restart"))
    assert [wire.closed[0] for wire in wires] == [1012] * 50


def test_a_newer_session_of_a_device_replaces_the_older():
    """4409 for the older one; other devices stay, and the user's last session leaves nothing
    behind.
    """
    at = made_context()
    _, older = connect(at, ANN, "phone")
    _, tablet = connect(at, ANN, "tablet")
    newest, newer = connect(at, ANN, "phone")

    assert older.closed[0] == 4409
    assert (tablet.closed, newer.closed) == (None, None)
    at.feed.deliver(0, 100, NOW_MS, [message(1)])
    assert (shown(older), shown(tablet), shown(newer)) == ([], ["1"], ["1"])

    for connection in tuple(at.hub._connections):
        at.hub.remove(connection)
    at.hub.remove(newest)
    assert (at.hub.connections, at.hub._by_user, at.hub._by_id) == (0, {}, {})


def test_too_many_sessions():
    """4429 for the one too many; those that are there stay."""
    at = made_context()
    wires = [connect(at, ANN, f"device-{number}")[1] for number in range(4)]

    assert [wire.closed and wire.closed[0] for wire in wires] == [None, None, None, 4429]


def test_the_budget_of_a_user():
    """All sessions of a user draw from one; another user has his own; it outlives them until it is
    full again.
    """
    at = made_context()
    phone, tablet, other = (
        connect(at, user, device)[0]
        for user, device in ((ANN, "phone"), (ANN, "tablet"), (BEN, "phone"))
    )

    draws = [each.session.budget.draw(200, NOW_S) for each in (phone, tablet, phone)]
    assert draws == [0.0] * 3
    assert tablet.session.budget.draw(10, NOW_S) == pytest.approx(1)
    assert other.session.budget.draw(1, NOW_S) == 0.0
    at.hub.remove(phone)
    at.hub.remove(tablet)
    at.hub.forget(NOW_S + 59)
    assert connect(at, ANN)[0].session.budget is phone.session.budget
    at.hub.remove(at.hub._by_user[ANN][0])
    at.hub.forget(NOW_S + 61)
    assert connect(at, ANN)[0].session.budget is not phone.session.budget
