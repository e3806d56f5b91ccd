"""Traces: what is carried where spans are not sent, and what reaches a
collector that takes them.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.telemetry import metrics, tracing
from backends.telemetry.logs import _Line
from schemas.cloudevents import trace_of
from schemas.errors import Malformed, Unavailable
from tests.support.collector import Collector
from tests.support.traces import TRACE

UNSAMPLED = f"{TRACE[:-2]}00"


@pytest.fixture
def collector():
    listening = Collector()
    yield listening
    listening.close()


@pytest.fixture
async def take(collector, monkeypatch):
    """Sends the spans of this process to the collector; the call ends that and gives those of one
    trace, or all.
    """
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    tracing.set_up(collector.url, ratio=0.0, service="test")

    async def taken(trace: str | None = None):
        await tracing.close()
        return [span for span in collector.spans if trace in {None, span.trace}]

    yield taken
    await tracing.close()


def spans_counted() -> dict[str, float]:
    return {
        became: metrics.value_of("knchat_spans_total", became=became)
        for became in ("exported", "failed", "dropped")
    }


# ---- spans are not sent --------------------------------------------------------------------------


@given(st.none() | st.text() | st.just(TRACE) | st.just(UNSAMPLED))
def test_a_span_goes_on_in_the_trace_of_its_parent_or_begins_one(parent):
    """What is written in it carries a well-formed trace, whatever came in."""
    with tracing.span("work", "consumer", parent=parent) as span:
        assert tracing.traceparent() == span.traceparent

    assert trace_of(span.traceparent) == span.traceparent
    assert not span.recorded
    good = None if parent is None else trace_of(parent)
    if good is not None:
        assert (span.trace, span.traceparent[-2:]) == (good[3:35], good[-2:])
        assert span.traceparent != good
    else:
        assert span.traceparent.endswith("-00")


def test_two_spans_share_nothing():
    """Traces that begin are each one of their own."""
    assert tracing.span("a", "producer").trace != tracing.span("b", "producer").trace


def test_a_span_ends_where_it_was_left():
    """Inside another it is the current one, and then that is again."""
    assert tracing.current() is None
    with tracing.span("outer", "server") as outer:
        with pytest.raises(KeyError), tracing.span("inner", "client"):
            raise KeyError
        assert tracing.current() is outer
    assert tracing.current() is None
    assert tracing.traceparent() is None


async def test_a_task_that_lives_on_is_in_no_span():
    """A part that was started inside a span does not belong to it without end."""
    ended = asyncio.Event()

    async def live_on() -> str | None:
        await ended.wait()
        return tracing.traceparent()

    with tracing.span("first event", "consumer"):
        task = asyncio.create_task(live_on())
        await asyncio.sleep(0)
    ended.set()

    assert await task is None


def test_a_log_line_says_its_event_and_trace():
    """Fields of the line's own come first, and its own event is not said twice."""
    line = _Line()
    record = logging.makeLogRecord({"msg": "done", "levelname": "INFO", "name": "functions.test"})
    with tracing.span("process send", "consumer", parent=TRACE, event="7.o"):
        assert line.format(record).endswith(f"functions.test: done event=7.o trace={TRACE[3:35]}")
        record.event = "8"
        assert line.format(record).endswith(f"functions.test: done event=8 trace={TRACE[3:35]}")

    assert "trace=" not in line.format(record)


def test_a_port_is_itself_where_spans_are_not_sent():
    """Then a call costs nothing more."""
    port = Port()

    assert tracing.in_spans(lambda _: port)(None) is port


# ---- spans are sent ------------------------------------------------------------------------------


async def test_a_recorded_span_arrives_with_all_that_was_said_of_it(take):
    """Name, kind, parent, service, attributes."""
    with tracing.span("GET", "server", parent=TRACE) as span:
        span.note({"knchat.items": 3}, name="GET /v1/chats")
        assert span.recorded

    (arrived,) = await take()
    assert (arrived.name, arrived.kind, arrived.service) == ("GET /v1/chats", "server", "test")
    assert (arrived.trace, arrived.parent, arrived.span) == (
        TRACE[3:35],
        TRACE[36:52],
        span.traceparent[36:52],
    )
    assert arrived.attributes == {"knchat.items": 3}
    assert arrived.failed is None


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Unavailable("host 10.0.0.1", code="starting"), "starting"),
        (ValueError("a password"), "ValueError"),
    ],
)
async def test_a_failed_span_says_why_without_the_text(error, why, take, collector):
    """An error's text may hold anything, so its code or class is sent."""
    with pytest.raises(type(error)), tracing.span("work", "client", parent=TRACE):
        raise error

    (arrived,) = await take()
    assert (arrived.failed, arrived.attributes["error.type"]) == (why, why)
    assert str(error) not in repr(arrived)


@pytest.mark.parametrize(
    ("ratio", "given", "recorded"),
    [
        (0.0, {}, False),
        (1.0, {}, True),
        (1.0, {"parent": "malformed"}, True),
        (1.0, {"parent": UNSAMPLED}, False),
        (0.0, {"parent": TRACE}, True),
        (0.0, {"parent": TRACE, "stranger": True}, False),
        (1.0, {"parent": UNSAMPLED, "stranger": True}, True),
    ],
)
async def test_what_decides_whether_a_trace_is_recorded(ratio, given, recorded, take, monkeypatch):
    """Wherever it began: all of a trace is recorded, or nothing.

    Strangers do not decide what we do.
    """
    monkeypatch.setattr(tracing, "_ratio", ratio)
    with tracing.span("work", "server", **given) as span:
        assert span.recorded is recorded
    assert span.traceparent[-2:] in ({"01", "03"} if recorded else {"00"})
    assert (span.trace == TRACE[3:35]) is (given.get("parent") in {TRACE, UNSAMPLED})


