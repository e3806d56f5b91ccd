"""The event handlers beside every request that the real dispatcher sent to a function: what they
read is what was in the record.

Our types came later than the captures, so the verdict on them is 422 (`unknown_type`);
`report_failed` takes all.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from backends.dead_letters import event_of
from backends.dispatcher import sink
from backends.dispatcher.requests import FOREIGN as FOREIGN_TYPE
from backends.settings import Settings
from backends.telemetry import metrics
from backends.wiring import Backends
from functions.runtime.context import use_backends
from schemas import cloudevents
from schemas.cloudevents import Event
from tests.support.captured import (
    EVENT_KEY,
    FOREIGN,
    TO_FUNCTIONS,
    Message,
    captured,
    record_behind,
    recorded,
    stored,
)

LETTERS = [file for file in TO_FUNCTIONS if "from-dead-letters" in file]
GUESSED_AS_JSON = "dispatch-structured-json.http"
"""The SDK makes JSON of its body before our event handler sees it."""


def named(name: str) -> str:
    """A Kafka header's name as an extension of the wrapper: what is no letter
    or digit is left out.
    """
    return "kafkaheader" + "".join(letter for letter in name.lower() if letter.isalnum())


def wrapper(record) -> Event:
    """What the dispatcher makes of a record that is no CloudEvent."""
    plain = {name: value.decode() for name, value in record.headers}
    key = (
        {}
        if record.key is None
        else {"partitionkey": record.key.decode(), "key": record.key.decode()}
    )
    return Event(
        id=f"partition:{record.partition}/offset:{record.offset}",
        source=f"/apis/v1/namespaces/chat/kafkasources/send#{record.topic}",
        type=FOREIGN_TYPE,
        data=record.value,
        subject=f"partition:{record.partition}#{record.offset}",
        time=datetime.fromtimestamp(record.at_ms / 1000, UTC).isoformat(),
        datacontenttype=plain.pop("content-type", None),
        extensions={
            **{named(name): value for name, value in plain.items()},
            **key,
            "knativekafkapartition": str(record.partition),
            "knativekafkaoffset": str(record.offset),
        },
    )


def event_behind(file: str, request: Message) -> Event:
    """The event of the record that the request was made of, with its place."""
    name = record_behind(file)
    if name is not None:
        record = stored(recorded(name))
        return wrapper(record) if name.removeprefix("dispatch-") in FOREIGN else event_of(record)
    posted = captured(file.removeprefix("dispatch-from-").replace("dead-letters", "dead-letter"))
    event = sink.received(
        [(header.encode(), value.encode()) for header, value in posted.headers.items()], posted.body
    )
    place = {
        header: request.headers[f"ce-{header}"]
        for header in ("knativekafkapartition", "knativekafkaoffset")
    }
    return replace(event, extensions={**event.extensions, **place})


def comparable(event: Event) -> tuple[Event, object, object]:
    """The event with its time as a time and its trace without the span, which is each try's own."""
    trace = event.traceparent
    at = None if event.time is None else datetime.fromisoformat(event.time)
    return (
        replace(event, time=None, traceparent=None),
        at,
        None if trace is None else (trace[:36], trace[52:]),
    )


@pytest.fixture
def seen(monkeypatch):
    """What the event handlers were given by the framework, and what they read
    of it, if anything.
    """
    given = []
    real = cloudevents.from_sdk

    def reading(event):
        given.append((event, None))
        given[-1] = (event, real(event))
        return given[-1][1]

    monkeypatch.setattr(cloudevents, "from_sdk", reading)
    return given


@pytest.mark.parametrize("target", ["send", "report_failed"])
@pytest.mark.parametrize("file", [file for file in TO_FUNCTIONS if file != GUESSED_AS_JSON])
async def test_an_event_handler_reads_the_record(
    file, target, backends, event_targets, reason, seen
):
    """Attribute by attribute and byte by byte, a wrapped record as its wrapper; the answer is a
    verdict, not the framework's 400.
    """
    request = captured(file)
    answer = await event_targets.post_raw(target, request.headers, request.body)
    ((_, event),) = seen

    assert comparable(event) == comparable(event_behind(file, request))
    assert (answer.status, reason(answer)) == (
        (422, "unknown-type") if target == "send" else (200, None)
    )


@pytest.mark.parametrize("target", ["send", "report_failed"])
async def test_json_is_refused_with_its_attributes_intact(
    target, backends, event_targets, reason, seen
):
    """No event of ours is JSON.

    The framework has made objects of it by then: the same ones, but not the bytes.
    """
    request = captured(GUESSED_AS_JSON)
    answer = await event_targets.post_raw(target, request.headers, request.body)
    ((given, read),) = seen
    expected = event_behind(GUESSED_AS_JSON, request)
    attributes = given.get_attributes()
    own = {
        name: getattr(expected, name)
        for name in ("id", "source", "type", "dataschema", "datacontenttype")
    }

    assert read is None
    assert given.data == json.loads(expected.data) == json.loads(request.body)
    assert {name: attributes[name] for name in (*own, *expected.extensions)} == {
        **own,
        **expected.extensions,
    }
    assert (answer.status, reason(answer)) == (
        (422, "malformed-data") if target == "send" else (200, None)
    )


@pytest.mark.parametrize("file", LETTERS)
async def test_a_recorded_dead_letter_keeps_its_signature(file, tmp_path, event_targets):
    """The signature survives both hops: under its key the dead letter is read and counted as
    another function's.
    """
    request = captured(file)
    use_backends(Backends(Settings(data=tmp_path, event_keys=(EVENT_KEY,))))
    counts = ("kept", "unreadable")
    before = [metrics.value_of("knchat_dead_letters_total", became=became) for became in counts]

    await event_targets.post_raw("report_failed", request.headers, request.body)
    use_backends(None)

    after = [metrics.value_of("knchat_dead_letters_total", became=became) for became in counts]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 0]


async def test_an_event_without_a_time_is_not_given_one(backends, event_targets, seen):
    """The SDK invents one: another at each try, and in all that is made of the event."""
    event = event_targets.event([event_targets.text()])
    for _ in range(2):
        await event_targets.post("send", event)

    assert [read.time for _, read in seen] == [None, None]
