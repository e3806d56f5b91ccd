"""From a client's bytes to effects: each mistake has its error or its close code."""

import json

import pytest

from gateway.sessions.close import Close
from gateway.sessions.effects import (
    Authenticate,
    Coalesce,
    Publish,
    Query,
    RefreshToken,
    SendFrame,
)
from gateway.sessions.protocol import (
    Phase,
)
from gateway.sessions.questions import QUERY_TIMEOUT_S
from schemas import frames
from schemas.codec import JSON, MSGPACK
from tests.gateway.sessions.bare import (
    ANN,
    CHAT,
    HELLO,
    SEND,
    ended,
    fresh,
    opened,
    say,
    told,
)
from tests.gateway.wire import NOW_MS, NOW_S


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


MISTAKES = [
    ({"type": "nonsense", "id": 7}, "unknown_type", "type"),
    ({**SEND, "text": ""}, "malformed", "text"),
    ({**SEND, "text": "x" * 4_097}, "too_large", "text"),
    ({**SEND, "text": "€" * 1_366}, "too_large", "text"),
    ({**SEND, "text": 5}, "malformed", "text"),
    ({**SEND, "text": None}, "malformed", "text"),
    ({**SEND, "file": "f"}, "malformed", "file"),
    ({**SEND, "file": "0"}, "malformed", "file"),
    ({**SEND, "file": 7}, "malformed", "file"),
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


def test_an_ended_session_takes_nothing():
    """Frames that were on their way when it was closed."""
    session = opened()
    session.phase = Phase.CLOSED

    assert say(session, SEND) == []