async def test_the_ratio_is_a_share_of_the_traces(take, monkeypatch):
    """About so many of those that begin here."""
    monkeypatch.setattr(tracing, "_ratio", 0.25)
    recorded = sum(tracing.span("work", "producer").recorded for _ in range(2_000))

    assert 350 < recorded < 650


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("ce_id", b"1"), ("traceparent", TRACE.encode())], TRACE),
        ([("traceparent", UNSAMPLED.encode())], None),
        ([("traceparent", b"\xff")], None),
        ([("ce_id", b"1")], None),
    ],
)
async def test_the_trace_of_a_record_is_looked_at_where_it_would_be_recorded(headers, found, take):
    """Sampled and well-formed; and only while spans are sent."""
    assert tracing.recorded_parent(headers) == found
    await take()
    assert tracing.recorded_parent(headers) is None


class Port:
    """Something like a port."""

    plain = 1

    async def put(self, rows, *, fails=False):
        if fails:
            raise Unavailable("no answer")
        return tracing.current()

    async def ping(self):
        return tracing.current()


async def test_the_calls_of_a_port_are_spans_inside_a_recorded_one(take):
    """Not outside of any, not where nothing is recorded, and never a ping."""
    opened = tracing.in_spans(stores)(None)
    assert opened.plain == 1
    assert await opened.put([]) is None
    with tracing.span("unsampled", "consumer", parent=UNSAMPLED) as around:
        assert await opened.put([]) is around
    with tracing.span("work", "consumer", parent=TRACE) as around:
        assert await opened.ping() is around
        assert (await opened.put([1, 2])).recorded
        with pytest.raises(Unavailable):
            await opened.put("text", fails=True)

    good, bad, work = await take()
    assert [span.name for span in (good, bad, work)] == ["stores.put", "stores.put", "work"]
    assert {span.parent for span in (good, bad)} == {work.span}
    assert (good.kind, good.attributes) == ("client", {"knchat.adapter": "Port", "knchat.items": 2})
    assert (bad.failed, "knchat.items" in bad.attributes) == ("unavailable", False)


def stores(_: object) -> Port:
    return Port()


async def test_otel_variables_of_the_sdk_have_their_effect(collector, monkeypatch):
    """Name of the service, headers for the collector, compression."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "deflate")
    tracing.set_up(collector.url + "/", ratio=1.0, service="test")
    with tracing.span("work", "server"):
        pass
    await tracing.close()

    (arrived,) = collector.spans
    assert arrived.service == "ours"
    (headers,) = collector.requests
    assert (headers["authorization"], headers["content-encoding"]) == ("Bearer x", "deflate")


async def test_a_wrong_otel_variable_stops_the_start(collector, monkeypatch):
    """It is named, and no event is to blame for it later."""
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000000")

    with pytest.raises(Malformed, match="max_export_batch_size") as raised:
        tracing.set_up(collector.url, ratio=1.0, service="test")
    assert raised.value.field == "KNCHAT_OTLP_ENDPOINT"


async def test_a_missing_package_stops_the_start(collector, monkeypatch):
    """Images without the extra `otlp` do not lose spans in silence."""
    monkeypatch.delitem(sys.modules, "backends.telemetry.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)

    with pytest.raises(Malformed, match="opentelemetry"):
        tracing.set_up(collector.url, ratio=1.0, service="test")


# ---- the collector is unavailable ----


async def test_what_is_refused_is_counted_and_said_once(take, collector, caplog):
    """A collector that refuses is a line a minute, not one for each batch."""
    collector._answers += [400] * 100
    before = spans_counted()
    for number in range(3):
        with tracing.span("work", "server", parent=TRACE):
            pass
        await asyncio.to_thread(collector.wait_for_requests, number + 1)
    await take()

    assert spans_counted()["failed"] - before["failed"] == 3
    assert len([line for line in caplog.records if line.name.startswith("opentelemetry")]) == 1


async def test_a_collector_that_hangs_costs_spans_and_nothing_else(collector, monkeypatch, caplog):
    """The queue has its bound, what does not fit is counted, and the end does not wait for longer
    than it says.
    """
    from backends.telemetry.otlp import MAX_QUEUE  # noqa: PLC0415 - loaded when needed

    collector._answers += ["hang"] * 9
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    tracing.set_up(collector.url, ratio=1.0, service="test")
    before = spans_counted()
    tracing.span("first", "server").end()
    await asyncio.to_thread(collector.wait_for_requests, 1)
    for _ in range(MAX_QUEUE + 100):
        tracing.span("work", "server").end()
    began_s = time.monotonic()
    await tracing.close()

    assert time.monotonic() - began_s < 2 * tracing.CLOSE_TIMEOUT_S
    assert spans_counted()["dropped"] - before["dropped"] == 100
    assert not [line for line in caplog.records if line.name.startswith("opentelemetry")]
