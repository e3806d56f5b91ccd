"""Signatures of events (design.md D23): what they cover, under which keys, for which inbox and for
how long.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.cloudevents import Event, from_kafka, to_kafka
from schemas.errors import Malformed
from schemas.signatures import (
    SIGNATURE,
    VERSION_1_UNTIL_MS,
    check_age,
    check_signature,
    is_signed,
    sign,
    signature,
)
from schemas.topics import COMMANDS, DELIVERIES, MESSAGES, RETRIES, TOPICS
from tests.schemas.samples import FULL, KEYS, record_of
from tests.support.captured import CAPTURES

NOW_MS = VERSION_1_UNTIL_MS - 1
LATER_MS = VERSION_1_UNTIL_MS
DAY_MS = 24 * 3_600_000


def taken(event, keys=KEYS, inboxes=(COMMANDS,), now_ms=LATER_MS):
    """Whether an event handler takes it; the gateway's quicker way must say the same."""
    try:
        check_signature(event, inboxes, keys, now_ms=now_ms)
    except Malformed as refusal:
        assert refusal.field == SIGNATURE
        by_event = False
    else:
        by_event = True
    if keys:
        _, headers, value = to_kafka(event)
        assert (
            any(is_signed(headers, value or b"", inbox, keys, now_ms=now_ms) for inbox in inboxes)
            == by_event
        )
    return by_event


def test_a_signature_is_checked_under_all_keys():
    """Signed with the first key; accepted by every holder of that key, also during a rotation."""
    assert taken(FULL, KEYS[::-1])
    assert taken(FULL, [])
    assert sign(FULL, COMMANDS, []) is FULL
    assert "=" not in signature(FULL, COMMANDS, KEYS[0])


@pytest.mark.parametrize(
    "forged",
    [
        replace(FULL, data=FULL.data + b"\x08\x01"),
        replace(FULL, id="2"),
        replace(FULL, type="knchat.other.v1"),
        replace(FULL, source="/gateways/another"),
        replace(FULL, time="2026-11-24T22:40:00.121Z"),
        replace(FULL, time=None),
        replace(FULL, extensions={**FULL.extensions, "partitionkey": "1002"}),
        replace(FULL, extensions={}),
        replace(FULL, extensions={**FULL.extensions, SIGNATURE: ""}),
        replace(
            FULL,
            extensions={
                **FULL.extensions,
                SIGNATURE: FULL.extensions[SIGNATURE].removeprefix("2."),
            },
        ),
        replace(FULL, extensions={**FULL.extensions, SIGNATURE: "é"}),
        sign(FULL, COMMANDS, [b"a-key-of-no-process-here"]),
        sign(FULL, MESSAGES, KEYS),
    ],
)
def test_a_forged_event_is_refused(forged):
    """Other data, another name, sender, time or key; no signature, a foreign one, or one for
    another inbox.
    """
    assert not taken(forged)
    assert not taken(forged, now_ms=NOW_MS)


def test_a_dead_letter_is_known_by_the_inbox_it_was_written_to():
    """A function that takes events of all inboxes takes it with what the dispatcher added."""
    letter = replace(
        FULL, extensions={**FULL.extensions, "knativeerrorcode": "422", "knativekafkaoffset": "7"}
    )

    assert taken(letter, inboxes=tuple(TOPICS))
    assert not taken(letter, inboxes=(RETRIES,))


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-24T22:40:00.12Z",
        "2026-11-24T22:40:00.120000Z",
        "2026-11-24T23:40:00.12+01:00",
        "2026-11-24t22:40:00.120z",
    ],
)
def test_a_time_may_be_written_otherwise_on_the_way(time):
    """Knative's dispatcher writes it in a form of its own (measured): the same millisecond is the
    same time.
    """
    assert taken(replace(FULL, time=time))


