"""What is no frame, or a frame with a mistake, is refused by name, in both codecs; nothing else is
ever raised. Source: protocol.md section 2.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import frames
from schemas.codec import CODECS, JSON, MSGPACK
from schemas.kinds import CLIENT_FRAMES, SERVER_FRAMES
from schemas.lenient import BadFrame, UnknownType, Unparsable
from tests.schemas.codecs import BINARY, BOTH, PACK, TEXT


@BOTH
def test_an_unknown_type_is_told_from_a_bad_frame(name):
    """The gateway answers `unknown_type` with the number; a client passes over what it does not
    know yet.
    """
    codec, pack = CODECS[name], PACK[name]

    for number, re in (
        (7, 7),
        ("7", msgspec.UNSET),
        (0, msgspec.UNSET),
        (2**53, msgspec.UNSET),
        (True, msgspec.UNSET),
    ):
        with pytest.raises(UnknownType) as unknown:
            codec.incoming(pack({"type": "dance", "id": number}))
        assert (unknown.value.name, unknown.value.re) == ("dance", re)
    assert codec.outgoing(pack({"type": "dance", "cursor": 5})) is None
    with pytest.raises(UnknownType) as unknown:
        codec.incoming(pack({"type": "x" * 1_000}))
    assert len(unknown.value.name) == 64


BAD_FIELDS = [
    ({"type": "send"}, "key"),
    ({"type": "send", "key": ""}, "key"),
    ({"type": "send", "key": "a b"}, "key"),
    ({"type": "send", "key": "é"}, "key"),
    ({"type": "send", "key": "k" * 65}, "key"),
    ({"type": "send", "key": "k\n"}, "key"),
    ({"type": "send", "key": "k", "to": 5}, "to"),
    ({"type": "send", "key": "k", "to": "05"}, "to"),
    ({"type": "send", "key": "k", "to": "x"}, "to"),
    ({"type": "send", "key": None}, "key"),
    ({"type": "send", "key": "k", "text": ["x"]}, "text"),
    ({"type": "send", "key": "k", "reply_to": "-1"}, "reply_to"),
    ({"type": "send", "key": "k", "chat": "c" * 65}, "chat"),
    ({"type": "ping", "id": 0}, "id"),
    ({"type": "ping", "id": -1}, "id"),
    ({"type": "ping", "id": 2**53}, "id"),
    ({"type": "ping", "id": 1.5}, "id"),
    ({"type": "ping", "id": "1"}, "id"),
    ({"type": "ping", "id": True}, "id"),
    ({"type": "hello", "device": "d"}, "token"),
    ({"type": "hello", "token": "t"}, "device"),
    ({"type": "hello", "token": "t" * 4_097, "device": "d"}, "token"),
    ({"type": "hello", "token": "t", "device": "d", "resume": "c" * 257}, "resume"),
    ({"type": "hello", "token": "t", "device": "d", "seen": "1.0"}, "seen"),
    ({"type": "hello", "token": "t", "device": "d", "background": 1}, "background"),
    ({"type": "hello", "token": "t", "device": "d", "client": {"name": 5}}, "client.name"),
    ({"type": "mark", "read": "1"}, "chat"),
    ({"type": "mark", "chat": "g-1", "read": 1}, "read"),
    ({"type": "history", "chat": "g-1", "limit": 0}, "limit"),
    ({"type": "history", "chat": "g-1", "limit": 257}, "limit"),
    ({"type": "history", "chat": "g-1", "before": 5}, "before"),
    ({"type": "chats", "limit": "5"}, "limit"),
    ({"type": "digest", "chat": "g-1", "to": "5"}, "from"),
    ({"type": "digest", "chat": "g-1", "from": "a", "to": "5"}, "from"),
    ({"type": "refresh"}, "token"),
]


@BOTH
@pytest.mark.parametrize(
    ("frame", "field"),
    BAD_FIELDS,
    ids=lambda value: value if isinstance(value, str) else value["type"],
)
def test_a_bad_field_is_named(name, frame, field):
    """`error malformed` can name the place and repeat the number of the frame."""
    number = {} if field == "id" else {"id": 41}
    with pytest.raises(BadFrame) as bad:
        CODECS[name].incoming(PACK[name](frame | number))

    assert (bad.value.field, bad.value.type, bad.value.code) == (field, frame["type"], "malformed")
    assert bad.value.re == number.get("id", msgspec.UNSET)


@BOTH
@pytest.mark.parametrize(
    "frame",
    [5, None, "ping", True, 1.5, {}, {"id": 1}, {"type": 5}, {"type": None}, {"type": ["ping"]}],
)
def test_what_is_no_frame_is_unparsable(name, frame):
    """Not an object, or without a text `type`: the gateway closes with 4400."""
    for decode in (CODECS[name].incoming, CODECS[name].outgoing):
        with pytest.raises(Unparsable):
            decode(PACK[name](frame))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b" ",
        b"{",
        b"ping",
        b'{"type":"ping"',
        b'{"type":"ping"}{"type":"ping"}',
        b"{'type':'ping'}",
        b'{"type":"ping","id":NaN}',
        b'\xef\xbb\xbf{"type":"ping"}',
        b'{"type":"ping","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"type":"ping","id":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}",
        '{"type":"ping"}'.encode("utf-16"),
    ],
    ids=lambda payload: payload[:24],
)
def test_text_that_is_no_json(payload):
    """Cut, doubled, too deep, numbers that JSON does not have: unparsable, never a crash."""
    with pytest.raises(Unparsable):
        TEXT.incoming(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x81\xa4type",
        b"\x81\xa4type\xa4ping\x00",
        b"\x81\xa4type\xc4\x04ping",
        b"\x81\xa4type\xd6\xff\x00\x00\x00\x01",
        b"\x82\x01\x02\xa4type\xa4ping",
        b"\x82\xa4type\xa4ping\xa1x" + b"\x91" * 30_000 + b"\xc0",
    ],
    ids=lambda payload: payload[:12].hex(),
)
def test_bytes_that_are_no_message_pack(payload):
    """Cut, doubled, binary or timestamps where text belongs, numbers as names, too deep:
    unparsable, never a crash.
    """
    with pytest.raises(Unparsable):
        BINARY.incoming(payload)


@pytest.mark.parametrize(
    "extra",
    [b"\xc7\x01\x05a", b"\xd6\xff\x00\x00\x00\x01", b"\xc4\x01a", b"\xca\x7f\xc0\x00\x00"],
    ids=lambda e: e.hex(),
)
def test_message_pack_kinds_that_json_lacks(extra):
    """Extensions, timestamps, binary, NaN: ignored where the field is unknown, a bad field where it
    is ours.
    """
    assert BINARY.incoming(b"\x82\xa4type\xa4ping\xa1x" + extra) == frames.Ping()
    with pytest.raises(BadFrame) as bad:
        BINARY.incoming(b"\x82\xa4type\xa4ping\xa2id" + extra)
    assert bad.value.field == "id"


@pytest.mark.parametrize(
    "payload", [b'{"type":5,"text":"\\ud83d"}', b'"\\ud83d"', b'{"type":"ping","x":"\\ud83d']
)
def test_half_of_an_emoji_makes_no_frame_of_what_is_none(payload):
    """It is looked at again, not believed."""
    with pytest.raises(Unparsable):
        TEXT.incoming(payload)


def test_invalid_utf8_in_message_pack_is_a_bad_field():
    """The socket checks UTF-8 of text frames only; in MessagePack the codec does."""
    with pytest.raises(BadFrame) as bad:
        BINARY.incoming(b"\x84\xa4type\xa4send\xa3key\xa1k\xa4text\xa1\xff\xa2id\x07")
    assert (bad.value.field, bad.value.re) == ("text", 7)


@BOTH
def test_a_mistake_in_an_array_is_its_elements(name):
    """The good elements stay good; what is no object is unparsable by itself."""
    codec = CODECS[name]
    good, unknown, nested, plain = codec.split(
        PACK[name]([{"type": "ping"}, {"type": "dance"}, [{"type": "ping"}], 5])
    )

    assert codec.incoming(good) == frames.Ping()
    with pytest.raises(UnknownType):
        codec.incoming(unknown)
    for junk in (nested, plain):
        with pytest.raises(Unparsable):
            codec.incoming(junk)


def test_a_cut_array_is_unparsable():
    """Also behind white space, and too deep."""
    for payload in (b" \n[", b'[{"type":"ping"}', b"[" * 60_000):
        with pytest.raises(Unparsable):
            TEXT.split(payload)
    for payload in (b"\x92\x80", b"\xdc\x00", b"\xdd\xff\xff\xff\xff", b"\x91" * 60_000):
        with pytest.raises(Unparsable):
            BINARY.split(payload)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(codec="utf-8"))
    | st.sampled_from(sorted(CLIENT_FRAMES.keys() | SERVER_FRAMES.keys())),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "id", "key", "text", "chat", "limit", "n"]), inner
        )
    ),
    max_leaves=12,
)


def survives(codec, payload):
    """The only errors that decoding raises are the three that the gateway answers."""
    try:
        parts = codec.split(payload)
    except Unparsable:
        return
    for part in parts:
        for decode in (codec.incoming, codec.outgoing):
            with suppress(Unparsable, UnknownType, BadFrame):
                decode(part)


@given(JUNK)
def test_fuzzed_values_raise_nothing_else(value):
    """Fuzz: any value that the formats can hold."""
    survives(BINARY, msgspec.msgpack.encode(value))
    survives(TEXT, json.dumps(value).encode())


@given(st.binary(max_size=300), st.text(max_size=300), st.integers(0, 200))
def test_fuzzed_bytes_raise_nothing_else(noise, text, at):
    """Fuzz: any bytes, any text with lone surrogates, and good frames with a bite taken out."""
    good = {
        "type": "send",
        "id": 1,
        "key": "k",
        "to": "1",
        "text": text.encode("utf-8", "ignore").decode(),
    }
    for codec, pack in ((TEXT, PACK[JSON]), (BINARY, PACK[MSGPACK])):
        survives(codec, noise)
        payload = pack(good)
        survives(codec, payload[:at] + noise[:3] + payload[at + 1 :])
    survives(TEXT, json.dumps(good | {"text": text}).encode())
    survives(TEXT, json.dumps([good | {"text": text}, math.inf]).encode())
