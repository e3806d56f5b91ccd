"""What happens to a connection with time: heartbeats, the end of a token, cursors, a late hello."""

import pytest

from gateway.sessions.protocol import CURSOR_INTERVAL_S
from schemas import frames
from tests.gateway.pushes import ANN, BEN, message
from tests.gateway.wire import NOW_MS, NOW_S, claims, connect, made_context, opened


def test_heartbeats():
    """A ping after 30 s of silence, the end after 60; any sign of life starts over."""
    at = made_context()
    connection, wire = connect(at, ANN)

    at.run_timers(NOW_S + 29)
    assert wire.pings == 0
    at.run_timers(NOW_S + 30.25)
    at.run_timers(NOW_S + 31)
    assert wire.pings == 1
    connection.session.on_activity(NOW_S + 50)
    at.run_timers(NOW_S + 79)
    assert wire.pings == 1
    at.run_timers(NOW_S + 80.25)
    assert wire.pings == 2
    at.run_timers(NOW_S + 109)
    assert wire.closed is None
    at.run_timers(NOW_S + 110.25)
    assert wire.closed[0] == 4002


def test_a_token_ends():
    """`expiring` a minute before, close 4004 within a second of the end."""
    at = made_context()
    connection, wire = connect(at, ANN, token_s=300)
    wire.take()

    for second in range(1, 300):
        connection.session.on_activity(NOW_S + second)
        at.run_timers(NOW_S + second)
    assert [type(frame) for frame in wire.frames] == [frames.Expiring]
    assert wire.closed is None
    at.run_timers(NOW_S + 300.25)
    assert wire.closed[0] == 4004


def test_a_refresh_moves_the_end():
    """And the next warning comes before the new end."""
    at = made_context()
    connection, wire = connect(at, ANN, token_s=300)
    connection.session.on_activity(NOW_S + 240)
    at.run_timers(NOW_S + 241)
    connection.session.renew(
        claims(ANN, "phone", issued_ms=NOW_MS + 250_000, token_s=300),
        now_s=NOW_S + 250,
        now_ms=NOW_MS + 250_000,
    )

    for second in range(251, 550):
        connection.session.on_activity(NOW_S + second)
        at.run_timers(NOW_S + second)

    assert [type(frame) for frame in wire.frames] == [frames.Live, frames.Expiring, frames.Expiring]
    assert wire.closed is None


def test_a_short_token_warns_in_its_last_third():
    """Once for each token: who refreshes at every `expiring` does so at two thirds of each life,
    not all the time.
    """
    at = made_context()
    connection, wire = connect(at, ANN, token_s=6)
    warned_at = []

    for quarter in range(1, 4 * 20):
        now_s, now_ms = NOW_S + quarter / 4, NOW_MS + quarter * 250
        at.run_timers(now_s)
        if any(isinstance(frame, frames.Expiring) for frame in wire.take()):
            warned_at.append(now_s - NOW_S)
            connection.session.renew(
                claims(ANN, "phone", issued_ms=now_ms, token_s=6), now_s=now_s, now_ms=now_ms
            )

    assert wire.closed is None
    assert warned_at == pytest.approx([4, 8, 12, 16], abs=1.1)


def test_a_quiet_session_is_told_how_far_it_is():
    """Every five minutes, and only when there is something to tell."""
    at = made_context()
    connection, wire = connect(at, ANN, token_s=10_000)
    wire.take()

    def pass_by(seconds):
        start = connection.session.last_activity_s
        for step in range(int(seconds)):
            connection.session.on_activity(start + step)
            at.run_timers(start + step)

    pass_by(CURSOR_INTERVAL_S + 2)
    assert wire.take() == []
    at.feed.deliver(0, 100, NOW_MS, [message(1, [BEN])])
    pass_by(CURSOR_INTERVAL_S + 2)
    assert [frame.cursor for frame in wire.take()] == ["epoch-1.0.101.0"]
    pass_by(CURSOR_INTERVAL_S + 2)
    assert wire.take() == []


def test_no_connection_stays_without_a_hello():
    """4404 after five seconds, whatever else it sends."""
    at = made_context()
    connection, wire = opened(at)

    connection.session.on_activity(NOW_S + 4)
    at.run_timers(NOW_S + 4.75)
    assert wire.closed is None
    at.run_timers(NOW_S + 5.25)
    assert wire.closed[0] == 4404
