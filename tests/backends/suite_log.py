"""The suite of the log's two ports. Every adapter passes it whole; `test_log` lists them.

It relies on nothing but the ports, and on topics that may hold records already.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from dataclasses import dataclass

import pytest

from backends.log import Evicted, LogProducer, LogReader, ProducerRecord
from backends.telemetry.metrics import value_of
from schemas.cloudevents import from_kafka
from schemas.errors import Malformed, Unavailable
from schemas.signatures import SIGNATURE, VERSION_1_UNTIL_MS, check_signature
from schemas.topics import COMMANDS, DEAD_LETTERS, MAX_RECORD_BYTES, TOPICS, partition_of
from tests.support.events import event
from tests.support.traces import TRACE

EVENT_KEY = b"0123456789abcdef"
"""Adapters under test sign with it."""
TIMEOUT_S = 10
SHARE_S = 30
"""A group may take as long as a member's session lasts to notice that it is gone."""
ALL = range(TOPICS[DEAD_LETTERS].partitions)


@dataclass
class Ports:
    """Two ports on one log."""

    appends: LogProducer
    reads: LogReader


def records(count, partition=0, topic=DEAD_LETTERS):
    """New events for one partition."""
    return [ProducerRecord(topic, event(), partition) for _ in range(count)]


def ids(stored):
    """The event ids of records, read the way readers do."""
    return [from_kafka(item.headers, item.value).id for item in stored]


def sent(some):
    """The event ids of records on their way in."""
    return [record.event.id for record in some]


async def ends(reads, topic=DEAD_LETTERS):
    """Partition -> next offset to be given."""
    bounds = await reads.bounds(topic, range(await reads.partitions(topic)))
    return {partition: held.end for partition, held in bounds.items()}


async def batches(consumer, count):
    """The next records of a consumer, at least so many."""
    found = []
    async with asyncio.timeout(TIMEOUT_S):
        while len(found) < count:
            found += await anext(aiter(consumer))
    return found


async def polled(member, count, partition=None):
    """The next records of a member, at least so many, and of that partition if one is named."""
    found = []
    async with asyncio.timeout(TIMEOUT_S):
        while len(found) < count:
            found += [
                stored for stored in await member.poll() if partition in {None, stored.partition}
            ]
    return found


class Members:
    """Members of one group on DEAD_LETTERS, and what each was told."""

    def __init__(self, reads, group):
        self._reads, self._group = reads, group
        self._changed = asyncio.Condition()
        self.shares = {}
        self.tasks = {}

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for member in list(self.tasks):
            await self.leave(member)

    def join(self, member, *, name=None):
        """One more, of that name in the group; not told anything yet."""
        self.shares[member] = []
        self.tasks[member] = asyncio.create_task(self._be(member, name or member))

    async def _be(self, member, name):
        async with self._reads.join(self._group, DEAD_LETTERS, member=name) as assignments:
            async for mine in assignments:
                async with self._changed:
                    self.shares[member].append(mine)
                    self._changed.notify_all()

    async def leave(self, member):
        """In good order."""
        task = self.tasks.pop(member)
        del self.shares[member]
        task.cancel()
        await asyncio.wait([task])

    async def settled(self):
        """Member -> partitions, when all are shared out evenly among those who are there."""

        def even():
            if not all(self.shares.values()):
                return False
            now = [told[-1] for told in self.shares.values()]
            counts = [len(mine) for mine in now]
            return (
                sorted(number for mine in now for number in mine) == list(ALL)
                and max(counts) - min(counts) <= 1
            )

        async with asyncio.timeout(SHARE_S), self._changed:
            await self._changed.wait_for(even)
            return {member: told[-1] for member, told in self.shares.items()}


