"""The state of each partition of chat-deliveries at this gateway: one table of legal transitions.

No I/O and no clock: time is passed in. `assignment` says what happens, and does what is to be done.

    absent -> ASSIGNED -> SERVED -> ANNOUNCED       the group says so, filled, written down
                 |          |  ^       |
    absent <-----+          v  |       v            the group says otherwise
    absent <------------ LEAVING / MOVING           its last connection has gone

Source: design.md D7, D8.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto


class State(Enum):
    """What a partition is here. Those of others are not in the table."""

    ASSIGNED = auto()  # its replay buffer is to be filled
    SERVED = auto()  # its users are let in; the table of owners may name another gateway
    ANNOUNCED = auto()  # the table of owners names this one
    LEAVING = auto()  # assigned to another: its sessions get everything until they can go there
    MOVING = auto()  # its sessions are on their way there


ASSIGNED = frozenset({State.ASSIGNED, State.SERVED, State.ANNOUNCED})
SERVED = frozenset({State.SERVED, State.ANNOUNCED})
LEAVING = frozenset({State.LEAVING, State.MOVING})


@dataclass(slots=True)
class _Partition:
    state: State
    lost_s: float = 0.0
    """Since when it is leaving."""


class PartitionTable:
    """All partitions that are this gateway's, or still were a moment ago."""

    def __init__(self) -> None:
        self._partitions: dict[int, _Partition] = {}
        self.generation = 0
        """How often the assignment has changed; 0: nothing was assigned yet."""
        self.is_recreated = False
        """The topics are others now: nothing counts as filled until all was dropped."""

    def is_assigned(self, partition: int) -> bool:
        """Whether the group says so."""
        return self._is(partition, ASSIGNED)

    def is_served(self, partition: int) -> bool:
        """Whether this partition's users may be let in now."""
        return self._is(partition, SERVED)

    def is_wanted(self, partition: int) -> bool:
        """Whether it is to be filled."""
        return self._is(partition, {State.ASSIGNED}) and not self.is_recreated

    def is_leaving(self, partition: int) -> bool:
        """Whether its sessions wait for its new owner."""
        return self._is(partition, {State.LEAVING})

    def of(self, *states: State) -> frozenset[int]:
        """The partitions in one of these states."""
        return frozenset(
            number for number, held in self._partitions.items() if held.state in states
        )

    def lost_s(self, partition: int) -> float:
        """Since when a leaving partition is."""
        return self._partitions[partition].lost_s

    # ---- what happens ----------------------------------------------------------------------------

    def set_assignment(
        self, assigned: frozenset[int], now_s: float
    ) -> tuple[frozenset[int], frozenset[int]]:
        """From now on these are assigned, and no others: what was gained, and what was lost."""
        before = self.of(*ASSIGNED)
        if self.generation == 0 or assigned != before:
            self.generation += 1
        for partition in assigned - before:
            # What comes back while it is left is served still, and another may have announced it.
            state = State.SERVED if partition in self._partitions else State.ASSIGNED
            self._partitions[partition] = _Partition(state)
        for partition in before - assigned:
            if self.is_served(partition):
                self._partitions[partition] = _Partition(State.LEAVING, now_s)
            else:
                del self._partitions[partition]
        return assigned - before, before - assigned

    def on_filled(self, partition: int) -> None:
        """Its replay buffer is full, and it is followed."""
        if self.is_wanted(partition):
            self._partitions[partition].state = State.SERVED

    def on_announced(self, partitions: Collection[int], generation: int) -> None:
        """The table of owners names this gateway for these, as of that generation."""
        if generation == self.generation:  # else another may have announced them meanwhile
            self._turn(partitions, {State.SERVED}, State.ANNOUNCED)

    def announce_again(self) -> None:
        """Another may have written over what is announced."""
        self._turn(self.of(State.ANNOUNCED), {State.ANNOUNCED}, State.SERVED)

    def on_moving(self, partition: int) -> None:
        """The sessions of a leaving partition are on their way."""
        self._turn([partition], {State.LEAVING}, State.MOVING)

    def on_empty(self, partitions: Collection[int]) -> None:
        """No connection of these is left."""
        for partition in self.of(*LEAVING).intersection(partitions):
            del self._partitions[partition]

    def recreate(self) -> None:
        """The topics were recreated: what is assigned is to be filled again, once all was
        dropped.
        """
        self.is_recreated = True
        self.on_empty(self.of(*LEAVING))
        self._turn(self.of(*SERVED), SERVED, State.ASSIGNED)

    def on_dropped(self) -> None:
        """Nothing of the topics of before is held any more."""
        self.is_recreated = False

    def _is(self, partition: int, states: Collection[State]) -> bool:
        held = self._partitions.get(partition)
        return held is not None and held.state in states

    def _turn(self, partitions: Collection[int], states: Collection[State], to: State) -> None:
        for partition in partitions:
            if self._is(partition, states):
                self._partitions[partition].state = to
