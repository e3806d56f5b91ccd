"""Spans by opentelemetry-sdk, sent in batches by OTLP over http.

`tracing` alone loads this, where an endpoint is set. A collector that is slow or unavailable costs
spans, which are counted, and never anything else: a thread sends them out of a bounded queue. The
SDK reads its own OTEL_ variables; which of them have an effect stands in
docs/operations/metrics.md.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from socket import gethostname
from typing import ClassVar, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from backends.telemetry import tracing
from backends.telemetry.metrics import count

MAX_QUEUE: Final = 2_048
"""Spans that wait to be sent, about 2 MB.

At one trace in a hundred that is minutes; what comes on top is dropped.
"""
LOG_INTERVAL_S: Final = 60.0


class Recorded(tracing.Span):
    """A span that will be sent."""

    __slots__ = ("_span",)

    recorded: ClassVar[bool] = True

    def __init__(self, span: trace.Span, event: str) -> None:
        made = span.get_span_context()
        super().__init__(
            f"00-{made.trace_id:032x}-{made.span_id:016x}-{made.trace_flags:02x}", event
        )
        self._span = span

    def note(self, attributes: Mapping[str, tracing.Value], *, name: str | None = None) -> None:
        """See `Span`."""
        self._span.set_attributes(attributes)
        if name is not None:
            self._span.update_name(name)

    def fail(self, why: str) -> None:
        """See `Span`."""
        self._span.set_attribute("error.type", why)
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, why))

    def end(self) -> None:
        """See `Span`."""
        self._span.end()


class Exporting:
    """Where the spans of this process go: to the collector at `endpoint`, a base URL.

    Raises ValueError or OSError for OTEL_ variables.
    """

    def __init__(self, endpoint: str, *, service: str) -> None:
        ours = {
            "service.name": service,
            "service.namespace": "kn-chat",
            "service.version": version("kn-chat"),
            "service.instance.id": gethostname(),
        }
        # The last one wins.
        resource = Resource.create().merge(Resource(ours)).merge(OTELResourceDetector().detect())
        # Whether a trace is recorded was decided before anything of the SDK is called. At exit the
        # SDK would wait for 30 s.
        self._provider = TracerProvider(
            resource=resource, sampler=ALWAYS_ON, shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            _Bounded(_Counted(endpoint=f"{endpoint.rstrip('/')}/v1/traces"))
        )
        self._tracer = self._provider.get_tracer("kn-chat")
        logging.getLogger(trace_exporter.__name__).addFilter(_OneLineAMinute())

    def start(self, name: str, kind: tracing.Kind, parent: str | None, event: str) -> Recorded:
        """A span that begins now, inside `parent`, a well-formed traceparent, or in a new trace."""
        context = Context()
        if parent is not None:
            flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
            above = trace.SpanContext(
                int(parent[3:35], 16), int(parent[36:52], 16), is_remote=True, trace_flags=flags
            )
            context = trace.set_span_in_context(trace.NonRecordingSpan(above), context)
        return Recorded(self._tracer.start_span(name, context, trace.SpanKind[kind.upper()]), event)

    async def close(self, within_s: float) -> None:
        """Sends what is left, as far as that goes within so many seconds."""
        # The SDK's own limit is 30 s, and a thread of asyncio would be waited for at the end of the
        # process.
        closing = threading.Thread(
            target=self._provider.shutdown, name="spans-closing", daemon=True
        )
        closing.start()
        await asyncio.to_thread(closing.join, within_s)


class _Counted(trace_exporter.OTLPSpanExporter):
    """Sends batches, and counts what became of them."""

    taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        result = super().export(spans)
        count(
            "knchat_spans_total",
            len(spans),
            became="exported" if result is SpanExportResult.SUCCESS else "failed",
        )
        return result


class _Bounded(BatchSpanProcessor):
    """The SDK's queue, which it is never let to overflow: it would drop its oldest spans uncounted,
    with a log line for each.
    """

    def __init__(self, exporter: _Counted) -> None:
        super().__init__(exporter, max_queue_size=MAX_QUEUE)
        self._counted = exporter
        self._put = 0

    def on_end(self, span: ReadableSpan) -> None:
        if self._put - self._counted.taken >= MAX_QUEUE:
            count("knchat_spans_total", became="dropped")
            return
        self._put += 1
        super().on_end(span)


class _OneLineAMinute(logging.Filter):
    """Lets one line a minute through: a collector that is unavailable is a line for every batch."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - any line
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + LOG_INTERVAL_S
        return True
