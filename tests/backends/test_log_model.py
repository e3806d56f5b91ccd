"""The embedded log against a simple model, lists in memory: after any appends, reads, commits,
expiries and restarts they agree.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backends.log import Bounds, ProducerRecord
from backends.log.embedded.log import EmbeddedLog
from schemas.topics import DEAD_LETTERS, TOPICS
from tests.backends.log_ports import TIMEOUT_S, ids
from tests.support.events import event

PARTITIONS = TOPICS[DEAD_LETTERS].partitions
KEPT_S = TOPICS[DEAD_LETTERS].kept_s

partitions = st.integers(0, PARTITIONS - 1)
loads = st.lists(st.tuples(partitions, st.integers(0, 3000)), min_size=1, max_size=8)


class LogMachine(RuleBasedStateMachine):
    """Two logs on one file stand for two processes.

    The model holds, per partition, (event id, time) of every record ever appended.
    """

    @initialize()
    def begin(self):
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.now = 1_800_000_000
        self.model = {partition: [] for partition in range(PARTITIONS)}
        self.begins = dict.fromkeys(range(PARTITIONS), 0)
        self.committed = {}
        self.starts = None  # where the group began, once it has had a member
        self.logs = [self.open(), self.open()]
        self.consumer = None

    def open(self):
        return EmbeddedLog(self.folder / "log.db", clock=lambda: self.now)

    def wait(self, coroutine):
        return self.runner.run(asyncio.wait_for(coroutine, TIMEOUT_S))

    @rule(load=loads, process=st.integers(0, 1))
    def append(self, load, process):
        some = [
            ProducerRecord(DEAD_LETTERS, event(data=b"x" * size), partition)
            for partition, size in load
        ]
        self.wait(self.logs[process].append(some))
        for record in some:
            self.model[record.partition].append((record.event.id, self.now))

    @rule(loads=st.lists(loads, min_size=2, max_size=4))
    def append_at_once(self, loads):
        calls = [
            [
                ProducerRecord(DEAD_LETTERS, event(data=b"x" * size), partition)
                for partition, size in load
            ]
            for load in loads
        ]

        async def both():
            await asyncio.gather(
                *[self.logs[number % 2].append(call) for number, call in enumerate(calls)]
            )

        before = {partition: len(known) for partition, known in self.model.items()}
        self.wait(both())
        for partition, known in self.model.items():
            mine = [
                [record.event.id for record in call if record.partition == partition]
                for call in calls
            ]
            stored = self.wait(
                self.logs[0].read(DEAD_LETTERS, partition, before[partition], max_records=99)
            )
            got = ids(stored)
            assert sorted(got) == sorted(name for call in mine for name in call)
            assert all([name for name in got if name in call] == call for call in mine)
            known += [(name, self.now) for name in got]

    @rule(
        partition=partitions,
        offset=st.integers(0, 60),
        max_records=st.integers(1, 20),
        max_bytes=st.sampled_from([1, 2000, 1 << 20]),
    )
    def read(self, partition, offset, max_records, max_bytes):
        stored = self.wait(
            self.logs[0].read(
                DEAD_LETTERS, partition, offset, max_records=max_records, max_bytes=max_bytes
            )
        )
        start = max(offset, self.begins[partition])
        expected = [name for name, _ in self.model[partition][start : start + len(stored)]]
        there = len(self.model[partition]) - start

        assert ids(stored) == expected
        assert [item.offset for item in stored] == list(range(start, start + len(stored)))
        assert len(stored) <= max_records
        assert bool(stored) == (there > 0)
        assert max_bytes < 1 << 20 or len(stored) == max(0, min(there, max_records))

    @rule(back=st.integers(0, 5))
    def follow(self, back):
        self.unfollow()
        self.positions = {
            partition: max(0, len(known) - back) for partition, known in self.model.items()
        }
        self.consumer = self.logs[0].follow(DEAD_LETTERS, self.positions)
        self.batches = self.wait(self.consumer.__aenter__())

    @rule()
    def drain(self):
        if self.consumer is None:
            return
        while any(
            max(self.positions[number], self.begins[number]) < len(known)
            for number, known in self.model.items()
        ):
            for stored in self.wait(anext(self.batches)):
                # Records that expired meanwhile may still come, or be left out; all others come, in
                # order.
                assert self.positions[stored.partition] <= stored.offset
                assert stored.offset <= max(
                    self.positions[stored.partition], self.begins[stored.partition]
                )
                assert ids([stored]) == [self.model[stored.partition][stored.offset][0]]
                self.positions[stored.partition] = stored.offset + 1

    @rule(partition=partitions, offset=st.integers(0, 60))
    def commit(self, partition, offset):
        if self.starts is None:
            self.starts = dict(self.begins)

        async def once():
            async with self.logs[0].member("model", DEAD_LETTERS) as member:
                await member.commit({partition: offset})

        self.wait(once())
        self.committed[partition] = offset

    @rule(days=st.integers(1, 15))
    def expire(self, days):
        self.now += days * 86_400
        self.wait(self.logs[1].expire())
        for partition, known in self.model.items():
            gone = sum(1 for _, at in known if at < self.now - KEPT_S)
            if self.starts is not None:
                gone = min(gone, self.committed.get(partition, self.starts[partition]))
            self.begins[partition] = max(self.begins[partition], gone)

    @rule(process=st.integers(0, 1))
    def reopen(self, process):
        if process == 0:
            self.unfollow()
        self.wait(self.logs[process].close())
        self.logs[process] = self.open()

    @invariant()
    def bounds_and_commits_agree(self):
        expected = {
            number: Bounds(self.begins[number], len(known)) for number, known in self.model.items()
        }

        assert self.wait(self.logs[1].bounds(DEAD_LETTERS, range(PARTITIONS))) == expected
        assert self.wait(self.logs[1].committed("model", DEAD_LETTERS)) == self.committed

    def unfollow(self):
        if self.consumer is not None:
            self.wait(self.consumer.__aexit__(None, None, None))
            self.consumer = None

    def teardown(self):
        self.unfollow()
        for log in self.logs:
            self.wait(log.close())
        self.runner.close()
        shutil.rmtree(self.folder)


TestLogModel = LogMachine.TestCase
TestLogModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
