"""The dispatcher between the embedded log and functions: dead letters, what is in flight, commits,
crashes, stops.

The verdict table is in `test_dispatcher_verdicts`, partitions that come and go in
`test_dispatcher_groups`.
"""

import asyncio
import base64
import sqlite3
from dataclasses import replace

import msgspec
import pytest

from backends.dispatcher.dispatcher import COMMIT_INTERVAL_S, MAX_POLL_RECORDS, Dispatcher, Source
from backends.dispatcher.in_process import in_process
from backends.log.embedded.log import EmbeddedLog
from backends.retry_policy import RetryPolicy
from backends.telemetry import metrics
from schemas.errors import Malformed, Unavailable
from schemas.signatures import check_signature
from schemas.topics import COMMANDS, TOPICS
from tests.backends.dispatched import (
    TIMEOUT_S,
    Failing,
    Function,
    Naps,
    append,
    committed,
    crash,
    dead_letters,
    end,
    event,
)
from tests.support.traces import TRACE

PATIENT = RetryPolicy(retry=5, backoff_policy="exponential", backoff_delay_s=0.2, timeout_s=2)
"""The delivery block under which the table was measured."""
URL = "http://send"


@pytest.fixture
async def start(embedded):
    """Starts dispatchers of chat-commands and ends them, if they still run."""
    running = []

    async def started(
        function, *, retry_policy=PATIENT, sleep=None, reads=embedded, appends=embedded, post=None
    ):
        source = Source(topic=COMMANDS, group="send", url=URL, retry_policy=retry_policy)
        dispatcher = Dispatcher(
            source,
            reads=reads,
            appends=appends,
            post=post or in_process(function),
            sleep=sleep or Naps(),
        )
        dispatcher.task = asyncio.create_task(dispatcher.run())
        running.append(dispatcher)
        return dispatcher

    yield started
    for dispatcher in running:
        dispatcher.task.cancel()
    await asyncio.gather(*(dispatcher.task for dispatcher in running), return_exceptions=True)


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
    await append(embedded, event())
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
    await append(embedded, event())
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
    await append(unsigned, event())
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


async def test_at_most_99_events_are_in_flight(embedded, start):
    """Two polls less one, as the dispatcher has it: the 100th waits until fewer than 50 are in
    flight.
    """
    gate = asyncio.Event()

    async def wait(scope, receive, send):
        await gate.wait()
        return 200

    function = Function(*[wait] * 200)
    dispatcher = await start(function)
    for number in range(MAX_POLL_RECORDS - 1):
        await append(embedded, event(number))
    await function.next(MAX_POLL_RECORDS - 1)
    await append(embedded, *[event(number) for number in range(100)])
    await function.next(MAX_POLL_RECORDS)
    assert function.calls.empty()
    gate.set()
    await function.next(100 - MAX_POLL_RECORDS)
    await end(dispatcher)

    assert await committed(embedded) == {0: 100 + MAX_POLL_RECORDS - 1}


async def test_only_the_contiguous_prefix_is_committed(embedded, start):
    """What is done behind an open offset is not skipped by a restart."""
    gate = asyncio.Event()

    async def wait(scope, receive, send):
        await gate.wait()
        return 200

    function = Function(200, wait, 200, 200)
    await append(embedded, *[event(number) for number in range(4)])
    dispatcher = await start(function)
    await function.next(4)
    await end(dispatcher, within_s=0)
    again = Function()
    dispatcher = await start(again)

    assert await committed(embedded) == {0: 1}
    assert await again.next(3) == ["1", "2", "3"]
    gate.set()
    await end(dispatcher)
    assert await committed(embedded) == {0: 4}


async def test_after_a_crash_what_was_not_committed_comes_again(embedded, start):
    """At least once: acknowledged by the function, not yet by the dispatcher."""
    function = Function()
    await append(embedded, event(1), event(2))
    dispatcher = await start(function, sleep=Naps(held=[COMMIT_INTERVAL_S]))
    await function.next(2)
    await crash(dispatcher)
    again = Function()
    dispatcher = await start(again)

    assert await again.next(2) == ["1", "2"]
    await end(dispatcher)


