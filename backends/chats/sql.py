"""The `Chats` port on SQL: the embedded default, and small installations on PostgreSQL.

Only `wiring` and the port's suite name it. Messages lie in the order of (chat, id), so a page is
one short stretch of the table, whatever its size and age. There are no buckets: they keep
Cassandra's partitions small, while an ordered table passes over years of silence by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

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
    after_of,
    around,
    page_of,
    place_of,
)
from backends.chats.rules import (
    MAX_DIGEST,
    Messages,
    States,
    answer_rows,
    as_it_is,
    change_rows,
    digest_of,
    hour_of,
    mark_rows,
    may_have_reactions,
    mention_rows,
    put_rows,
    within,
)
from backends.chats.sql_statements import (
    HIDDEN_FROM,
    NEXT_CHAT,
    PAGE_BELOW,
    PAGE_FROM,
    PINS_OF_CHAT,
    RANGE,
    SENT_COLUMNS,
    STATE_COLUMNS,
    Statements,
)
from backends.chats.sql_states import STATES_OF_USER, UNREAD_CHATS
from backends.chats.sql_tables import MESSAGE_COLUMNS, PINS, REACTIONS
from backends.clock import Clock, Reading
from backends.sql.database import Database
from schemas.ids import ChatId, MessageId, UserId, parse_chat


class SqlChats:
    """Chats in a database that it shares with other adapters."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = Statements(database)

    async def put(self, messages: Sequence[HistoryMessage]) -> None:
        """All in one transaction of two statements, or three where users are named."""
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
            {name: getattr(messages[place], name) for name in SENT_COLUMNS}
            for place in sorted(messages)
        ]
        for row in message_rows:
            row["mentions"] = " ".join(map(str, row["mentions"]))
        named = [
            {"user": user, "chat": chat, "message": message}
            for user, chat, message in mention_rows(messages)
        ]
        state_rows = _state_rows(states)

        def work(connection: sa.Connection) -> None:
            if message_rows:
                connection.execute(self._sql.put_messages, self._database.many(message_rows))
            if named:
                connection.execute(self._sql.put_mentions, self._database.many(named))
            if state_rows:
                connection.execute(self._sql.move_forward, self._database.many(state_rows))

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
                    "file": "",
                    "mentions": "",
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
            (self._sql.change_messages, messages),
            (self._sql.change_cells[REACTIONS], reactions),
            (self._sql.hide, hidden),
            (self._sql.change_cells[PINS], pins),
            (self._sql.move_forward, _state_rows(answer_rows(changes))),
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
            self._sql.places, [(chat, within(message)) for chat, message in places]
        )
        found = await self._database.read(
            lambda connection: self._messages(
                connection, connection.execute(self._sql.found, values).all()
            )
        )
        return {(message.chat, message.id): message for message in found if message.sender}

    async def pins(self, chat: ChatId) -> Sequence[Pin]:
        """One statement."""
        rows = await self._database.read(
            lambda connection: connection.execute(PINS_OF_CHAT, {"chat": chat}).all()
        )
        return [Pin(*row) for row in rows]

    def _messages(
        self, connection: sa.Connection, rows: Sequence[Sequence[Any]]
    ) -> list[HistoryMessage]:
        """The messages of these rows, with their reactions."""
        messages = [_message(*row) for row in rows]
        asked = [(message.chat, message.id) for message in messages if may_have_reactions(message)]
        given: dict[tuple[str, int], list[Reaction]] = {}
        if asked:
            values = self._database.giving(self._sql.places, asked)
            for row in connection.execute(self._sql.reactions, values):
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
        more than asked for tells of more. A third for NO_READER, of who hides what.
        """
        pivot, below_most, above_most = around(direction, anchor, limit)

        values = {"chat": chat, "pivot": pivot, "reader": within(reader)}

        def work(
            connection: sa.Connection,
        ) -> tuple[list[HistoryMessage], int, dict[MessageId, set[UserId]]]:
            below = connection.execute(PAGE_BELOW, {**values, "most": below_most}).all()
            above = connection.execute(PAGE_FROM, {**values, "most": above_most}).all()
            messages = self._messages(connection, [*below, *above])
            hidden: dict[MessageId, set[UserId]] = {}
            if not reader and messages:
                ids = [message.id for message in messages]
                stretch = {"chat": chat, "first": min(ids), "last": max(ids)}
                for message, user in connection.execute(HIDDEN_FROM, stretch):
                    hidden.setdefault(message, set()).add(user)
            return messages, len(below), hidden

        messages, below, hidden = await self._database.read(work)
        return page_of(
            messages[:below], messages[below:], direction=direction, limit=limit, hidden=hidden
        )

    async def all_chats(
        self, after: str | None, *, limit: int
    ) -> tuple[Sequence[ChatId], str | None]:
        """A step into the table for each: between two chats lie all messages of one."""
        first = "" if after is None else parse_chat(after, name="after")

        def work(connection: sa.Connection) -> list[ChatId]:
            found: list[ChatId] = []
            while len(found) < limit:
                place = {"chat": found[-1] if found else first}
                following = connection.execute(NEXT_CHAT, place).scalar()
                if following is None:
                    break
                found.append(following)
            return found

        chats = await self._database.read(work)
        return chats, chats[-1] if len(chats) == limit else None

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
                lambda connection: [(row[0], row[1]) for row in connection.execute(RANGE, values)]
            )
        )

    async def states(
        self, user: UserId, *, after: str | None, limit: int
    ) -> tuple[Sequence[ChatState], str | None]:
        """One statement, that reads the states of so many hours as hold enough; `after` names the
        last state shown by its place in the order: newest id and chat.
        """
        values = {**_below(user, after, limit), "most": limit + 1}

        def work(
            connection: sa.Connection,
        ) -> tuple[Sequence[sa.Row[Any]], dict[str, HistoryMessage]]:
            rows = connection.execute(STATES_OF_USER, values).all()
            shown = [
                row[-len(MESSAGE_COLUMNS) :] for row in rows[:limit] if row.message_id is not None
            ]
            return rows, {message.chat: message for message in self._messages(connection, shown)}

        rows, messages = await self._database.read(work)
        states = [_state(row, messages.get(row.chat)) for row in rows[:limit]]
        return states, after_of(states[-1].newest, states[-1].chat) if len(rows) > limit else None

    async def unread(self, user: UserId, chats: Sequence[ChatId]) -> Sequence[ChatState]:
        """One statement."""
        values = {"user": within(user), "chats": list(chats)}
        rows = await self._database.read(
            lambda connection: connection.execute(self._sql.some_states, values).all()
        )
        return [_state(row, None) for row in rows]

    async def heads(self, groups: Collection[ChatId]) -> Mapping[ChatId, MessageId]:
        """One statement: a step into the index for each."""
        if not groups:
            return {}
        values = self._database.giving(self._sql.groups, [(chat, 0) for chat in groups])
        rows = await self._database.read(
            lambda connection: connection.execute(self._sql.heads, values).all()
        )
        return {chat: newest for chat, newest in rows if newest is not None}

    async def group_states(
        self, user: UserId, since: Mapping[ChatId, MessageId]
    ) -> Sequence[ChatState]:
        """One statement."""
        if not since:
            return []
        values = {"user": within(user), **self._database.giving(self._sql.groups, [*since.items()])}

        def work(connection: sa.Connection) -> dict[str, ChatState]:
            rows = connection.execute(self._sql.group_states, values).all()
            shown = [row[-len(MESSAGE_COLUMNS) :] for row in rows if row.message_id is not None]
            messages = {message.chat: message for message in self._messages(connection, shown)}
            return {row.chat: _state(row, messages.get(row.chat)) for row in rows}

        states = await self._database.read(work)
        return [states[chat] for chat in since]

    async def unread_chats(
        self, user: UserId, *, direct: int, groups: Mapping[ChatId, MessageId]
    ) -> Mapping[ChatId, int]:
        """A statement for each kind."""
        values = {**_below(user, None, direct), "most": direct}
        given = self._database.giving(self._sql.groups, [*groups.items()]) if groups else {}

        def work(connection: sa.Connection) -> dict[ChatId, int]:
            rows = [*connection.execute(UNREAD_CHATS, values)]
            if groups:
                of_groups = {"user": within(user), **given}
                rows += connection.execute(self._sql.unread_groups, of_groups)
            return {row.chat: row.mentions for row in rows}

        return await self._database.read(work)

    async def present(self, stretches: Collection[Stretch]) -> set[tuple[ChatId, MessageId]]:
        """One statement."""
        if not stretches:
            return set()
        values = self._database.giving(
            self._sql.stretches,
            [(one.chat, within(one.first), within(one.last)) for one in stretches],
        )
        return await self._database.read(
            lambda connection: {
                (row[0], row[1]) for row in connection.execute(self._sql.present, values)
            }
        )

    async def pointers(
        self, states: Collection[tuple[UserId, ChatId]]
    ) -> Mapping[tuple[UserId, ChatId], Pointers]:
        """One statement."""
        if not states:
            return {}
        values = self._database.giving(
            self._sql.asked, [(within(user), chat) for user, chat in states]
        )
        rows = await self._database.read(
            lambda connection: connection.execute(self._sql.pointers, values).all()
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


def _below(user: UserId, after: str | None, limit: int) -> dict[str, Any]:
    """Which states come next, and how many of them the hours that are read hold."""
    newest, chat = place_of(after)
    return {
        "user": within(user),
        "newest": newest,
        "chat": chat,
        "hour": hour_of(newest),
        "limit": limit,
    }


def _message(*row: Any) -> HistoryMessage:
    """What a row of MESSAGE_COLUMNS holds, the last of which are its mentions."""
    message = HistoryMessage(*row[:-1])
    if not row[-1]:
        return message
    return replace(message, mentions=tuple(UserId(int(user)) for user in row[-1].split()))


def _state_rows(states: States) -> list[dict[str, Any]]:
    return [
        dict(zip(STATE_COLUMNS, (*place, *states[place]), strict=True)) for place in sorted(states)
    ]


def _state(row: sa.Row[Any], newest_message: HistoryMessage | None) -> ChatState:
    return ChatState(
        row.chat,
        row.newest,
        newest_message,
        row.unread,
        row.upto,
        row.read,
        row.received,
        row.sent,
        row.mentions,
    )
