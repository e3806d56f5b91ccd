"""No bytes can break a session."""

import json

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.sessions.close import Close
from gateway.sessions.effects import (
    Authenticate,
    Coalesce,
    Publish,
    Query,
    RefreshToken,
    SendFrame,
)
from schemas.codec import JSON, MSGPACK
from schemas.kinds import CLIENT_FRAMES
from tests.gateway.sessions.bare import (
    CHAT,
    fresh,
    opened,
    say,
)

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
    st.sampled_from(sorted(CLIENT_FRAMES)) | st.text(max_size=8),
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
