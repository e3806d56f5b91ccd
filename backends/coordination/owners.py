"""The `PartitionOwners` port on SQL: which gateway reads which partition.

Only `wiring` and the port's suite name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from backends.coordination import PartitionOwner
from backends.sql.database import METADATA, Database

OWNERS: Final = sa.Table(
    "owners",
    METADATA,
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
)


class SqlPartitionOwners:
    """Owners in a database that it shares with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        insert = database.insert_many(OWNERS)
        self._own = insert.on_conflict_do_update(
            index_elements=list(OWNERS.primary_key),
            set_={"url": insert.excluded.url, "generation": insert.excluded.generation},
            where=insert.excluded.generation >= OWNERS.c.generation,
        )

    async def own(self, owners: Sequence[PartitionOwner]) -> None:
        """All in one statement."""
        # One row a partition, the newest; in their order, so that two gateways never wait for each
        # other crosswise.
        newest = {
            owner.partition: owner
            for owner in sorted(owners, key=lambda owner: (owner.partition, owner.generation))
        }
        rows = [
            {"partition": owner.partition, "url": owner.url, "generation": owner.generation}
            for owner in newest.values()
        ]
        if rows:
            await self._database.write(
                lambda connection: connection.execute(self._own, self._database.many(rows))
            )

    async def owner_of(self, partition: int) -> PartitionOwner | None:
        """One SELECT."""
        query = sa.select(OWNERS.c.partition, OWNERS.c.url, OWNERS.c.generation).where(
            OWNERS.c.partition == partition
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else PartitionOwner(*row)
