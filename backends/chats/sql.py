"""The `Chats` port on SQL: the embedded default, and small installations on PostgreSQL.

Only `wiring` and the port's suite name it. Messages lie in the order of (chat, id), so a page is
one short stretch of the table, whatever its size and age. There are no buckets: they keep
Cassandra's partitions small, while an ordered table passes over years of silence by itself.
Long, so that a new call of the port is one file here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from backends.chats import (
    ChatState,
    Digest,
    Direction,
    HistoryMessage,
    Page,
    Pointers,
    Stretch,
    Watermark,
)
from backends.chats.rules import (
    MAX_DIGEST,
    Messages,
    States,
    after_of,
    around,
    digest_of,
    mark_rows,
    page_of,
    place_of,
    put_rows,
    within,
)
from backends.clock import Clock, Reading
from backends.sql.database import METADATA, Database
from schemas.frames import UNREAD_SHOWN
from schemas.ids import ChatId, MessageId, UserId

MESSAGES: Final = sa.Table(
    "messages",
    METADATA,
    sa.Column("chat", sa.Text, primary_key=True),
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("sender", sa.BigInteger, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("reply_to", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    # What a group tells of itself, as JSON; empty: a user's message.
    sa.Column("event", sa.Text, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)

# One row per user and chat; `newest` 0: marked, but no message has come yet, so it is not among the
# user's chats. There is no index by newest: a message would cost a third more, while a user's chats
# lie side by side and a thousand are sorted in a millisecond (measured).
CHAT_STATES: Final = sa.Table(
    "chat_states",
    METADATA,
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("chat", sa.Text, primary_key=True),
    sa.Column("newest", sa.BigInteger, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("read", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


def _unread(states: sa.FromClause) -> tuple[sa.ColumnElement[int], sa.ColumnElement[int]]:
    """Others' messages above the read pointer, counted up to UNREAD_SHOWN, and only where anything
    is new; and the newest of them.

    One's own messages above it are passed over (6 in a microsecond): only who sends many thousands
    and never reads pays for them.
    """
    others = (
        MESSAGES.c.chat == states.c.chat,
        MESSAGES.c.id > states.c.read,
        MESSAGES.c.sender != states.c.user,
    )
    unread = (
        sa.select(sa.literal_column("1"))
        .where(*others)
        .limit(UNREAD_SHOWN)
        .correlate(states)
        .subquery()
    )
    count = sa.select(sa.func.count()).select_from(unread).correlate(states).scalar_subquery()
    upto = (
        sa.select(MESSAGES.c.id)
        .where(*others)
        .order_by(MESSAGES.c.id.desc())
        .limit(1)
        .correlate(states)
        .scalar_subquery()
    )
    new = states.c.newest > states.c.read
    return (
        sa.case((new, count), else_=0).label("unread"),
        sa.func.coalesce(sa.case((new, upto)), states.c.read).label("upto"),
    )


_MESSAGE: Final = [MESSAGES.c[name] for name in HistoryMessage.__slots__]
_OF_CHAT: Final = MESSAGES.c.chat == sa.bindparam("chat")
_MOST: Final[sa.BindParameter[int]] = sa.bindparam("most")
_BELOW: Final = (
    sa.select(*_MESSAGE)
    .where(_OF_CHAT, MESSAGES.c.id < sa.bindparam("pivot"))
    .order_by(MESSAGES.c.id.desc())
    .limit(_MOST)
)
_FROM: Final = (
    sa.select(*_MESSAGE)
    .where(_OF_CHAT, MESSAGES.c.id >= sa.bindparam("pivot"))
    .order_by(MESSAGES.c.id)
    .limit(_MOST)
)
_RANGE: Final = (
    sa.select(MESSAGES.c.id, MESSAGES.c.version)
    .where(_OF_CHAT, MESSAGES.c.id.between(sa.bindparam("first"), sa.bindparam("last")))
    .limit(_MOST)
)
_STATE: Final = (
    sa.select(CHAT_STATES)
    .where(
        CHAT_STATES.c.user == sa.bindparam("user"),
        CHAT_STATES.c.newest > 0,
        sa.tuple_(CHAT_STATES.c.newest, CHAT_STATES.c.chat)
        < sa.tuple_(sa.bindparam("newest"), sa.bindparam("chat")),
    )
    .order_by(CHAT_STATES.c.newest.desc(), CHAT_STATES.c.chat.desc())
    .limit(_MOST)
    .subquery("state")
)
_STATES: Final = (
    sa.select(
        _STATE, *_unread(_STATE), *(column.label(f"message_{column.name}") for column in _MESSAGE)
    )
    .outerjoin_from(
        _STATE,
        MESSAGES,
        sa.and_(MESSAGES.c.chat == _STATE.c.chat, MESSAGES.c.id == _STATE.c.newest),
    )
    .order_by(_STATE.c.newest.desc(), _STATE.c.chat.desc())
)
_HAS: Final = sa.select(CHAT_STATES, *_unread(CHAT_STATES)).where(
    CHAT_STATES.c.user == sa.bindparam("user"), CHAT_STATES.c.newest > 0
)


class SqlChats:
    """Chats in a database that it shares with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        insert = database.insert_many(MESSAGES)
        self._put_messages = insert.on_conflict_do_update(
            index_elements=list(MESSAGES.primary_key),
            set_={"text": insert.excluded.text, "version": insert.excluded.version},
            where=insert.excluded.version > MESSAGES.c.version,
        )
        insert = database.insert_many(CHAT_STATES)
        moved = {
            name: (insert.excluded[name] > CHAT_STATES.c[name], insert.excluded[name])
            for name in ("newest", "received", "read")
        }
        self._move_forward = insert.on_conflict_do_update(
            index_elements=list(CHAT_STATES.primary_key),
            set_={
                name: sa.case(forward, else_=CHAT_STATES.c[name]) for name, forward in moved.items()
            },
            where=sa.or_(*(further for further, _ in moved.values())),
        )
        self._stretches = database.given(
            chat=sa.Text(), first=sa.BigInteger(), last=sa.BigInteger()
        )
        self._present = sa.select(MESSAGES.c.chat, MESSAGES.c.id).join_from(
            self._stretches,
            MESSAGES,
            sa.and_(
                MESSAGES.c.chat == self._stretches.c.chat,
                MESSAGES.c.id.between(self._stretches.c.first, self._stretches.c.last),
            ),
        )
        self._asked = database.given(user=sa.BigInteger(), chat=sa.Text())
        self._pointers = sa.select(CHAT_STATES).join_from(
            self._asked,
            CHAT_STATES,
            sa.and_(
                CHAT_STATES.c.user == self._asked.c.user, CHAT_STATES.c.chat == self._asked.c.chat
            ),
        )
        self._some_states = _HAS.where(database.among(CHAT_STATES.c.chat, "chats"))

    async def put(self, messages: Sequence[HistoryMessage]) -> None:
        """All in one transaction of two statements."""
        newest_version, states = put_rows(messages)
        if messages:
            await self._write(newest_version, states)

    async def mark(self, watermarks: Sequence[Watermark]) -> None:
        """All in one statement.

        Raises Malformed, before anything is written, for ids and chats that cannot exist.
        """
        if states := mark_rows(watermarks):
            await self._write({}, states)

    async def _write(self, messages: Messages, states: States) -> None:
        # In the order of the keys: neighbours in the tables, and two writers on PostgreSQL never
        # wait for each other crosswise.
        message_rows = [
            {name: getattr(messages[place], name) for name in HistoryMessage.__slots__}
            for place in sorted(messages)
        ]
        state_rows = [
            dict(zip(CHAT_STATES.c.keys(), (*place, *states[place]), strict=True))
            for place in sorted(states)
        ]

        def work(connection: sa.Connection) -> None:
            if message_rows:
                connection.execute(self._put_messages, self._database.many(message_rows))
            connection.execute(self._move_forward, self._database.many(state_rows))

        await self._database.write(work)

    async def page(
        self, chat: ChatId, *, direction: Direction, anchor: MessageId, limit: int
    ) -> Page:
        """Two range scans in one transaction, one on each side of the gap just below `pivot`; a row
        more than asked for tells of more.
        """
        pivot, below_most, above_most = around(direction, anchor, limit)

        def work(connection: sa.Connection) -> tuple[list[HistoryMessage], list[HistoryMessage]]:
            below = connection.execute(_BELOW, {"chat": chat, "pivot": pivot, "most": below_most})
            above = connection.execute(_FROM, {"chat": chat, "pivot": pivot, "most": above_most})
            return [HistoryMessage(*row) for row in below], [HistoryMessage(*row) for row in above]

        below, above = await self._database.read(work)
        return page_of(below, above, direction=direction, limit=limit)

    async def digest(self, chat: ChatId, *, first: MessageId, last: MessageId) -> Digest:
        """One range scan."""
        values = {
            "chat": chat,
            "first": within(first),
            "last": within(last),
            "most": MAX_DIGEST + 1,
        }
        return digest_of(
            await self._database.read(
                lambda connection: [(row[0], row[1]) for row in connection.execute(_RANGE, values)]
            )
        )

    async def states(
        self, user: UserId, *, after: str | None, limit: int
    ) -> tuple[Sequence[ChatState], str | None]:
        """One statement; `after` names the last state shown by its place in the order: newest id
        and chat.
        """
        newest, chat = place_of(after)
        values = {"user": within(user), "newest": newest, "chat": chat, "most": limit + 1}
        rows = await self._database.read(
            lambda connection: connection.execute(_STATES, values).all()
        )
        states = [
            _state(row, None if row.message_id is None else HistoryMessage(*row[-len(_MESSAGE) :]))
            for row in rows[:limit]
        ]
        return states, after_of(states[-1]) if len(rows) > limit else None

    async def unread(self, user: UserId, chats: Sequence[ChatId]) -> Sequence[ChatState]:
        """One statement."""
        values = {"user": within(user), "chats": list(chats)}
        rows = await self._database.read(
            lambda connection: connection.execute(self._some_states, values).all()
        )
        return [_state(row, None) for row in rows]

    async def present(self, stretches: Collection[Stretch]) -> set[tuple[ChatId, MessageId]]:
        """One statement."""
        if not stretches:
            return set()
        values = self._database.giving(
            self._stretches, [(one.chat, within(one.first), within(one.last)) for one in stretches]
        )
        return await self._database.read(
            lambda connection: {
                (row[0], row[1]) for row in connection.execute(self._present, values)
            }
        )

    async def pointers(
        self, states: Collection[tuple[UserId, ChatId]]
    ) -> Mapping[tuple[UserId, ChatId], Pointers]:
        """One statement."""
        if not states:
            return {}
        values = self._database.giving(self._asked, [(within(user), chat) for user, chat in states])
        rows = await self._database.read(
            lambda connection: connection.execute(self._pointers, values).all()
        )
        return {
            (user, chat): Pointers(newest, received, read)
            for user, chat, newest, received, read in rows
        }

    async def read_clock(self, clock: Clock) -> Reading:
        """Asks the database."""
        return await self._database.read(
            lambda connection: self._database.read_clock(connection, clock)
        )

    async def ping(self) -> None:
        """Asks the database."""
        await self._database.ping()

    async def close(self) -> None:
        """Nothing: the owner of the database closes it, and that waits for our calls."""


def _state(row: sa.Row[Any], newest_message: HistoryMessage | None) -> ChatState:
    return ChatState(
        row.chat, row.newest, newest_message, row.unread, row.upto, row.read, row.received
    )
