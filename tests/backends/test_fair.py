"""Fair queues: one of each in turn, bounds for each, and places that no caller gets all of."""

from __future__ import annotations

import asyncio

import pytest

from backends.fair import SYSTEM, FairQueue, Turns, work_for
from schemas.errors import Unavailable


def test_one_of_each_in_turn():
    """A user with a hundred calls waits between them for each of the others'."""
    queue = FairQueue[str]()
    for who, item in (
        ("ann", "a1"),
        ("ann", "a2"),
        ("ann", "a3"),
        ("ben", "b1"),
        (SYSTEM, "h1"),
        ("ben", "b2"),
    ):
        queue.put(who, item)

    assert queue.waiting("ann") == 3
    assert [queue.take() for _ in range(6)] == ["a1", "b1", "h1", "a2", "b2", "a3"]
    assert queue.waiting("ann") == 0


class Visit:
    """A caller that enters, and stays until told to leave."""

    def __init__(self, turns, who, order):
        self.go, self.inside = asyncio.Event(), False
        self.task = asyncio.create_task(self._run(turns, who, order))

    async def _run(self, turns, who, order):
        work_for(who)
        async with turns.turn():
            self.inside = True
            order.append(who)
            await self.go.wait()


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_place_stays_for_others():
    """Of two places one user gets one; a later user is in at once."""
    turns, order = Turns(2, each=1, waiting=8, each_waiting=8, busy="full"), []
    anns = [Visit(turns, "ann", order) for _ in range(3)]
    await settle()
    ben = Visit(turns, "ben", order)
    await settle()

    assert [visit.inside for visit in (*anns, ben)] == [True, False, False, True]
    for visit in (*anns, ben):
        visit.go.set()
        await settle()
    await asyncio.gather(*(visit.task for visit in (*anns, ben)))
    assert order == ["ann", "ben", "ann", "ann"]


async def test_waiting_calls_are_served_in_turn():
    """A second user does not wait for all that the first has asked for."""
    turns, order = Turns(1, each=1, waiting=8, each_waiting=8, busy="full"), []
    visits = [Visit(turns, who, order) for who in ("ann", "ann", "ann", "ben", SYSTEM)]
    await settle()
    for visit in visits:
        visit.go.set()
    await asyncio.gather(*(visit.task for visit in visits))

    assert order == ["ann", "ann", "ben", SYSTEM, "ann"]


async def test_the_queue_is_bounded_for_each_and_for_all():
    """A caller whose part of the queue is full is refused, others are not."""
    turns, order = Turns(1, each=1, waiting=3, each_waiting=2, busy="too many"), []
    visits = [Visit(turns, who, order) for who in ("ann", "ann", "ann", "ann", "ben", "ben")]
    await settle()

    assert [visit.task.done() for visit in visits] == [False, False, False, True, False, True]
    with pytest.raises(Unavailable, match="too many"):
        await visits[3].task
    with pytest.raises(Unavailable, match="too many"):
        await visits[5].task
    for visit in visits:
        visit.go.set()
    await asyncio.gather(*(visit.task for visit in visits), return_exceptions=True)
    assert order == ["ann", "ann", "ben", "ann"]


async def test_a_caller_that_gives_up_leaves_no_place_taken():
    """While it waits, and in the moment in which it is called."""
    turns, order = Turns(1, each=1, waiting=8, each_waiting=8, busy="full"), []
    first, waits, called, last = (Visit(turns, who, order) for who in ("ann", "ben", "cid", "dan"))
    await settle()
    waits.task.cancel()
    await settle()
    first.go.set()
    await first.task
    called.task.cancel()
    last.go.set()
    await asyncio.wait_for(last.task, 5)

    assert order[0] == "ann"
    assert order[-1] == "dan"
    assert "ben" not in order


@pytest.mark.parametrize("cancelled", [(0, 1, 2), (1, 2, 0), (1, 0, 2)])
async def test_a_caller_that_gives_up_as_a_place_comes_free_is_passed_over(cancelled):
    """A call's time ends and a place comes free in one turn of the loop, in either order: the next
    one is called.
    """
    turns, order = Turns(1, each=1, waiting=8, each_waiting=8, busy="full"), []
    *gone, last = (Visit(turns, who, order) for who in ("ann", "ben", "ben", "cid"))
    await settle()
    for number in cancelled:  # 0 leaves its place, the others wait
        gone[number].task.cancel()
    await settle()

    assert last.inside
    last.go.set()
    await asyncio.wait_for(last.task, 5)
    assert order == ["ann", "cid"]
    assert (turns._free, turns._waiting, turns._inside) == (1, {}, {})
    assert {visit.task.cancelled() for visit in gone} == {True}
