"""Assigns a topic's partitions to the members of a group on the embedded log, all in one process.

The log makes a group at its first member. No I/O, no clock, no SQL: a change is seen at once.
Source: design.md D8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Self

from backends.log import Evicted


class Group:
    """The members of one group on one topic, and what each of them has."""

    def __init__(self, partitions: int) -> None:
        self._partitions = range(partitions)
        self._members: dict[str, EmbeddedAssignments] = {}

    def join(self, name: str) -> EmbeddedAssignments:
        """A new member. One of the same name has lost its place to it."""
        before = self._members.get(name)
        self._members[name] = joined = EmbeddedAssignments(
            frozenset() if before is None else before.mine
        )
        if before is not None:
            before.end(Evicted(f"another process is {name} now"))
        self._rebalance()
        return joined

    def leave(self, name: str, member: EmbeddedAssignments) -> None:
        """The others take over, unless another has its place already."""
        if self._members.get(name) is member:
            del self._members[name]
            self._rebalance()

    def close(self) -> None:
        """Ends all members."""
        for member in self._members.values():
            member.end(StopAsyncIteration())

    def _rebalance(self) -> None:
        for name, assignment in assign_evenly(
            self._partitions, {name: member.mine for name, member in self._members.items()}
        ).items():
            self._members[name].set_assignment(assignment)


class EmbeddedAssignments:
    """Implements `Assignments`."""

    def __init__(self, mine: frozenset[int]) -> None:
        self.mine = mine
        self._reported: frozenset[int] | None = None
        self._end: Exception | None = None
        self._news = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> frozenset[int]:
        while self._end is None and self._reported == self.mine:
            self._news.clear()
            await self._news.wait()
        if self._end is not None:
            raise self._end
        self._reported = self.mine
        return self.mine

    def set_assignment(self, assignment: frozenset[int]) -> None:
        """From now on."""
        self.mine = assignment
        self._news.set()

    def end(self, error: Exception) -> None:
        """Nothing more is told but this."""
        self._end = error
        self._news.set()


def assign_evenly(
    partitions: Iterable[int], before: Mapping[str, frozenset[int]]
) -> dict[str, frozenset[int]]:
    """The new assignment of each member: as even as possible, and only what must move moves."""
    free = sorted(set(partitions).difference(*before.values()))
    held = {
        name: sorted(before[name])
        for name in sorted(before, key=lambda name: (-len(before[name]), name))
    }
    # Those that hold most keep one more where it does not come out even.
    least, more = divmod(len(free) + sum(map(len, held.values())), len(held) or 1)
    quota = {name: least + (number < more) for number, name in enumerate(held)}
    for name, mine in held.items():
        free += mine[quota[name] :]
        del mine[quota[name] :]
    for name, mine in held.items():
        while len(mine) < quota[name]:
            mine.append(free.pop())
    return {name: frozenset(mine) for name, mine in held.items()}
