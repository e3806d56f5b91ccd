"""The codec of events: golden bytes, the real data plane's bytes, the cloudevents SDK where it is
right, and all that is no event.
"""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from dataclasses import replace

import pytest
from cloudevents.conversion import to_structured
from cloudevents.http import CloudEvent, from_http
from cloudevents.kafka import KafkaMessage, from_binary
from cloudevents.kafka import to_binary as sdk_to_kafka
from hypothesis import given
from hypothesis import strategies as st

from schemas import chat_pb2 as pb
from schemas.cloudevents import (
    Event,
    check_time,
    from_kafka,
    from_sdk,
    parse,
    to_http,
    to_kafka,
    trace_of,
)
from schemas.errors import Malformed
from tests.schemas.samples import EVENTS, FULL, GOLDEN, PAYLOADS, record_of, request_of
from tests.support.captured import CAPTURES
from tests.support.traces import TRACE

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40)
TRACES = st.builds(
    "00-{:032x}-{:016x}-{:02x}".format,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.integers(0, 255),
)
EVENT = st.builds(
    Event,
    id=PRINTABLE,
    source=PRINTABLE,
    type=PRINTABLE,
    data=st.binary(max_size=200),
    time=st.none() | st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    datacontenttype=st.none() | st.just("application/protobuf"),
    dataschema=st.none() | PRINTABLE,
    subject=st.none() | PRINTABLE,
    extensions=st.dictionaries(
        st.sampled_from(["partitionkey", "knchatsig", "knativeerrorcode", "a1"]), PRINTABLE
    ),
    traceparent=st.none() | TRACES,
)
CONTEXT = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/tests"), ("ce_type", b"t")]


# ---- golden --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVENTS)
def test_an_http_request_has_its_golden_bytes(name):
    """The bytes of a binary request are pinned: other versions and other languages read them."""
    headers, body = to_http(EVENTS[name])

    head = "".join(f"{header}: {value}\r\n" for header, value in headers).encode()
    assert head + b"\r\n" + body == (GOLDEN / f"{name}.http").read_bytes()


@pytest.mark.parametrize("name", EVENTS)
def test_a_record_has_its_golden_bytes(name):
    """The bytes of a binary record are pinned, and read back they are the same event."""
    golden = record_of(GOLDEN / f"{name}.record.json")

    assert to_kafka(EVENTS[name]) == golden
    assert from_kafka(golden[1], golden[2]) == EVENTS[name]


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_has_its_golden_bytes(name):
    """Proto numbers are never reused or moved: records that lie in topics stay readable."""
    golden = bytes.fromhex(json.loads((GOLDEN / "payloads.json").read_text())[name])

    assert PAYLOADS[name].SerializeToString(deterministic=True) == golden
    assert getattr(pb, name).FromString(golden) == PAYLOADS[name]
    assert golden.startswith(b"\x08\x01")


# ---- what the real data plane stores and sends ---------------------------------------------------

DISPATCHED = [
    "dispatch-binary-protobuf",
    "dispatch-structured-json",
    "dispatch-structured-json-base64",
]


@pytest.mark.parametrize("name", DISPATCHED)
def test_a_record_reads_as_the_dispatcher_delivers_it(name):
    """What the real dispatcher makes of a record, binary or structured, is what we read from it,
    but for its own additions.
    """
    _, headers, value = record_of(CAPTURES / f"{name}.record.json")
    delivered, body = request_of(CAPTURES / f"{name}.http")

    ours, our_body = to_http(from_kafka(headers, value))
    # The dispatcher writes times its own way, and a new span for each try.
    theirs = {
        header: text.replace(".12Z", ".120Z")
        for header, text in delivered.items()
        if not header.startswith("ce-knativekafka")
    }
    shown = {header: text for header, text in ours if header != "traceparent"}
    assert shown == {
        header: theirs[header]
        for header in theirs
        if header.startswith("ce-") or header == "content-type"
    }
    assert our_body == body