async def test_a_restart_after_a_stop_repeats_nothing(embedded, start):
    """A stop commits what was done."""
    function = Function()
    await append(embedded, event(1))
    dispatcher = await start(function, sleep=Naps(held=[COMMIT_INTERVAL_S]))
    await function.next()
    await end(dispatcher)
    await append(embedded, event(2))
    again = Function()
    dispatcher = await start(again)

    assert await again.next() == ["2"]
    await end(dispatcher)


async def test_commits_are_grouped_and_come_by_themselves(embedded, start):
    """A commit costs an fsync: one for all that was done within COMMIT_INTERVAL_S."""
    wake = asyncio.Event()

    async def sleep(seconds):
        await wake.wait()

    function = Function()
    await append(embedded, *[event(number) for number in range(20)])
    member = Counting(embedded)
    dispatcher = await start(function, reads=member, sleep=sleep)
    await function.next(20)
    wake.set()
    async with asyncio.timeout(TIMEOUT_S):
        await member.committed_once.wait()
    await end(dispatcher)

    assert member.commits == [{0: 20}]


class Counting(Failing):
    """The real port, that writes down what is committed."""

    def __init__(self, port):
        super().__init__(port, "")
        self.commits = []
        self.committed_once = asyncio.Event()

    async def commit(self, offsets):
        await self._port.commit(offsets)
        self.commits.append(dict(offsets))
        self.committed_once.set()


async def test_a_stop_waits_for_what_is_in_flight(embedded, start):
    """A planned end repeats nothing that a function finishes in time."""
    gate = asyncio.Event()

    async def wait(scope, receive, send):
        await gate.wait()
        return 200

    function = Function(wait)
    await append(embedded, event())
    dispatcher = await start(function)
    await function.next()
    stopping = asyncio.create_task(end(dispatcher))
    await asyncio.sleep(0)
    gate.set()
    await stopping

    assert await committed(embedded) == {0: 1}


async def test_a_stop_does_not_wait_for_retries(embedded, start):
    """What rests between two tries would hold up the end for minutes; it comes again instead."""
    naps = Naps(held=[0.4])
    function = Function(503)
    await append(embedded, event())
    dispatcher = await start(function, sleep=naps)
    async with asyncio.timeout(TIMEOUT_S):
        await naps.fell_asleep.wait()
    await end(dispatcher)

    assert await committed(embedded) == {}


async def test_a_stop_before_the_start_ends_the_start(embedded, start):
    """A stop works at any point of the start."""
    dispatcher = await start(Function())
    await end(dispatcher)

    assert dispatcher.task.exception() is None


async def test_a_log_that_cannot_be_read_is_waited_for(embedded, start):
    """Longer each time, and never given up."""
    naps = Naps()
    function = Function()
    await append(embedded, event())
    dispatcher = await start(
        function, reads=Failing(embedded, "poll", *[Unavailable("locked")] * 3), sleep=naps
    )
    await function.next()
    await end(dispatcher)

    first, second, third = [seconds for seconds in naps.taken if seconds != COMMIT_INTERVAL_S]
    assert 0.05 <= first <= 0.1 <= second * 2 <= 0.4
    assert 0.2 <= third <= 0.4


async def test_a_commit_that_fails_is_made_later(embedded, start):
    """Nothing is repeated because of it while the dispatcher lives."""
    member = Counting(Failing(embedded, "commit", Unavailable("locked"), Unavailable("locked")))
    function = Function()
    await append(embedded, event())
    dispatcher = await start(function, reads=member)
    await function.next()
    async with asyncio.timeout(TIMEOUT_S):
        await member.committed_once.wait()
    await end(dispatcher)

    assert member.commits == [{0: 1}]


async def test_a_stop_without_its_last_commit_is_still_a_stop(embedded, start, caplog):
    """The log may be gone by then."""
    naps = Naps(held=[COMMIT_INTERVAL_S])
    function = Function()
    await append(embedded, event())
    dispatcher = await start(
        function, reads=Failing(embedded, "commit", Unavailable("closed")), sleep=naps
    )
    await function.next()
    await end(dispatcher)

    assert "stopped without a last commit" in caplog.text
    assert await committed(embedded) == {}


async def test_a_bug_ends_the_dispatcher_instead_of_hiding(embedded, start):
    """Its task raises the exception and can end, instead of serving half."""

    async def broken(headers, body):
        raise RuntimeError("a bug")

    await append(embedded, event())
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