class LogSuite:
    """`log` is a fresh pair of ports; `connect` makes another pair on the same log, as another
    process would.
    """

    @pytest.fixture
    def group(self):
        """A consumer group that was not used before."""
        return f"suite-{uuid.uuid4()}"

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

    async def test_members_share_the_partitions(self, log, group):
        """A lone member has all; earlier members keep what need not move; whom none is left for has
        nothing, and is told.
        """
        async with Members(log.reads, group) as members:
            members.join("one")
            assert await members.settled() == {"one": frozenset(ALL)}
            members.join("two")
            two = await members.settled()
            kept = {name: max(two[name]) for name in two if len(two[name]) == 1}
            members.join("three")
            three = await members.settled()
            members.join("four")
            four = await members.settled()

        assert all(number in three[name] for name, number in kept.items())
        assert sorted(len(mine) for mine in four.values()) == [0, 1, 1, 1]

    async def test_a_member_that_leaves_leaves_its_partitions_to_the_others(self, log, group):
        """What they have already stays theirs."""
        async with Members(log.reads, group) as members:
            for name in ("one", "two", "three"):
                members.join(name)
            before = await members.settled()
            await members.leave("one")
            after = await members.settled()

        assert all(before[name] <= after[name] for name in after)

    async def test_a_replacement_has_the_same_partitions(self, log, group):
        """The one whose place it takes is told that it must end; the others hear nothing of it."""
        async with Members(log.reads, group) as members:
            for name in ("one", "two"):
                members.join(name)
            before = await members.settled()
            heard = len(members.shares["two"])
            members.join("one again", name="one")
            old = members.tasks.pop("one")
            del members.shares["one"]
            after = await members.settled()
            async with asyncio.timeout(SHARE_S):
                with pytest.raises(Evicted):
                    await old

            assert after == {"one again": before["one"], "two": before["two"]}
            assert len(members.shares["two"]) == heard

    async def test_groups_share_apart(self, log, group):
        """Each has all partitions among its members."""
        async with (
            Members(log.reads, group) as these,
            Members(log.reads, f"{group}-other") as those,
        ):
            these.join("one")
            those.join("one")

            assert await these.settled() == await those.settled() == {"one": frozenset(ALL)}

    async def test_a_group_on_an_unknown_topic_is_unavailable(self, log, group):
        """It may be made at any time, so a member may try again."""
        with pytest.raises(Unavailable):
            async with log.reads.join(group, "x", member="one") as assignments:
                await anext(aiter(assignments))

    @pytest.mark.parametrize("start", ["begin", "end"])
    async def test_a_new_group_begins_where_it_is_told(self, log, group, start):
        """At the oldest record, or after the newest."""
        await log.appends.append(records(2))
        old = (await ends(log.reads))[0]
        async with log.reads.member(group, DEAD_LETTERS, start=start) as member:
            if start == "end":
                assert await member.poll() == []  # has joined
                await log.appends.append(records(1))
            first = (await polled(member, 1))[0]

        begin = (await log.reads.bounds(DEAD_LETTERS, [first.partition]))[first.partition].begin
        assert first.offset == (begin if start == "begin" else old)

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

    async def test_a_member_whose_next_records_were_dropped_counts_them_and_goes_on_at_the_oldest(
        self, log, drop, group
    ):
        """They were acknowledged, and will never be worked on."""
        before = value_of("knchat_records_dropped_unread_total", topic=DEAD_LETTERS)
        start = (await ends(log.reads))[1]
        some = records(6, 1)
        await log.appends.append(some)
        async with log.reads.member(group, DEAD_LETTERS) as member:
            await member.commit({1: start + 1})
        await drop(log, 1, start + 4)
        async with log.reads.member(group, DEAD_LETTERS) as member:
            found = await polled(member, 2, partition=1)

        assert ids(found)[:2] == sent(some)[4:]
        assert value_of("knchat_records_dropped_unread_total", topic=DEAD_LETTERS) == before + 3

    async def test_what_was_not_committed_comes_again(self, log, connect, group):
        """A member goes on from the committed offsets, also in another process
        and after a restart.
        """
        async with log.reads.member(group, DEAD_LETTERS, start="end") as member:
            assert await member.poll() == []  # has joined
            some = records(4)
            await log.appends.append(some)
            found = await polled(member, 4)
            await member.commit({0: found[2].offset})
            committed = await log.reads.committed(group, DEAD_LETTERS)
        other = connect()
        async with other.reads.member(group, DEAD_LETTERS) as member:
            # Of those without an offset it reads what is there.
            again = await polled(member, 2, partition=0)

        assert committed == {0: found[2].offset}
        assert await other.reads.committed(group, DEAD_LETTERS) == committed
        assert ids(again)[:2] == sent(some)[2:]

    async def test_a_group_that_never_committed_has_no_offsets(self, log, group):
        """Partitions without a committed offset are left out."""
        assert await log.reads.committed(group, DEAD_LETTERS) == {}

    async def test_a_reader_without_membership_keeps_its_place(self, log, connect, group):
        """Its commits are a group's, forwards and backwards, for every process; a group that has a
        member keeps its own.
        """
        await log.reads.commit(group, DEAD_LETTERS, {0: 7, 2: 5})
        await connect().reads.commit(group, DEAD_LETTERS, {0: 3})
        await log.reads.commit(group, DEAD_LETTERS, {})

        assert await log.reads.committed(group, DEAD_LETTERS) == {0: 3, 2: 5}
        async with log.reads.member(f"{group}-with", DEAD_LETTERS):
            with pytest.raises(Unavailable):
                await log.reads.commit(f"{group}-with", DEAD_LETTERS, {0: 3})

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
            assert (await log.reads.offsets_at(DEAD_LETTERS, stored.at_ms))[
                0
            ] <= first  # older records may be of the same millisecond
            assert (await log.reads.offsets_at(DEAD_LETTERS, stored.at_ms + 1))[0] > stored.offset
        assert await log.reads.offsets_at(DEAD_LETTERS, 0) == begins
        assert await log.reads.offsets_at(DEAD_LETTERS, read[-1].at_ms + 3_600_000) == after

    async def test_groups_do_not_share_offsets(self, log, group):
        """Each group reads everything."""
        some = records(3)
        async with (
            log.reads.member(group, DEAD_LETTERS, start="end") as one,
            log.reads.member(f"{group}-other", DEAD_LETTERS, start="end") as two,
        ):
            assert await asyncio.gather(one.poll(), two.poll()) == [[], []]  # have joined
            await log.appends.append(some)

            assert ids(await polled(one, 3)) == sent(some)
            assert ids(await polled(two, 3)) == sent(some)

    async def test_a_poll_gives_at_most_what_is_asked_for(self, log, group):
        """The rest comes with the next poll."""
        async with log.reads.member(group, DEAD_LETTERS, start="end") as member:
            assert await member.poll() == []  # has joined
            some = records(5)
            await log.appends.append(some)
            first = await member.poll(max_records=2)
            rest = await polled(member, 3)

        assert len(first) <= 2
        assert ids([*first, *rest]) == sent(some)

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

    async def test_a_closed_log_ends_followers_and_refuses_the_rest(self, log, group):
        """A partition consumer ends, and so do assignments; a group consumer raises, and nothing
        waits without end.
        """
        async with (
            log.reads.follow(DEAD_LETTERS, await ends(log.reads)) as consumer,
            log.reads.member(group, DEAD_LETTERS) as member,
            log.reads.join(f"{group}-owners", DEAD_LETTERS, member="one") as assignments,
        ):
            following = asyncio.create_task(anext(aiter(consumer), None))
            shares = aiter(assignments)
            assert await anext(shares) == frozenset(ALL)
            await log.reads.close()
            await log.appends.close()

            assert await following is None
            async with asyncio.timeout(TIMEOUT_S):
                assert await anext(shares, None) is None
            with pytest.raises(Unavailable):
                await member.poll()
            with pytest.raises(Unavailable):
                await log.appends.append(records(1))
            with pytest.raises(Unavailable):
                await log.appends.ping()
