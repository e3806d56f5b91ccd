"""What is no event, or an event with a broken part, is refused in our words or taken without that
part; nothing else is ever raised.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from cloudevents.http import from_http
from hypothesis import given
from hypothesis import strategies as st

from schemas import chat_pb2 as pb
from schemas.cloudevents import check_time, from_kafka, from_sdk, parse, to_http, trace_of
from schemas.errors import Malformed
from tests.schemas.samples import FULL
from tests.schemas.strategies import TRACES
from tests.support.traces import TRACE

CONTEXT = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"/tests"), ("ce_type", b"t")]


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


@pytest.mark.parametrize("body", [b"5", b"[]", b'"x"', b"{}", b"null", b"true", b"text"])
def test_data_that_the_sdk_takes_for_json_is_refused(body):
    """The SDK guesses JSON and text from any body; such data are never ours."""
    headers, _ = to_http(FULL)
    event = from_http(dict(headers), body)

    with pytest.raises(Malformed):
        parse(from_sdk(event), pb.Commands)


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
