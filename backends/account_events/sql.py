"""The `AccountEvents` port on SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from backends.account_events import AccountEvent
from backends.sql.database import METADATA, Database
from schemas.ids import UserId

ACCOUNT_EVENTS: Final = sa.Table(
    "account_events",
    METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("user", sa.BigInteger, nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("times", sa.BigInteger, nullable=False),
    sa.Index("account_events_at", "at_ms"),
    sa.Index("account_events_user", "user", "at_ms"),
)

# So many in one transaction: about what a sweep of ended log-ins takes, 2 ms.
_MAX_FORGOTTEN: Final = 500
_MAX_STEPS: Final = 100
_at_ms: Final = ACCOUNT_EVENTS.c.at_ms

_EVENT: Final = [ACCOUNT_EVENTS.c[name] for name in AccountEvent.__slots__]


class SqlAccountEvents:
    """Account events in a database that it shares with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._among = database.among(ACCOUNT_EVENTS.c.id, "ids")

    async def write(self, events: Sequence[AccountEvent]) -> None:
        """An INSERT each, in one transaction."""
        if not events:
            return
        insert = self._database.insert(ACCOUNT_EVENTS).on_conflict_do_nothing()
        rows = [{name: getattr(one, name) for name in AccountEvent.__slots__} for one in events]
        await self._database.write(lambda connection: connection.execute(insert, rows))

    async def read(
        self, *, user: UserId | None = None, since_ms: int = 0, limit: int
    ) -> Sequence[AccountEvent]:
        """One SELECT, by the index of times or of users."""
        query = (
            sa.select(*_EVENT)
            .where(_at_ms >= since_ms)
            .order_by(_at_ms.desc(), ACCOUNT_EVENTS.c.id)
            .limit(limit)
        )
        if user is not None:
            query = query.where(ACCOUNT_EVENTS.c.user == user)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [AccountEvent(*row) for row in rows]

    async def forget(self, *, before_ms: int, keep: int) -> int:
        """The oldest first, by their keys. How far those beyond `keep` go is read apart: it is a
        walk along an index, and no write shall wait for that.
        """
        newest = sa.select(_at_ms).order_by(_at_ms.desc()).offset(keep).limit(1)
        beyond = await self._database.read(lambda connection: connection.execute(newest).scalar())
        old = _at_ms < (before_ms if beyond is None else max(before_ms, beyond + 1))
        query = sa.select(ACCOUNT_EVENTS.c.id).where(old).order_by(_at_ms).limit(_MAX_FORGOTTEN)

        def work(connection: sa.Connection) -> int:
            if ids := list(connection.execute(query).scalars()):
                connection.execute(sa.delete(ACCOUNT_EVENTS).where(self._among), {"ids": ids})
            return len(ids)

        forgotten = 0
        for _ in range(_MAX_STEPS):
            forgotten += (some := await self._database.write(work))
            if some < _MAX_FORGOTTEN:
                break
        return forgotten