def test_a_posted_event_is_stored_as_the_sink_stores_it():
    """Our Kafka form of an event is what the real sink makes of our HTTP form of it."""
    headers, body = request_of(CAPTURES / "receive-binary-partitionkey.http")
    key, stored, value = record_of(CAPTURES / "receive-binary-partitionkey.record.json")

    event = replace(from_sdk(from_http(headers, body)), traceparent=headers["traceparent"])
    our_key, ours, our_value = to_kafka(event)
    varies = {"traceparent", "ce_time"}
    assert (our_key, our_value) == (key, value)
    assert {pair for pair in ours if pair[0] not in varies} == {
        pair for pair in stored if pair[0] not in varies
    }


def test_a_dead_letter_keeps_its_event():
    """A dead letter is the event and the dispatcher's remarks, which are extensions like others."""
    event = from_kafka(*record_of(CAPTURES / "dead-letter-422-kne-reason.record.json")[1:])

    assert event.extensions["knativeerrorcode"] == "422"
    assert event.extensions["reason"] == "bad-chat-id"
    assert base64.b64decode(event.extensions["knativeerrordata"]) == b"Unprocessable Entity"


def test_a_null_value_is_an_event_without_data():
    """An empty body becomes a null value in the sink, and empty data here."""
    event = from_kafka(*record_of(CAPTURES / "dispatch-null-value.record.json")[1:])

    assert (event.data, event.partitionkey) == (b"", "user-42")


@pytest.mark.parametrize("name", ["dispatch-plain", "dispatch-not-a-cloudevent-bad-time"])
def test_what_the_dispatcher_would_wrap_is_no_event(name):
    """The dispatcher wraps such records in events of its own; a direct reader of the log gets
    Malformed.
    """
    with pytest.raises(Malformed):
        from_kafka(*record_of(CAPTURES / f"{name}.record.json")[1:])


# ---- the SDK as oracle ---------------------------------------------------------------------------


@given(EVENT)
def test_http_as_the_sdk_reads_it(event):
    """What we post is what the SDK reads, and `from_sdk` gives the event back; the trace travels
    beside it.
    """
    headers, body = to_http(event)
    # Only what our events hold: for a body that may be JSON the SDK is no oracle, it guesses.
    seen = from_http(dict(headers), b"\x08\x01" + body)

    back = from_sdk(seen)
    assert (
        replace(back, data=back.data[2:], traceparent=event.traceparent, time=event.time) == event
    )


@given(EVENT)
def test_kafka_as_the_sdk_writes_it(event):
    """Key, value and headers are the SDK's, but for the partitionkey attribute, which it drops
    against the specification.
    """
    event = replace(
        event,
        datacontenttype="application/protobuf",
        time="2026-01-01T00:00:00Z",
        data=b"\x08\x01" + event.data,
    )
    attributes = {"datacontenttype": event.datacontenttype, "time": event.time, **event.extensions}
    attributes |= {
        name: value
        for name in ("id", "source", "type", "dataschema", "subject")
        if (value := getattr(event, name))
    }
    theirs = sdk_to_kafka(CloudEvent(attributes, event.data), data_marshaller=lambda data: data)

    key, headers, value = to_kafka(replace(event, traceparent=None))
    assert (key, value) == (None if theirs.key is None else theirs.key.encode(), theirs.value)
    assert {name: raw for name, raw in headers if name != "ce_partitionkey"} == theirs.headers
    read = from_binary(KafkaMessage(dict(headers), key, value), data_unmarshaller=lambda data: data)
    assert read["id"] == event.id


@given(EVENT)
def test_records_read_back(event):
    """Every event survives the way into a record and out of it."""
    _, headers, value = to_kafka(event)

    assert from_kafka(headers, value) == event


@given(st.binary(min_size=1, max_size=100), st.booleans())
def test_structured_as_the_sdk_writes_it(data, charset):
    """The body of a structured event is what the SDK writes over HTTP; in Kafka only its content
    type was wrong.
    """
    event = CloudEvent(
        {
            "id": "1",
            "source": "/tests",
            "type": "t",
            "datacontenttype": "application/protobuf",
            "a1": "x",
        },
        data,
    )
    _, body = to_structured(event)
    content_type = (
        b"Application/CloudEvents+JSON; charset=UTF-8"
        if charset
        else b"application/cloudevents+json"
    )

    read = from_kafka([("Content-Type", content_type), ("traceparent", TRACE.encode())], body)
    assert (read.id, read.data, read.datacontenttype, read.extensions) == (
        "1",
        data,
        "application/protobuf",
        {"a1": "x"},
    )
    assert read.traceparent == TRACE


