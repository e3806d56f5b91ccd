"""One try of an event: a POST, in a span where the event has a trace, and what its answer means."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from backends.requests import Headers, HttpResponse, Post, Unreached, verdict
from backends.telemetry import tracing
from schemas.cloudevents import Event

if TYPE_CHECKING:
    from backends.dispatcher.dispatcher import Source


async def attempt(
    source: Source, post: Post, event: Event, headers: Headers, body: bytes
) -> tuple[HttpResponse | None, Literal["taken", "again", "never", "unavailable"], str]:
    """One try: the answer, if there was one, what it means, and in a word why. unavailable: not
    this event's fault, ever.
    """
    try:
        async with asyncio.timeout(source.retry_policy.timeout_s):
            response = await _traced(source, post, event, headers, body)
    except Unreached as error:
        return None, "unavailable", str(error)
    except OSError as error:  # TimeoutError is one
        return None, "again", type(error).__name__
    return (
        response,
        "unavailable" if response.status == 503 else verdict(response.status),
        str(response.status),
    )


async def _traced(
    source: Source, post: Post, event: Event, headers: Headers, body: bytes
) -> HttpResponse:
    """Posts, in a span of its own where the event has a trace.

    No trace in, none out, as with Knative's dispatcher.
    """
    if event.traceparent is None:
        return await post(headers, body)
    with tracing.span(
        f"post {source.group}", "client", parent=event.traceparent, event=event.id
    ) as span:
        response = await post([*headers, (b"traceparent", span.traceparent.encode())], body)
        span.note(
            {
                "messaging.destination.name": source.topic,
                "http.response.status_code": response.status,
            }
        )
        return response
