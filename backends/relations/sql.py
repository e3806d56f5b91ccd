"""The `Relations` port on SQL. Only `wiring` and the port's suite name it.

Each view of a contact is a row of its own; the two rows of a pair change together, in the order of
their keys, so that two changes of one pair never overlap. `send` needs `between` and `changed`, so
this file imports no other adapter's: of accounts it names one column.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from backends.relations import (
    Action,
    Contact,
    HiddenReceipts,
    Pair,
    Privacy,
    Relation,
    Side,
)
from backends.relations.rules import changed
from backends.sql.database import METADATA, Database
from schemas.errors import Refused
from schemas.ids import UserId

# A view that is `none` keeps its row: its version goes on.
CONTACTS: Final = sa.Table(
    "contacts",
    METADATA,
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("other", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    # The version that the log has.
    sa.Column("published", sa.BigInteger, nullable=False),
    # The two are contacts, or have been.
    sa.Column("met", sa.Boolean, nullable=False),
)
# Hardly ever more than a few rows.
sa.Index("contacts_unpublished", CONTACTS.c.user)

BLOCKS: Final = sa.Table(
    "blocks",
    METADATA,
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("other", sa.BigInteger, primary_key=True, autoincrement=False),
)

# A user without a row has changed nothing. `changed_ms`: when anything changed last that decides
# what others may do, blocks and contacts too.
PRIVACY: Final = sa.Table(
    "privacy",
    METADATA,
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("who_may_write", sa.Text, nullable=False),
    sa.Column("receipts", sa.Boolean, nullable=False),
    sa.Column("last_seen", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("changed_ms", sa.BigInteger, nullable=False),
    sa.Index("privacy_changed", "changed_ms"),
)

_ACCOUNTS: Final = sa.table("accounts", sa.column("user", sa.BigInteger))
_CONTACT: Final = [CONTACTS.c[name] for name in Contact.__slots__]
_PRIVACY: Final = [PRIVACY.c[name] for name in Privacy.__slots__]
_MOST: Final[sa.BindParameter[int]] = sa.bindparam("most")
_AFTER: Final = sa.bindparam("after", type_=sa.BigInteger())
_OF_USER: Final = sa.bindparam("user", type_=sa.BigInteger())
_EXISTS: Final = sa.select(_ACCOUNTS.c.user).where(_ACCOUNTS.c.user == _OF_USER)
_LISTED: Final = (
    sa.select(*_CONTACT)
    .where(CONTACTS.c.user == _OF_USER, CONTACTS.c.other > _AFTER, CONTACTS.c.state != "none")
    .order_by(CONTACTS.c.other)
    .limit(_MOST)
)
_BLOCKED: Final = (
    sa.select(BLOCKS.c.other)
    .where(BLOCKS.c.user == _OF_USER, BLOCKS.c.other > _AFTER)
    .order_by(BLOCKS.c.other)
    .limit(_MOST)
)
_UNPUBLISHED: Final = (
    sa.select(*_CONTACT)
    .where(CONTACTS.c.published < CONTACTS.c.version)
    .order_by(CONTACTS.c.user)
    .limit(_MOST)
)


class SqlRelations:
    """Relations in a database that it shares with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        insert = database.insert(CONTACTS)
        self._put_view = insert.on_conflict_do_update(
            index_elements=list(CONTACTS.primary_key),
            set_={
                **{name: insert.excluded[name] for name in ("state", "version")},
                "met": sa.or_(CONTACTS.c.met, insert.excluded.met),
            },
        )
        self._asked = database.given(user=sa.BigInteger(), other=sa.BigInteger())
        self._between = _between(self._asked)
        self._hiding = sa.select(PRIVACY.c.user).where(
            database.among(PRIVACY.c.user, "users"), sa.not_(PRIVACY.c.receipts)
        )
        self._blocks_among = sa.select(BLOCKS.c.user, BLOCKS.c.other).where(
            database.among(BLOCKS.c.user, "users"), database.among(BLOCKS.c.other, "others")
        )
        self._published = (
            sa.update(CONTACTS)
            .where(
                CONTACTS.c.user == sa.bindparam("of_user"),
                CONTACTS.c.other == sa.bindparam("of_other"),
                CONTACTS.c.published < sa.bindparam("told"),
            )
            .values(published=sa.bindparam("told"))
        )

    # ---- contacts --------------------------------------------------------------------------------

    async def contacts(
        self, user: UserId, *, after: UserId, limit: int
    ) -> tuple[Sequence[Contact], bool]:
        """One SELECT."""
        rows = await self._stretch(_LISTED, user, after=after, limit=limit)
        return [Contact(*row) for row in rows[:limit]], len(rows) > limit

    async def change_contact(
        self, user: UserId, other: UserId, action: Action, *, version: int, now_ms: int
    ) -> Contact:
        """Both rows, and the blocks between the two."""

        def work(connection: sa.Connection) -> Contact:
            self._check_exists(connection, other)
            # Whatever else changes between these two waits for this row.
            self._touch(connection, sorted((user, other)), now_ms)
            mine = self._view(connection, user, other)
            theirs = self._view(connection, other, user)
            states = changed(
                mine,
                action,
                version=version,
                blocks=self._blocks(connection, user, other),
                blocked=self._blocks(connection, other, user),
            )
            views = [
                Contact(view.user, view.other, state, view.version + 1)
                for view, state in zip((mine, theirs), states, strict=True)
            ]
            # In this order `mark_published` locks them too.
            for view in sorted(views, key=lambda one: one.user):
                values = {name: getattr(view, name) for name in Contact.__slots__}
                met = view.state == "contact"
                connection.execute(self._put_view, {**values, "published": 0, "met": met})
            return views[0]

        return await self._database.write(work)

    def _view(self, connection: sa.Connection, user: UserId, other: UserId) -> Contact:
        query = sa.select(*_CONTACT).where(CONTACTS.c.user == user, CONTACTS.c.other == other)
        row = connection.execute(query).first()
        return Contact(user, other) if row is None else Contact(*row)

    async def unpublished(self, *, limit: int) -> Sequence[Contact]:
        """One SELECT, by an index of those rows alone."""
        rows = await self._database.read(
            lambda connection: connection.execute(_UNPUBLISHED, {"most": limit}).all()
        )
        return [Contact(*row) for row in rows]

    async def mark_published(self, contacts: Sequence[Contact]) -> None:
        """An UPDATE each: they are few."""
        if not contacts:
            return
        values = [
            {"of_user": one.user, "of_other": one.other, "told": one.version}
            for one in sorted(contacts, key=lambda one: (one.user, one.other))
        ]
        await self._database.write(lambda connection: connection.execute(self._published, values))

    # ---- blocks ----------------------------------------------------------------------------------

    async def blocks(
        self, user: UserId, *, after: UserId, limit: int
    ) -> tuple[Sequence[UserId], bool]:
        """One SELECT."""
        rows = await self._stretch(_BLOCKED, user, after=after, limit=limit)
        return [UserId(row.other) for row in rows[:limit]], len(rows) > limit

    async def block(self, user: UserId, other: UserId, *, now_ms: int) -> None:
        """One INSERT."""
        insert = (
            self._database.insert(BLOCKS).values(user=user, other=other).on_conflict_do_nothing()
        )

        def work(connection: sa.Connection) -> None:
            self._check_exists(connection, other)
            self._touch(connection, [user], now_ms)
            connection.execute(insert)

        await self._database.write(work)

    async def unblock(self, user: UserId, other: UserId, *, now_ms: int) -> None:
        """One DELETE."""
        delete = sa.delete(BLOCKS).where(BLOCKS.c.user == user, BLOCKS.c.other == other)

        def work(connection: sa.Connection) -> None:
            self._touch(connection, [user], now_ms)
            connection.execute(delete)

        await self._database.write(work)

    def _blocks(self, connection: sa.Connection, user: UserId, other: UserId) -> bool:
        query = sa.select(BLOCKS.c.other).where(BLOCKS.c.user == user, BLOCKS.c.other == other)
        return connection.execute(query).first() is not None

    # ---- privacy ---------------------------------------------------------------------------------

    async def privacy(self, user: UserId) -> Privacy:
        """One row, or none."""
        query = sa.select(*_PRIVACY).where(PRIVACY.c.user == user)
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return Privacy() if row is None else Privacy(*row)

    async def change_privacy(self, user: UserId, privacy: Privacy, *, now_ms: int) -> bool:
        """One UPDATE, of a row that is there then."""
        values = {name: getattr(privacy, name) for name in Privacy.__slots__}
        update = (
            sa.update(PRIVACY)
            .where(PRIVACY.c.user == user, PRIVACY.c.version == privacy.version - 1)
            .values(values)
        )

        def work(connection: sa.Connection) -> bool:
            self._touch(connection, [user], now_ms)
            return bool(connection.execute(update).rowcount)

        return await self._database.write(work)

    def _touch(self, connection: sa.Connection, users: Sequence[UserId], now_ms: int) -> None:
        """Notes that something of these users has changed, and locks their rows on PostgreSQL.

        The time grows each time: who has seen the one before must see that there is another.
        """
        insert = self._database.insert(PRIVACY)
        given = {name: getattr(Privacy(), name) for name in Privacy.__slots__}
        later = sa.case(
            (PRIVACY.c.changed_ms < insert.excluded.changed_ms, insert.excluded.changed_ms),
            else_=PRIVACY.c.changed_ms + 1,
        )
        touch = insert.on_conflict_do_update(
            index_elements=list(PRIVACY.primary_key), set_={"changed_ms": later}
        )
        for user in users:
            connection.execute(touch, {"user": user, **given, "changed_ms": now_ms})

    # ---- for `send` ------------------------------------------------------------------------------

    async def between(self, pairs: Collection[Pair]) -> Mapping[Pair, Relation]:
        """One SELECT; none for none."""
        if not pairs:
            return {}
        values = self._database.giving(self._asked, [*pairs])
        rows = await self._database.read(
            lambda connection: connection.execute(self._between, values).all()
        )
        return {(UserId(row.user), UserId(row.other)): _relation(row) for row in rows}

    async def hidden_receipts(self, users: Collection[UserId]) -> HiddenReceipts:
        """Two SELECTs, by keys."""
        if not users:
            return HiddenReceipts(frozenset(), frozenset())
        values = {"users": [*users], "others": [*users]}

        def work(connection: sa.Connection) -> HiddenReceipts:
            hiding = connection.execute(self._hiding, {"users": values["users"]})
            blocks = connection.execute(self._blocks_among, values)
            return HiddenReceipts(
                frozenset(UserId(user) for (user,) in hiding),
                frozenset((UserId(user), UserId(other)) for user, other in blocks),
            )

        return await self._database.read(work)

    async def changed(self, since_ms: int) -> Mapping[UserId, int]:
        """One SELECT, by the index of times."""
        query = sa.select(PRIVACY.c.user, PRIVACY.c.changed_ms).where(
            PRIVACY.c.changed_ms >= since_ms
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return {UserId(user): changed_ms for user, changed_ms in rows}

    async def close(self) -> None:
        """Nothing: the owner of the database closes it, and that waits for our calls."""

    async def _stretch(
        self, query: sa.Select[*tuple[Any, ...]], user: UserId, *, after: UserId, limit: int
    ) -> Sequence[Any]:
        values = {"user": user, "after": after, "most": limit + 1}
        return await self._database.read(lambda connection: connection.execute(query, values).all())

    def _check_exists(self, connection: sa.Connection, user: UserId) -> None:
        if connection.execute(_EXISTS, {"user": user}).first() is None:
            raise Refused("unknown_user", "no such user", field="user")


def _between(asked: sa.FromClause) -> sa.Select[*tuple[Any, ...]]:
    """Of each pair its two sides, and what the other one is to the user."""
    columns: list[sa.ColumnElement[Any]] = [asked.c.user, asked.c.other]
    tables: sa.FromClause = asked
    for one, other in ((asked.c.user, asked.c.other), (asked.c.other, asked.c.user)):
        account, block, privacy = _ACCOUNTS.alias(), BLOCKS.alias(), PRIVACY.alias()
        tables = tables.outerjoin(account, account.c.user == one)
        tables = tables.outerjoin(block, sa.and_(block.c.user == one, block.c.other == other))
        tables = tables.outerjoin(privacy, privacy.c.user == one)
        columns += [
            account.c.user.is_not(None),
            block.c.user.is_not(None),
            privacy.c.who_may_write,
            privacy.c.receipts,
            privacy.c.last_seen,
        ]
    tables = tables.outerjoin(
        CONTACTS, sa.and_(CONTACTS.c.user == asked.c.user, CONTACTS.c.other == asked.c.other)
    )
    columns += [CONTACTS.c.state, CONTACTS.c.met]
    labelled = [*columns[:2], *(column.label(f"c{n}") for n, column in enumerate(columns[2:]))]
    return sa.select(*labelled).select_from(tables)


def _relation(row: Any) -> Relation:
    return Relation(_side(*row[2:7]), _side(*row[7:12]), row[12] == "contact", bool(row[13]))


def _side(exists: Any, blocks: Any, *chosen: Any) -> Side:
    """What no row says is as `Privacy` gives it."""
    return Side(bool(exists), bool(blocks), *(() if chosen[0] is None else chosen))
