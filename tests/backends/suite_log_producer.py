"""The part of the log's suite that a gateway relies on: `LogProducer` of commands and questions,
whose key alone says the partition.

Every adapter passes it whole; `test_log_producer` lists them.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from backends.log import ProducerRecord
from schemas.cloudevents import from_kafka
from schemas.errors import Malformed, Unavailable
from schemas.signatures import SIGNATURE, VERSION_1_UNTIL_MS, check_signature
from schemas.topics import COMMANDS, MAX_RECORD_BYTES, QUERIES, partition_of
from tests.backends.log_ports import EVENT_KEY, TIMEOUT_S, ends, ids, sent
from tests.support.events import event
from tests.support.traces import TRACE


def records(count, key="17", topic=COMMANDS):
    """New events of one key."""
    return [ProducerRecord(topic, event(extensions={"partitionkey": key})) for _ in range(count)]


async def since(log, before, topic=COMMANDS):
    """What was appended since, by partition."""
    after = await ends(log.reads, topic)
    return {
        partition: await log.reads.read(
            topic, partition, before[partition], max_records=end - before[partition]
        )
        for partition, end in after.items()
        if end > before[partition]
    }


class AppendsSuite:
    """`log` is a fresh pair of ports, whose topics may hold records already; `connect` makes
    another pair on the same log.
    """

    async def test_an_appended_event_is_read_back_as_it_was(self, log):
        """Key, attributes, data and signature survive; a time may be written again, and a hop may
        be a span of its own.
        """
        appended = event(
            data=b"\x08\x01data\xff",
            time="2026-01-02T03:04:05.670Z",
            subject="a",
            dataschema="urn:x",
            extensions={"partitionkey": "17"},
            traceparent=TRACE,
        )
        before = await ends(log.reads, COMMANDS)
        await log.appends.append([ProducerRecord(COMMANDS, appended)])
        ((partition, (stored,)),) = (await since(log, before)).items()
        read = from_kafka(stored.headers, stored.value)
        check_signature(read, [COMMANDS], [EVENT_KEY], now_ms=VERSION_1_UNTIL_MS)

        assert (stored.key, partition) == (b"17", partition_of(b"17", len(before)))
        assert {name: value for name, value in read.extensions.items() if name != SIGNATURE} == {
            "partitionkey": "17"
        }
        assert (
            read.id,
            read.source,
            read.type,
            read.data,
            read.subject,
            read.dataschema,
            read.datacontenttype,
        ) == (
            appended.id,
            appended.source,
            appended.type,
            appended.data,
            appended.subject,
            appended.dataschema,
            appended.datacontenttype,
        )
        assert datetime.fromisoformat(read.time) == datetime.fromisoformat(appended.time)
        assert read.traceparent[:36] == TRACE[:36]

    async def test_an_event_without_data_and_key_has_a_null_value_and_some_partition(self, log):
        """As gateways send: without a key any partition will do. No data is a null value."""
        before = await ends(log.reads, QUERIES)
        await log.appends.append([ProducerRecord(QUERIES, event(data=b""))])
        ((stored,),) = (await since(log, before, QUERIES)).values()

        assert (stored.key, stored.value) == (None, None)

    async def test_records_of_one_call_and_key_keep_their_order(self, log):
        """They share a partition, one after the other."""
        before = await ends(log.reads, COMMANDS)
        some = records(20)
        await log.appends.append(some)
        (found,) = (await since(log, before)).values()

        assert ids(found) == sent(some)

    async def test_a_reader_of_what_came_then_finds_what_came_first(self, log):
        """A reader of the later record may rely on the earlier one."""
        commands, queries = await ends(log.reads, COMMANDS), await ends(log.reads, QUERIES)
        partition = partition_of(b"17", len(queries))
        async with log.reads.follow(QUERIES, {partition: queries[partition]}) as consumer:
            following = asyncio.create_task(anext(consumer))
            first, later = records(1), records(1, topic=QUERIES)
            appending = asyncio.create_task(log.appends.append(first, then=later))
            async with asyncio.timeout(TIMEOUT_S):
                assert ids(await following) == sent(later)
            (found,) = (await since(log, commands)).values()
            await appending

        assert ids(found) == sent(first)

    async def test_many_appenders_at_once_lose_nothing(self, log):
        """Each lands once."""
        before = await ends(log.reads, COMMANDS)
        calls = [records(1, str(number)) for number in range(60)]
        await asyncio.gather(*[log.appends.append(call) for call in calls])
        found = await since(log, before)

        assert sorted(name for some in found.values() for name in ids(some)) == sorted(
            sent([record for call in calls for record in call])
        )

    async def test_appending_nothing_is_fine(self, log):
        """An empty call changes nothing."""
        before = await ends(log.reads, COMMANDS)
        await log.appends.append([])

        assert await since(log, before) == {}

    @pytest.mark.parametrize(
        "wrong",
        [
            ProducerRecord("no-such-topic", event()),
            ProducerRecord(COMMANDS, event(data=b"x" * (MAX_RECORD_BYTES + 1))),
        ],
    )
    async def test_a_record_that_can_never_be_appended_is_malformed_and_nothing_is_appended(
        self, log, wrong
    ):
        """The good records of the same call are not appended either."""
        before = await ends(log.reads, COMMANDS)
        with pytest.raises(Malformed):
            await log.appends.append([*records(2), wrong])

        assert await since(log, before) == {}

    async def test_the_largest_record_passes(self, log):
        """The limit itself is allowed."""
        before = await ends(log.reads, COMMANDS)
        await log.appends.append([ProducerRecord(COMMANDS, event(data=b"x" * MAX_RECORD_BYTES))])
        ((stored,),) = (await since(log, before)).values()

        assert len(stored.value) == MAX_RECORD_BYTES

    async def test_closing_waits_for_appends_under_way(self, log, connect):
        """A planned end loses nothing that was asked for before."""
        before = await ends(log.reads, COMMANDS)
        appending = [asyncio.create_task(log.appends.append(records(1))) for _ in range(10)]
        await asyncio.sleep(0)  # all are under way
        await log.appends.close()
        await asyncio.gather(*appending)
        (found,) = (await since(connect(), before)).values()

        assert len(found) == 10

    async def test_a_closed_log_refuses(self, log):
        """Later, elsewhere: the outcome is not in doubt, but the way is closed."""
        await log.appends.ping()
        await log.appends.close()
        for late in (log.appends.append(records(1)), log.appends.ping()):
            with pytest.raises(Unavailable):
                await late
