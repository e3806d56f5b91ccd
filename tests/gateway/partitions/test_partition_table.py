"""One state for each partition, whatever order the group, the log and the database tell it in."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.partitions.table import LEAVING, PartitionTable, State

ALL = frozenset(range(4))
numbers = st.sampled_from(sorted(ALL))
subsets = st.frozensets(numbers)


def table():
    """Partitions 0 and on are assigned and served, and 0 is announced."""
    made = PartitionTable()
    made.set_assignment(ALL, 0.0)
    for partition in ALL:
        made.on_filled(partition)
    made.on_announced([0], made.generation)
    return made


def test_what_comes_back_while_it_is_left_is_announced_again():
    """It is served on, but another gateway may have written itself down meanwhile."""
    held = table()
    assert held.set_assignment(ALL - {0}, 5.0) == (frozenset(), {0})
    assert (held.is_served(0), held.is_leaving(0), held.lost_s(0)) == (False, True, 5.0)

    assert held.set_assignment(ALL, 6.0) == ({0}, frozenset())

    assert held.of(State.SERVED) == ALL


def test_sessions_on_their_way_stay_when_their_partition_comes_back():
    """From `MOVING` too."""
    held = table()
    held.set_assignment(frozenset(), 5.0)
    held.on_moving(0)
    assert (held.of(State.MOVING), held.of(State.LEAVING)) == ({0}, ALL - {0})

    held.set_assignment(frozenset({0}), 6.0)

    assert held.of(State.SERVED) == {0}


def test_an_announcement_for_an_assignment_of_before_does_not_count():
    """Lost and gained again while it was written: it is written again."""
    held = table()
    generation = held.generation
    held.set_assignment(frozenset(), 1.0)
    held.set_assignment(ALL, 2.0)
    held.on_announced(ALL, generation)

    assert held.of(State.ANNOUNCED) == frozenset()
    held.on_announced(ALL, held.generation)
    assert held.of(State.ANNOUNCED) == ALL


def test_the_same_assignment_again_changes_nothing():
    """As after a rebalance that others caused."""
    held = table()
    generation = held.generation

    assert held.set_assignment(ALL, 9.0) == (frozenset(), frozenset())
    assert (held.generation, held.of(State.ANNOUNCED)) == (generation, {0})


def test_a_partition_that_is_lost_before_it_is_filled_leaves_nothing():
    """Its filling ends in vain."""
    held = PartitionTable()
    held.set_assignment(frozenset({1}), 0.0)
    assert held.is_wanted(1)
    held.set_assignment(frozenset(), 1.0)
    held.on_filled(1)

    assert not held.is_wanted(1)
    assert held.of(*State) == frozenset()


def test_recreated_topics():
    """Nothing is served, or counts as filled, before all of the old ones was dropped."""
    held = table()
    held.set_assignment(ALL - {3}, 1.0)
    held.recreate()
    held.on_filled(1)
    assert (held.of(*State), held.of(State.ASSIGNED)) == (ALL - {3}, ALL - {3})
    assert not held.is_wanted(1)

    held.on_dropped()
    held.on_filled(1)

    assert held.of(State.SERVED) == {1}


class Partitions(RuleBasedStateMachine):
    """The table against four sets whose legal combinations are written down nowhere."""

    @initialize()
    def begin(self):
        self.table = PartitionTable()
        self.assigned, self.served, self.announced, self.moving = [set() for _ in range(4)]
        self.writing = None

    @rule(assigned=subsets)
    def assign(self, assigned):
        if assigned != self.assigned:
            self.writing = None
        self.assigned = set(assigned)
        self.announced &= assigned
        self.moving -= assigned
        self.table.set_assignment(assigned, 1.0)

    @rule(partition=numbers)
    def fill(self, partition):
        if partition in self.assigned and not self.table.is_recreated:
            self.served.add(partition)
        self.table.on_filled(partition)

    @rule()
    def begin_to_write(self):
        self.writing = (self.served & self.assigned, self.table.generation)

    @precondition(lambda self: self.writing)
    @rule()
    def written(self):
        owned, generation = self.writing
        self.announced |= owned & self.served
        self.table.on_announced(owned, generation)

    @rule()
    def announce_again(self):
        self.announced.clear()
        self.table.announce_again()

    @rule(partition=numbers)
    def move(self, partition):
        if partition in self.served - self.assigned:
            self.moving.add(partition)
        self.table.on_moving(partition)

    @rule(partitions=subsets)
    def empty(self, partitions):
        gone = (self.served - self.assigned) & partitions
        self.served -= gone
        self.moving -= gone
        self.table.on_empty(partitions)

    @rule()
    def recreate(self):
        for each in (self.served, self.announced, self.moving):
            each.clear()
        self.table.recreate()

    @rule()
    def drop(self):
        self.table.on_dropped()

    @invariant()
    def they_agree(self):
        held = self.table
        assert held.of(State.ASSIGNED) == self.assigned - self.served
        assert held.of(State.SERVED) == (self.assigned & self.served) - self.announced
        assert held.of(State.ANNOUNCED) == self.announced
        assert held.of(*LEAVING) == self.served - self.assigned
        assert held.of(State.MOVING) == self.moving
        for partition in ALL:
            assert held.is_assigned(partition) is (partition in self.assigned)
            assert held.is_served(partition) is (partition in self.assigned & self.served)


TestPartitions = Partitions.TestCase
TestPartitions.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
