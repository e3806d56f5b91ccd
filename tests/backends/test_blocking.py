"""The bounded executor: results, deadlines, the bound on what waits, and the end.

Calls are held up by events, never by sleeping.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from backends import blocking as blocking_module
from backends.blocking import Blocking
from backends.fair import work_for
from schemas.errors import Unavailable

LONG_S = 30.0


@pytest.fixture
def held():
    """A call that has begun when `began` is set, and ends when `end` is."""

    class Held:
        def __init__(self):
            self.began, self.end = threading.Event(), threading.Event()

        def __call__(self):
            self.began.set()
            assert self.end.wait(LONG_S)
            return "ended"

    held = Held()
    yield held
    held.end.set()


async def begun(held):
    assert await asyncio.to_thread(held.began.wait, LONG_S)


async def test_a_call_runs_in_a_thread_and_gives_its_result():
    """The loop is free meanwhile."""
    blocking = Blocking("test", threads=1, timeout_s=LONG_S)
    name = await blocking.run(lambda: threading.current_thread().name)
    await blocking.close()

    assert name.startswith("test")


async def test_an_error_of_a_call_comes_out_as_it_is():
    """Translating is the caller's part."""
    blocking = Blocking("test", threads=1, timeout_s=LONG_S)
    with pytest.raises(ZeroDivisionError):
        await blocking.run(lambda: 1 / 0)

    await blocking.close()


async def test_a_call_that_takes_too_long_is_unavailable(held):
    """The thread stays busy until the call ends; then it serves again."""
    blocking = Blocking("test", threads=1, timeout_s=LONG_S)
    with pytest.raises(Unavailable):
        await blocking.run(held, timeout_s=0.01)
    held.end.set()

    assert await blocking.run(lambda: "next") == "next"
    await blocking.close()


async def test_a_call_that_was_given_up_in_the_queue_never_runs(held):
    """Its caller has been told that it failed, and may have asked again."""
    blocking = Blocking("test", threads=1, timeout_s=LONG_S)
    ran = []
    first = asyncio.create_task(blocking.run(held))
    await begun(held)
    with pytest.raises(Unavailable):
        await blocking.run(lambda: ran.append("late"), timeout_s=0.01)
    held.end.set()
    await first
    await blocking.run(lambda: ran.append("next"))
    await blocking.close()

    assert ran == ["next"]


async def test_a_cancelled_caller_leaves_its_queued_call_out(held):
    """No caller waits for it any more."""
    blocking = Blocking("test", threads=1, timeout_s=LONG_S)
    ran = []
    first = asyncio.create_task(blocking.run(held))
    await begun(held)
    second = asyncio.create_task(blocking.run(lambda: ran.append("cancelled")))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    held.end.set()

    assert await first == "ended"
    await blocking.close()
    assert ran == []


async def test_too_many_waiting_calls_are_unavailable_at_once(held):
    """What was given up still counts until a thread has passed over it: the queue stays bounded
    while a thread hangs.
    """
    blocking = Blocking("test", threads=1, timeout_s=LONG_S, waiting=2)
    first = asyncio.create_task(blocking.run(held))
    await begun(held)
    for expected in ("in time", "too much waits"):
        with pytest.raises(Unavailable, match=expected):
            await blocking.run(lambda: None, timeout_s=0.01)
    held.end.set()
    await first

    assert await blocking.run(lambda: "again") == "again"
    await blocking.close()


async def test_an_error_after_the_deadline_is_dropped(held, caplog):
    """It was told as Unavailable before."""
    blocking = Blocking("test", threads=1, timeout_s=LONG_S)

    def fails_late():
        held()
        raise ZeroDivisionError

    with pytest.raises(Unavailable):
        await blocking.run(fails_late, timeout_s=0.01)
    held.end.set()
    await blocking.close()

    assert caplog.records == []


async def test_close_waits_for_calls_under_way_and_takes_no_more(held):
    """What was begun is finished."""
    blocking = Blocking("test", threads=1, timeout_s=LONG_S)
    first = asyncio.create_task(blocking.run(held))
    await begun(held)
    closing = asyncio.create_task(blocking.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="closed"):
        await blocking.run(lambda: None)
    held.end.set()
    await closing

    assert first.done()
    assert await first == "ended"


async def test_close_ends_though_a_thread_hangs(held):
    """It waits no longer than a call may take."""
    blocking = Blocking("test", threads=1, timeout_s=0.05)
    with pytest.raises(Unavailable):
        await blocking.run(held)
    await blocking.close()

    assert not held.end.is_set()


async def test_what_waits_is_begun_in_turn(held):
    """One user's fifty calls let another user's one, and the system's, through after the first of
    them.
    """
    blocking = Blocking("test", threads=1, timeout_s=LONG_S)
    first = asyncio.create_task(blocking.run(held))
    await begun(held)
    ran = []

    async def ask(who, number):
        work_for(who)
        await blocking.run(lambda: ran.append(f"{who}{number}"))

    asked = [asyncio.create_task(ask("ann", number)) for number in range(50)]
    asked += [asyncio.create_task(ask("ben", 0)), asyncio.create_task(ask("", 0))]
    await asyncio.sleep(0)
    held.end.set()
    await asyncio.gather(first, *asked)
    await blocking.close()

    assert ran[:4] == ["ann0", "ben0", "0", "ann1"]
    assert ran[4:] == [f"ann{number}" for number in range(2, 50)]


async def test_no_caller_fills_the_queue_alone(held, monkeypatch):
    """A caller with too many waiting calls is refused; others are served."""
    monkeypatch.setattr(blocking_module, "MAX_WAITING_EACH", 2)
    blocking = Blocking("test", threads=1, timeout_s=LONG_S)
    first = asyncio.create_task(blocking.run(held))
    await begun(held)

    async def ask(who):
        work_for(who)
        return await blocking.run(lambda: who)

    asked = [asyncio.create_task(ask(who)) for who in ("ann", "ann", "ann", "ben")]
    await asyncio.sleep(0)
    held.end.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    await first
    await blocking.close()

    assert [answers[0], answers[1], answers[3]] == ["ann", "ann", "ben"]
    assert isinstance(answers[2], Unavailable)
