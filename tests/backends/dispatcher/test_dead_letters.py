"""Dead letters, records that are no events, a log that cannot be read, and how tries are traced and
counted.
"""

import asyncio
import base64
import sqlite3
from dataclasses import replace

import msgspec
import pytest

from backends.dispatcher.dispatcher import COMMIT_INTERVAL_S, Dispatcher, Source
from backends.dispatcher.in_process import in_process
from backends.log.embedded.log import EmbeddedLog
from backends.telemetry import metrics
from schemas.errors import Malformed, Unavailable
from schemas.signatures import check_signature
from schemas.topics import COMMANDS, TOPICS
from tests.support.dispatched import (
    PATIENT,
    TIMEOUT_S,
    URL,
    Failing,
    Function,
    Naps,
    append,
    committed,
    dead_letters,
    end,
)
from tests.support.events import event
from tests.support.traces import TRACE


async def test_a_dead_letter_keeps_all_attributes_and_says_why(embedded, start):
    """The code, 1,024 bytes of the body, and `kne-` headers as attributes."""
    sent = event(
        subject="s",
        dataschema="urn:x",
        time="2026-11-24T22:00:00Z",
        extensions={"partitionkey": "user-42", "knchatsig": "x"},
    )
    function = Function((422, [(b"kne-reason", b"bad-chat-id")], b"ABCD" * 500))
    await append(embedded, sent, partition=4)
    dispatcher = await start(function)
    (letter,) = await dead_letters(embedded)
    await end(dispatcher)

    assert replace(letter, extensions={}) == replace(sent, extensions={})
    assert letter.extensions == {
        "partitionkey": "user-42",
        "knchatsig": "x",
        "knativekafkapartition": "4",
        "knativekafkaoffset": "0",
        "knativeerrordest": URL,
        "knativeerrorcode": "422",
        "knativeerrordata": base64.b64encode(b"ABCD" * 256).decode(),
        "reason": "bad-chat-id",
    }


async def test_a_dead_letter_that_the_log_does_not_take_is_offered_until_it_does(embedded, start):
    """Where the dispatcher drops the event, the embedded default waits: the offset is not committed
    before the dead letter is safe.
    """
    naps = Naps()
    function = Function(422)
    full = [Unavailable("the disk is full")] * 20
    await append(embedded, event(1))
    dispatcher = await start(function, appends=Failing(embedded, "append", *full), sleep=naps)
    await dead_letters(embedded)
    await end(dispatcher)

    waits = [seconds for seconds in naps.taken if seconds != COMMIT_INTERVAL_S]
    assert len(waits) == 20
    assert all(0.05 <= seconds <= 5 for seconds in waits)
    assert waits[-1] >= 2.5
    assert await committed(embedded) == {0: 1}


async def test_a_dead_letter_that_can_never_be_appended_does_not_hold_up_the_partition(
    embedded, start, caplog
):
    """The record stays where it is, and the log says so."""
    function = Function(422)
    await append(embedded, event(1))
    dispatcher = await start(function, appends=Failing(embedded, "append", Malformed("too large")))
    await function.next()
    await append(embedded, event(2))
    await function.next()
    await end(dispatcher)

    assert await committed(embedded) == {0: 2}
    assert "the record stays in its own topic only" in caplog.text


async def test_a_record_that_is_no_cloudevent_is_dead_lettered_without_a_call(
    embedded, start, tmp_path
):
    """It would end there anyway, and what comes after it is not held up."""
    await append(embedded, event(1), event(2))
    with sqlite3.connect(tmp_path / "log.db") as raw:  # nothing of ours can append such a record
        raw.execute(
            "UPDATE records SET headers = ? WHERE id = (SELECT min(id) FROM records)",
            [msgspec.msgpack.encode([("x", b"y")])],
        )
    raw.close()
    function = Function()
    dispatcher = await start(function)
    (letter,) = await dead_letters(embedded)
    called = await function.next()
    await end(dispatcher)

    assert called == ["2"]
    assert (letter.type, letter.extensions["reason"]) == (
        "dev.knative.kafka.event",
        "not-a-cloudevent",
    )
    assert await committed(embedded) == {0: 2}


async def test_a_dead_letter_does_not_make_a_forged_event_true(tmp_path):
    """Where events are signed, one that was not signed when it was taken out of the log is still
    not when it is dead-lettered.
    """
    unsigned, signing = (
        EmbeddedLog(tmp_path / "log.db"),
        EmbeddedLog(tmp_path / "log.db", event_keys=[b"k" * 16]),
    )
    await append(unsigned, event(1))
    source = Source(topic=COMMANDS, group="send", url=URL, retry_policy=PATIENT)
    dispatcher = Dispatcher(
        source, reads=signing, appends=signing, post=in_process(Function(422)), sleep=Naps()
    )
    dispatcher.task = asyncio.create_task(dispatcher.run())
    (letter,) = await dead_letters(signing)
    await end(dispatcher)
    await unsigned.close()
    await signing.close()

    with pytest.raises(Malformed):
        check_signature(letter, TOPICS, [b"k" * 16], now_ms=0)


async def test_a_log_that_cannot_be_read_is_waited_for(embedded, start):
    """Longer each time, and never given up."""
    naps = Naps()
    function = Function()
    await append(embedded, event(1))
    dispatcher = await start(
        function, reads=Failing(embedded, "poll", *[Unavailable("locked")] * 3), sleep=naps
    )
    await function.next()
    await end(dispatcher)

    first, second, third = [seconds for seconds in naps.taken if seconds != COMMIT_INTERVAL_S]
    assert 0.05 <= first <= 0.1 <= second * 2 <= 0.4
    assert 0.2 <= third <= 0.4


async def test_a_bug_ends_the_dispatcher_instead_of_hiding(embedded, start):
    """Its task raises the exception and can end, instead of serving half."""

    async def broken(headers, body):
        raise RuntimeError("a bug")

    await append(embedded, event(1))
    dispatcher = await start(None, post=broken)
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(TIMEOUT_S):
            await dispatcher.task

    assert caught.group_contains(RuntimeError)


async def test_every_try_is_a_span_of_its_own(embedded, start):
    """Tries of one event share the trace, not the span.

    What came without a trace, or with a malformed one, is posted without.
    """
    traces = []

    async def refuse_once(scope, receive, send):
        traces.append(dict(scope["headers"]).get(b"traceparent"))
        return 503 if len(traces) == 1 else 200

    function = Function(*[refuse_once] * 4)
    trace = TRACE
    for number, given in enumerate((trace, None, "strange")):
        await append(embedded, event(number, traceparent=given))
        dispatcher = await start(function)
        await function.next(1 if number else 2)
        await end(dispatcher)

    first, second, *others = traces
    assert {one[:36] for one in (first, second)} == {trace[:36].encode()}
    assert {one[52:] for one in (first, second)} == {b"-01"}
    assert len({trace[36:52].encode(), first[36:52], second[36:52]}) == 3
    assert others == [None, None]


async def test_tries_and_dead_letters_are_counted(embedded, start):
    """An operator sees how often a function was asked again."""

    def counted():
        tries = [
            metrics.value_of("knchat_pump_tries_total", group="send", verdict=verdict)
            for verdict in ("taken", "again", "never")
        ]
        return [*tries, metrics.value_of("knchat_pump_dead_letters_total", group="send")]

    before = counted()
    function = Function(503, 200, 422)
    await append(embedded, event(1))
    dispatcher = await start(function)
    await function.next(2)
    await append(embedded, event(2))
    await dead_letters(embedded)
    await end(dispatcher)

    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 1, 1, 1]
