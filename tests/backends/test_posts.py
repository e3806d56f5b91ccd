"""Requests and dead letters beside the recorded bytes of the real dispatcher; what varies from run to run is compared by its meaning.

`captures/dispatch-*.record.json` is a record, the `.http` file of that name the request that became of it, `dead-letter-*.record.json` the
record that the sink wrote when the function had given the `answers` in the first file (text that is no base64: how it failed to answer).
"""

import base64
import json
from datetime import datetime
from pathlib import Path

import pytest

from backends.log import Stored
from backends.posts import Answer, dead_letter, event_of, foreign_dead_letter, request_of, verdict
from schemas.errors import Malformed
from schemas.wire import to_kafka

CAPTURES = Path(__file__).parent / "captures"
SEND = "http://127.0.0.1:18081"
REPORT_LOST = "http://127.0.0.1:18083"
FAILED = ["400-no-headers", "422-kne-reason", "422-kne-reason-empty-body", "503-exhausted", "503-long-body", "closed", "timeout"]


def recorded(name: str) -> dict:
    return json.loads((CAPTURES / f"{name}.record.json").read_text())


def stored(record: dict) -> Stored:
    def raw(text):
        return None if text is None else base64.b64decode(text)

    headers = [(header["name"], raw(header["value_base64"])) for header in record["headers"]]
    at_ms = record["timestamp_ms"]
    key, value = raw(record["key_base64"]), raw(record["value_base64"])
    return Stored(record["topic"], record["partition"], record["offset"], at_ms, key, headers, value)


