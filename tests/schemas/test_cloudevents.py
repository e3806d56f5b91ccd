"""The codec of events: golden bytes, the real data plane's bytes, the cloudevents SDK where it is
right, and all that is no event.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from cloudevents.conversion import to_structured
from cloudevents.http import CloudEvent, from_http
from cloudevents.kafka import KafkaMessage, from_binary
from cloudevents.kafka import to_binary as sdk_to_kafka
from hypothesis import given
from hypothesis import strategies as st

from schemas import chat_pb2 as pb
from schemas.cloudevents import from_kafka, from_sdk, parse, to_http, to_kafka, trace_of
from schemas.errors import Malformed
from tests.schemas.samples import EVENTS, FULL, GOLDEN, PAYLOADS, record_of, request_of
from tests.schemas.strategies import EVENT, TRACES
from tests.support.captured import CAPTURES
from tests.support.traces import TRACE


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


@given(TRACES, st.integers(1, 254), st.sampled_from(["", "-", "-more of it", "-\x00"]))
def test_a_trace_of_a_version_to_come_is_understood_as_far_as_we_can(trace, version, more):
    """Source: W3C Trace Context, section 3.2.2: the first 55 characters, if a dash follows or
    nothing.
    """
    assert trace_of(trace) == trace
    assert trace_of(f"{version:02x}{trace[2:]}{more}") == trace


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


def test_an_empty_body_is_empty_data():
    """The SDK says None, we say no bytes."""
    headers, _ = to_http(FULL)

    assert from_sdk(from_http(dict(headers), b"")).data == b""


# ---- payloads ------------------------------------------------------------------------------------
def test_a_payload_is_parsed():
    """A parameter of the content type and its case do not matter."""
    assert parse(FULL, pb.Commands) == PAYLOADS["Commands"]
    assert (
        parse(replace(FULL, datacontenttype="Application/Protobuf; x=y"), pb.Commands)
        == PAYLOADS["Commands"]
    )
