"""Micro-batches under every order of events: a put, a turn of the loop, a tick, a batch that ends
or fails.

Nothing is ever left lying.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.publishing.micro_batcher import TIMEOUT_S, WIDEST, MicroBatcher
from schemas.topics import MAX_BATCH_BYTES

IN_FLIGHT = 2
APART_S = 0.5


@dataclass(eq=False)
class Item:
    number: int
    size: int
    came_s: float


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time a test moves on, and which runs one turn at a time."""

    now_s = 1_000.0

    def time(self):
        return self.now_s

    def turn(self):
        self.call_soon(self.stop)
        self.run_forever()


class BatchesMachine(RuleBasedStateMachine):
    """The model: everything that was put ends exactly once, published, failed or taken out, and
    leaves in the order of arrival.
    """

    @initialize(apart_s=st.sampled_from([0.0, APART_S]))
    def begin(self, apart_s):
        self.loop = Loop()
        self.numbers = itertools.count()
        self.put_in, self.left, self.failed, self.gone = [], [], [], []
        self.gates = []
        self.batcher = MicroBatcher(
            self.publish, self.failed.append, in_flight=IN_FLIGHT, apart_s=apart_s
        )

    async def publish(self, batch):
        self.left.append(batch)
        gate = self.loop.create_future()
        self.gates.append(gate)
        await gate

    def within(self, call):
        """Calls it inside a turn of the loop."""
        results = []
        self.loop.call_soon(lambda: results.append(call()))
        self.loop.turn()
        return results[0]

    def tick(self):
        self.gone += self.batcher.tick(self.loop.now_s)

    def put(self, size):
        item = Item(next(self.numbers), size, self.loop.now_s)
        self.put_in.append(item)
        self.batcher.put(item)

    def end(self, error):
        for gate in self.gates[:1]:
            self.gates.remove(gate)
            if error is None:
                gate.set_result(None)
            else:
                gate.set_exception(error)

    @rule(sizes=st.lists(st.sampled_from([1, MAX_BATCH_BYTES // 2]), min_size=1, max_size=5))
    def several_come(self, sizes):
        self.within(lambda: [self.put(size) for size in sizes])

    @rule()
    def one_comes_and_waits_too_long(self):
        """Time passes between the put and the next turn, as it does when a machine stands still."""

        def both():
            self.put(1)
            self.loop.now_s += TIMEOUT_S
            self.tick()

        self.within(both)

    @rule(seconds=st.sampled_from([0.1, APART_S, WIDEST * APART_S, TIMEOUT_S]))
    def time_passes(self, seconds):
        self.loop.now_s += seconds

    @rule()
    def a_tick(self):
        self.within(self.tick)

    @rule(then_put=st.booleans(), bug=st.booleans())
    def a_batch_ends(self, then_put, bug):
        def both():
            self.end(RuntimeError("bug") if bug else None)
            if then_put:
                self.put(1)

        self.within(both)

    @rule()
    def a_turn(self):
        self.loop.turn()

    @invariant()
    def order_and_bounds(self):
        assert len(self.batcher.under_way) <= IN_FLIGHT
        numbers = [item.number for batch in self.left for item in batch]
        assert numbers == sorted(set(numbers))

    def teardown(self):
        if not hasattr(self, "batcher"):
            return
        for _ in range(2 * len(self.put_in) + 2):
            self.loop.now_s += WIDEST * APART_S
            for _ in range(4):
                self.loop.turn()
            self.end(None)
        ended = [item for batch in self.left for item in batch] + self.gone
        self.loop.close()

        assert sorted(item.number for item in ended) == [item.number for item in self.put_in]
        assert {item.number for item in self.failed} <= {
            item.number for batch in self.left for item in batch
        }


BatchesMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestBatches = BatchesMachine.TestCase
