"""Requests and dead letters as Knative's dispatcher makes them.

Pure; the local dispatcher calls it. Foreign records are not wrapped and redirects not followed.
Source: the measured dispatcher (design.md D12, D22); `tests/captures` holds its recorded requests,
and the tests compare.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from backends.dead_letters import place_of
from backends.log import ConsumerRecord
from backends.requests import MAX_ERROR_DATA_BYTES, Headers, HttpResponse
from schemas import cloudevents
from schemas.cloudevents import Event

log = logging.getLogger(__name__)

FOREIGN: Final = "dev.knative.kafka.event"
"""Type of the dead letter of a record that is no CloudEvent: what Knative's dispatcher wraps it as.
"""
FOREIGN_REASON: Final = "not-a-cloudevent"

_KNE: Final = re.compile(rb"kne-([a-z0-9]+)")


def request_of(event: Event, *, url: str, namespace: str) -> tuple[Headers, bytes]:
    """Headers (small letters, as ASGI wants them) and body of the event's POST, but for the
    `traceparent`: each try has one of its own.
    """
    fields, body = cloudevents.to_http(replace(event, traceparent=None))
    headers = [
        (b"user-agent", b"Vert.x-WebClient/4.5.21 kn-chat-pump"),
        (b"prefer", b"reply"),
        (b"kn-namespace", namespace.encode()),
        # Outside Latin-1 Knative's dispatcher sends question marks, too (measured).
        *[(name.encode(), value.encode("latin-1", "replace")) for name, value in fields],
        (b"host", url.partition("://")[2].partition("/")[0].encode()),
    ]
    if body:  # an empty body has no content-length, and no transfer-encoding either
        headers.append((b"content-length", b"%d" % len(body)))
    return headers, body


def dead_letter(event: Event, *, url: str, response: HttpResponse | None) -> Event:
    """The event as it is dead-lettered after its last try at `url`, and what was answered (None: no
    answer).

    All attributes stay. On a second failure they are overwritten, never removed: an old code, data
    or reason stays when the new has none.
    """
    named = {"knativeerrordest": url}
    if response is not None:
        named["knativeerrorcode"] = str(response.status)
        if response.body:
            named["knativeerrordata"] = base64.b64encode(
                response.body[:MAX_ERROR_DATA_BYTES]
            ).decode()
        named.update(_own_extensions(response.headers))
    return replace(event, extensions={**event.extensions, **named})


def foreign_dead_letter(record: ConsumerRecord, *, url: str) -> Event:
    """The dead letter of a record that is no CloudEvent.

    Knative's dispatcher delivers it wrapped, and an event handler answers 422 to the unknown type:
    the same end, without the way.
    """
    return Event(
        id=f"partition:{record.partition}/offset:{record.offset}",
        source=f"/topics/{record.topic}",
        type=FOREIGN,
        data=record.value or b"",
        subject=f"partition:{record.partition}#{record.offset}",
        datacontenttype=None,
        extensions={
            **place_of(record),
            "knativeerrordest": url,
            "knativeerrorcode": "422",
            "reason": FOREIGN_REASON,
        },
    )


def _own_extensions(headers: Headers) -> Mapping[str, str]:
    named = {}
    for name, value in headers:
        if name.startswith(b"kne-"):
            if match := _KNE.fullmatch(name):
                named[match[1].decode()] = value.decode("latin-1")
            else:
                # Measured: it wedges the partition of a real dispatcher for good. Not imitated,
                # but logged.
                log.error(
                    "a kne- header is not named a-z0-9: on Knative this partition would stop",
                    extra={"header": repr(name)},
                )
    return named
