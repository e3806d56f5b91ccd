"""The `Suspensions` port on SQL: what operators do about accounts.

`kn-chat users` works by it, and what answers a dead token asks it why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from backends.accounts import Ending, Holder
from backends.accounts.endings import raise_epoch
from backends.accounts.log_ins import DEVICES
from backends.accounts.sql import ACCOUNTS
from backends.sql.database import Database
from schemas.ids import LATEST, UserId

_DEVICES: Final = (
    sa.select(sa.func.count())
    .select_from(DEVICES)
    .where(DEVICES.c.user == ACCOUNTS.c.user, DEVICES.c.epoch == ACCOUNTS.c.session_epoch)
    .scalar_subquery()
)
_HOLDERS: Final = sa.select(
    ACCOUNTS.c.user, ACCOUNTS.c.user_name, ACCOUNTS.c.suspended_ms, _DEVICES
)


class SqlSuspensions:
    """Suspensions in a database that it shares with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def suspend(self, user: UserId, *, now_ms: int) -> Ending | None:
        """One UPDATE, and a note of it."""
        return await self._database.write(
            lambda connection: raise_epoch(
                self._database, connection, user, now_ms=now_ms, suspended=True
            )
        )

    async def resume(self, user: UserId) -> bool:
        """One UPDATE. What ended with the suspension stays ended: its epoch is a lower one."""
        update = (
            sa.update(ACCOUNTS)
            .where(ACCOUNTS.c.user == user, ACCOUNTS.c.suspended_ms > 0)
            .values(suspended_ms=0)
        )
        return await self._database.write(
            lambda connection: bool(connection.execute(update).rowcount)
        )

    async def is_suspended(self, user: UserId) -> bool:
        """By the key."""
        query = sa.select(ACCOUNTS.c.user).where(
            ACCOUNTS.c.user == user, ACCOUNTS.c.suspended_ms > 0
        )
        return await self._first(query) is not None

    async def is_suspended_log_in(self, family: str) -> bool:
        """By the row of the device, which is swept out when another log-in begins."""
        query = (
            sa.select(ACCOUNTS.c.user)
            .join_from(DEVICES, ACCOUNTS, ACCOUNTS.c.user == DEVICES.c.user)
            .where(DEVICES.c.family == family, ACCOUNTS.c.suspended_ms > 0)
        )
        return await self._first(query) is not None

    async def holders(
        self, *, after: UserId, limit: int, suspended: bool = False
    ) -> Sequence[Holder]:
        """One SELECT; the suspended ones by an index of their own."""
        query = _HOLDERS.where(ACCOUNTS.c.user > after).order_by(ACCOUNTS.c.user).limit(limit)
        if suspended:
            query = query.where(ACCOUNTS.c.suspended_ms > 0)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [Holder(*row) for row in rows]

    async def holder(self, user: UserId) -> Holder | None:
        """By the key."""
        if user > LATEST:  # it fits into no column
            return None
        row = await self._first(_HOLDERS.where(ACCOUNTS.c.user == user))
        return None if row is None else Holder(*row)

    async def _first(self, query: sa.Select[*tuple[Any, ...]]) -> Any:
        return await self._database.read(lambda connection: connection.execute(query).first())