def message(raw: bytes) -> tuple[str, dict[str, str], bytes]:
    """Start line, headers by small name, body of one HTTP message."""
    head, _, body = raw.partition(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").split("\r\n")
    return start, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


def answer_to(record: dict) -> Answer | None:
    try:
        raw = base64.b64decode(record["answers"][-1], validate=True)
    except ValueError:
        return None
    start, headers, body = message(raw)
    return Answer(int(start.split()[1]), [(name.encode(), value.encode()) for name, value in headers.items()], body)


def compared(headers: dict[str, str]) -> dict[str, object]:
    """Headers with what varies replaced by its meaning: times as times, spans only checked, our name behind the dispatcher's."""
    meaning: dict[str, object] = {}
    for name, value in headers.items():
        match name.removeprefix("ce_").removeprefix("ce-"):
            case "time":
                meaning[name] = datetime.fromisoformat(value)
            case "traceparent":
                version, trace, span, flags = value.split("-")
                assert len(span) == 16
                assert int(span, 16)
                meaning[name] = (version, trace, flags)
            case "user-agent":
                meaning[name] = value.partition("/")[0]
            case _:
                meaning[name] = value
    return meaning


def posted(record: Stored, url: str) -> tuple[dict[str, str], bytes]:
    event = event_of(record)
    headers, body = request_of(event, url=url, namespace="chat")
    named = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    if event.traceparent is not None:
        named.append(("traceparent", event.traceparent))  # as the pump does, with a span of each try's own
    assert len(named) == len(dict(named)), "no header occurs twice"
    return dict(named), body


@pytest.mark.parametrize(
    "name",
    [
        "binary-protobuf",
        "binary-protobuf-no-partitionkey",
        "binary-protobuf-key-only",
        "binary-no-traceparent-micro-time",
        "structured-json",
        "structured-json-base64",
        "empty-value",
        "null-value",
    ],
)
def test_a_request_has_the_headers_and_body_of_the_recorded_one(name):
    """Function authors meet the same request here as on Knative."""
    start, wanted, wanted_body = message((CAPTURES / f"dispatch-{name}.http").read_bytes())
    headers, body = posted(stored(recorded(f"dispatch-{name}")), SEND)

    assert start == "POST / HTTP/1.1"
    assert compared(headers) == compared(wanted)
    assert body == wanted_body


@pytest.mark.parametrize("name", FAILED)
def test_a_dead_letter_is_the_record_that_the_sink_wrote(name):
    """Whoever reads chat-dead-letters finds the same attributes whichever dispatcher set the event aside."""
    record = recorded(f"dispatch-{name}")
    wanted = stored(recorded(f"dead-letter-{name}"))
    letter = dead_letter(event_of(stored(record)), url=SEND, answer=answer_to(record))
    key, headers, value = to_kafka(letter)

    assert compared({name: text.decode() for name, text in headers}) == compared({name: text.decode() for name, text in wanted.headers})
    assert (key, value) == (wanted.key, wanted.value)


@pytest.mark.parametrize("name", FAILED)
def test_a_dead_letter_reaches_its_function_as_recorded(name):
    """The second hop overwrites the place in the topic and keeps what the first one said."""
    _, wanted, wanted_body = message((CAPTURES / f"dispatch-from-dead-letters-{name}.http").read_bytes())
    headers, body = posted(stored(recorded(f"dead-letter-{name}")), REPORT_LOST)

    assert compared(headers) == compared(wanted)
    assert body == wanted_body


def test_a_second_failure_overwrites_and_removes_nothing():
    """Code, data and reason of the first failure stay when the second has no answer, as measured."""
    letter = dead_letter(event_of(stored(recorded("dead-letter-422-kne-reason"))), url=REPORT_LOST, answer=None)

    assert letter.extensions["knativeerrordest"] == REPORT_LOST
    assert letter.extensions["knativeerrorcode"] == "422"
    assert letter.extensions["reason"] == "bad-chat-id"


def test_a_kne_header_with_a_hyphen_in_its_name_is_left_out_and_said_aloud(caplog):
    """It would stop the partition of a real dispatcher for good; the developer hears of it, the message goes on."""
    event = event_of(stored(recorded("dispatch-binary-protobuf")))
    letter = dead_letter(event, url=SEND, answer=Answer(422, [(b"kne-other-thing", b"two words"), (b"kne-reason", b"r")], b""))

    assert letter.extensions["reason"] == "r"
    assert not [name for name in letter.extensions if "other" in name]
    assert "this partition would stop" in caplog.text


def test_a_letter_outside_latin_1_becomes_a_question_mark():
    """As the real dispatcher destroys it: attributes are ASCII, and whoever uses others finds out here."""
    record = stored(recorded("dispatch-binary-protobuf"))
    headers = [*record.headers, ("ce_subject", "Zoé \N{PILE OF POO}".encode())]
    shown = posted(Stored(record.topic, 0, 0, 0, None, headers, record.value), SEND)[0]["ce-subject"]

    assert shown == "Zoé ?"


@pytest.mark.parametrize(
    ("statuses", "meaning"),
    [
        ((200, 201, 202, 204), "taken"),
        ((404, 408, 409, 429, 500, 501, 502, 503, 504, 507, 599), "again"),
        ((300, 301, 302, 304, 307, 308, 400, 401, 403, 405, 406, 410, 412, 413, 415, 418, 422, 425, 499), "never"),
    ],
)
def test_verdicts_are_those_of_the_measured_table(statuses, meaning):
    """The three rows of the dispatcher's table; a redirect with 303 is the one that is not imitated."""
    assert {verdict(status) for status in statuses} == {meaning}


def test_a_record_that_is_no_cloudevent_has_a_dead_letter_all_the_same():
    """It ends where the dispatcher's wrapped event ends: set aside as 422, under the dispatcher's type."""
    record = Stored("chat-commands", 4, 17, 0, b"key", [("x-header", b"\xff")], b"plain")
    with pytest.raises(Malformed):
        event_of(record)
    letter = foreign_dead_letter(record, url=SEND)

    assert (letter.type, letter.id, letter.data) == ("dev.knative.kafka.event", "partition:4/offset:17", b"plain")
    assert letter.extensions == {
        "knativekafkapartition": "4",
        "knativekafkaoffset": "17",
        "knativeerrordest": SEND,
        "knativeerrorcode": "422",
        "reason": "not-a-cloudevent",
    }
    assert event_of(Stored("chat-dead-letters", 0, 0, 0, *to_kafka(letter)))
