"""The replay buffer and its cursors: nothing that it says it holds is missing, and it stays within
its bounds.
"""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.sessions.replay_buffer import Cursor, ReplayBuffer
from schemas import chat_pb2 as pb

USERS = (11, 22, 33)


def delivery(users, number, text=""):
    return pb.Delivery(users=users, message=pb.Message(id=number, body=pb.Send(text=text)))


def numbers(missed):
    return [pb.Delivery.FromString(raw).message.id for _, raw in missed]


@given(
    st.from_regex(r"[A-Za-z0-9_\-]{1,64}", fullmatch=True),
    st.integers(0, 999_999),
    st.integers(0, 10**18 - 1),
    st.integers(0, 10**9 - 1),
)
def test_a_cursor_survives_its_text(epoch, partition, offset, index):
    """A client gives back what it got."""
    cursor = Cursor(epoch, partition, (offset, index))

    assert Cursor.parse(str(cursor)) == cursor


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "e.1.2",
        "e.1.2.3.4",
        "e.-1.2.3",
        "e.1.2.٣",
        "e e.1.2.3",
        "e.1.2.3\n",
        "e.1.2." + "9" * 40,
    ],
)
def test_text_that_is_no_cursor(text):
    """Whatever a client sends as `resume` is either a cursor or nothing."""
    assert Cursor.parse(text) is None


def test_missed_comes_in_order_and_in_pieces():
    """A reader takes as many as it likes and goes on behind the last."""
    buffer = ReplayBuffer(limit_bytes=2**20, kept_s=900)
    buffer.open(3, 10)
    buffer.add(3, 10, 0, [delivery([11, 22], 1), delivery([11], 2)])
    buffer.add(3, 11, 0, [delivery([11], 3)])

    first = buffer.missed(3, 11, (10, 0), limit=2)
    assert numbers(first) == [1, 2]
    assert [after for after, _ in first] == [(10, 1), (10, 2)]
    assert numbers(buffer.missed(3, 11, first[-1][0], limit=2)) == [3]
    assert numbers(buffer.missed(3, 22, (10, 0), limit=9)) == [1]
    assert buffer.missed(3, 33, (10, 0), limit=9) == []


def test_shrinking_looks_at_what_it_drops_alone(monkeypatch):
    """However many partitions there are: the segment that began first goes, whosever it is."""

    class Counted(dict):
        def values(self):
            raise AssertionError("all partitions are looked at")

    buffer = ReplayBuffer(limit_bytes=40_000, kept_s=900)
    buffer._partitions = Counted()
    for partition in range(50):
        buffer.open(partition, 0)
    for number in range(2_000):
        buffer.add(number % 50, number, number, [delivery([11], number, "x" * 100)])
        assert buffer.bytes <= 40_000
    buffer.drop(7)
    buffer.open(7, 5_000)
    for number in range(5_000, 6_000):
        buffer.add(7, number, number, [delivery([11], number, "x" * 100)])

    assert buffer.bytes <= 40_000
    assert len(buffer._begun) < 300
    assert [buffer.missed(3, 11, (0, 0), limit=1), buffer.holds(7, (5_999, 0))] == [[], True]


def test_what_it_holds():
    """From where it was opened to its end, both included; a position inside a record counts."""
    buffer = ReplayBuffer(limit_bytes=2**20, kept_s=900)
    buffer.open(0, 5)
    buffer.add(0, 7, 0, [delivery([11], 1)])

    held = [
        position
        for position in ((4, 9), (5, 0), (7, 0), (7, 1), (8, 0), (8, 1), (9, 0))
        if buffer.holds(0, position)
    ]
    assert held == [(5, 0), (7, 0), (7, 1), (8, 0)]
    assert buffer.end(0) == (8, 0)


def test_the_end_moves_over_records_without_receivers():
    """What was read and has no receiver need not be read again."""
    buffer = ReplayBuffer(limit_bytes=2**20, kept_s=900)
    buffer.open(0, 5)

    buffer.set_end(0, 9)

    assert buffer.end(0) == (9, 0)
    assert buffer.holds(0, (5, 0))


def test_a_partition_taken_over_again():
    """Nothing of before is left, neither deliveries nor bytes."""
    buffer = ReplayBuffer(limit_bytes=2**20, kept_s=900)
    buffer.open(0, 5)
    buffer.add(0, 7, 0, [delivery([11], 1)])
    buffer.open(0, 9)

    assert (buffer.bytes, buffer.end(0), buffer.missed(0, 11, (9, 0), limit=1)) == (0, (9, 0), [])


def test_since_finds_the_first_record_of_a_time():
    """A new device gets the last two minutes, or as much as there is."""
    buffer = ReplayBuffer(limit_bytes=2**20, kept_s=160)
    buffer.open(0, 0)
    for offset in range(100):
        buffer.add(0, offset, offset * 1_000, [delivery([11], offset)])

    assert buffer.since(0, 70_500) == (71, 0)
    assert buffer.since(0, -5) == (0, 0)
    assert buffer.since(0, 10**9) == (100, 0)


