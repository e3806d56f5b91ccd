"""From a client's bytes to effects: each mistake has its error or its close code, and no bytes can
break a session.
"""

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.sessions.close import Close
from gateway.sessions.effects import (
    Authenticate,
    Coalesce,
    PauseReading,
    Publish,
    Query,
    RefreshToken,
    SendFrame,
)
from gateway.sessions.protocol import (
    MAX_EARLY_FRAMES,
    MAX_QUERIES,
    MIN_PAUSE_S,
    QUERY_TIMEOUT_S,
    Phase,
    Session,
)
from schemas import chat_pb2 as pb
from schemas import frames
from schemas.frames import CODECS, JSON, MSGPACK
from tests.gateway.wire import NOW_MS, NOW_S, RULES, Wire, claims, connect, hub

ANN = 11
HELLO = {"type": "hello", "token": "t", "device": "phone"}
SEND = {"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"}


def fresh(codec=JSON):
    return Session(Wire(CODECS[codec]), CODECS[codec], RULES, now_s=NOW_S)


def opened(codec=JSON):
    session = fresh(codec)
    session.open(
        claims(ANN, "phone"),
        partition=0,
        epoch="e",
        position=(0, 0),
        background=False,
        now_s=NOW_S,
        now_ms=NOW_MS,
    )
    return session


def say(session, value, *, now_s=NOW_S, text=None):
    payload = (
        value
        if isinstance(value, bytes)
        else json.dumps(value).encode()
        if session.codec.text
        else msgspec.msgpack.encode(value)
    )
    return session.receive(
        payload, text=session.codec.text if text is None else text, now_s=now_s, now_ms=NOW_MS
    )


def ended(effects):
    assert len(effects) == 1
    assert isinstance(effects[0], Close), effects
    return effects[0].code


def told(effects):
    """Code, `re` and field of the one error."""
    assert len(effects) == 1
    assert isinstance(effects[0], SendFrame), effects
    frame = effects[0].frame
    details = None if frame.details is frames.UNSET else frame.details["field"]
    return frame.code, None if frame.re is frames.UNSET else frame.re, details


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_hello_comes_first(codec):
    """And only then is there anything else to do."""
    session = fresh(codec)

    effects = say(session, HELLO)

    assert [type(effect) for effect in effects] == [Authenticate]
    assert effects[0].hello.device == "phone"


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (SEND, 4404),
        ({"type": "ping"}, 4404),
        ({"type": "nonsense"}, 4404),
        ({"type": "send"}, 4404),
        ({"type": "hello", "token": "t"}, 4400),
        ({"type": "hello", "token": 5, "device": "phone"}, 4400),
        ({**HELLO, "device": ""}, 4400),
        ({**HELLO, "device": "a b"}, 4400),
        ({**HELLO, "device": "x" * 65}, 4400),
        ({**HELLO, "token": "x" * 4097}, 4400),
        ({**HELLO, "resume": 5}, 4400),
        ({**HELLO, "resume": "x" * 257}, 4400),
        ({**HELLO, "seen": "-1"}, 4400),
        ({**HELLO, "seen": 5}, 4400),
        ({**HELLO, "background": 1}, 4400),
        ({**HELLO, "client": {"name": "x" * 65}}, 4400),
        ({"token": "t", "device": "phone"}, 4400),
        ({"type": 5}, 4400),
        ([1], 4400),
        (b"[[]]", 4400),
        (b"5", 4400),
        (b"", 4400),
        (b"{", 4400),
        (b"not json", 4400),
        (b"\xff\xfe", 4400),
        (b'"hello"', 4400),
        (b"null", 4400),
    ],
)
def test_what_a_first_frame_may_not_be(first, code):
    """4400 for what is no frame or a wrong hello, 4404 for anything that is no hello."""
    assert ended(say(fresh(), first)) == code


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b"{",
        b"[1]",
        b"5",
        b'{"type":5}',
        b"{}",
        b"[" + b"{}," * 64 + b"{}]",
        b"[" * 10_000,
    ],
)
def test_what_is_no_frame_later(payload):
    """4400, at any time."""
    assert ended(say(opened(), payload)) == 4400


