"""What a change of a group does with rows, inside its transaction, and what rows mean.

`sql_changes.py` says what is changed when; `sql.py` asks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final

import sqlalchemy as sa

from backends.configuration.current import Configuration
from backends.groups import Change, Group, Member, Membership
from backends.groups.sql_tables import GROUP_MEMBERS, GROUPS, PENDING_COMMANDS
from backends.sql.database import Database
from schemas import chat_pb2 as pb
from schemas.errors import Refused
from schemas.ids import ChatId, MessageId, UserId

GROUP_COLUMNS: Final = [GROUPS.c[name] for name in Group.__slots__]
MEMBER_COLUMNS: Final = [GROUP_MEMBERS.c[name] for name in Member.__slots__]
IS_MEMBER: Final = GROUP_MEMBERS.c.ended == 0
OF_CHAT: Final = GROUP_MEMBERS.c.chat == sa.bindparam("chat")
OF_USER: Final = GROUP_MEMBERS.c.user == sa.bindparam("user")
_JOINED: Final = sa.select(*GROUP_COLUMNS, *MEMBER_COLUMNS, GROUP_MEMBERS.c.ended).join_from(
    GROUPS, GROUP_MEMBERS, GROUPS.c.chat == GROUP_MEMBERS.c.chat
)
MEMBERSHIP: Final = _JOINED.where(OF_CHAT, OF_USER)
MEMBERSHIPS: Final = _JOINED.where(OF_USER, IS_MEMBER).order_by(GROUPS.c.chat)
ONE_MEMBER: Final = sa.select(*MEMBER_COLUMNS).where(OF_CHAT, OF_USER, IS_MEMBER)
_MOST: Final[sa.BindParameter[int]] = sa.bindparam("most")
MEMBERS: Final = (
    sa.select(*MEMBER_COLUMNS)
    .where(OF_CHAT, IS_MEMBER, GROUP_MEMBERS.c.user > sa.bindparam("after"))
    .order_by(GROUP_MEMBERS.c.user)
    .limit(_MOST)
)


class Rows:
    """Of one database; each call is part of the transaction of the connection given."""

    def __init__(self, database: Database, configuration: Configuration) -> None:
        self._database, self._configuration = database, configuration
        self._some = sa.select(*MEMBER_COLUMNS, GROUP_MEMBERS.c.ended).where(
            OF_CHAT, database.among(GROUP_MEMBERS.c.user, "users")
        )
        self._full = (
            sa.select(GROUP_MEMBERS.c.user)
            .where(database.among(GROUP_MEMBERS.c.user, "users"), IS_MEMBER)
            .group_by(GROUP_MEMBERS.c.user)
            .having(sa.func.count() >= _MOST)
            .limit(1)
        )
        insert = database.insert_many(GROUP_MEMBERS)
        self._put_members = insert.on_conflict_do_update(
            index_elements=list(GROUP_MEMBERS.primary_key),
            set_={name: insert.excluded[name] for name in ("role", "joined", "version", "ended")},
        )

    def lock(
        self, connection: sa.Connection, chat: ChatId, user: UserId
    ) -> tuple[Membership, MessageId]:
        """The group as this member sees it, and the id of its newest event. No other change comes
        between.
        """
        locked = sa.select(GROUPS.c.changed).where(GROUPS.c.chat == chat).with_for_update()
        newest = connection.execute(locked).scalar()
        row = connection.execute(MEMBERSHIP, {"chat": chat, "user": user}).first()
        return membership_of(row), MessageId(newest or 0)

    def member(self, connection: sa.Connection, chat: ChatId, user: UserId) -> Member | None:
        """A member; None for a user who is none (any longer)."""
        row = connection.execute(ONE_MEMBER, {"chat": chat, "user": user}).first()
        return None if row is None else member_of(row)

    def some(
        self, connection: sa.Connection, chat: ChatId, users: Collection[UserId]
    ) -> dict[UserId, Member]:
        """Those of these users who are members."""
        rows = connection.execute(self._some, {"chat": chat, "users": [*users]})
        return {row.user: member_of(row) for row in rows if not row.ended}

    def has_ended(self, connection: sa.Connection, chat: ChatId, user: UserId) -> bool:
        """Whether this user was a member, and is none any longer."""
        ended = connection.execute(
            sa.select(GROUP_MEMBERS.c.ended).where(OF_CHAT, OF_USER),
            {"chat": chat, "user": user},
        ).scalar()
        return bool(ended)

    def check_members(self, members: int) -> None:
        """Raises Refused too_many when a group may not have so many members."""
        most = self._configuration.values.groups.members
        if members > most:
            raise Refused("too_many", f"a group has at most {most} members", field="members")

    def check_groups(self, connection: sa.Connection, users: Sequence[UserId]) -> None:
        """Raises Refused too_many when one of these users may be in no more groups."""
        most = self._configuration.values.groups.groups_per_user
        asked = {"users": [*users], "most": most}
        if (full := connection.execute(self._full, asked).scalar()) is not None:
            raise Refused(
                "too_many",
                f"the user {full} is in {most} groups or more, and no more are allowed",
                field="members",
            )

    def put(self, connection: sa.Connection, chat: ChatId, members: Iterable[Member]) -> None:
        """Writes these members."""
        rows = [
            {
                "chat": chat,
                **{name: getattr(member, name) for name in Member.__slots__},
                "ended": 0,
            }
            for member in members
        ]
        connection.execute(self._put_members, self._database.many(rows))

    def touch(
        self, connection: sa.Connection, group: Group, event: MessageId, **fields: Any
    ) -> Group:
        """The group with these fields, in its next version."""
        values = {**fields, "version": group.version + 1, "changed": event}
        connection.execute(sa.update(GROUPS).where(GROUPS.c.chat == group.chat).values(values))
        return Group(**{name: values.get(name, getattr(group, name)) for name in Group.__slots__})

    def note(
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
        """Writes down an event, for the log."""
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


def group_of(row: Any) -> Group:
    """What a row that begins with GROUP_COLUMNS holds."""
    return Group(*row[: len(GROUP_COLUMNS)])


def member_of(row: Any) -> Member:
    """What a row that begins with MEMBER_COLUMNS holds."""
    return Member(*row[: len(MEMBER_COLUMNS)])


def membership_of(row: Any) -> Membership:
    """What a row of MEMBERSHIP holds. Raises Refused for who is not in the group."""
    if row is None:
        raise Refused("unknown_chat", "no such chat", field="chat")
    if row.ended:
        raise Refused("not_member", "you are in this group no longer", field="chat")
    return Membership(
        group_of(row), Member(*row[len(GROUP_COLUMNS) : len(GROUP_COLUMNS) + len(MEMBER_COLUMNS)])
    )


def above(newest: MessageId, ids: Sequence[MessageId]) -> list[MessageId]:
    """These ids, above the newest and above each other."""
    raised: list[MessageId] = []
    for id_ in ids:
        newest = MessageId(max(id_, newest + 1))
        raised.append(newest)
    return raised


def content_of(group: Group, users: Sequence[UserId]) -> bytes:
    """What tells a repeat of a group from another one under its key."""
    asked = repr((group.name, group.avatar, group.history, users)).encode()
    return blake2b(asked, digest_size=8).digest()
