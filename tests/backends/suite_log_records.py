"""The suite of the log's two ports, first part: what is appended is read back. `test_log` lists the
adapters.
"""

from __future__ import annotations

import asyncio
import re

import pytest

from backends.log import ProducerRecord
from schemas.cloudevents import from_kafka
from schemas.errors import Malformed, Unavailable
from schemas.signatures import SIGNATURE, VERSION_1_UNTIL_MS, check_signature
from schemas.topics import COMMANDS, DEAD_LETTERS, MAX_RECORD_BYTES, TOPICS, partition_of
from tests.backends.log_ports import (
    ALL,
    EVENT_KEY,
    ends,
    ids,
    records,
    sent,
)
from tests.support.events import event
from tests.support.traces import TRACE


class RecordsSuite:
    """Appending, reading, topics, times, closing."""

    async def test_an_appended_event_is_read_back_as_it_was(self, log):
        """Key, headers and value survive; the reader gets the event and its signature."""
        appended = event(
            data=b"\x08\x01data",
            time="2026-01-02T03:04:05.678Z",
            subject="a",
            dataschema="urn:x",
            extensions={"partitionkey": "17"},
            traceparent=TRACE,
        )
        partition = partition_of(b"17", await log.reads.partitions(COMMANDS))
        end = (await ends(log.reads, COMMANDS))[partition]
        await log.appends.append([ProducerRecord(COMMANDS, appended)])
        (stored,) = await log.reads.read(COMMANDS, partition, end, max_records=10)
        read = from_kafka(stored.headers, stored.value)
        check_signature(read, [COMMANDS], [EVENT_KEY], now_ms=VERSION_1_UNTIL_MS)
        signature = {SIGNATURE: read.extensions[SIGNATURE]}

        assert (stored.topic, stored.partition, stored.offset, stored.key) == (
            COMMANDS,
            partition,
            end,
            b"17",
        )
        assert read.extensions == {"partitionkey": "17"} | signature
        assert (read.id, read.data, read.time, read.subject, read.dataschema, read.traceparent) == (
            appended.id,
            appended.data,
            appended.time,
            appended.subject,
            appended.dataschema,
            appended.traceparent,
        )

    async def test_an_event_without_data_and_key_has_a_null_value_and_some_partition(self, log):
        """Without a key any partition will do; no data is a null value, as in Kafka."""
        before = await ends(log.reads)
        await log.appends.append([ProducerRecord(DEAD_LETTERS, event(data=b""))])
        after = await ends(log.reads)
        (partition,) = [number for number, end in after.items() if end == before[number] + 1]
        (stored,) = await log.reads.read(DEAD_LETTERS, partition, before[partition], max_records=1)

        assert (stored.key, stored.value) == (None, None)
        assert sum(after.values()) == sum(before.values()) + 1

    async def test_records_have_the_time_of_their_append(self, log):
        """Times are Unix milliseconds of the log's clock and do not fall within a partition."""
        end = (await ends(log.reads))[0]
        for record in records(3):
            await log.appends.append([record])
        times = [
            stored.at_ms for stored in await log.reads.read(DEAD_LETTERS, 0, end, max_records=3)
        ]

        assert times == sorted(times)
        assert times[0] > 1_700_000_000_000

    async def test_records_of_one_call_and_partition_keep_their_order(self, log):
        """Offsets of a partition are dense and in the order of the call."""
        before = await ends(log.reads)
        even, odd = records(50, 0), records(50, 1)
        await log.appends.append(
            [record for pair in zip(even, odd, strict=True) for record in pair]
        )
        read = [
            await log.reads.read(DEAD_LETTERS, partition, before[partition], max_records=99)
            for partition in (0, 1)
        ]

        assert [ids(stored) for stored in read] == [sent(even), sent(odd)]
        assert [stored.offset for stored in read[1]] == list(range(before[1], before[1] + 50))

    async def test_a_reader_of_what_came_then_finds_what_came_first(self, log):
        """A reader of the later records may rely on the earlier ones, in whatever partitions both
        lie.
        """
        before, began = await ends(log.reads), await ends(log.reads, COMMANDS)
        first, later = records(8, 1), records(8, 2, COMMANDS)
        calls = [
            asyncio.create_task(log.appends.append([one], then=[two]))
            for one, two in zip(first, later, strict=True)
        ]
        async with log.reads.follow(COMMANDS, {2: began[2]}) as consumer:
            found = []
            async for batch in consumer:
                found += ids(batch)
                there = ids(await log.reads.read(DEAD_LETTERS, 1, before[1], max_records=99))
                assert {sent(later).index(name) for name in found} <= {
                    sent(first).index(name) for name in there
                }
                if len(found) == len(later):
                    break
        await asyncio.gather(*calls)

        assert sorted(found) == sorted(sent(later))

    async def test_many_appenders_at_once_lose_nothing(self, log):
        """Concurrent appends all land once, densely."""
        end = (await ends(log.reads))[0]
        calls = [records(3) for _ in range(100)]
        await asyncio.gather(*[log.appends.append(call) for call in calls])
        read = await log.reads.read(DEAD_LETTERS, 0, end, max_records=400)

        assert [stored.offset for stored in read] == list(range(end, end + 300))
        assert sorted(ids(read)) == sorted(name for call in calls for name in sent(call))

    async def test_appending_nothing_is_fine(self, log):
        """An empty call changes nothing."""
        before = await ends(log.reads)
        await log.appends.append([])

        assert await ends(log.reads) == before

    @pytest.mark.parametrize(
        "wrong",
        [
            ProducerRecord("no-such-topic", event()),
            ProducerRecord(DEAD_LETTERS, event(), 99),
            ProducerRecord(DEAD_LETTERS, event(), -1),
            ProducerRecord(DEAD_LETTERS, event(data=b"x" * (MAX_RECORD_BYTES + 1)), 0),
        ],
        ids=["topic", "partition", "negative partition", "size"],
    )
    async def test_a_record_that_can_never_be_appended_is_malformed_and_nothing_is_appended(
        self, log, wrong
    ):
        """The good records of the same call are not appended either."""
        before = await ends(log.reads)
        with pytest.raises(Malformed):
            await log.appends.append([*records(2), wrong])

        assert await ends(log.reads) == before

    async def test_the_largest_record_passes(self, log):
        """The limit itself is allowed."""
        end = (await ends(log.reads))[0]
        await log.appends.append(
            [ProducerRecord(DEAD_LETTERS, event(data=b"x" * MAX_RECORD_BYTES), 0)]
        )
        (stored,) = await log.reads.read(DEAD_LETTERS, 0, end, max_records=1, max_bytes=1)

        assert len(stored.value) == MAX_RECORD_BYTES

    async def test_a_read_ends_with_its_limits(self, log):
        """Most records, most bytes, but at least one; at the end nothing, without waiting."""
        end = (await ends(log.reads))[0]
        await log.appends.append(
            [ProducerRecord(DEAD_LETTERS, event(data=b"x" * 1000), 0) for _ in range(4)]
        )

        assert len(await log.reads.read(DEAD_LETTERS, 0, end, max_records=3)) == 3
        assert len(await log.reads.read(DEAD_LETTERS, 0, end, max_records=9, max_bytes=3000)) == 2
        assert len(await log.reads.read(DEAD_LETTERS, 0, end, max_records=9, max_bytes=1)) == 1
        assert await log.reads.read(DEAD_LETTERS, 0, end + 4, max_records=9) == []

    async def test_topics_have_their_partitions(self, log):
        """The table of topics says how many, on a log made with the defaults."""
        assert {name: await log.reads.partitions(name) for name in TOPICS} == {
            name: topic.partitions for name, topic in TOPICS.items()
        }

    async def test_an_unknown_topic_is_unavailable(self, log, group):
        """It may be made at any time, so a reader may ask again."""
        for asked in (
            log.reads.partitions("x"),
            log.reads.epoch("x"),
            log.reads.bounds("x", [0]),
            log.reads.committed(group, "x"),
        ):
            with pytest.raises(Unavailable):
                await asked

    async def test_the_epoch_stays_while_the_topic_does(self, log, connect):
        """All processes see the same epoch, in the alphabet that cursors may hold."""
        epoch = await log.reads.epoch(COMMANDS)

        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", epoch)
        assert await connect().reads.epoch(COMMANDS) == epoch
        assert await log.reads.epoch(DEAD_LETTERS) != epoch

    async def test_a_time_has_an_offset_in_every_partition(self, log):
        """Its first record from then on; the end where there is none; never
        lower for a later time.
        """
        before = await ends(log.reads)
        for _ in range(3):
            await log.appends.append([*records(20, 0), *records(1, 1)])
        read = await log.reads.read(DEAD_LETTERS, 0, before[0], max_records=60)
        after = await ends(log.reads)
        begins = {
            partition: held.begin
            for partition, held in (await log.reads.bounds(DEAD_LETTERS, ALL)).items()
        }

        for stored in read:
            first = next(one.offset for one in read if one.at_ms >= stored.at_ms)
            # Older records may be of the same millisecond.
            assert (await log.reads.offsets_at(DEAD_LETTERS, stored.at_ms))[0] <= first
            assert (await log.reads.offsets_at(DEAD_LETTERS, stored.at_ms + 1))[0] > stored.offset
        assert await log.reads.offsets_at(DEAD_LETTERS, 0) == begins
        assert await log.reads.offsets_at(DEAD_LETTERS, read[-1].at_ms + 3_600_000) == after

    async def test_a_healthy_log_answers_pings(self, log):
        """Both ports say that they work."""
        await log.appends.ping()
        await log.reads.ping()

    async def test_closing_waits_for_appends_under_way(self, log, connect):
        """What was asked for before is durable after."""
        end = (await ends(log.reads))[0]
        appending = [asyncio.create_task(log.appends.append(records(1))) for _ in range(20)]
        await asyncio.sleep(0)  # all are under way
        await log.appends.close()
        await asyncio.gather(*appending)

        assert (await ends(connect().reads))[0] == end + 20
