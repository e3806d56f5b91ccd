"""What is in flight, what is committed, and what comes again after a stop or a crash."""

import asyncio

from backends.dispatcher.dispatcher import COMMIT_INTERVAL_S, MAX_POLL_RECORDS
from schemas.errors import Unavailable
from tests.support.dispatched import (
    TIMEOUT_S,
    Failing,
    Function,
    Naps,
    append,
    committed,
    crash,
    end,
)
from tests.support.events import event


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
    await append(embedded, event(1))
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
    await append(embedded, event(1))
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


async def test_a_commit_that_fails_is_made_later(embedded, start):
    """Nothing is repeated because of it while the dispatcher lives."""
    member = Counting(Failing(embedded, "commit", Unavailable("locked"), Unavailable("locked")))
    function = Function()
    await append(embedded, event(1))
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
    await append(embedded, event(1))
    dispatcher = await start(
        function, reads=Failing(embedded, "commit", Unavailable("closed")), sleep=naps
    )
    await function.next()
    await end(dispatcher)

    assert "stopped without a last commit" in caplog.text
    assert await committed(embedded) == {}
