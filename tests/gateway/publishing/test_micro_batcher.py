"""Micro-batches: what comes while a batch is under way goes with the next, and nothing is left
lying.
"""

import asyncio
import logging
from dataclasses import dataclass

import pytest

from backends.telemetry.metrics import value_of
from gateway.publishing.micro_batcher import (
    MAX_QUEUE_BYTES,
    TIMEOUT_S,
    WIDER_ABOVE,
    MicroBatcher,
    distance_s,
    in_halves,
)
from schemas.errors import Malformed
from schemas.topics import MAX_BATCH, MAX_BATCH_BYTES


@dataclass
class Item:
    size: int = 10
    came_s: float = 0.0


class Published:
    """Batches that leave, and a gate that a test opens."""

    def __init__(self):
        self.batches = []
        self.gate = asyncio.Event()

    async def __call__(self, batch):
        self.batches.append(batch)
        await self.gate.wait()


class Departures:
    """When batches left, and how many items they took along."""

    def __init__(self):
        self.left = []

    async def __call__(self, batch):
        self.left.append((asyncio.get_running_loop().time(), len(batch)))


def made(publish, **options):
    """A queue whose failures are not reported."""
    return MicroBatcher(publish, lambda item: None, **options)


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_idle_queue_sends_what_came_in_one_turn_together():
    """The next turn of the loop takes all there is."""
    published = Published()
    batcher = made(published, in_flight=2)

    for _ in range(3):
        batcher.put(Item())
    await turns()

    assert [len(batch) for batch in published.batches] == [3]
    published.gate.set()
    await batcher.flush()
    assert batcher.under_way == []


async def test_the_next_batch_takes_all_that_came_meanwhile():
    """In the order of arrival, never more than two under way."""
    published = Published()
    batcher = made(published, in_flight=2)
    items = [Item() for _ in range(6)]
    for item in items:
        batcher.put(item)
        await turns()

    assert [len(batch) for batch in published.batches] == [1, 1]
    published.gate.set()
    await batcher.flush()
    assert [item for batch in published.batches for item in batch] == items
    assert len(published.batches) == 3


@pytest.mark.timed
async def test_batches_keep_their_distance():
    """What comes alone leaves at once; what comes soon after it waits for the rest of the distance,
    and rides together.
    """
    departures = Departures()
    batcher = made(departures, in_flight=2, apart_s=0.05)
    began_s = asyncio.get_running_loop().time()
    batcher.put(Item())
    await turns()
    for _ in range(3):
        batcher.put(Item())
        await turns()
    await batcher.flush()

    assert [count for _, count in departures.left] == [1, 3]
    assert departures.left[0][0] - began_s < 0.05
    # The loop counts milliseconds, as floats.
    assert departures.left[1][0] - departures.left[0][0] > 0.049


async def test_a_large_batch_keeps_more_distance():
    """Twice as much after four times as many."""
    departures = Departures()
    batcher = made(departures, in_flight=2, apart_s=0.05)
    for _ in range(4 * WIDER_ABOVE):
        batcher.put(Item())
    await turns()
    batcher.put(Item())
    await batcher.flush()

    assert [count for _, count in departures.left] == [4 * WIDER_ABOVE, 1]
    assert departures.left[1][0] - departures.left[0][0] > 0.099


@pytest.mark.parametrize(
    ("items", "times"), [(0, 1), (1, 1), (10, 1), (20, 2**0.5), (40, 2), (MAX_BATCH, 2)]
)
def test_the_distance_has_a_least_and_a_most(items, times):
    """Between them it is in proportion to the rate: n items a distance are rate x distance, so the
    root of n is too.
    """
    assert distance_s(0.02, items) == pytest.approx(times * 0.02)


async def test_a_full_batch_does_not_wait_for_another_to_be_done():
    """What does not fit into one leaves in the next, at the least distance: it is many already."""
    loop = asyncio.get_running_loop()
    published = Published()
    batcher = made(published, in_flight=2, apart_s=2)
    began_s = loop.time()
    for _ in range(MAX_BATCH + 1):
        batcher.put(Item(1))
    async with asyncio.timeout(5):
        while len(published.batches) < 2:
            await asyncio.sleep(0.001)

    assert [len(batch) for batch in published.batches] == [MAX_BATCH, 1]
    assert loop.time() - began_s < 3
    published.gate.set()
    await batcher.flush()


async def test_what_waited_too_long_for_its_distance_is_no_batch():
    """It was taken out meanwhile: nothing is left to send."""
    published = Published()
    published.gate.set()
    batcher = made(published, in_flight=2, apart_s=0.02)
    batcher.put(Item())
    await turns()
    batcher.put(Item())
    batcher.tick(TIMEOUT_S)
    await batcher.flush()

    assert [len(batch) for batch in published.batches] == [1]