def test_what_changes_on_the_way_is_not_covered():
    """The trace is each hop's own, and the dispatcher adds where the record lay."""
    assert taken(
        replace(
            FULL,
            traceparent=None,
            dataschema=None,
            extensions={**FULL.extensions, "knativekafkapartition": "3"},
        )
    )


def test_version_1_is_taken_for_a_while():
    """What an older version wrote lies in the topics for 14 days; afterwards there is no reason to
    show such an event.
    """
    event = from_kafka(*record_of(CAPTURES / "dead-letter-422-kne-reason.record.json")[1:])

    assert taken(event, [b"test-key"], now_ms=NOW_MS)
    assert not taken(event, [b"test-key"], now_ms=LATER_MS)
    assert not taken(replace(event, id="2"), [b"test-key"], now_ms=NOW_MS)


def test_attributes_cannot_lend_their_ends_to_each_other():
    """They are kept apart by line feeds, which no attribute may hold; in a
    foreign record one may.
    """
    one = Event(id="b", source="s", type="a", data=b"c")
    other = Event(id="c", source="s", type="a", data=b"b")
    assert signature(one, COMMANDS, KEYS[0]) != signature(other, COMMANDS, KEYS[0])

    event = sign(
        replace(FULL, extensions={"partitionkey": "1"}, data=b"said\nmore"), DELIVERIES, KEYS
    )
    _, headers, _ = to_kafka(event)
    shifted = [
        (name, b"1\nsaid" if name == "ce_partitionkey" else value) for name, value in headers
    ]
    assert not is_signed(shifted, b"more", DELIVERIES, KEYS, now_ms=LATER_MS)


@pytest.mark.parametrize("time", [b"yesterday", b"\xff", b"", b"2026-11-24T22:40:00"])
def test_a_record_whose_time_is_none_is_not_signed(time):
    """A writer of the topic must not stop its reader with one."""
    _, headers, value = to_kafka(FULL)
    forged = [(name, time if name == "ce_time" else text) for name, text in headers]

    assert not is_signed(forged, value, COMMANDS, KEYS, now_ms=LATER_MS)


def test_an_event_that_is_dead_lettered_is_not_signed_again():
    """What was unsigned when it came out of the log stays unsigned: a dead letter makes no forged
    event true.
    """
    forged = replace(FULL, extensions={"knativekafkaoffset": "7"})

    assert sign(forged, COMMANDS, KEYS) is forged


@given(
    st.text("abc\n.2", max_size=6),
    st.text("abc\n.2", max_size=6),
    st.binary(max_size=20),
    st.sampled_from([None, "2026-01-01T00:00:00Z"]),
)
def test_both_ways_to_check_say_the_same(identity, source, data, time):
    """For whatever stands in a record, signed or not."""
    event = Event(id=identity, source=source, type="t", data=data, time=time)
    if "\n" not in identity + source:
        assert taken(sign(event, COMMANDS, KEYS))
    assert not taken(event)


def test_an_event_is_refused_when_no_record_of_its_inbox_can_be_so_old():
    """An event has the time of its cause, so what came through other inboxes may be older by as
    much as those keep.
    """
    at_ms = 1_764_024_000_120  # 2025-11-24T22:40:00.120Z
    event = replace(FULL, time="2025-11-24T22:40:00.120Z")

    check_age(event, [COMMANDS], now_ms=at_ms + DAY_MS)
    check_age(event, [COMMANDS, RETRIES], now_ms=at_ms + 2 * DAY_MS)
    for inboxes, now_ms in (
        ([COMMANDS], at_ms + DAY_MS + 1),
        ([COMMANDS, RETRIES], at_ms + 2 * DAY_MS + 1),
    ):
        with pytest.raises(Malformed) as refusal:
            check_age(event, inboxes, now_ms=now_ms)
        assert refusal.value.field == "time"
    with pytest.raises(Malformed):
        check_age(replace(event, time=None), [COMMANDS], now_ms=at_ms)
