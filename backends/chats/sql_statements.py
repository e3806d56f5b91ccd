"""What is asked of the tables of chats, and written into them: every statement of `sql.py`.

Those that depend on the database's dialect, or on how it takes many rows, are made once a database.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from backends.chats.sql_states import HAS, MOST, group_states, head_of, unread_groups
from backends.chats.sql_tables import (
    CHAT_STATES,
    HIDDEN,
    MENTIONS,
    MESSAGE_COLUMNS,
    MESSAGES,
    PINS,
    REACTIONS,
    shown_to,
)
from backends.sql.database import Database

SENT_COLUMNS: Final = (
    *("chat", "id", "sender", "key", "text", "reply_to", "version", "event", "file", "mentions"),
)
"""The columns of a message as it was sent."""
STATE_COLUMNS: Final = ("user", "chat", "newest", "received", "read", "sent")
"""The columns of a state that are written."""
_READER: Final[sa.BindParameter[int]] = sa.bindparam("reader", type_=sa.BigInteger)
_POINTERS: Final = ("user", "chat", "newest", "received", "read")
_OF_CHAT: Final = MESSAGES.c.chat == sa.bindparam("chat")
PAGE_BELOW: Final = (
    sa.select(*MESSAGE_COLUMNS)
    .where(_OF_CHAT, MESSAGES.c.id < sa.bindparam("pivot"), shown_to(_READER))
    .order_by(MESSAGES.c.id.desc())
    .limit(MOST)
)
PAGE_FROM: Final = (
    sa.select(*MESSAGE_COLUMNS)
    .where(_OF_CHAT, MESSAGES.c.id >= sa.bindparam("pivot"), shown_to(_READER))
    .order_by(MESSAGES.c.id)
    .limit(MOST)
)
RANGE: Final = (
    sa.select(MESSAGES.c.id, MESSAGES.c.version)
    .where(
        _OF_CHAT,
        MESSAGES.c.id.between(sa.bindparam("first"), sa.bindparam("last")),
        shown_to(_READER),
    )
    .limit(MOST)
)
NEXT_CHAT: Final = sa.select(sa.func.min(MESSAGES.c.chat)).where(
    MESSAGES.c.chat > sa.bindparam("chat"), MESSAGES.c.sender != 0
)
HIDDEN_FROM: Final = sa.select(HIDDEN.c.message, HIDDEN.c.user).where(
    HIDDEN.c.chat == sa.bindparam("chat"),
    HIDDEN.c.message.between(sa.bindparam("first"), sa.bindparam("last")),
)
PINS_OF_CHAT: Final = (
    sa.select(PINS.c.message, PINS.c.user, PINS.c.version)
    .where(PINS.c.chat == sa.bindparam("chat"), sa.not_(PINS.c.gone))
    .order_by(PINS.c.version.desc())
)


class Statements:
    """Those of one database."""

    def __init__(self, database: Database) -> None:
        insert = database.insert_many(MESSAGES, *SENT_COLUMNS)
        new, there = insert.excluded, MESSAGES.c

        def newest(given: Any, name: str) -> sa.ColumnElement[Any]:
            return sa.case((given[name] > there[name], given[name]), else_=there[name])

        untouched = sa.and_(there.edited == 0, there.deleted == 0)
        self.put_messages = insert.on_conflict_do_update(
            index_elements=list(MESSAGES.primary_key),
            set_={
                **{name: new[name] for name in ("sender", "key", "reply_to", "event", "mentions")},
                "text": sa.case((untouched, new.text), else_=there.text),
                "file": sa.case((there.deleted > 0, ""), else_=new.file),
                "version": newest(new, "version"),
            },
            where=there.sender == 0,
        )
        insert = database.insert_many(MESSAGES)
        new = insert.excluded
        self.change_messages = insert.on_conflict_do_update(
            index_elements=list(MESSAGES.primary_key),
            set_={
                "text": sa.case(
                    (sa.or_(there.deleted > 0, new.deleted > 0), ""),
                    (new.edited > there.edited, new.text),
                    else_=there.text,
                ),
                "file": sa.case((sa.or_(there.deleted > 0, new.deleted > 0), ""), else_=there.file),
                **{name: newest(new, name) for name in ("edited", "deleted", "version")},
                "hidden": sa.or_(there.hidden, new.hidden),
            },
        )
        insert = database.insert_many(MENTIONS)
        self.put_mentions = insert.on_conflict_do_nothing(index_elements=list(MENTIONS.primary_key))
        self.change_cells = {table: _newest_of(database, table) for table in (REACTIONS, PINS)}
        insert = database.insert_many(HIDDEN)
        self.hide = insert.on_conflict_do_update(
            index_elements=list(HIDDEN.primary_key),
            set_={"version": insert.excluded.version},
            where=insert.excluded.version > HIDDEN.c.version,
        )
        self.places = database.given(chat=sa.Text(), id=sa.BigInteger())
        self.found = sa.select(*MESSAGE_COLUMNS).join_from(
            self.places,
            MESSAGES,
            sa.and_(MESSAGES.c.chat == self.places.c.chat, MESSAGES.c.id == self.places.c.id),
        )
        self.reactions = (
            sa.select(REACTIONS)
            .join_from(
                self.places,
                REACTIONS,
                sa.and_(
                    REACTIONS.c.chat == self.places.c.chat,
                    REACTIONS.c.message == self.places.c.id,
                ),
            )
            .where(sa.not_(REACTIONS.c.gone))
        )
        insert = database.insert_many(CHAT_STATES, *STATE_COLUMNS)
        moved = {
            name: (insert.excluded[name] > CHAT_STATES.c[name], insert.excluded[name])
            for name in STATE_COLUMNS[2:]
        }
        self.move_forward = insert.on_conflict_do_update(
            index_elements=list(CHAT_STATES.primary_key),
            set_={
                name: sa.case(forward, else_=CHAT_STATES.c[name]) for name, forward in moved.items()
            },
            where=sa.or_(*(further for further, _ in moved.values())),
        )
        self.stretches = database.given(chat=sa.Text(), first=sa.BigInteger(), last=sa.BigInteger())
        self.present = sa.select(MESSAGES.c.chat, MESSAGES.c.id).join_from(
            self.stretches,
            MESSAGES,
            sa.and_(
                MESSAGES.c.chat == self.stretches.c.chat,
                MESSAGES.c.id.between(self.stretches.c.first, self.stretches.c.last),
                MESSAGES.c.sender != 0,
            ),
        )
        self.asked = database.given(user=sa.BigInteger(), chat=sa.Text())
        self.pointers = sa.select(*(CHAT_STATES.c[name] for name in _POINTERS)).join_from(
            self.asked,
            CHAT_STATES,
            sa.and_(
                CHAT_STATES.c.user == self.asked.c.user, CHAT_STATES.c.chat == self.asked.c.chat
            ),
        )
        self.some_states = HAS.where(database.among(CHAT_STATES.c.chat, "chats"))
        self.groups = database.given(chat=sa.Text(), since=sa.BigInteger())
        self.heads = sa.select(self.groups.c.chat, head_of(self.groups))
        self.group_states = group_states(self.groups)
        self.unread_groups = unread_groups(self.groups)


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
