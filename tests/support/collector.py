"""A collector of spans for tests: takes OTLP over http as the protocol has it, protobuf plain or
compressed, and keeps what came.
"""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

TIMEOUT_S = 15
UNPACK = {"": bytes, "gzip": gzip.decompress, "deflate": zlib.decompress}


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    kind: str
    trace: str
    span: str
    parent: str
    attributes: dict[str, Any]
    failed: str | None
    """Why, when it failed."""


class Collector:
    """Listens until `close`.

    `answers` are given to the next requests, then always 200; "hang" means none before the end.
    """

    def __init__(self, *answers: int | str) -> None:
        self.spans: list[Span] = []
        self.requests: list[dict[str, str]] = []
        """Headers of each request."""
        self._answers = list(answers)
        self._came = threading.Condition()
        self._over = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, answer = collector._take(self.path, dict(self.headers.items()), body)
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        named = {name.lower(): value for name, value in headers.items()}
        with self._came:
            answer = self._answers.pop(0) if self._answers else 200
            self.requests.append(named)
            self._came.notify_all()
        if answer == "hang":
            self._over.wait()
        if path != "/v1/traces" or named.get("content-type") != "application/x-protobuf":
            return 404, b""
        if answer != 200:
            return (503, b"") if answer == "hang" else (answer, b"")
        request = ExportTraceServiceRequest.FromString(
            UNPACK[named.get("content-encoding", "")](body)
        )
        with self._came:
            self.spans += [
                _span(span, _values(resource.resource.attributes))
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
            self._came.notify_all()
        return 200, ExportTraceServiceResponse().SerializeToString()

    def wait(self, trace: str, names: Iterable[str]) -> dict[str, list[Span]]:
        """The spans of a trace by name, when each of these has come at least once.

        Blocks: call it in a thread.
        """
        wanted = set(names)
        until = time.monotonic() + TIMEOUT_S
        with self._came:
            while True:
                found: dict[str, list[Span]] = {}
                for span in self.spans:
                    if span.trace == trace:
                        found.setdefault(span.name, []).append(span)
                if wanted <= found.keys():
                    return found
                assert self._came.wait(until - time.monotonic()), (
                    f"{wanted - found.keys()} did not come, {found.keys()} did"
                )

    def wait_for(self, name: str) -> list[Span]:
        """The spans of this name, of any trace, when there is one. Blocks."""
        with self._came:
            assert self._came.wait_for(
                lambda: any(span.name == name for span in self.spans), TIMEOUT_S
            ), f"{name} did not come"
            return [span for span in self.spans if span.name == name]

    def wait_for_requests(self, number: int) -> None:
        """Returns when so many requests have come. Blocks."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.requests) >= number, TIMEOUT_S)

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _values(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}


def _span(span: trace_pb2.Span, resource: dict[str, Any]) -> Span:
    return Span(
        service=resource["service.name"],
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes=_values(span.attributes),
        failed=span.status.message
        if span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
        else None,
    )
