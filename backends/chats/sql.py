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
    NO_READER,
    Change,
    ChatState,
    Digest,
    Direction,
    HistoryMessage,
    Page,
    Pin,
    Pointers,
    Reaction,
    Stretch,
    Watermark,
)
from backends.chats.rules import (
    MAX_DIGEST,
    Messages,
    States,
    after_of,
    answer_rows,
    around,
    as_it_is,
    change_rows,
    digest_of,
    mark_rows,
    may_have_reactions,
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
    sa.Column("edited", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("deleted", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("hidden", sa.Boolean, nullable=False, server_default=sa.false()),
    sqlite_with_rowid=False,
)
"""`sender` 0: what has changed the message is there before it. `hidden`: there are rows of HIDDEN,
else they need not be looked for.
"""

# A row for each user's each emoji, also when it was taken away: the newest version wins.
REACTIONS: Final = sa.Table(
    "reactions",
    METADATA,
    sa.Column("chat", sa.Text, primary_key=True),
    sa.Column("message", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("emoji", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("gone", sa.Boolean, nullable=False),
    sqlite_with_rowid=False,
)

HIDDEN: Final = sa.Table(
    "hidden_messages",
    METADATA,
    sa.Column("chat", sa.Text, primary_key=True),
    sa.Column("message", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

PINS: Final = sa.Table(
    "pins",
    METADATA,
    sa.Column("chat", sa.Text, primary_key=True),
    sa.Column("message", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("user", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("gone", sa.Boolean, nullable=False),
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
    # The user's own newest message; 1: of a chat from before this was kept.
    sa.Column("sent", sa.BigInteger, nullable=False, server_default="1"),
    sqlite_with_rowid=False,
)


def _shown_to(user: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Whether a message is there, and not hidden from this user."""
    hidden: sa.Select[Any] = (
        sa.select(sa.literal_column("1"))
        .where(
            HIDDEN.c.chat == MESSAGES.c.chat,
            HIDDEN.c.message == MESSAGES.c.id,
            HIDDEN.c.user == user,
        )
        .correlate_except(HIDDEN)
    )
    return sa.and_(
        MESSAGES.c.sender != 0, sa.or_(sa.not_(MESSAGES.c.hidden), sa.not_(hidden.exists()))
    )


def _unread(states: sa.FromClause) -> tuple[sa.ColumnElement[int], sa.ColumnElement[int]]:
    """Others' messages above the read pointer, counted up to UNREAD_SHOWN, and only where anything
    is new; and the newest of them, deleted or not.

    One's own messages above it are passed over (6 in a microsecond): only who sends many thousands
    and never reads pays for them.
    """
    others = (
        MESSAGES.c.chat == states.c.chat,
        MESSAGES.c.id > states.c.read,
        MESSAGES.c.sender != states.c.user,
        MESSAGES.c.sender != 0,
    )
    unread = (
        sa.select(sa.literal_column("1"))
        .where(*others, MESSAGES.c.deleted == 0, _shown_to(states.c.user))
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


_MESSAGE: Final = [MESSAGES.c[name] for name in HistoryMessage.__slots__ if name in MESSAGES.c]
_SENT: Final = ("chat", "id", "sender", "key", "text", "reply_to", "version", "event")
"""The columns of a message as it was sent."""
_READER: Final[sa.BindParameter[int]] = sa.bindparam("reader", type_=sa.BigInteger)
_POINTERS: Final = ("user", "chat", "newest", "received", "read")
_OF_CHAT: Final = MESSAGES.c.chat == sa.bindparam("chat")
_MOST: Final[sa.BindParameter[int]] = sa.bindparam("most")
_BELOW: Final = (
    sa.select(*_MESSAGE)
    .where(_OF_CHAT, MESSAGES.c.id < sa.bindparam("pivot"), _shown_to(_READER))
    .order_by(MESSAGES.c.id.desc())
    .limit(_MOST)
)
_FROM: Final = (
    sa.select(*_MESSAGE)
    .where(_OF_CHAT, MESSAGES.c.id >= sa.bindparam("pivot"), _shown_to(_READER))
    .order_by(MESSAGES.c.id)
    .limit(_MOST)
)
_RANGE: Final = (
    sa.select(MESSAGES.c.id, MESSAGES.c.version)
    .where(
        _OF_CHAT,
        MESSAGES.c.id.between(sa.bindparam("first"), sa.bindparam("last")),
        _shown_to(_READER),
    )
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
        sa.and_(
            MESSAGES.c.chat == _STATE.c.chat,
            MESSAGES.c.id == _STATE.c.newest,
            _shown_to(_STATE.c.user),
        ),
    )
    .order_by(_STATE.c.newest.desc(), _STATE.c.chat.desc())
)
_PINS: Final = (
    sa.select(PINS.c.message, PINS.c.user, PINS.c.version)
    .where(PINS.c.chat == sa.bindparam("chat"), sa.not_(PINS.c.gone))
    .order_by(PINS.c.version.desc())
)
_HAS: Final = sa.select(CHAT_STATES, *_unread(CHAT_STATES)).where(
    CHAT_STATES.c.user == sa.bindparam("user"), CHAT_STATES.c.newest > 0
)


class SqlChats:
    """Chats in a database that it shares with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        insert = database.insert_many(MESSAGES, *_SENT)
        new, there = insert.excluded, MESSAGES.c

        def newest(given: Any, name: str) -> sa.ColumnElement[Any]:
            return sa.case((given[name] > there[name], given[name]), else_=there[name])

        untouched = sa.and_(there.edited == 0, there.deleted == 0)
        self._put_messages = insert.on_conflict_do_update(
            index_elements=list(MESSAGES.primary_key),
            set_={
                **{name: new[name] for name in ("sender", "key", "reply_to", "event")},
                "text": sa.case((untouched, new.text), else_=there.text),
                "version": newest(new, "version"),
            },
            where=there.sender == 0,
        )
        insert = database.insert_many(MESSAGES)
        new = insert.excluded
        self._change_messages = insert.on_conflict_do_update(
            index_elements=list(MESSAGES.primary_key),
            set_={
                "text": sa.case(
                    (sa.or_(there.deleted > 0, new.deleted > 0), ""),
                    (new.edited > there.edited, new.text),
                    else_=there.text,
                ),
                **{name: newest(new, name) for name in ("edited", "deleted", "version")},
                "hidden": sa.or_(there.hidden, new.hidden),
            },
        )
        self._change_cells = {table: _newest_of(database, table) for table in (REACTIONS, PINS)}
        insert = database.insert_many(HIDDEN)
        self._hide = insert.on_conflict_do_update(
            index_elements=list(HIDDEN.primary_key),
            set_={"version": insert.excluded.version},
            where=insert.excluded.version > HIDDEN.c.version,
        )
        self._places = database.given(chat=sa.Text(), id=sa.BigInteger())
        self._found = sa.select(*_MESSAGE).join_from(
            self._places,
            MESSAGES,
            sa.and_(MESSAGES.c.chat == self._places.c.chat, MESSAGES.c.id == self._places.c.id),
        )
        self._reactions = (
            sa.select(REACTIONS)
            .join_from(
                self._places,
                REACTIONS,
                sa.and_(
                    REACTIONS.c.chat == self._places.c.chat,
                    REACTIONS.c.message == self._places.c.id,
                ),
            )
            .where(sa.not_(REACTIONS.c.gone))
        )
        insert = database.insert_many(CHAT_STATES)
        moved = {
            name: (insert.excluded[name] > CHAT_STATES.c[name], insert.excluded[name])
            for name in ("newest", "received", "read", "sent")
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
                MESSAGES.c.sender != 0,
            ),
        )
        self._asked = database.given(user=sa.BigInteger(), chat=sa.Text())
        self._pointers = sa.select(*(CHAT_STATES.c[name] for name in _POINTERS)).join_from(
            self._asked,
            CHAT_STATES,
            sa.and_(
                CHAT_STATES.c.user == self._asked.c.user, CHAT_STATES.c.chat == self._asked.c.chat
            ),
        )
        self._some_states = _HAS.where(database.among(CHAT_STATES.c.chat, "chats"))
        self._groups = database.given(chat=sa.Text(), since=sa.BigInteger())
        self._heads = sa.select(self._groups.c.chat, _head_of(self._groups))
        self._group_states = _group_states(self._groups)

    async def put(self, messages: Sequence[HistoryMessage]) -> None:
        """All in one transaction of two statements."""
        sent, states = put_rows(messages)
        if messages:
            await self._write(sent, states)

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
            {name: getattr(messages[place], name) for name in _SENT} for place in sorted(messages)
        ]
        state_rows = _state_rows(states)

        def work(connection: sa.Connection) -> None:
            if message_rows:
                connection.execute(self._put_messages, self._database.many(message_rows))
            if state_rows:
                connection.execute(self._move_forward, self._database.many(state_rows))

        await self._database.write(work)

    async def change(self, changes: Sequence[Change]) -> None:
        """All in one transaction of a statement a table."""
        messages: list[dict[str, Any]] = []
        reactions: list[dict[str, Any]] = []
        hidden: list[dict[str, Any]] = []
        pins: list[dict[str, Any]] = []
        for (chat, message), row in sorted(change_rows(changes).items(), key=lambda item: item[0]):
            place = {"chat": chat, "message": message}
            messages.append(
                {
                    "chat": chat,
                    "id": message,
                    "sender": 0,
                    "key": "",
                    "text": "" if row.deleted else row.text,
                    "reply_to": 0,
                    "version": row.version,
                    "event": "",
                    "edited": row.edited,
                    "deleted": row.deleted,
                    "hidden": bool(row.hidden),
                }
            )
            reactions += [
                {**place, "user": user, "emoji": emoji, "version": version, "gone": gone}
                for (user, emoji), (version, gone) in sorted(row.reactions.items())
            ]
            hidden += [
                {**place, "user": user, "version": version}
                for user, version in sorted(row.hidden.items())
            ]
            if row.pin is not None:
                version, gone, user = row.pin
                pins.append({**place, "user": user, "version": version, "gone": gone})
        if not messages:
            return
        writes: list[tuple[sa.Insert, list[dict[str, Any]]]] = [
            (self._change_messages, messages),
            (self._change_cells[REACTIONS], reactions),
            (self._hide, hidden),
            (self._change_cells[PINS], pins),
            (self._move_forward, _state_rows(answer_rows(changes))),
        ]

        def work(connection: sa.Connection) -> None:
            for statement, rows in writes:
                if rows:
                    connection.execute(statement, self._database.many(rows))

        await self._database.write(work)

    async def find(
        self, places: Collection[tuple[ChatId, MessageId]]
    ) -> Mapping[tuple[ChatId, MessageId], HistoryMessage]:
        """One statement, two where there are reactions."""
        if not places:
            return {}
        values = self._database.giving(
            self._places, [(chat, within(message)) for chat, message in places]
        )
        found = await self._database.read(
            lambda connection: self._messages(
                connection, connection.execute(self._found, values).all()
            )
        )
        return {(message.chat, message.id): message for message in found if message.sender}

    async def pins(self, chat: ChatId) -> Sequence[Pin]:
        """One statement."""
        rows = await self._database.read(
            lambda connection: connection.execute(_PINS, {"chat": chat}).all()
        )
        return [Pin(*row) for row in rows]

    def _messages(
        self, connection: sa.Connection, rows: Sequence[Sequence[Any]]
    ) -> list[HistoryMessage]:
        """The messages of these rows, with their reactions."""
        messages = [HistoryMessage(*row) for row in rows]
        asked = [(message.chat, message.id) for message in messages if may_have_reactions(message)]
        given: dict[tuple[str, int], list[Reaction]] = {}
        if asked:
            values = self._database.giving(self._places, asked)
            for row in connection.execute(self._reactions, values):
                given.setdefault((row.chat, row.message), []).append(
                    Reaction(row.emoji, row.user, row.version)
                )
        return [
            as_it_is(message, given.get((message.chat, message.id), ())) for message in messages
        ]

    async def page(
        self,
        chat: ChatId,
        *,
        direction: Direction,
        anchor: MessageId,
        limit: int,
        reader: UserId = NO_READER,
    ) -> Page:
        """Two range scans in one transaction, one on each side of the gap just below `pivot`; a row
        more than asked for tells of more.
        """
        pivot, below_most, above_most = around(direction, anchor, limit)

        values = {"chat": chat, "pivot": pivot, "reader": within(reader)}

        def work(connection: sa.Connection) -> tuple[list[HistoryMessage], int]:
            below = connection.execute(_BELOW, {**values, "most": below_most}).all()
            above = connection.execute(_FROM, {**values, "most": above_most}).all()
            return self._messages(connection, [*below, *above]), len(below)

        messages, below = await self._database.read(work)
        return page_of(messages[:below], messages[below:], direction=direction, limit=limit)

    async def digest(
        self, chat: ChatId, *, first: MessageId, last: MessageId, reader: UserId = NO_READER
    ) -> Digest:
        """One range scan."""
        values = {
            "chat": chat,
            "first": within(first),
            "last": within(last),
            "most": MAX_DIGEST + 1,
            "reader": within(reader),
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

        def work(
            connection: sa.Connection,
        ) -> tuple[Sequence[sa.Row[Any]], dict[str, HistoryMessage]]:
            rows = connection.execute(_STATES, values).all()
            shown = [row[-len(_MESSAGE) :] for row in rows[:limit] if row.message_id is not None]
            return rows, {message.chat: message for message in self._messages(connection, shown)}

        rows, messages = await self._database.read(work)
        states = [_state(row, messages.get(row.chat)) for row in rows[:limit]]
        return states, after_of(states[-1].newest, states[-1].chat) if len(rows) > limit else None

    async def unread(self, user: UserId, chats: Sequence[ChatId]) -> Sequence[ChatState]:
        """One statement."""
        values = {"user": within(user), "chats": list(chats)}
        rows = await self._database.read(
            lambda connection: connection.execute(self._some_states, values).all()
        )
        return [_state(row, None) for row in rows]

    async def heads(self, groups: Collection[ChatId]) -> Mapping[ChatId, MessageId]:
        """One statement: a step into the index for each."""
        if not groups:
            return {}
        values = self._database.giving(self._groups, [(chat, 0) for chat in groups])
        rows = await self._database.read(
            lambda connection: connection.execute(self._heads, values).all()
        )
        return {chat: newest for chat, newest in rows if newest is not None}

    async def group_states(
        self, user: UserId, since: Mapping[ChatId, MessageId]
    ) -> Sequence[ChatState]:
        """One statement."""
        if not since:
            return []
        values = {"user": within(user), **self._database.giving(self._groups, [*since.items()])}

        def work(connection: sa.Connection) -> dict[str, ChatState]:
            rows = connection.execute(self._group_states, values).all()
            shown = [row[-len(_MESSAGE) :] for row in rows if row.message_id is not None]
            messages = {message.chat: message for message in self._messages(connection, shown)}
            return {row.chat: _state(row, messages.get(row.chat)) for row in rows}

        states = await self._database.read(work)
        return [states[chat] for chat in since]

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


def _newest_of(database: Database, table: sa.Table) -> sa.Insert:
    """Writes rows that have a version; of two of one version that which is gone wins."""
    insert = database.insert_many(table)
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={column.name: new[column.name] for column in table.c if not column.primary_key},
        where=sa.or_(
            new.version > table.c.version, sa.and_(new.version == table.c.version, new.gone)
        ),
    )


def _head_of(groups: sa.FromClause) -> sa.Label[int]:
    """The newest id of a group: one step into the table's key."""
    return (
        sa.select(MESSAGES.c.id)
        .where(MESSAGES.c.chat == groups.c.chat, MESSAGES.c.sender != 0)
        .order_by(MESSAGES.c.id.desc())
        .limit(1)
        .correlate(groups)
        .scalar_subquery()
        .label("newest")
    )


def _group_states(groups: sa.FromClause) -> sa.Select[*tuple[Any, ...]]:
    """The state of a user in each of these groups, with its newest message."""
    user: sa.BindParameter[int] = sa.bindparam("user", type_=sa.BigInteger())
    read = sa.func.coalesce(CHAT_STATES.c.read, 0)
    state = (
        sa.select(
            groups.c.chat,
            _head_of(groups),
            sa.func.coalesce(CHAT_STATES.c.received, 0).label("received"),
            read.label("read"),
            sa.case((read > groups.c.since, read), else_=groups.c.since).label("since"),
        )
        .outerjoin_from(
            groups,
            CHAT_STATES,
            sa.and_(CHAT_STATES.c.chat == groups.c.chat, CHAT_STATES.c.user == user),
        )
        .subquery("state")
    )
    others = (
        MESSAGES.c.chat == state.c.chat,
        MESSAGES.c.id > state.c.since,
        MESSAGES.c.sender != user,
        MESSAGES.c.sender != 0,
        MESSAGES.c.event == "",
    )
    unread = (
        sa.select(sa.literal_column("1"))
        .where(*others, MESSAGES.c.deleted == 0, _shown_to(user))
        .limit(UNREAD_SHOWN)
        .correlate(state)
        .subquery()
    )
    count = sa.select(sa.func.count()).select_from(unread).correlate(state).scalar_subquery()
    upto = (
        sa.select(MESSAGES.c.id)
        .where(*others)
        .order_by(MESSAGES.c.id.desc())
        .limit(1)
        .correlate(state)
        .scalar_subquery()
    )
    return sa.select(
        state.c.chat,
        sa.func.coalesce(state.c.newest, 0).label("newest"),
        state.c.received,
        state.c.read,
        sa.literal(0).label("sent"),
        count.label("unread"),
        sa.func.coalesce(upto, state.c.read).label("upto"),
        *(column.label(f"message_{column.name}") for column in _MESSAGE),
    ).outerjoin_from(
        state,
        MESSAGES,
        sa.and_(MESSAGES.c.chat == state.c.chat, MESSAGES.c.id == state.c.newest, _shown_to(user)),
    )


def _state_rows(states: States) -> list[dict[str, Any]]:
    return [
        dict(zip(CHAT_STATES.c.keys(), (*place, *states[place]), strict=True))
        for place in sorted(states)
    ]


def _state(row: sa.Row[Any], newest_message: HistoryMessage | None) -> ChatState:
    return ChatState(
        row.chat, row.newest, newest_message, row.unread, row.upto, row.read, row.received, row.sent
    )
