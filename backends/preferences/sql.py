"""The `ChatPreferences` port on SQL. Only `wiring` and the port's suite name it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import sqlalchemy as sa

from backends.preferences import Preferences
from backends.sql.database import METADATA, Database
from schemas.ids import LATEST, ChatId, UserId

PREFERENCES: Final = sa.Table(
    "chat_preferences",
    METADATA,
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("chat", sa.Text, primary_key=True),
    sa.Column("muted_until_ms", sa.BigInteger, nullable=False),
    sa.Column("pinned", sa.Boolean, nullable=False),
    sa.Column("archived", sa.BigInteger, nullable=False),
    sa.Column("draft", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    # The newest version that the log has.
    sa.Column("published", sa.BigInteger, nullable=False),
)
_UNPUBLISHED: Final = PREFERENCES.c.published < PREFERENCES.c.version
sa.Index("chat_preferences_unpublished", PREFERENCES.c.user)
_FIELDS: Final = [PREFERENCES.c[name] for name in Preferences.__slots__]


class SqlChatPreferences:
    """Preferences in a database that they share with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._some = sa.select(*_FIELDS).where(
            PREFERENCES.c.user == sa.bindparam("user"),
            database.among(PREFERENCES.c.chat, "chats"),
        )

    async def put(self, preferences: Preferences) -> bool:
        """One statement: an INSERT of the first version, an UPDATE of a later one."""
        values = {name: getattr(preferences, name) for name in Preferences.__slots__}
        was = preferences.version - 1
        statement = (
            sa.update(PREFERENCES)
            .where(
                PREFERENCES.c.user == preferences.user,
                PREFERENCES.c.chat == preferences.chat,
                PREFERENCES.c.version == was,
            )
            .values(**values)
            if was
            else self._database.insert(PREFERENCES)
            .values(**values, published=0)
            .on_conflict_do_nothing()
        )
        return await self._database.write(
            lambda connection: bool(connection.execute(statement).rowcount)
        )

    async def of(self, user: UserId, chats: Collection[ChatId]) -> Mapping[ChatId, Preferences]:
        """One SELECT; none for none."""
        if not chats:
            return {}
        values = {"user": min(user, LATEST), "chats": [*chats]}
        rows = await self._database.read(
            lambda connection: connection.execute(self._some, values).all()
        )
        return {row.chat: Preferences(*row) for row in rows}

    async def unpublished(self, *, limit: int) -> Sequence[Preferences]:
        """One SELECT, by an index of its own."""
        query = sa.select(*_FIELDS).where(_UNPUBLISHED).limit(limit)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [Preferences(*row) for row in rows]

    async def mark_published(self, some: Sequence[Preferences]) -> None:
        """A newer version stays unpublished."""
        update = (
            sa.update(PREFERENCES)
            .where(
                PREFERENCES.c.user == sa.bindparam("of_user"),
                PREFERENCES.c.chat == sa.bindparam("of_chat"),
                PREFERENCES.c.published < sa.bindparam("told"),
            )
            .values(published=sa.bindparam("told"))
        )
        rows = [{"of_user": one.user, "of_chat": one.chat, "told": one.version} for one in some]
        await self._database.write(lambda connection: connection.execute(update, rows))
