"""The `Groups` port on SQL. Only `wiring` and the port's suite name it.

Every change takes the group's row first, so that two changes of one group never overlap, and
writes its events into `pending_commands` in the same transaction. Former members keep their row,
with the id of the event that ended it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from backends.configuration.current import Configuration
from backends.groups import Change, Group, History, Member, Membership, Role, Roster
from backends.groups.rules import check_may_change, check_may_leave, check_may_set
from backends.sql.database import METADATA, Database
from schemas import chat_pb2 as pb
from schemas.errors import Refused, Unavailable
from schemas.ids import LATEST, ChatId, MessageId, UserId

T = TypeVar("T")

GROUPS: Final = sa.Table(
    "groups",
    METADATA,
    sa.Column("chat", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("avatar", sa.Text, nullable=False),
    sa.Column("history", sa.Text, nullable=False),
    sa.Column("members", sa.BigInteger, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    # The id of the newest event.
    sa.Column("changed", sa.BigInteger, nullable=False),
    # Of the event that deleted it; 0: none.
    sa.Column("deleted", sa.BigInteger, nullable=False),
    # Whose key made it, and the hash of what was asked.
    sa.Column("creator", sa.BigInteger, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("creator", "key", name="groups_key"),
)

GROUP_MEMBERS: Final = sa.Table(
    "group_members",
    METADATA,
    sa.Column("chat", sa.Text, primary_key=True),
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("joined", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    # Of the event that ended it; 0: a member.
    sa.Column("ended", sa.BigInteger, nullable=False),
    sa.Index("group_members_user", "user", "ended"),
)

# Hardly ever more than a few rows.
PENDING_COMMANDS: Final = sa.Table(
    "pending_commands",
    METADATA,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("command", sa.LargeBinary, nullable=False),
)

_GROUP: Final = [GROUPS.c[name] for name in Group.__slots__]
_MEMBER: Final = [GROUP_MEMBERS.c[name] for name in Member.__slots__]
_IS_MEMBER: Final = GROUP_MEMBERS.c.ended == 0
_OF_CHAT: Final = GROUP_MEMBERS.c.chat == sa.bindparam("chat")
_OF_USER: Final = GROUP_MEMBERS.c.user == sa.bindparam("user")
_JOINED: Final = sa.select(*_GROUP, *_MEMBER, GROUP_MEMBERS.c.ended).join_from(
    GROUPS, GROUP_MEMBERS, GROUPS.c.chat == GROUP_MEMBERS.c.chat
)
_MEMBERSHIP: Final = _JOINED.where(_OF_CHAT, _OF_USER)
_MEMBERSHIPS: Final = _JOINED.where(_OF_USER, _IS_MEMBER).order_by(GROUPS.c.chat)
_ONE_MEMBER: Final = sa.select(*_MEMBER).where(_OF_CHAT, _OF_USER, _IS_MEMBER)
_MOST: Final[sa.BindParameter[int]] = sa.bindparam("most")
_MEMBERS: Final = (
    sa.select(*_MEMBER)
    .where(_OF_CHAT, _IS_MEMBER, GROUP_MEMBERS.c.user > sa.bindparam("after"))
    .order_by(GROUP_MEMBERS.c.user)
    .limit(_MOST)
)


class SqlGroups:
    """Groups in a database that it shares with other adapters."""

    def __init__(self, database: Database, configuration: Configuration) -> None:
        """The configuration says how large groups become."""
        self._database, self._configuration = database, configuration
        among = database.among(GROUPS.c.chat, "chats")
        self._versions = sa.select(*_GROUP).where(among)
        self._of_chats = sa.select(GROUP_MEMBERS.c.chat, *_MEMBER).where(
            database.among(GROUP_MEMBERS.c.chat, "chats"), _IS_MEMBER
        )
        self._some = sa.select(*_MEMBER, GROUP_MEMBERS.c.ended).where(
            _OF_CHAT, database.among(GROUP_MEMBERS.c.user, "users")
        )
        self._full = (
            sa.select(GROUP_MEMBERS.c.user)
            .where(database.among(GROUP_MEMBERS.c.user, "users"), _IS_MEMBER)
            .group_by(GROUP_MEMBERS.c.user)
            .having(sa.func.count() >= _MOST)
            .limit(1)
        )
        insert = database.insert_many(GROUP_MEMBERS)
        self._put_members = insert.on_conflict_do_update(
            index_elements=list(GROUP_MEMBERS.primary_key),
            set_={name: insert.excluded[name] for name in ("role", "joined", "version", "ended")},
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

    # ---- changes ---------------------------------------------------------------------------------

    async def create(
        self, group: Group, members: Collection[UserId], change: Change, *, key: str
    ) -> tuple[Group, bool]:
        """One INSERT decides whether it is new."""
        event = change.ids[0]
        users = sorted({change.by, *members})
        content = _content(group, users)
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
        known = sa.select(*_GROUP, GROUPS.c.content).where(
            GROUPS.c.creator == change.by, GROUPS.c.key == key
        )

        def work(connection: sa.Connection) -> tuple[Group, bool]:
            if not connection.execute(insert).rowcount:
                row = connection.execute(known).first()
                if row is None:
                    raise Unavailable("this chat id is taken: make another")
                if bytes(row.content) != content:
                    raise Refused("key_reused", "this key made another group", field="key")
                return _group(row), False
            self._check_members(len(users))
            self._check_groups(connection, users)
            self._put(
                connection,
                group.chat,
                [
                    Member(user, "owner" if user == change.by else "member", event, 1)
                    for user in users
                ],
            )
            made = Group(**{name: values[name] for name in Group.__slots__})
            self._note(connection, made, change, event, "created", name=group.name)
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
            mine, newest = self._lock(connection, chat, change.by)
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
            events = _above(newest, change.ids[: len(fresh)])
            group = self._touch(connection, mine.group, events[-1], **fresh)
            for event, field in zip(events, fresh, strict=True):
                named = group.name if field == "name" else ""
                self._note(connection, group, change, event, kinds[field], name=named)
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
            mine, newest = self._lock(connection, chat, change.by)
            if mine.member.role != "owner":
                raise Refused("forbidden", "only the owner may delete the group")
            (event,) = _above(newest, change.ids[:1])
            users = (
                connection.execute(
                    sa.select(GROUP_MEMBERS.c.user).where(GROUP_MEMBERS.c.chat == chat, _IS_MEMBER)
                )
                .scalars()
                .all()
            )
            connection.execute(
                sa.update(GROUP_MEMBERS)
                .where(GROUP_MEMBERS.c.chat == chat, _IS_MEMBER)
                .values(ended=event)
            )
            group = self._touch(connection, mine.group, event, members=0, deleted=event)
            self._note(connection, group, change, event, "deleted", users=users)

        await self._database.write(work)

    async def add(
        self, chat: ChatId, users: Collection[UserId], change: Change, *, role: Role = "member"
    ) -> Sequence[Member]:
        """Those that are members already keep what they are."""

        def work(connection: sa.Connection) -> Sequence[Member]:
            mine, newest = self._lock(connection, chat, change.by)
            check_may_set(mine.member.role, was=None, to=role)
            there = {
                row.user: _member(row)
                for row in connection.execute(self._some, {"chat": chat, "users": [*users]})
                if not row.ended
            }
            fresh = sorted({*users} - there.keys())
            if fresh:
                self._check_members(mine.group.members + len(fresh))
                self._check_groups(connection, fresh)
                (event,) = _above(newest, change.ids[:1])
                group = self._touch(
                    connection, mine.group, event, members=mine.group.members + len(fresh)
                )
                added = [Member(user, role, event, group.version) for user in fresh]
                self._put(connection, chat, added)
                self._note(connection, group, change, event, "joined", users=fresh, role=role)
                there |= {member.user: member for member in added}
            return [there[user] for user in sorted(there)]

        return await self._database.write(work)

    async def set_role(self, chat: ChatId, user: UserId, role: Role, change: Change) -> Member:
        """A row, or two when the owner hands over."""

        def work(connection: sa.Connection) -> Member:
            mine, newest = self._lock(connection, chat, change.by)
            was = self._member(connection, chat, user)
            if was is None:
                raise Refused("unknown_user", "this user is not in the group", field="user")
            if was.role == role:
                return was
            check_may_set(mine.member.role, was=was.role, to=role)
            if was.role == "owner":
                raise Refused("forbidden", "the owner hands over to another member", field="role")
            (event,) = _above(newest, change.ids[:1])
            group = self._touch(connection, mine.group, event)
            fresh = Member(user, role, was.joined, group.version)
            changed = [fresh]
            if role == "owner":
                changed.append(Member(change.by, "admin", mine.member.joined, group.version))
            self._put(connection, chat, changed)
            self._note(connection, group, change, event, "role", users=[user], role=role)
            return fresh

        return await self._database.write(work)

    async def remove(self, chat: ChatId, user: UserId, change: Change) -> None:
        """The row stays, as that of a former member."""

        def work(connection: sa.Connection) -> None:
            if user == change.by and self._has_ended(connection, chat, user):
                return
            mine, newest = self._lock(connection, chat, change.by)
            was = self._member(connection, chat, user)
            if was is None:
                if self._has_ended(connection, chat, user):
                    return
                raise Refused("unknown_user", "this user is not in the group", field="user")
            if user == change.by:
                check_may_leave(was.role)
            else:
                check_may_set(mine.member.role, was=was.role, to=None)
            (event,) = _above(newest, change.ids[:1])
            group = self._touch(connection, mine.group, event, members=mine.group.members - 1)
            connection.execute(
                sa.update(GROUP_MEMBERS)
                .where(GROUP_MEMBERS.c.chat == chat, GROUP_MEMBERS.c.user == user)
                .values(ended=event, version=group.version)
            )
            kind = "left" if user == change.by else "removed"
            self._note(connection, group, change, event, kind, users=[user])

        await self._database.write(work)

    def _lock(
        self, connection: sa.Connection, chat: ChatId, user: UserId
    ) -> tuple[Membership, MessageId]:
        """The group as this member sees it, and the id of its newest event. No other change comes
        between.
        """
        locked = sa.select(GROUPS.c.changed).where(GROUPS.c.chat == chat).with_for_update()
        newest = connection.execute(locked).scalar()
        row = connection.execute(_MEMBERSHIP, {"chat": chat, "user": user}).first()
        return _membership(row), MessageId(newest or 0)

    def _member(self, connection: sa.Connection, chat: ChatId, user: UserId) -> Member | None:
        row = connection.execute(_ONE_MEMBER, {"chat": chat, "user": user}).first()
        return None if row is None else _member(row)

    def _has_ended(self, connection: sa.Connection, chat: ChatId, user: UserId) -> bool:
        ended = connection.execute(
            sa.select(GROUP_MEMBERS.c.ended).where(_OF_CHAT, _OF_USER),
            {"chat": chat, "user": user},
        ).scalar()
        return bool(ended)

    def _check_members(self, members: int) -> None:
        most = self._configuration.values.groups.members
        if members > most:
            raise Refused("too_many", f"a group has at most {most} members", field="members")

    def _check_groups(self, connection: sa.Connection, users: Sequence[UserId]) -> None:
        most = self._configuration.values.groups.groups_per_user
        asked = {"users": [*users], "most": most}
        if (full := connection.execute(self._full, asked).scalar()) is not None:
            raise Refused(
                "too_many",
                f"the user {full} is in {most} groups or more, and no more are allowed",
                field="members",
            )

    def _put(self, connection: sa.Connection, chat: ChatId, members: Iterable[Member]) -> None:
        rows = [
            {
                "chat": chat,
                **{name: getattr(member, name) for name in Member.__slots__},
                "ended": 0,
            }
            for member in members
        ]
        connection.execute(self._put_members, self._database.many(rows))

    def _touch(
        self, connection: sa.Connection, group: Group, event: MessageId, **fields: Any
    ) -> Group:
        """The group with these fields, in its next version."""
        values = {**fields, "version": group.version + 1, "changed": event}
        connection.execute(sa.update(GROUPS).where(GROUPS.c.chat == group.chat).values(values))
        return Group(**{name: values.get(name, getattr(group, name)) for name in Group.__slots__})

    def _note(
        self,
        connection: sa.Connection,
        group: Group,
        change: Change,
        event: MessageId,
        kind: str,
        *,
        users: Sequence[int] = (),
        role: str = "",
        name: str = "",
    ) -> None:
        command = pb.Command(
            id=event,
            user=change.by,
            device=change.device,
            chat=group.chat,
            group_event=pb.GroupEvent(
                kind=kind, users=users, role=role, name=name, version=group.version
            ),
        )
        connection.execute(
            sa.insert(PENDING_COMMANDS).values(id=event, command=command.SerializeToString())
        )

    # ---- questions -------------------------------------------------------------------------------

    async def membership(self, chat: ChatId, user: UserId) -> Membership:
        """One row of two tables."""
        values = {"chat": chat, "user": min(user, LATEST)}
        return _membership(
            await self._read(lambda connection: connection.execute(_MEMBERSHIP, values).first())
        )

    async def memberships(self, user: UserId) -> Sequence[Membership]:
        """One SELECT, by the index of users."""
        rows = await self._read(
            lambda connection: connection.execute(_MEMBERSHIPS, {"user": min(user, LATEST)}).all()
        )
        return [_membership(row) for row in rows]

    async def member(self, chat: ChatId, user: UserId) -> Member | None:
        """One row."""
        return await self._read(
            lambda connection: self._member(connection, chat, UserId(min(user, LATEST)))
        )

    async def members(
        self, chat: ChatId, *, after: UserId, limit: int
    ) -> tuple[Sequence[Member], bool]:
        """A stretch of the key."""
        values = {"chat": chat, "after": min(after, LATEST), "most": limit + 1}
        rows = await self._read(lambda connection: connection.execute(_MEMBERS, values).all())
        return [_member(row) for row in rows[:limit]], len(rows) > limit

    async def rosters(self, known: Mapping[ChatId, int]) -> Mapping[ChatId, Roster | None]:
        """The groups' rows, then the members of those that have changed.

        On PostgreSQL a change may come between: then the members are newer than the version, and
        the next question finds the newer version.
        """

        def work(connection: sa.Connection) -> dict[ChatId, Roster | None]:
            groups = {
                row.chat: _group(row)
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

        return await self._read(work)

    async def former(
        self, pairs: Collection[tuple[ChatId, UserId]]
    ) -> frozenset[tuple[ChatId, UserId]]:
        """One SELECT; none for none."""
        rows = [(chat, user) for chat, user in pairs if user <= LATEST]
        if not rows:
            return frozenset()
        values = self._database.giving(self._asked, rows)
        return await self._read(
            lambda connection: frozenset(
                (ChatId(chat), UserId(user))
                for chat, user in connection.execute(self._former, values)
            )
        )

    async def unpublished(self, *, limit: int) -> Sequence[pb.Command]:
        """One SELECT."""
        query = sa.select(PENDING_COMMANDS.c.command).order_by(PENDING_COMMANDS.c.id).limit(limit)
        rows = await self._read(lambda connection: connection.execute(query).scalars().all())
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

    async def _read(self, work: Callable[[sa.Connection], T]) -> T:
        return await self._database.read(work)


def _group(row: Any) -> Group:
    return Group(*row[: len(_GROUP)])


def _member(row: Any) -> Member:
    return Member(*row[: len(_MEMBER)])


def _membership(row: Any) -> Membership:
    """Raises Refused for who is not in the group."""
    if row is None:
        raise Refused("unknown_chat", "no such chat", field="chat")
    if row.ended:
        raise Refused("not_member", "you are in this group no longer", field="chat")
    return Membership(_group(row), Member(*row[len(_GROUP) : len(_GROUP) + len(_MEMBER)]))


def _above(newest: MessageId, ids: Sequence[MessageId]) -> list[MessageId]:
    """These ids, above the newest and above each other."""
    above: list[MessageId] = []
    for id_ in ids:
        newest = MessageId(max(id_, newest + 1))
        above.append(newest)
    return above


def _content(group: Group, users: Sequence[UserId]) -> bytes:
    asked = repr((group.name, group.avatar, group.history, users)).encode()
    return blake2b(asked, digest_size=8).digest()