@pytest.mark.parametrize(("codec", "text"), [(JSON, False), (MSGPACK, True)])
def test_the_wrong_opcode(codec, text):
    """JSON comes as text, MessagePack as binary: 4400."""
    assert ended(say(opened(codec), HELLO, text=text)) == 4400


def test_hello_twice():
    """4404."""
    assert ended(say(opened(), HELLO)) == 4404


CHAT = "d-11-22"
MISTAKES = [
    ({"type": "nonsense", "id": 7}, "unknown_type", "type"),
    ({**SEND, "text": ""}, "malformed", "text"),
    ({**SEND, "text": "x" * 4_097}, "too_large", "text"),
    ({**SEND, "text": "€" * 1_366}, "too_large", "text"),
    ({**SEND, "text": 5}, "malformed", "text"),
    ({**SEND, "text": None}, "malformed", "text"),
    ({**SEND, "file": "f"}, "malformed", "file"),
    ({**SEND, "key": ""}, "malformed", "key"),
    ({**SEND, "key": "x" * 65}, "malformed", "key"),
    ({**SEND, "key": "a b"}, "malformed", "key"),
    ({**SEND, "key": 5}, "malformed", "key"),
    ({**SEND, "to": "abc"}, "malformed", "to"),
    ({**SEND, "to": 22}, "malformed", "to"),
    ({**SEND, "to": "0"}, "malformed", "to"),
    ({**SEND, "to": "9" * 19}, "malformed", "to"),
    ({**SEND, "to": "007"}, "malformed", "to"),
    ({**SEND, "chat": CHAT}, "malformed", "to"),
    ({**SEND, "reply_to": "x"}, "malformed", "reply_to"),
    ({"type": "send", "key": "k", "text": "hi"}, "malformed", "chat"),
    ({"type": "send", "key": "k", "to": "22"}, "malformed", "text"),
    ({"type": "send", "to": "22", "text": "hi"}, "malformed", "key"),
    ({"type": "send", "key": "k", "chat": "d-22-33", "text": "hi"}, "unknown_chat", "chat"),
    ({"type": "send", "key": "k", "chat": "d-22-11", "text": "hi"}, "malformed", "chat"),
    ({"type": "send", "key": "k", "chat": "elsewhere", "text": "hi"}, "malformed", "chat"),
    ({"type": "mark", "chat": CHAT}, "malformed", "read"),
    ({"type": "mark", "chat": CHAT, "read": "x"}, "malformed", "read"),
    ({"type": "mark", "chat": "d-22-33", "read": "5"}, "unknown_chat", "chat"),
    ({"type": "history", "id": 7, "chat": CHAT, "before": "yesterday"}, "malformed", "before"),
    (
        {"type": "history", "id": 7, "chat": CHAT, "before": "2026-01-31 23:59:59"},
        "malformed",
        "before",
    ),
    (
        {"type": "history", "id": 7, "chat": CHAT, "after": "2026-02-31T00:00:00Z"},
        "malformed",
        "after",
    ),
    ({"type": "history", "id": 7, "chat": CHAT, "before": "5", "after": "5"}, "malformed", "after"),
    ({"type": "history", "id": 7, "chat": CHAT, "limit": 0}, "malformed", "limit"),
    ({"type": "history", "id": 7, "chat": CHAT, "limit": 257}, "malformed", "limit"),
    ({"type": "history", "id": 7, "chat": CHAT, "limit": "5"}, "malformed", "limit"),
    ({"type": "history", "id": 7, "chat": "d-22-33"}, "unknown_chat", "chat"),
    ({"type": "history", "chat": CHAT}, "malformed", "id"),
    ({"type": "chats"}, "malformed", "id"),
    ({"type": "chats", "id": 7, "after": 5}, "malformed", "after"),
    ({"type": "digest", "id": 7, "chat": CHAT, "from": "1"}, "malformed", "to"),
    ({"type": "digest", "id": 7, "chat": CHAT, "from": "x", "to": "2"}, "malformed", "from"),
    ({"type": "refresh", "id": 7}, "malformed", "token"),
    ({"type": "ping", "id": 0}, "malformed", "id"),
    ({"type": "ping", "id": 2**53}, "malformed", "id"),
    ({"type": "ping", "id": "7"}, "malformed", "id"),
    ({"type": "ping", "id": 1.5}, "malformed", "id"),
]


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
@pytest.mark.parametrize(
    ("frame", "code", "field"),
    MISTAKES,
    ids=lambda value: json.dumps(value)[:70] if isinstance(value, dict) else "",
)
def test_a_mistake_gets_its_error_and_the_socket_stays(frame, code, field, codec):
    """The code, the place, and the number of the frame that was wrong."""
    session = opened(codec)
    number = frame.get("id")

    error = told(say(session, frame))

    assert error == (
        code,
        number if isinstance(number, int) and 0 < number < 2**53 else None,
        field,
    )
    assert [type(effect) for effect in say(session, {"type": "ping", "id": 8})] == [SendFrame]


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_frames_become_what_they_ask_for(codec):
    """Alone or in an array, in order; unknown fields are ignored."""
    session = opened(codec)
    effects = say(
        session,
        [
            {**SEND, "later": True},
            {"type": "mark", "chat": CHAT, "read": "5"},
            {"type": "chats", "id": 2},
            {"type": "refresh", "id": 3, "token": "t"},
            {"type": "ping", "id": 4},
        ],
    )

    assert [type(effect) for effect in effects] == [
        Publish,
        Coalesce,
        Query,
        RefreshToken,
        SendFrame,
    ]
    assert (
        effects[0].command.chat,
        effects[0].command.send.text,
        effects[0].command.key,
        effects[0].re,
    ) == (CHAT, "hi", "k", 1)
    assert (effects[1].command.mark.read, effects[1].command.mark.received, effects[1].re) == (
        5,
        5,
        frames.UNSET,
    )
    assert (effects[2].query.session, effects[2].query.user, effects[2].query.re) == (
        session.id,
        ANN,
        1,
    )
    assert effects[2].query.deadline_ms == NOW_MS + QUERY_TIMEOUT_S * 1_000
    assert effects[4].frame.re == 4


