"""The changes of the `Groups` port on SQL: what each of them checks and writes, in one transaction.

Every change takes the group's row first, so that two changes of one group never overlap, and
writes its events into `pending_commands` in the same transaction. Former members keep their row,
with the id of the event that ended it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from backends.configuration.current import Configuration
from backends.files.avatars import Avatars
from backends.groups import Change, Group, History, Member, Membership, Role
from backends.groups.rules import check_may_change, check_may_leave, check_may_set
from backends.groups.sql_rows import (
    GROUP_COLUMNS,
    IS_MEMBER,
    Rows,
    above,
    content_of,
    group_of,
)
from backends.groups.sql_tables import GROUP_MEMBERS, GROUPS
from backends.sql.database import Database
from schemas.errors import Refused, Unavailable
from schemas.ids import ChatId, UserId, unix_ms_of


class SqlChanges:
    """See Groups."""

    def __init__(self, database: Database, configuration: Configuration) -> None:
        self._database = database
        self._rows = Rows(database, configuration)
        self._avatars = Avatars(database)

    async def create(
        self, group: Group, members: Collection[UserId], change: Change, *, key: str
    ) -> tuple[Group, bool]:
        """One INSERT decides whether it is new."""
        event = change.ids[0]
        users = sorted({change.by, *members})
        content = content_of(group, users)
        values = {
            **{name: getattr(group, name) for name in Group.__slots__},
            "members": len(users),
            "created": event,
            "version": 1,
            "changed": event,
            "deleted": 0,
            "creator": change.by,
            "key": key,
            "content": content,
        }
        insert = self._database.insert(GROUPS).values(**values).on_conflict_do_nothing()
        known = sa.select(*GROUP_COLUMNS, GROUPS.c.content).where(
            GROUPS.c.creator == change.by, GROUPS.c.key == key
        )

        def work(connection: sa.Connection) -> tuple[Group, bool]:
            if not connection.execute(insert).rowcount:
                row = connection.execute(known).first()
                if row is None:
                    raise Unavailable("this chat id is taken: make another")
                if bytes(row.content) != content:
                    raise Refused("key_reused", "this key made another group", field="key")
                return group_of(row), False
            self._rows.check_members(len(users))
            self._rows.check_groups(connection, users)
            self._show(connection, group.chat, change, was="", now=group.avatar)
            self._rows.put(
                connection,
                group.chat,
                [
                    Member(user, "owner" if user == change.by else "member", event, 1)
                    for user in users
                ],
            )
            made = Group(**{name: values[name] for name in Group.__slots__})
            self._rows.note(connection, made, change, event, "created", name=group.name)
            return made, True

        return await self._database.write(work)

    async def change(
        self,
        chat: ChatId,
        change: Change,
        *,
        version: int,
        name: str | None = None,
        avatar: str | None = None,
        history: History | None = None,
    ) -> Membership:
        """One UPDATE, of a row that is locked."""
        kinds = {"name": "renamed", "avatar": "avatar", "history": "history"}
        given = {"name": name, "avatar": avatar, "history": history}

        def work(connection: sa.Connection) -> Membership:
            mine, newest = self._rows.lock(connection, chat, change.by)
            check_may_change(mine.member.role)
            if mine.group.version != version:
                raise Refused(
                    "stale", "the group has changed since: read it again", field="version"
                )
            fresh = {
                field: value
                for field, value in given.items()
                if value is not None and value != getattr(mine.group, field)
            }
            if not fresh:
                return mine
            if "avatar" in fresh:
                self._show(connection, chat, change, was=mine.group.avatar, now=fresh["avatar"])
            events = above(newest, change.ids[: len(fresh)])
            group = self._rows.touch(connection, mine.group, events[-1], **fresh)
            for event, field in zip(events, fresh, strict=True):
                named = group.name if field == "name" else ""
                self._rows.note(connection, group, change, event, kinds[field], name=named)
            return Membership(group, mine.member)

        return await self._database.write(work)

    async def delete(self, chat: ChatId, change: Change) -> None:
        """The members' rows stay, as those of former members."""
        was_deleted = sa.select(GROUPS.c.chat).where(
            GROUPS.c.chat == chat,
            GROUPS.c.deleted != 0,
            GROUPS.c.chat == GROUP_MEMBERS.c.chat,
            GROUP_MEMBERS.c.user == change.by,
            GROUP_MEMBERS.c.role == "owner",
        )

        def work(connection: sa.Connection) -> None:
            if connection.execute(was_deleted).first() is not None:
                return
            mine, newest = self._rows.lock(connection, chat, change.by)
            if mine.member.role != "owner":
                raise Refused("forbidden", "only the owner may delete the group")
            (event,) = above(newest, change.ids[:1])
            users = (
                connection.execute(
                    sa.select(GROUP_MEMBERS.c.user).where(GROUP_MEMBERS.c.chat == chat, IS_MEMBER)
                )
                .scalars()
                .all()
            )
            connection.execute(
                sa.update(GROUP_MEMBERS)
                .where(GROUP_MEMBERS.c.chat == chat, IS_MEMBER)
                .values(ended=event)
            )
            self._show(connection, chat, change, was=mine.group.avatar, now="")
            group = self._rows.touch(connection, mine.group, event, members=0, deleted=event)
            self._rows.note(connection, group, change, event, "deleted", users=users)

        await self._database.write(work)

    async def add(
        self, chat: ChatId, users: Collection[UserId], change: Change, *, role: Role = "member"
    ) -> Sequence[Member]:
        """Those that are members already keep what they are."""

        def work(connection: sa.Connection) -> Sequence[Member]:
            mine, newest = self._rows.lock(connection, chat, change.by)
            check_may_set(mine.member.role, was=None, to=role)
            there = self._rows.some(connection, chat, users)
            fresh = sorted({*users} - there.keys())
            if fresh:
                self._rows.check_members(mine.group.members + len(fresh))
                self._rows.check_groups(connection, fresh)
                (event,) = above(newest, change.ids[:1])
                group = self._rows.touch(
                    connection, mine.group, event, members=mine.group.members + len(fresh)
                )
                added = [Member(user, role, event, group.version) for user in fresh]
                self._rows.put(connection, chat, added)
                self._rows.note(connection, group, change, event, "joined", users=fresh, role=role)
                there |= {member.user: member for member in added}
            return [there[user] for user in sorted(there)]

        return await self._database.write(work)

    async def set_role(self, chat: ChatId, user: UserId, role: Role, change: Change) -> Member:
        """A row, or two when the owner hands over."""

        def work(connection: sa.Connection) -> Member:
            mine, newest = self._rows.lock(connection, chat, change.by)
            was = self._rows.member(connection, chat, user)
            if was is None:
                raise Refused("unknown_user", "this user is not in the group", field="user")
            if was.role == role:
                return was
            check_may_set(mine.member.role, was=was.role, to=role)
            if was.role == "owner":
                raise Refused("forbidden", "the owner hands over to another member", field="role")
            (event,) = above(newest, change.ids[:1])
            group = self._rows.touch(connection, mine.group, event)
            fresh = Member(user, role, was.joined, group.version)
            changed = [fresh]
            if role == "owner":
                changed.append(Member(change.by, "admin", mine.member.joined, group.version))
            self._rows.put(connection, chat, changed)
            self._rows.note(connection, group, change, event, "role", users=[user], role=role)
            return fresh

        return await self._database.write(work)

    async def remove(self, chat: ChatId, user: UserId, change: Change) -> None:
        """The row stays, as that of a former member."""

        def work(connection: sa.Connection) -> None:
            if user == change.by and self._rows.has_ended(connection, chat, user):
                return
            mine, newest = self._rows.lock(connection, chat, change.by)
            was = self._rows.member(connection, chat, user)
            if was is None:
                if self._rows.has_ended(connection, chat, user):
                    return
                raise Refused("unknown_user", "this user is not in the group", field="user")
            if user == change.by:
                check_may_leave(was.role)
            else:
                check_may_set(mine.member.role, was=was.role, to=None)
            (event,) = above(newest, change.ids[:1])
            group = self._rows.touch(connection, mine.group, event, members=mine.group.members - 1)
            connection.execute(
                sa.update(GROUP_MEMBERS)
                .where(GROUP_MEMBERS.c.chat == chat, GROUP_MEMBERS.c.user == user)
                .values(ended=event, version=group.version)
            )
            kind = "left" if user == change.by else "removed"
            self._rows.note(connection, group, change, event, kind, users=[user])

        await self._database.write(work)

    def _show(
        self, connection: sa.Connection, chat: ChatId, change: Change, *, was: str, now: str
    ) -> None:
        """The group has another avatar."""
        if was != now:
            at_ms = unix_ms_of(change.ids[0])
            self._avatars.replace(
                connection, holder=chat, was=was, now=now, by=change.by, now_ms=at_ms
            )
