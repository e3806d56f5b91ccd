"""The `Groups` port on SQL. Only `wiring` and the port's suite name it.

Questions stand here, changes in `sql_changes.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from backends.configuration.current import Configuration
from backends.groups import Member, Membership, Roster
from backends.groups.sql_changes import SqlChanges
from backends.groups.sql_rows import (
    GROUP_COLUMNS,
    IS_MEMBER,
    MEMBER_COLUMNS,
    MEMBERS,
    MEMBERSHIP,
    MEMBERSHIPS,
    group_of,
    member_of,
    membership_of,
)
from backends.groups.sql_tables import GROUP_MEMBERS, GROUPS, PENDING_COMMANDS
from backends.sql.database import Database
from schemas import chat_pb2 as pb
from schemas.ids import LATEST, ChatId, UserId


class SqlGroups(SqlChanges):
    """Groups in a database that it shares with other adapters."""

    def __init__(self, database: Database, configuration: Configuration) -> None:
        """The configuration says how large groups become."""
        super().__init__(database, configuration)
        among = database.among(GROUPS.c.chat, "chats")
        self._versions = sa.select(*GROUP_COLUMNS).where(among)
        self._of_chats = sa.select(GROUP_MEMBERS.c.chat, *MEMBER_COLUMNS).where(
            database.among(GROUP_MEMBERS.c.chat, "chats"), IS_MEMBER
        )
        self._asked = database.given(chat=sa.Text(), user=sa.BigInteger())
        self._former = sa.select(GROUP_MEMBERS.c.chat, GROUP_MEMBERS.c.user).join_from(
            self._asked,
            GROUP_MEMBERS,
            sa.and_(
                GROUP_MEMBERS.c.chat == self._asked.c.chat,
                GROUP_MEMBERS.c.user == self._asked.c.user,
                GROUP_MEMBERS.c.ended != 0,
            ),
        )
        self._published = sa.delete(PENDING_COMMANDS).where(
            database.among(PENDING_COMMANDS.c.id, "ids")
        )

    async def membership(self, chat: ChatId, user: UserId) -> Membership:
        """One row of two tables."""
        values = {"chat": chat, "user": min(user, LATEST)}
        return membership_of(
            await self._database.read(
                lambda connection: connection.execute(MEMBERSHIP, values).first()
            )
        )

    async def memberships(self, user: UserId) -> Sequence[Membership]:
        """One SELECT, by the index of users."""
        rows = await self._database.read(
            lambda connection: connection.execute(MEMBERSHIPS, {"user": min(user, LATEST)}).all()
        )
        return [membership_of(row) for row in rows]

    async def member(self, chat: ChatId, user: UserId) -> Member | None:
        """One row."""
        return await self._database.read(
            lambda connection: self._rows.member(connection, chat, UserId(min(user, LATEST)))
        )

    async def members(
        self, chat: ChatId, *, after: UserId, limit: int
    ) -> tuple[Sequence[Member], bool]:
        """A stretch of the key."""
        values = {"chat": chat, "after": min(after, LATEST), "most": limit + 1}
        rows = await self._database.read(
            lambda connection: connection.execute(MEMBERS, values).all()
        )
        return [member_of(row) for row in rows[:limit]], len(rows) > limit

    async def rosters(self, known: Mapping[ChatId, int]) -> Mapping[ChatId, Roster | None]:
        """The groups' rows, then the members of those that have changed.

        On PostgreSQL a change may come between: then the members are newer than the version, and
        the next question finds the newer version.
        """

        def work(connection: sa.Connection) -> dict[ChatId, Roster | None]:
            groups = {
                row.chat: group_of(row)
                for row in connection.execute(self._versions, {"chats": [*known]})
            }
            changed = [chat for chat, group in groups.items() if group.version != known.get(chat)]
            members: dict[ChatId, dict[UserId, Member]] = {chat: {} for chat in changed}
            if changed:
                for chat, *row in connection.execute(self._of_chats, {"chats": changed}):
                    member = Member(*row)
                    members[chat][member.user] = member
            return {
                chat: Roster(group, members[chat]) if chat in members else None
                for chat, group in groups.items()
            }

        return await self._database.read(work)

    async def former(
        self, pairs: Collection[tuple[ChatId, UserId]]
    ) -> frozenset[tuple[ChatId, UserId]]:
        """One SELECT; none for none."""
        rows = [(chat, user) for chat, user in pairs if user <= LATEST]
        if not rows:
            return frozenset()
        values = self._database.giving(self._asked, rows)
        return await self._database.read(
            lambda connection: frozenset(
                (ChatId(chat), UserId(user))
                for chat, user in connection.execute(self._former, values)
            )
        )

    async def unpublished(self, *, limit: int) -> Sequence[pb.Command]:
        """One SELECT."""
        query = sa.select(PENDING_COMMANDS.c.command).order_by(PENDING_COMMANDS.c.id).limit(limit)
        rows = await self._database.read(
            lambda connection: connection.execute(query).scalars().all()
        )
        return [pb.Command.FromString(bytes(row)) for row in rows]

    async def mark_published(self, ids: Collection[int]) -> None:
        """One DELETE."""
        values = {"ids": [*ids]}
        await self._database.write(lambda connection: connection.execute(self._published, values))

    async def ping(self) -> None:
        """Asks the database."""
        await self._database.ping()

    async def close(self) -> None:
        """Nothing: the owner of the database closes it, and that waits for our calls."""
