"""The suite of the log's two ports, third part: groups, their assignments and offsets. `test_log`
lists the adapters.
"""

from __future__ import annotations

import asyncio

import pytest

from backends.log import Evicted
from backends.telemetry.metrics import value_of
from schemas.errors import Unavailable
from schemas.topics import DEAD_LETTERS
from tests.backends.log_ports import (
    ALL,
    SHARE_S,
    TIMEOUT_S,
    Members,
    ends,
    ids,
    polled,
    records,
    sent,
)


class GroupsSuite:
    """How members share partitions, and where they go on."""

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
