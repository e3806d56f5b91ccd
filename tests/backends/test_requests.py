"""Requests and dead letters beside the recorded bytes of the real dispatcher; what varies from run
to run is compared by its meaning.

`captures/dispatch-*.record.json` is a record, the `.http` file of that name the request that became
of it, `dead-letter-*.record.json` the record that the sink wrote when the function had given the
`answers` in the first file (text that is no base64: how it failed to answer).
"""

import base64

import pytest

from backends.dead_letters import event_of
from backends.dispatcher.requests import dead_letter, foreign_dead_letter, request_of
from backends.log import ConsumerRecord
from backends.requests import HttpResponse, verdict
from schemas.cloudevents import Event, to_kafka
from schemas.errors import Malformed
from tests.support.captured import (
    DEAD,
    DISPATCHED,
    FOREIGN,
    captured,
    meaning,
    meaning_of_record,
    message,
    recorded,
    stored,
)

SEND = "http://127.0.0.1:18081"
SINK = "http://127.0.0.1:18082/chat/chat-dead-letters"
REPORT_LOST = "http://127.0.0.1:18083"


def answer_to(record: dict) -> HttpResponse | None:
    try:
        raw = base64.b64decode(record["answers"][-1], validate=True)
    except ValueError:
        return None
    start, headers, body = message(raw)
    return HttpResponse(
        int(start.split()[1]),
        [(name.encode(), value.encode()) for name, value in headers.items()],
        body,
    )


def posted(record: ConsumerRecord, url: str) -> tuple[dict[str, str], bytes]:
    event = event_of(record)
    headers, body = request_of(event, url=url, namespace="chat")
    named = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    if event.traceparent is not None:
        # As the dispatcher does, with a span of each try's own.
        named.append(("traceparent", event.traceparent))
    assert len(named) == len(dict(named)), "no header occurs twice"
    return dict(named), body


def assert_posted(letter: Event, file: str) -> None:
    """The letter would be sent to the dead-letter sink as in the file."""
    wanted = captured(file)
    headers, body = request_of(letter, url=SINK, namespace="chat")
    named = {name.decode(): value.decode() for name, value in headers} | {
        "traceparent": letter.traceparent
    }

    assert wanted.start == "POST /chat/chat-dead-letters HTTP/1.1"
    assert meaning(named) == meaning(wanted.headers)
    assert body == wanted.body


@pytest.mark.parametrize("name", [name for name in DISPATCHED if name not in FOREIGN])
def test_a_request_has_the_headers_and_body_of_the_recorded_one(name):
    """Function authors meet the same request here as on Knative, at each try."""
    record = recorded(f"dispatch-{name}")
    headers, body = posted(stored(record), SEND)

    for wanted in (captured(tried["file"]) for tried in record["delivered_as"]):
        assert wanted.start == "POST / HTTP/1.1"
        assert meaning(headers) == meaning(wanted.headers)
        assert body == wanted.body


@pytest.mark.parametrize("name", DEAD)
def test_a_dead_letter_is_the_record_that_the_sink_wrote(name):
    """chat-dead-letters holds the same attributes whichever dispatcher dead-lettered the event."""
    record = recorded(f"dispatch-{name}")
    wanted = stored(recorded(f"dead-letter-{name}"))
    letter = dead_letter(event_of(stored(record)), url=SEND, response=answer_to(record))
    key, headers, value = to_kafka(letter)

    assert meaning({name: text.decode() for name, text in headers}) == meaning_of_record(wanted)
    assert (key, value) == (wanted.key, wanted.value)


@pytest.mark.parametrize("name", DEAD)
def test_a_dead_letter_reaches_its_function_as_recorded(name):
    """The second hop overwrites the place in the topic and keeps what the first one said."""
    wanted = captured(f"dispatch-from-dead-letters-{name}.http")
    headers, body = posted(stored(recorded(f"dead-letter-{name}")), REPORT_LOST)

    assert meaning(headers) == meaning(wanted.headers)
    assert body == wanted.body


@pytest.mark.parametrize("name", DEAD)
def test_a_dead_letter_is_posted_as_recorded(name):
    """Through a sink it would be the same request as the dispatcher's."""
    record = recorded(f"dispatch-{name}")
    letter = dead_letter(event_of(stored(record)), url=SEND, response=answer_to(record))

    assert_posted(letter, f"dead-letter-{name}.http")