async def test_a_batch_is_bounded_by_count_and_bytes():
    """256 items, 256 KiB; one that is larger alone still leaves."""
    published = Published()
    published.gate.set()
    batcher = made(published, in_flight=1)
    for _ in range(MAX_BATCH + 1):
        batcher.put(Item(1))
    for _ in range(3):
        batcher.put(Item(MAX_BATCH_BYTES // 2))
    batcher.put(Item(2 * MAX_BATCH_BYTES))
    await batcher.flush()

    assert [(len(batch), sum(item.size for item in batch)) for batch in published.batches] == [
        (MAX_BATCH, MAX_BATCH),
        (2, 1 + MAX_BATCH_BYTES // 2),
        (2, MAX_BATCH_BYTES),
        (1, 2 * MAX_BATCH_BYTES),
    ]


async def test_late_is_a_full_queue_or_an_old_item():
    """Whether it waits or is under way."""
    published = Published()
    batcher = made(published, in_flight=1)
    assert not batcher.is_late(0.0)
    batcher.put(Item(came_s=5.0))
    await turns()

    assert not batcher.is_late(TIMEOUT_S + 4)
    assert batcher.is_late(TIMEOUT_S + 5)
    batcher.put(Item(came_s=0.0))
    assert batcher.is_late(TIMEOUT_S)
    batcher.put(Item(MAX_QUEUE_BYTES, came_s=20.0))
    assert batcher.is_late(0.0)
    published.gate.set()
    await batcher.flush()
    assert not batcher.is_late(99.0)


async def test_what_waited_too_long_is_taken_out():
    """Only what has not left."""
    published = Published()
    batcher = made(published, in_flight=1)
    batcher.put(Item(came_s=0.0))
    await turns()
    old, young = Item(came_s=0.0), Item(came_s=5.0)
    batcher.put(old)
    batcher.put(young)

    assert batcher.tick(TIMEOUT_S) == [old]
    published.gate.set()
    await batcher.flush()
    assert published.batches[1:] == [[young]]


async def test_an_item_that_comes_as_the_last_batch_ends_is_not_forgotten():
    """The worker ends in the same turn in which the item is put."""
    published = Published()
    batcher = made(published, in_flight=1)
    batcher.put(Item())
    await turns()
    published.gate.set()
    for _ in range(10):
        await asyncio.sleep(0)
        batcher.put(Item())
    await batcher.flush()

    assert sum(map(len, published.batches)) == 11


async def test_a_bug_in_publishing_stops_no_other_batch(caplog):
    """It is logged, its items are told, and what waited leaves without another put."""
    published, failed = [], []

    async def publish(batch):
        published.append(batch)
        await asyncio.sleep(0)
        if len(published) == 1:
            raise RuntimeError("bug")

    batcher = MicroBatcher(publish, failed.append, in_flight=1)
    first, second = Item(), Item()
    with caplog.at_level(logging.ERROR):
        batcher.put(first)
        await asyncio.sleep(0)
        batcher.put(second)
        async with asyncio.timeout(5):
            await batcher.flush()

    assert (published, failed) == ([[first], [second]], [first])
    assert [record.message for record in caplog.records] == ["a batch was given up"]


async def test_a_queue_that_stands_still_is_started_again(caplog):
    """Whatever bug it was: counted, logged, and what waits leaves.

    One whose next batch is not due yet does not stand still.
    """
    departures = Departures()
    batcher = made(departures, in_flight=1, apart_s=0.01)
    before = value_of("knchat_batches_restarted_total")
    batcher.put(Item())
    batcher._departure.cancel()  # the bug
    await turns()
    assert departures.left == []
    with caplog.at_level(logging.ERROR):
        for now_s in (1.0, 1.9, 2.0):
            batcher.tick(now_s)
        assert value_of("knchat_batches_restarted_total") == before + 1
        await turns()
        batcher.put(Item())
        for now_s in (3.0, 4.1):
            batcher.tick(now_s)
    await batcher.flush()

    assert [count for _, count in departures.left] == [1, 1]
    assert value_of("knchat_batches_restarted_total") == before + 1
    assert [record.message for record in caplog.records] == [
        "a queue stalled and was started again"
    ]


@pytest.mark.parametrize("bad", [{0}, {5}, {0, 1, 7}, set(range(8)), set()])
async def test_what_is_refused_for_good_is_found_by_halving(bad):
    """Each that is to blame is told alone, in order; all others are appended, in order and once."""
    appended, refused = [], []

    async def append(items):
        if bad & {*items}:
            raise Malformed("no")
        appended.extend(items)

    await in_halves(range(8), append, lambda item, error: refused.append((item, error.message)))

    assert appended == [item for item in range(8) if item not in bad]
    assert refused == [(item, "no") for item in sorted(bad)]


async def test_close_gives_up_what_is_under_way():
    """Nothing hangs."""
    published = Published()
    batcher = made(published, in_flight=2)
    batcher.put(Item())
    await turns()

    await batcher.close()

    assert batcher.under_way == []