def test_nothing_counts_behind_an_end():
    """What stands before the bad frame in an array is done, what stands behind it is not."""
    effects = say(opened(), b'[{"type":"ping","id":1},5,{"type":"ping","id":2}]')

    assert [type(effect) for effect in effects] == [SendFrame, Close]


def test_what_is_said_before_welcome_waits():
    """In the same array or later; it is taken in order when the session is open."""
    session = fresh()
    assert [type(effect) for effect in say(session, [HELLO, {"type": "ping", "id": 1}])] == [
        Authenticate
    ]
    assert say(session, {"type": "ping", "id": 2}) == []

    session.phase = Phase.OPEN
    effects = session.on_admitted(NOW_S, NOW_MS)

    assert [effect.frame.re for effect in effects] == [1, 2]
    assert session.on_admitted(NOW_S, NOW_MS) == []


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


def paused(effects):
    return [effect.seconds for effect in effects if isinstance(effect, PauseReading)]


def test_too_many_messages_are_read_later():
    """What is beyond 500 a second, counting those in arrays, is taken and then waited for; nobody
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
    """Once for each 4 KiB, before anybody looks what is in them."""
    session = opened()
    large = {"type": "ping", "x": "x" * 64_000}

    for _ in range(33):
        assert paused(say(session, large)) == []
    assert paused(say(session, large)) == [MIN_PAUSE_S]


def test_a_pause_of_reading_is_no_silence():
    """However long: nobody is said to be dead whom we do not read."""
    session = Session(Wire(), CODECS[JSON], replace(RULES, frames_per_second=1), now_s=NOW_S)
    session.open(
        claims(ANN, "phone"),
        partition=0,
        epoch="e",
        position=(0, 0),
        background=False,
        now_s=NOW_S,
        now_ms=NOW_MS,
    )

    assert paused(say(session, [{"type": "ping"}] * 64)) == [63.0]
    assert session.on_timer(NOW_S + 62, (0, 0)) == []


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
def test_too_many_frames_that_say_nothing(codec):
    """4005 at the 101st ping, pong, fragment or empty array of a second; a new
    second begins anew.
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


def test_an_ended_session_takes_nothing():
    """Frames that were on their way when it was closed."""
    session = opened()
    session.phase = Phase.CLOSED

    assert say(session, SEND) == []


