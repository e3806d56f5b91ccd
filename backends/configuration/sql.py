"""The ports `StoredConfiguration` and `Administrators` on SQL.

A section's newest revision is one row, which every process looks at every few seconds; the history
is another table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from backends.configuration import MAX_ADMINISTRATORS, Administrator, Revision
from backends.sql.database import METADATA, Database
from schemas.errors import Refused
from schemas.ids import UserId

_COLUMNS: Final = ("section", "version", "content", "author", "changed_ms")


def _revisions(name: str, *, is_history: bool) -> sa.Table:
    return sa.Table(
        name,
        METADATA,
        sa.Column("section", sa.Text, primary_key=True),
        sa.Column(
            "version",
            sa.BigInteger,
            primary_key=is_history,
            autoincrement=False,
            nullable=False,
        ),
        # JSON: what is set. A field that is not in it has its default.
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("author", sa.BigInteger, nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
    )


CONFIGURATION: Final = _revisions("configuration", is_history=False)
CONFIGURATION_HISTORY: Final = _revisions("configuration_history", is_history=True)
ADMINISTRATORS: Final = sa.Table(
    "administrators",
    METADATA,
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("granted_ms", sa.BigInteger, nullable=False),
)

_MOST: Final[sa.BindParameter[int]] = sa.bindparam("most")
_NEWEST: Final = sa.select(*(CONFIGURATION.c[name] for name in _COLUMNS))
_VERSIONS: Final = sa.select(CONFIGURATION.c.section, CONFIGURATION.c.version)
_HISTORY: Final = (
    sa.select(*(CONFIGURATION_HISTORY.c[name] for name in _COLUMNS))
    .where(
        CONFIGURATION_HISTORY.c.section == sa.bindparam("of_section"),
        CONFIGURATION_HISTORY.c.version < sa.bindparam("below"),
    )
    .order_by(CONFIGURATION_HISTORY.c.version.desc())
    .limit(_MOST)
)


class SqlConfiguration:
    """Sections in a database that they share with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def versions(self) -> Mapping[str, int]:
        """One SELECT."""
        rows = await self._database.read(lambda connection: connection.execute(_VERSIONS).all())
        return {row.section: row.version for row in rows}

    async def newest(self) -> Mapping[str, Revision]:
        """One SELECT."""
        rows = await self._database.read(lambda connection: connection.execute(_NEWEST).all())
        return {row.section: _revision(row) for row in rows}

    async def put(self, revision: Revision) -> bool:
        """One statement decides which of two at once is first."""
        row = {
            "section": revision.section,
            "version": revision.version,
            "content": json.dumps(dict(revision.values or {}), separators=(",", ":")),
            "author": revision.author,
            "changed_ms": revision.changed_ms,
        }
        statement: sa.Insert | sa.Update = (
            self._database.insert(CONFIGURATION).values(row).on_conflict_do_nothing()
        )
        if revision.version > 1:
            statement = (
                sa.update(CONFIGURATION)
                .where(
                    CONFIGURATION.c.section == revision.section,
                    CONFIGURATION.c.version == revision.version - 1,
                )
                .values(row)
            )

        def work(connection: sa.Connection) -> bool:
            if not connection.execute(statement).rowcount:
                return False
            connection.execute(sa.insert(CONFIGURATION_HISTORY).values(row))
            return True

        return await self._database.write(work)

    async def history(self, section: str, *, below: int, limit: int) -> Sequence[Revision]:
        """One stretch of the key."""
        values = {"of_section": section, "below": below, "most": limit}
        rows = await self._database.read(
            lambda connection: connection.execute(_HISTORY, values).all()
        )
        return [_revision(row) for row in rows]


def _revision(row: sa.Row[Any]) -> Revision:
    try:
        values = json.loads(row.content)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        values = None
    return Revision(row.section, row.version, values, UserId(row.author), row.changed_ms)


class SqlAdministrators:
    """Administrators in a database that they share with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def grant(self, user: UserId, *, now_ms: int) -> bool:
        """Counted in the transaction that writes."""
        insert = (
            self._database.insert(ADMINISTRATORS)
            .values(user=user, granted_ms=now_ms)
            .on_conflict_do_nothing()
        )
        number = sa.select(sa.func.count()).select_from(ADMINISTRATORS)

        def work(connection: sa.Connection) -> bool:
            if not connection.execute(insert).rowcount:
                return False
            if connection.execute(number).scalar_one() > MAX_ADMINISTRATORS:
                raise Refused("too_many", f"there are {MAX_ADMINISTRATORS} administrators already")
            return True

        return await self._database.write(work)

    async def revoke(self, user: UserId) -> bool:
        """One DELETE."""
        delete = sa.delete(ADMINISTRATORS).where(ADMINISTRATORS.c.user == user)
        return await self._database.write(
            lambda connection: bool(connection.execute(delete).rowcount)
        )

    async def has(self, user: UserId) -> bool:
        """By its key."""
        query = sa.select(ADMINISTRATORS.c.user).where(ADMINISTRATORS.c.user == user)
        return await self._database.read(
            lambda connection: connection.execute(query).first() is not None
        )

    async def all(self) -> Sequence[Administrator]:
        """One SELECT."""
        query = sa.select(ADMINISTRATORS.c.user, ADMINISTRATORS.c.granted_ms).order_by(
            ADMINISTRATORS.c.user
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [Administrator(UserId(row.user), row.granted_ms) for row in rows]
