"""What is written down of log-ins for others to hear: endings for the gateways, notices for the
user's other devices. Tables, and what a transaction does with them.

The adapters of `LogIns` and `Suspensions` use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import sqlalchemy as sa

from backends.accounts import Ending, Notice
from backends.accounts.sql import ACCOUNTS
from backends.sql.database import METADATA, Database
from schemas.ids import UserId

Noted = TypeVar("Noted", Ending, Notice)

# What gateways are still to hear of. Hardly ever more than a few rows, so nothing but the key is
# indexed.
ENDINGS: Final = sa.Table(
    "endings",
    METADATA,
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("device", sa.Text, primary_key=True),
    sa.Column("before_ms", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("kept", sa.Text, nullable=False),
    sa.Column("suspended", sa.Boolean, nullable=False, server_default=sa.false()),
)

# What users' other devices are still to hear of: of each device the newest log-in and the newest
# change of the password, so as few as the endings.
NOTICES: Final = sa.Table(
    "log_in_notices",
    METADATA,
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("device", sa.Text, primary_key=True),
    sa.Column("op", sa.Text, primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("device_name", sa.Text, nullable=False),
)


def note_endings(database: Database, connection: sa.Connection, endings: Sequence[Ending]) -> None:
    """Writes down what gateways have to hear of."""
    for ending in endings:
        values = {name: getattr(ending, name) for name in Ending.__slots__}
        insert = database.insert(ENDINGS).values(**values)
        # Whose clock was behind must not take back what was noted before.
        later = sa.case(
            (ENDINGS.c.before_ms > ending.before_ms, ENDINGS.c.before_ms),
            else_=ending.before_ms,
        )
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=list(ENDINGS.primary_key), set_={**values, "before_ms": later}
            )
        )


def raise_epoch(
    database: Database,
    connection: sa.Connection,
    user: UserId,
    *,
    now_ms: int,
    suspended: bool = False,
) -> Ending | None:
    """Ends all log-ins of a user, and writes that down; `suspended`: and suspends an account that
    is not. None: there is none.
    """
    update = sa.update(ACCOUNTS).where(ACCOUNTS.c.user == user)
    if suspended:
        update = update.where(ACCOUNTS.c.suspended_ms == 0).values(suspended_ms=now_ms)
    epoch = connection.execute(
        update.values(session_epoch=ACCOUNTS.c.session_epoch + 1).returning(
            ACCOUNTS.c.session_epoch
        )
    ).scalar()
    if epoch is None:
        return None
    ending = Ending(user, "", now_ms, epoch, suspended=suspended)
    note_endings(database, connection, [ending])
    return ending


def note_notice(database: Database, connection: sa.Connection, notice: Notice) -> None:
    """Writes down what the user's other devices have to hear."""
    values = {name: getattr(notice, name) for name in Notice.__slots__}
    insert = database.insert(NOTICES).values(**values)
    connection.execute(
        insert.on_conflict_do_update(index_elements=list(NOTICES.primary_key), set_=values)
    )


async def oldest(
    database: Database, kind: type[Noted], since: sa.Column[int], *, limit: int
) -> Sequence[Noted]:
    """What is written down in the table of the column `since`, by that column."""
    columns = [since.table.c[name] for name in kind.__slots__]
    query = sa.select(*columns).order_by(since).limit(limit)
    rows = await database.read(lambda connection: connection.execute(query).all())
    return [kind(*row) for row in rows]


async def forget(
    database: Database, table: sa.Table, told: Sequence[Ending] | Sequence[Notice]
) -> None:
    """Forgets what the log has. What has happened again meanwhile is another row, and stays."""
    names = told[0].__slots__ if told else ()
    known = sa.and_(*(table.c[name] == sa.bindparam(f"told_{name}") for name in names))
    rows = [{f"told_{name}": getattr(one, name) for name in names} for one in told]
    if rows:
        await database.write(
            lambda connection: connection.execute(sa.delete(table).where(known), rows)
        )