# ---- what is no event ----------------------------------------------------------------------------


@pytest.mark.parametrize("missing", range(4))
def test_an_event_lacks_an_attribute(missing):
    """The four context attributes are named when they are missing or empty."""
    name = CONTEXT[missing][0]
    for headers in (CONTEXT[:missing] + CONTEXT[missing + 1 :], [*CONTEXT, (name, b"")]):
        with pytest.raises(Malformed) as refusal:
            from_kafka(headers, b"")
        assert refusal.value.field == name[3:]


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("ce_specversion", b"0.3", "specversion"),
        ("ce_time", b"yesterday", "time"),
        ("ce_a-b", b"x", "a-b"),
        ("ce_a_b", b"x", "a_b"),
        ("ce_a\r\nx: 1", b"x", "a\r\nx: 1"),
        ("ce_", b"x", ""),
        ("ce_id", b"1\n2", "id"),
        ("ce_subject", b"\x7f", "subject"),
        ("ce_subject", "\u0085".encode(), "subject"),
        ("content-type", b"a\nb", "content-type"),
        ("content-type", b"application/cloudevents+protobuf", "content-type"),
        ("content-type", b"application/cloudevents-batch+json", "content-type"),
        ("ce_subject", b"\xff", None),
    ],
)
def test_a_header_is_refused(name, value, field):
    """Names and values that would become something else in the next hop are
    refused here, by name.
    """
    with pytest.raises(Malformed) as refusal:
        from_kafka([*CONTEXT, (name, value)], b"")
    assert refusal.value.field == field


def test_foreign_headers_may_hold_anything():
    """Headers of others (tracing, tools) are not read, so they cannot spoil an event."""
    assert from_kafka([*CONTEXT, ("x-tool", b"\xff\x00")], b"").extensions == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"\xff",
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"?"}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":5}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","x":1.5}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","x":{"y":1}}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","x":"\\ud800"}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":'
        + b"[" * 9_000
        + b"]" * 9_000
        + b"}",
    ],
)
def test_a_broken_structured_event_is_refused(body):
    """Whatever the body is, the reader gets Malformed and nothing else."""
    with pytest.raises(Malformed):
        from_kafka([("content-type", b"application/cloudevents+json")], body)


@given(TRACES, st.integers(1, 254), st.sampled_from(["", "-", "-more of it", "-\x00"]))
def test_a_trace_of_a_version_to_come_is_understood_as_far_as_we_can(trace, version, more):
    """Source: W3C Trace Context, section 3.2.2: the first 55 characters, if a dash follows or
    nothing.
    """
    assert trace_of(trace) == trace
    assert trace_of(f"{version:02x}{trace[2:]}{more}") == trace


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        TRACE[:-1],
        f"{TRACE}-more",
        f"{TRACE}0",
        f"01{TRACE[2:]}.",
        f"ff{TRACE[2:]}",
        TRACE.upper(),
        TRACE.replace("-", "_"),
        f"00-{'0' * 32}{TRACE[35:]}",
        f"{TRACE[:36]}{'0' * 16}-01",
        f" {TRACE[1:]}",
        TRACE[:-1] + "\N{ARABIC-INDIC DIGIT ONE}",
    ],
)
def test_a_malformed_trace_is_none(malformed):
    """Zeros, capitals, the forbidden version, too little and too much."""
    assert trace_of(malformed) is None


