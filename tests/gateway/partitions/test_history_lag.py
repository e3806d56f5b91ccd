"""How far history is behind what is delivered, on the embedded log."""

import asyncio
import time

from backends.clock import Clock
from backends.log import ProducerRecord
from gateway.partitions.history_lag import HistoryLag
from schemas import chat_pb2 as pb
from schemas.ids import first_id_at
from schemas.topics import (
    HISTORY_GROUPS,
    HISTORY_RETRIES,
    MESSAGES,
)
from tests.support.events import event_of


async def test_how_far_history_is_behind(backends):
    """The age of the oldest outcome that its group has not committed."""
    ahead = Clock(alone=True, wall=lambda: time.time() + 7)
    lag = HistoryLag(backends.reads, clock=backends.clock)
    await lag.look()
    assert lag.seconds == 0
    await backends.appends.append([ProducerRecord(MESSAGES, event_of(pb.Outcomes(schema=1)), 3)])

    lag._clock = ahead
    await lag.look()
    assert 6 < lag.seconds < 8
    async with backends.reads.member(HISTORY_GROUPS[MESSAGES], MESSAGES) as member:
        await member.poll()
        await member.commit({3: 1})
    await lag.look()
    assert lag.seconds == 0


async def test_what_goes_round_counts_from_its_first_day(backends):
    """A record that was appended again holds outcomes that are as old as their ids."""
    now_s = time.time()
    lag = HistoryLag(backends.reads, clock=backends.clock)
    old = pb.Outcomes(
        schema=1,
        outcomes=[pb.Outcome(command=pb.Command(id=first_id_at(int(now_s * 1_000) - 600_000)))],
    )
    await backends.appends.append([ProducerRecord(HISTORY_RETRIES, event_of(old), 1)])

    await lag.look()
    assert 599 < lag.seconds < 602


async def test_the_lag_stays_while_the_log_is_unavailable(backends):
    """An old figure is better than none."""
    lag = HistoryLag(backends.reads, clock=backends.clock, interval_s=0.001)
    await lag.look()
    lag.seconds = 5.0
    await backends.close()

    watching = asyncio.create_task(lag.watch())
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)

    assert lag.seconds == 5.0
    assert not watching.done()
    watching.cancel()
    await asyncio.wait([watching])
