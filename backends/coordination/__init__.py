"""What gateways agree on: leased numbers of id generators, and which gateway reads which partition.

One SQL database behind both ports (SQLite embedded, PostgreSQL or YugabyteDB otherwise). Every
method raises Unavailable when the database does not answer within the settings' timeout (default 5
s). Source: design.md D3, D8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from backends.clock import Reading


@dataclass(frozen=True, slots=True)
class Lease:
    """A generator number leased to one process until `until_ms` by the database's clock, of which
    `reading` is what it said then.

    `holder` is what the claim was made for and a random end, so that two claims for one name are
    never taken for each other.
    """

    generator: int
    holder: str
    until_ms: int
    reading: Reading


class GeneratorLeases(Protocol):
    """Leased generators of message ids: no two live leases share a number (design.md D3)."""

    async def claim(self, holder: str, *, lease_s: int = 900) -> Lease:
        """A number whose lease has run out by the database's clock.

        Raises Unavailable when all 4,096 are leased.
        """
        ...

    async def renew(self, lease: Lease, *, lease_s: int = 900) -> Lease:
        """The same number for longer.

        Raises Refused stale when it has been leased to another process: make no more ids with it.
        """
        ...

    async def release(self, lease: Lease) -> None:
        """Releases the number.

        It is leased again only when a claim's clock is past every id the old holder can have made
        (2 s).
        """
        ...


@dataclass(frozen=True, slots=True)
class PartitionOwner:
    """Which gateway reads a partition. A newer generation wins."""

    partition: int
    url: str
    generation: int


class PartitionOwners(Protocol):
    """Which gateway serves a partition of deliveries; log-in and `moved` read it.

    It only saves reading, it is no lock (design.md D8).
    """

    async def own(self, owners: Sequence[PartitionOwner]) -> None:
        """Writes each, unless a newer generation is there."""
        ...

    async def owner_of(self, partition: int) -> PartitionOwner | None:
        """Who owns it now, as far as the database knows."""
        ...
