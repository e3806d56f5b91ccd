"""What Knative's dispatcher adds to an event: its place in the log and, where it failed, why; and
the event without these.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backends.log import ConsumerRecord
from backends.requests import verdict
from schemas import cloudevents
from schemas.cloudevents import Event


def event_of(record: ConsumerRecord) -> Event:
    """The event in the record, with its place as extensions.

    Raises Malformed when it holds none.
    """
    event = cloudevents.from_kafka(record.headers, record.value)
    return replace(event, extensions={**event.extensions, **place_of(record)})


def is_transient(letter: Event) -> bool:
    """Whether it died because something was unavailable: of no answer, or of one that means later.

    500 is a bug's.
    """
    code = letter.extensions.get("knativeerrorcode", "503")
    return code.isdecimal() and code != "500" and verdict(int(code)) == "again"


def revived(letter: Event) -> Event:
    """The event as it was before it failed: what dispatcher and sink have added must not come back
    to a function (measured).
    """
    added = ("knativeerror", "knativekafka")
    return replace(
        letter,
        extensions={
            name: value
            for name, value in letter.extensions.items()
            if name != "reason" and not name.startswith(added)
        },
    )


def place_of(record: ConsumerRecord) -> Mapping[str, str]:
    """The extensions that say where a record lies."""
    return {
        "knativekafkapartition": str(record.partition),
        "knativekafkaoffset": str(record.offset),
    }
