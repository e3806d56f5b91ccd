"""What clients of other makes write, and what no client should: understood alike in both codecs, or
named.

Source: protocol.md section 3.
"""

import json
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import frames
from schemas.codec import CODECS, JSON, MSGPACK
from schemas.lenient import BadFrame, UnknownType, Unparsable
from tests.schemas.test_frames import INCOMING

HALVES = st.sampled_from(["\ud83d", "cut \ud83d", "\ude00 cut", "\ud83d\ud83d"])
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | HALVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | HALVES, inner, max_size=3)
    ),
    max_leaves=8,
)
UNKNOWN = st.dictionaries(
    HALVES | st.text(max_size=5).map(lambda name: f"x-{name}"), ANYTHING, max_size=3
)


def packed(value):
    """MessagePack as others write it: halves of surrogate pairs in three bytes each, as JavaScript
    and Java have them in memory.
    """
    match value:
        case dict():
            return (
                b"\xdf"
                + len(value).to_bytes(4)
                + b"".join(packed(key) + packed(item) for key, item in value.items())
            )
        case list():
            return b"\xdd" + len(value).to_bytes(4) + b"".join(packed(item) for item in value)
        case str():
            text = value.encode("utf-8", "surrogatepass")
            return b"\xdb" + len(text).to_bytes(4) + text
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case _:
            return msgspec.msgpack.encode(value)


PACK = {JSON: lambda value: json.dumps(value).encode(), MSGPACK: packed}
BOTH = st.sampled_from([JSON, MSGPACK])


def fields_of(frame):
    """As a client writes it."""
    return json.loads(CODECS[JSON].encode(frame))


@given(INCOMING, UNKNOWN, BOTH)
def test_unknown_fields_are_ignored_whatever_they_hold(frame, unknown, name):
    """Halves of emoji as values, names and deep inside."""
    assert CODECS[name].incoming(PACK[name](fields_of(frame) | unknown)) == frame


@given(INCOMING, UNKNOWN, BOTH)
def test_null_is_a_field_left_out(frame, unknown, name):
    """Every optional field, in every frame; a client that writes all fields of its class says no
    more than the others.
    """
    names = [field.encode_name for field in msgspec.structs.fields(type(frame))]
    nulls = {key: None for key in names if key not in fields_of(frame)}
    if isinstance(frame, frames.Hello) and "client" not in nulls:
        nulls["client"] = fields_of(frame)["client"] | {"version": None, "later": None}
        frame = msgspec.structs.replace(frame, client=frames.ClientInfo(name="x"))

    assert CODECS[name].incoming(PACK[name](fields_of(frame) | nulls | unknown)) == frame


@given(INCOMING, UNKNOWN, BOTH)
def test_a_whole_number_may_be_a_float(frame, unknown, name):
    """As JavaScript's MessagePack writes numbers beyond 32 bits."""
    fields = {
        key: float(value) if type(value) is int else value
        for key, value in fields_of(frame).items()
    }

    assert CODECS[name].incoming(PACK[name](fields | unknown)) == frame


@given(INCOMING, HALVES, st.data(), BOTH)
def test_half_a_surrogate_pair_in_a_field_that_is_read_is_named(frame, half, data, name):
    """With the frame's own number; texts of a given form say that theirs is wrong."""
    fields = fields_of(frame) | {"id": 7}
    place = data.draw(
        st.sampled_from(
            sorted(key for key, value in fields.items() if isinstance(value, str) and key != "type")
            or ["type"]
        )
    )
    with pytest.raises(BadFrame) as bad:
        CODECS[name].incoming(PACK[name](fields | {place: half}))

    assert (bad.value.field, bad.value.re, bad.value.code) == (place, 7, "malformed")
    bad.value.message.encode()


@pytest.mark.parametrize("name", [JSON, MSGPACK])
def test_the_neighbours_in_an_array_are_read(name):
    """One cut emoji, and a ping on both sides."""
    codec, pack = CODECS[name], PACK[name]
    send = {"type": "send", "id": 2, "to": "11", "key": "a1", "text": "cut \ud83d"}
    parts = codec.split(
        pack(
            [
                {"type": "ping", "id": 1},
                send,
                {"type": "ping", "id": 3, "x": {"y": "\ud83d"}},
                {"type": "dance", "x": "\ud83d"},
            ]
        )
    )

    assert [codec.incoming(parts[at]).id for at in (0, 2)] == [1, 3]
    with pytest.raises(BadFrame) as bad:
        codec.incoming(parts[1])
    assert (bad.value.field, bad.value.re) == ("text", 2)
    with pytest.raises(UnknownType):
        codec.incoming(parts[3])


@pytest.mark.parametrize("element", [5, "\ud83d", None, [], {"type": 5, "x": "\ud83d"}])
@pytest.mark.parametrize("name", [JSON, MSGPACK])
def test_what_is_no_frame_in_an_array_is_none(name, element):
    """However leniently it is read."""
    parts = CODECS[name].split(PACK[name]([element, {"type": "ping", "x": "\ud83d"}]))

    with pytest.raises(Unparsable):
        CODECS[name].incoming(parts[0])
    assert CODECS[name].incoming(parts[1]) == frames.Ping()


@pytest.mark.parametrize("number", [1.5, 0.0, -1.0, 2.0**53, 1e308, True, "1"])
@pytest.mark.parametrize("name", [JSON, MSGPACK])
def test_other_numbers_are_no_ids(name, number):
    """Fractions, what is out of range, and what is none."""
    with pytest.raises(BadFrame) as bad:
        CODECS[name].incoming(PACK[name]({"type": "ping", "id": number}))
    assert (bad.value.field, bad.value.re) == ("id", msgspec.UNSET)


def test_a_number_of_any_length_is_ignored_where_it_is_not_read():
    """Beside half a surrogate pair, which makes it read again."""
    assert CODECS[JSON].incoming(
        b'{"type":"ping","id":3,"x":"\\ud83d","y":%b}' % (b"9" * 5_000)
    ) == frames.Ping(id=3)
    with pytest.raises(BadFrame):
        CODECS[JSON].incoming(b'{"type":"ping","id":%b}' % (b"9" * 5_000))


def test_a_float64_as_javascript_writes_it():
    """Seen from a client: {type: "ping", id: 1764447212544}."""
    assert CODECS[MSGPACK].incoming(
        bytes.fromhex("82a474797065a470696e67a26964cb4279ad13fd400000")
    ) == frames.Ping(id=1764447212544)
