"""The `GeneratorLeases` port on SQL: id generators, leased by the database's clock.

Only `wiring` and the port's suite name it.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Final

import sqlalchemy as sa

from backends.clock import Clock
from backends.coordination import Lease
from backends.sql.database import METADATA, Database
from schemas.errors import Refused, Unavailable

# A holder makes ids up to 1 s ahead of the database's clock (ids.MAX_AHEAD_MS), which it knows to
# some milliseconds. So long after its lease a number rests, and who gets it next makes ids above
# everything that was made with it.
COOLDOWN_MS: Final = 2_000

# One row for each number, made by the migration. `holder` is empty and `until_ms` in the past when
# it is free.
GENERATORS: Final = sa.Table(
    "generators",
    METADATA,
    sa.Column("generator", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("until_ms", sa.BigInteger, nullable=False, index=True),
)


class SqlGeneratorLeases:
    """Leases in a database that it shares with other adapters."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def claim(self, holder: str, *, lease_s: int = 900) -> Lease:
        """The number that has been free longest.

        The lease's `holder` gets a random end, so that two claims of one holder stay apart.
        """
        holder = f"{holder}/{secrets.token_hex(8)}"

        def work(connection: sa.Connection) -> Lease:
            reading = self._database.read_clock(connection, self._clock)
            now_ms = reading.store_ms
            # PostgreSQL: two claims at once take two rows; SQLite has one writer anyway.
            free = (
                sa.select(GENERATORS.c.generator)
                .where(GENERATORS.c.until_ms <= now_ms - COOLDOWN_MS)
                .order_by(GENERATORS.c.until_ms, GENERATORS.c.generator)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            generator = connection.execute(free).scalar()
            if generator is None:
                raise Unavailable("all generators of ids are leased")
            lease = Lease(generator, holder, until_ms=now_ms + lease_s * 1_000, reading=reading)
            connection.execute(
                sa.update(GENERATORS)
                .where(GENERATORS.c.generator == generator)
                .values(holder=holder, until_ms=lease.until_ms)
            )
            return lease

        return await self._database.write(work)

    async def renew(self, lease: Lease, *, lease_s: int = 900) -> Lease:
        """Also of a lease that has run out, as long as no other process has got the number."""

        def work(connection: sa.Connection) -> Lease:
            reading = self._database.read_clock(connection, self._clock)
            renewed = replace(lease, until_ms=reading.store_ms + lease_s * 1_000, reading=reading)
            if not connection.execute(_held(lease).values(until_ms=renewed.until_ms)).rowcount:
                raise Refused("stale", "this generator of ids has been leased to another process")
            return renewed

        return await self._database.write(work)

    async def release(self, lease: Lease) -> None:
        """Ends the lease now, unless it has been lost already."""

        def work(connection: sa.Connection) -> None:
            now_ms = self._database.read_clock(connection, self._clock).store_ms
            ended_ms = sa.case(
                (GENERATORS.c.until_ms > now_ms, now_ms), else_=GENERATORS.c.until_ms
            )
            connection.execute(_held(lease).values(holder="", until_ms=ended_ms))

        await self._database.write(work)


def _held(lease: Lease) -> sa.Update:
    return sa.update(GENERATORS).where(
        GENERATORS.c.generator == lease.generator, GENERATORS.c.holder == lease.holder
    )
