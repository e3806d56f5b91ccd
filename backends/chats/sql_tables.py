"""The tables of chats in SQL: messages and what changes them, and how far each user has come.

`sql_statements.py` and `sql_states.py` read and write them. A change of them is a migration as
well: `backends/sql/migrations`.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from backends.chats import HistoryMessage
from backends.sql.database import METADATA

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
    # What it brings, as JSON; empty: no file.
    sa.Column("file", sa.Text, nullable=False, server_default=""),
    # The ids of the users whom it names, with spaces between.
    sa.Column("mentions", sa.Text, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)
"""`sender` 0: what has changed the message is there before it. `hidden`: there are rows of HIDDEN,
else they need not be looked for.
"""

# A row for each user whom a message of another one names: they are counted where many are unread.
MENTIONS: Final = sa.Table(
    "mentions",
    METADATA,
    sa.Column("user", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("chat", sa.Text, primary_key=True),
    sa.Column("message", sa.BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

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
# user's chats. The index finds the newest of very many: by their hours, since one by `newest` would
# be written with every message (decisions/0021).
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
    # `hour_of` of the newest.
    sa.Column("hour", sa.BigInteger, sa.Computed("newest / 4194304 / 3600000")),
    sa.Index("chat_states_hour", "user", "hour"),
    sqlite_with_rowid=False,
)

MESSAGE_COLUMNS: Final = [
    MESSAGES.c[name] for name in HistoryMessage.__slots__ if name in MESSAGES.c
]


def shown_to(user: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
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