@given(st.binary() | TRACES.map(str.encode))
def test_no_event_fails_for_its_trace(raw):
    """A trace that means nothing is left out, and the event is as it is without."""
    read = from_kafka([*CONTEXT, ("traceparent", raw)], b"")

    assert replace(read, traceparent=None) == from_kafka(CONTEXT, b"")
    assert read.traceparent is None or trace_of(read.traceparent) == read.traceparent
    seen = from_http({name.replace("_", "-"): text.decode() for name, text in CONTEXT}, b"")
    seen["traceparent"] = raw.decode("latin-1")
    assert from_sdk(seen).traceparent == read.traceparent


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["content-type", "ce_id", "ce_time", "x", "traceparent"]) | st.text(),
            st.binary(),
        )
    ),
    st.none() | st.binary(),
)
def test_any_record_is_read_or_refused(headers, value):
    """Fuzz: no record raises anything but Malformed."""
    for extra in ([], CONTEXT, [("content-type", b"application/cloudevents+json")]):
        with suppress(Malformed):
            from_kafka([*headers, *extra], value)


def test_structured_data_of_other_kinds():
    """Text stays text, JSON stays JSON, null attributes are absent, numbers and booleans become
    text.
    """
    head = '{"specversion":"1.0","id":"1","source":"s","type":"t","subject":null,"n":7,"yes":true,'
    read = [
        from_kafka([("content-type", b"application/cloudevents+json")], (head + data).encode())
        for data in ('"data":"abc"}', '"data":{"a": [1]}}', '"data":null}')
    ]

    assert [event.data for event in read] == [b"abc", b'{"a":[1]}', b""]
    assert {(event.subject, *event.extensions.items()) for event in read} == {
        (None, ("n", "7"), ("yes", "true"))
    }


@pytest.mark.parametrize("body", [b"5", b"[]", b'"x"', b"{}", b"null", b"true", b"text"])
def test_data_that_the_sdk_takes_for_json_is_refused(body):
    """The SDK guesses JSON and text from any body; such data are never ours."""
    headers, _ = to_http(FULL)
    event = from_http(dict(headers), body)

    with pytest.raises(Malformed):
        parse(from_sdk(event), pb.Commands)


def test_an_empty_body_is_empty_data():
    """The SDK says None, we say no bytes."""
    headers, _ = to_http(FULL)

    assert from_sdk(from_http(dict(headers), b"")).data == b""


TIMES = [
    "2026-11-24T22:40:00Z",
    "2026-11-24t22:40:00.123456789z",
    "2026-11-24T22:40:00.1+02:00",
    "2026-11-24T22:40:00-00:00",
]


@pytest.mark.parametrize("text", TIMES)
def test_a_time_is_taken(text):
    """All that RFC 3339 calls a time."""
    check_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-24T22:40:00",
        "2026-11-24 22:40:00Z",
        "20261124T224000Z",
        "2026-W48-2T22:40:00Z",
        "2026-02-30T22:40:00Z",
        "",
        "now",
    ],
)
def test_a_time_is_refused(text):
    """The dispatcher would wrap such an event instead of delivering it."""
    with pytest.raises(Malformed) as refusal:
        check_time(text)
    assert refusal.value.field == "time"


# ---- payloads ------------------------------------------------------------------------------------


def test_a_payload_is_parsed():
    """A parameter of the content type and its case do not matter."""
    assert parse(FULL, pb.Commands) == PAYLOADS["Commands"]
    assert (
        parse(replace(FULL, datacontenttype="Application/Protobuf; x=y"), pb.Commands)
        == PAYLOADS["Commands"]
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"datacontenttype": None}, "content-type"),
        ({"datacontenttype": "application/json"}, "content-type"),
        ({"data": b""}, "data"),
        ({"data": b"{}"}, "data"),
        ({"data": b"\x08\x02"}, "data"),
        ({"data": b"\x08\x01\x12\xff"}, "data"),
        ({"data": b"\x08\x01\x12\x05\x2a\x03\xff\xff\xff"}, "data"),
    ],
)
def test_what_is_no_payload_is_refused(change, field):
    """Other content types, other schemas, cut or garbled protobuf, text that is not UTF-8."""
    with pytest.raises(Malformed) as refusal:
        parse(replace(FULL, **change), pb.Commands)
    assert refusal.value.field == field


@given(st.binary(max_size=300))
def test_any_payload_is_parsed_or_refused(data):
    """Fuzz: garbage behind the mark raises nothing but Malformed."""
    with suppress(Malformed):
        parse(replace(FULL, data=b"\x08\x01" + data), pb.Deliveries)