def test_old_records_go_in_whole_pieces():
    """Time is kept to a sixteenth; an empty partition is held from its end on."""
    buffer = ReplayBuffer(limit_bytes=2**20, kept_s=160)
    buffer.open(0, 0)
    for offset in range(320):
        buffer.add(0, offset, offset * 1_000, [delivery([11], offset)])

    buffer.forget(319_000)
    begin = buffer.since(0, 0)[0]
    assert 319 - 160 - 11 <= begin <= 319 - 160
    assert not buffer.holds(0, (begin - 1, 0))

    buffer.forget(10**9)
    assert buffer.since(0, 0) == (320, 0)
    assert buffer.holds(0, (320, 0))
    assert buffer.bytes == 0


def test_the_oldest_of_all_partitions_goes_first():
    """A quiet partition's old records make room for a busy one's."""
    buffer = ReplayBuffer(limit_bytes=2**20, kept_s=900)
    buffer.open(0, 0)
    buffer.open(1, 0)
    buffer.add(0, 0, 0, [delivery([11], 1, "x" * 1000)])
    for offset in range(2_000):
        buffer.add(1, offset, 1_000 + offset, [delivery([22], offset, "x" * 1_000)])

    assert buffer.bytes <= 2**20
    assert not buffer.holds(0, (0, 0))
    assert buffer.holds(0, (1, 0))


def test_a_delivery_to_a_group_is_held_without_its_users():
    """Each of them is told the body: a list of a thousand users at each message would leave little
    room for others.
    """
    buffer = ReplayBuffer(limit_bytes=2**26, kept_s=900)
    buffer.open(0, 5)
    members = [10**17 + n for n in range(1_000)]
    for offset in (5, 6):
        before = buffer.bytes
        buffer.add(0, offset, 0, [delivery(members, offset, "hi")])

    assert numbers(buffer.missed(0, members[7], (5, 0), limit=9)) == [5, 6]
    assert buffer.bytes - before < 1_000 * 8 + 300


@pytest.mark.parametrize(("users", "text"), [(10, 256), (10_000, 256), (100, 20), (30_000, 20)])
def test_the_bytes_it_counts_are_those_it_costs(users, text):
    """The limit is one of memory, so the estimate must be within a third of what Python really
    takes.
    """
    records = [
        pb.Deliveries(
            deliveries=[
                delivery([10**17 + i % users, 10**17 + i * 7 % users], 2**60 + i, "x" * text)
            ]
        ).deliveries
        for i in range(20_000)
    ]
    buffer = ReplayBuffer(limit_bytes=2**30, kept_s=900)
    for partition in range(12):
        buffer.open(partition, 0)

    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for offset, deliveries in enumerate(records):
        buffer.add(offset % 12, offset, offset * 10, deliveries)
    cost = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert 0.75 < buffer.bytes / cost < 1.35


class RingMachine(RuleBasedStateMachine):
    """Against the whole log: what the replay buffer holds from a position on is exactly what the
    log has from there.
    """

    def __init__(self):
        super().__init__()
        self.buffer = ReplayBuffer(limit_bytes=40_000, kept_s=100)
        self.log = {0: [], 1: []}
        self.offsets = {0: 5, 1: 0}
        self.now_s = 0
        for partition, offset in self.offsets.items():
            self.buffer.open(partition, offset)

    @rule(
        partition=st.sampled_from((0, 1)),
        receivers=st.lists(st.lists(st.sampled_from(USERS), unique=True), max_size=4),
        gap=st.integers(0, 2),
        size=st.integers(0, 600),
    )
    def add(self, partition, receivers, gap, size):
        offset = self.offsets[partition] + gap
        deliveries = [
            delivery(users, offset * 10 + index, "x" * size)
            for index, users in enumerate(receivers)
        ]
        self.log[partition] += [((offset, index), each) for index, each in enumerate(deliveries)]
        self.offsets[partition] = offset + 1
        self.buffer.add(partition, offset, self.now_s * 1_000, deliveries)

    @rule(seconds=st.integers(0, 60))
    def wait(self, seconds):
        self.now_s += seconds
        self.buffer.forget(self.now_s * 1_000)

    @rule(
        partition=st.sampled_from((0, 1)),
        user=st.sampled_from(USERS),
        back=st.integers(0, 30),
        index=st.integers(0, 4),
        limit=st.integers(1, 5),
    )
    def read(self, partition, user, back, index, limit):
        position = (self.offsets[partition] - back, index)
        if not self.buffer.holds(partition, position):
            return
        expected = [
            each.message.id
            for place, each in self.log[partition]
            if place >= position and user in each.users
        ]
        got = []
        while missed := self.buffer.missed(partition, user, position, limit=limit):
            got += numbers(missed)
            position = missed[-1][0]
        assert got == expected

    @precondition(lambda self: any(self.log.values()))
    @rule(partition=st.sampled_from((0, 1)))
    def the_end_is_held(self, partition):
        assert self.buffer.holds(partition, self.buffer.end(partition))

    @invariant()
    def bounded(self):
        assert 0 <= self.buffer.bytes <= 40_000


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