def test_questions_have_numbers_a_limit_and_an_end():
    """16 may wait; one number waits once; without an answer in 10 s there is an error, which its
    number may be used for again.
    """
    at = hub()
    session, wire = connect(at, ANN)
    for number in range(1, MAX_QUERIES + 1):
        assert [type(effect) for effect in say(session, {"type": "chats", "id": number})] == [Query]
    assert told(say(session, {"type": "chats", "id": 1})) == ("malformed", 1, "id")
    assert told(say(session, {"type": "chats", "id": 99})) == ("rate_limited", 99, None)
    assert session.pop_question(3) == 3
    assert session.pop_question(3) is None
    assert [type(effect) for effect in say(session, {"type": "chats", "id": 99})] == [Query]
    wire.take()

    at.schedule(session)
    at.tick(NOW_S + QUERY_TIMEOUT_S + 0.25)

    late = wire.take()
    assert [(frame.re, frame.code, frame.temporary) for frame in late] == [
        (number, "unavailable", True) for number in (1, 2, *range(4, 17), 99)
    ]
    assert session.pop_question(1) is None


def test_a_late_answer_is_not_taken_for_a_newer_question():
    """Whose client number is the same: the first has been told that there is no answer, and asks
    again.
    """
    at = hub()
    session, wire = connect(at, ANN)
    (first,) = say(session, {"type": "digest", "id": 7, "chat": CHAT, "from": "1", "to": "2"})
    at.schedule(session)
    at.tick(NOW_S + QUERY_TIMEOUT_S + 0.25)
    (second,) = say(
        session,
        {"type": "digest", "id": 7, "chat": CHAT, "from": "1", "to": "9"},
        now_s=NOW_S + QUERY_TIMEOUT_S + 1,
    )
    wire.take()

    for ask, count in ((first, 2), (second, 9)):
        at.answer(
            pb.Answer(session=session.id, re=ask.query.re), frames.Digest(count=count, hash="0")
        )

    assert [(frame.re, frame.count) for frame in wire.take()] == [(7, 9)]


FIELDS = [
    *(
        "type",
        "id",
        "key",
        "chat",
        "to",
        "text",
        "file",
        "reply_to",
        "received",
        "read",
        "before",
        "after",
        "around",
        "limit",
        "from",
    ),
    *("token", "device", "resume", "seen", "client", "background"),
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from((CHAT, "22", "5", "k"))
)
fields = st.dictionaries(
    st.sampled_from(FIELDS) | st.text(max_size=5),
    scalars
    | st.lists(scalars, max_size=3)
    | st.dictionaries(st.text(max_size=3), scalars, max_size=3),
    max_size=8,
)
typed = st.builds(
    lambda value, kind: {**value, "type": kind},
    fields,
    st.sampled_from(sorted(frames.CLIENT_TYPES)) | st.text(max_size=8),
)


@settings(max_examples=400, deadline=None)
@given(
    payload=st.binary(max_size=300), is_open=st.booleans(), codec=st.sampled_from((JSON, MSGPACK))
)
@example(payload=b'{"type":"chats","id":1,"after":"\\ud800"}', is_open=True, codec=JSON)
@example(payload=b'{"type":"ping","id":' + b"9" * 5_000 + b"}", is_open=True, codec=JSON)
@example(payload=b'{"type":"' + b"[" * 5_000, is_open=True, codec=JSON)
def test_no_bytes_break_a_session(payload, is_open, codec):
    """Whatever comes, effects come of it."""
    session = opened(codec) if is_open else fresh(codec)

    effects = say(session, payload)

    assert all(
        isinstance(
            effect, SendFrame | Close | Authenticate | Publish | Coalesce | Query | RefreshToken
        )
        for effect in effects
    )


@settings(max_examples=400, deadline=None)
@given(value=typed | st.lists(typed, max_size=4), codec=st.sampled_from((JSON, MSGPACK)))
def test_no_fields_break_a_session(value, codec):
    """Frames that are nearly right are the dangerous ones: what is published can be written."""
    session = opened(codec)
    try:
        payload = json.dumps(value).encode() if codec == JSON else msgspec.msgpack.encode(value)
    except (OverflowError, UnicodeEncodeError):
        return

    for effect in say(session, payload):
        if isinstance(effect, Publish | Coalesce):
            effect.command.SerializeToString()
        elif isinstance(effect, Query):
            effect.query.SerializeToString()
        elif isinstance(effect, SendFrame):
            session.codec.encode(effect.frame)
