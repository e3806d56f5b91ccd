"""How much a client may say, and how many questions may wait."""

from dataclasses import replace

import pytest

from gateway.sessions.effects import (
    Query,
)
from gateway.sessions.questions import MAX_QUERIES, QUERY_TIMEOUT_S
from gateway.sessions.read_limits import MAX_EARLY_FRAMES, MIN_PAUSE_S
from schemas import chat_pb2 as pb
from schemas.codec import JSON, MSGPACK
from schemas.kinds.digest import Digest
from tests.gateway.sessions.bare import (
    ANN,
    CHAT,
    HELLO,
    SEND,
    ended,
    fresh,
    opened,
    paused,
    say,
    told,
)
from tests.gateway.wire import NOW_S, RULES, connect, made_context


def test_not_too_much_is_said_before_welcome():
    """4005 at the eleventh frame, the hello and those without a message included, rather than
    keeping it all.
    """
    session = fresh()
    say(session, HELLO)

    for _ in range(MAX_EARLY_FRAMES - 2):
        assert say(session, SEND) == []
    assert session.on_idle_frame(NOW_S) == []
    assert ended(say(session, SEND)) == 4005


def test_too_many_messages_are_read_later():
    """What is beyond 500 a second, counting those in arrays, is taken and then waited for; none
    is closed and nothing is lost.
    """
    session = opened()
    for _ in range(7):
        effects = say(session, [{"type": "ping"}] * 64)
        assert (len(effects), paused(effects)) == (64, [])

    effects = say(session, [{"type": "ping"}] * 64)
    assert len(effects) == 65
    assert paused(effects) == [MIN_PAUSE_S]
    assert paused(say(session, [{"type": "ping"}] * 64)) == [76 / 500]
    assert paused(say(session, {"type": "ping"}, now_s=NOW_S + 76 / 500)) == [MIN_PAUSE_S]
    assert paused(say(session, {"type": "ping"}, now_s=NOW_S + 1)) == []


def test_long_messages_count_for_more():
    """Once for each 4 KiB, before what is in them is looked at."""
    session = opened()
    large = {"type": "ping", "x": "x" * 64_000}

    for _ in range(33):
        assert paused(say(session, large)) == []
    assert paused(say(session, large)) == [MIN_PAUSE_S]


def test_a_pause_of_reading_is_no_silence():
    """However long: a client that is not read is not taken for dead."""
    session = opened(rules=replace(RULES, frames_per_second=1))

    assert paused(say(session, [{"type": "ping"}] * 64)) == [63.0]
    assert session.on_timer(NOW_S + 62, (0, 0)) == []


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_too_many_frames_that_say_nothing(codec):
    """4005 at the 101st ping, pong, fragment or empty array of a second; a new
    second starts over.
    """
    session = opened(codec)
    for second in range(3):
        for number in range(100):
            assert (
                session.on_idle_frame(NOW_S + second)
                if number % 2
                else say(session, [], now_s=NOW_S + second)
            ) == []

    assert ended(say(session, [], now_s=NOW_S + 2.9)) == 4005
    assert ended(session.on_idle_frame(NOW_S + 2.9)) == 4005


def test_questions_have_numbers_a_limit_and_an_end():
    """16 may wait; one number waits once; without an answer in 10 s there is an error, which its
    number may be used for again.
    """
    at = made_context()
    connection, wire = connect(at, ANN)
    session = connection.session
    for number in range(1, MAX_QUERIES + 1):
        assert [type(effect) for effect in say(session, {"type": "chats", "id": number})] == [Query]
    assert told(say(session, {"type": "chats", "id": 1})) == ("malformed", 1, "id")
    assert told(say(session, {"type": "chats", "id": 99})) == ("rate_limited", 99, None)
    assert session.pop_question(3) == 3
    assert session.pop_question(3) is None
    assert [type(effect) for effect in say(session, {"type": "chats", "id": 99})] == [Query]
    wire.take()

    connection.schedule()
    at.run_timers(NOW_S + QUERY_TIMEOUT_S + 0.25)

    late = wire.take()
    assert [(frame.re, frame.code, frame.temporary) for frame in late] == [
        (number, "unavailable", True) for number in (1, 2, *range(4, 17), 99)
    ]
    assert session.pop_question(1) is None


def test_a_late_answer_is_not_taken_for_a_newer_question():
    """Whose client number is the same: the first has been told that there is no answer, and asks
    again.
    """
    at = made_context()
    connection, wire = connect(at, ANN)
    session = connection.session
    (first,) = say(session, {"type": "digest", "id": 7, "chat": CHAT, "from": "1", "to": "2"})
    connection.schedule()
    at.run_timers(NOW_S + QUERY_TIMEOUT_S + 0.25)
    (second,) = say(
        session,
        {"type": "digest", "id": 7, "chat": CHAT, "from": "1", "to": "9"},
        now_s=NOW_S + QUERY_TIMEOUT_S + 1,
    )
    wire.take()

    for ask, count in ((first, 2), (second, 9)):
        at.hub.answer(pb.Answer(session=session.id, re=ask.query.re), Digest(count=count, hash="0"))

    assert [(frame.re, frame.count) for frame in wire.take()] == [(7, 9)]
