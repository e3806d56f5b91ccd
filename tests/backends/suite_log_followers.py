"""The suite of the log's two ports, second part: partition consumers. `test_log` lists the
adapters.
"""

from __future__ import annotations

import asyncio

import pytest

from backends.log import ProducerRecord
from backends.telemetry.metrics import value_of
from schemas.topics import COMMANDS, DEAD_LETTERS
from tests.backends.log_ports import (
    ALL,
    TIMEOUT_S,
    batches,
    ends,
    ids,
    records,
    sent,
)
from tests.support.events import event


class FollowersSuite:
    """What a partition consumer gets, and when."""

    async def test_a_consumer_gets_what_is_there_and_what_comes(self, log):
        """From its offsets on, in order within each partition, without a gap."""
        start = await ends(log.reads)
        old, new = (
            [records(5, partition) for partition in range(3)],
            [records(5, partition) for partition in range(3)],
        )
        await log.appends.append([record for some in old for record in some])
        async with log.reads.follow(DEAD_LETTERS, start) as consumer:
            found = await batches(consumer, 15)
            await log.appends.append([record for some in new for record in some])
            found += await batches(consumer, 15)

        for partition in range(3):
            mine = [stored for stored in found if stored.partition == partition]
            assert ids(mine) == sent(old[partition]) + sent(new[partition])
            assert [stored.offset for stored in mine] == list(
                range(start[partition], start[partition] + 10)
            )

    async def test_a_consumer_sees_only_its_partitions(self, log):
        """Records of other partitions and topics do not come."""
        start = await ends(log.reads)
        mine = records(2, 1)
        found = []
        async with (
            log.reads.follow(DEAD_LETTERS, {1: start[1]}) as consumer,
            asyncio.timeout(TIMEOUT_S),
        ):
            await log.appends.append(
                [*records(2, 0), *records(2, 2), *records(2, 1, COMMANDS), *mine]
            )
            async for batch in consumer:
                found += batch
                if len(found) >= 2:
                    break

        assert ids(found) == sent(mine)

    async def test_a_waiting_consumer_is_woken_by_another_process(self, log, connect):
        """Appends of any process wake it."""
        start = await ends(log.reads)
        other = connect()
        await other.appends.ping()
        async with log.reads.follow(DEAD_LETTERS, start) as consumer:
            for _ in range(3):
                waiting = asyncio.create_task(batches(consumer, 1))
                some = records(1)
                await other.appends.append(some)

                assert ids(await waiting) == sent(some)

    async def test_appends_of_two_processes_reach_a_consumer_once_and_in_order(self, log, connect):
        """However they interleave, offsets are dense and nothing comes twice."""
        start = await ends(log.reads)
        other = connect()
        async with log.reads.follow(DEAD_LETTERS, start) as consumer:

            async def fill(ports):
                for _ in range(60):
                    await ports.appends.append(records(1))

            filling = asyncio.gather(fill(log), fill(other))
            found = await batches(consumer, 120)
            await filling

        assert [stored.offset for stored in found] == list(range(start[0], start[0] + 120))
        assert len(set(ids(found))) == 120

    async def test_a_batch_is_bounded(self, log):
        """At most 500 records and about 1 MiB, from memory and from the log alike."""
        start = await ends(log.reads)
        async with log.reads.follow(DEAD_LETTERS, {0: start[0]}) as live:
            await log.appends.append(records(700))
            await log.appends.append(
                [ProducerRecord(DEAD_LETTERS, event(data=b"x" * 400_000), 0) for _ in range(6)]
            )
            async with log.reads.follow(DEAD_LETTERS, {0: start[0]}) as late:
                for consumer in (live, late):
                    found = []
                    while len(found) < 706:
                        batch = await anext(aiter(consumer))
                        found += batch

                        assert len(batch) <= 500
                        assert sum(len(stored.value) for stored in batch) <= 1 << 20

                    assert [stored.offset for stored in found] == list(
                        range(start[0], start[0] + 706)
                    )

    async def test_what_is_assigned_later_is_followed_too(self, log):
        """From its offset on; a partition that is followed already goes on where it is, whatever is
        said of it.
        """
        start = await ends(log.reads)
        first, second = (
            [records(3, partition) for partition in (0, 1)],
            [records(3, partition) for partition in (0, 1)],
        )
        await log.appends.append([record for some in first for record in some])
        async with log.reads.follow(DEAD_LETTERS, {0: start[0]}) as consumer:
            found = await batches(consumer, 3)
            await consumer.assign({0: start[0], 1: start[1] + 1})
            found += await batches(consumer, 2)
            await log.appends.append([record for some in second for record in some])
            found += await batches(consumer, 6)

        for partition, skipped in ((0, 0), (1, 1)):
            mine = [stored for stored in found if stored.partition == partition]
            assert ids(mine) == sent(first[partition])[skipped:] + sent(second[partition])

    async def test_an_assignment_wakes_a_consumer_that_waits(self, log):
        """Also one that followed nothing."""
        start = await ends(log.reads)
        some = records(3, 2)
        await log.appends.append(some)
        async with log.reads.follow(DEAD_LETTERS, {}) as consumer:
            waiting = asyncio.create_task(batches(consumer, 3))
            await asyncio.sleep(0)  # it waits
            await consumer.assign({2: start[2]})

            assert ids(await waiting) == sent(some)

    async def test_what_is_left_out_is_followed_no_more(self, log):
        """Not even what lay in the log before; when it is assigned again it begins at its new
        offset.
        """
        start = await ends(log.reads)
        await log.appends.append([*records(700, 0), *records(1, 1)])
        async with log.reads.follow(DEAD_LETTERS, {0: start[0]}) as consumer:
            await batches(consumer, 1)
            await consumer.assign({1: start[1] + 1})
            mine = records(2, 1)
            await log.appends.append([*records(2, 0), *mine])
            assert ids(await batches(consumer, 2)) == sent(mine)
            await consumer.assign({0: start[0] + 701})
            await log.appends.append(records(1, 1))
            (last,) = await batches(consumer, 1)

        assert (last.partition, last.offset) == (0, start[0] + 701)

    async def test_assignments_change_while_records_come(self, log):
        """A partition's records come densely from where it was assigned last, and none once it was
        given up.
        """
        start = await ends(log.reads)
        expected = {}

        async def read(consumer):
            async for batch in consumer:
                for stored in batch:
                    assert stored.offset == expected.get(stored.partition)
                    expected[stored.partition] += 1

        async with log.reads.follow(DEAD_LETTERS, {}) as consumer:
            reading = asyncio.create_task(read(consumer))
            for turn in range(30):
                await log.appends.append(
                    [record for partition in ALL for record in records(20, partition)]
                )
                kept = {turn % 3, (turn + 1) % 3}
                expected |= {partition: start[partition] for partition in kept - expected.keys()}
                await consumer.assign({partition: start[partition] for partition in kept})
                expected = {
                    partition: offset for partition, offset in expected.items() if partition in kept
                }
            async with asyncio.timeout(TIMEOUT_S):
                while not reading.done() and any(
                    expected[partition] < start[partition] + 600 for partition in kept
                ):
                    await asyncio.sleep(0.005)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

    async def test_a_consumer_whose_next_records_were_dropped_says_so_and_goes_on_at_the_oldest(
        self, log, drop
    ):
        """Before it hands that one over: its user may have to report that something is missing."""
        before = value_of("knchat_records_dropped_unread_total", topic=DEAD_LETTERS)
        start = (await ends(log.reads))[1]
        some = records(6, 1)
        await log.appends.append(some)
        await drop(log, 1, start + 4)
        told = []
        async with log.reads.follow(
            DEAD_LETTERS, {1: start}, on_offset_reset=lambda *where: told.append(where)
        ) as consumer:
            async with asyncio.timeout(TIMEOUT_S):
                first = await anext(consumer)
            assert told == [(1, start + 4)]
            rest = await batches(consumer, 2 - len(first)) if len(first) < 2 else []
            await log.appends.append(later := records(1, 1))
            assert ids(await batches(consumer, 1)) == sent(later)

        assert ids([*first, *rest]) == sent(some)[4:]
        assert len(told) == 1
        assert value_of("knchat_records_dropped_unread_total", topic=DEAD_LETTERS) == before + 4