def test_a_dead_letter_of_a_dead_letter_is_posted_as_recorded():
    """Both hops: what the first failure said is overwritten by the second."""
    record = recorded("dispatch-dead-letter-that-fails-too")
    first = dead_letter(event_of(stored(record)), url=SEND, response=answer_to(record))
    came = event_of(ConsumerRecord("chat-dead-letters", 1, 7, 0, *to_kafka(first)))
    second = dead_letter(
        came,
        url=REPORT_LOST,
        response=HttpResponse(422, [(b"kne-reason", b"bad-dead-letter")], b"no such event"),
    )

    assert_posted(first, "dead-letter-that-fails-too.1.http")
    assert_posted(second, "dead-letter-that-fails-too.2.http")


def test_a_second_failure_overwrites_and_removes_nothing():
    """Code, data and reason of the first failure stay when the second has no
    answer, as measured.
    """
    letter = dead_letter(
        event_of(stored(recorded("dead-letter-422-kne-reason"))), url=REPORT_LOST, response=None
    )

    assert letter.extensions["knativeerrordest"] == REPORT_LOST
    assert letter.extensions["knativeerrorcode"] == "422"
    assert letter.extensions["reason"] == "bad-chat-id"


def test_a_kne_header_with_a_hyphen_in_its_name_is_left_out_and_said_aloud(caplog):
    """It would stop the partition of a real dispatcher for good; the developer hears of it, the
    message goes on.
    """
    event = event_of(stored(recorded("dispatch-binary-protobuf")))
    letter = dead_letter(
        event,
        url=SEND,
        response=HttpResponse(
            422, [(b"kne-other-thing", b"two words"), (b"kne-reason", b"r")], b""
        ),
    )

    assert letter.extensions["reason"] == "r"
    assert not [name for name in letter.extensions if "other" in name]
    assert "this partition would stop" in caplog.text


def test_a_letter_outside_latin_1_becomes_a_question_mark():
    """As the real dispatcher destroys it: attributes are ASCII, and others fail here."""
    record = stored(recorded("dispatch-binary-protobuf"))
    headers = [*record.headers, ("ce_subject", "Zoé \N{PILE OF POO}".encode())]
    shown = posted(ConsumerRecord(record.topic, 0, 0, 0, None, headers, record.value), SEND)[0][
        "ce-subject"
    ]

    assert shown == "Zoé ?"


@pytest.mark.parametrize(
    ("statuses", "meaning"),
    [
        ((200, 201, 202, 204), "taken"),
        ((404, 408, 409, 429, 500, 501, 502, 503, 504, 507, 599), "again"),
        (
            (
                300,
                301,
                302,
                304,
                307,
                308,
                400,
                401,
                403,
                405,
                406,
                410,
                412,
                413,
                415,
                418,
                422,
                425,
                499,
            ),
            "never",
        ),
    ],
)
def test_verdicts_are_those_of_the_measured_table(statuses, meaning):
    """The three rows of the dispatcher's table; a redirect with 303 is the one that is not
    imitated.
    """
    assert {verdict(status) for status in statuses} == {meaning}


def test_a_record_that_is_no_cloudevent_has_a_dead_letter_all_the_same():
    """It ends where the dispatcher's wrapped event ends: dead-lettered as 422, under the
    dispatcher's type.
    """
    record = ConsumerRecord("chat-commands", 4, 17, 0, b"key", [("x-header", b"\xff")], b"plain")
    with pytest.raises(Malformed):
        event_of(record)
    letter = foreign_dead_letter(record, url=SEND)

    assert (letter.type, letter.id, letter.data) == (
        "dev.knative.kafka.event",
        "partition:4/offset:17",
        b"plain",
    )
    assert letter.extensions == {
        "knativekafkapartition": "4",
        "knativekafkaoffset": "17",
        "knativeerrordest": SEND,
        "knativeerrorcode": "422",
        "reason": "not-a-cloudevent",
    }
    assert event_of(ConsumerRecord("chat-dead-letters", 0, 0, 0, *to_kafka(letter)))
