"""The SQL tables of chats, and the statements that read them on every database.

What SQLite and PostgreSQL spell differently is put together in `sql.py`.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from backends.chats import HistoryMessage
from backends.sql.database import METADATA
from schemas.frames import UNREAD_SHOWN

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


MESSAGE_COLUMNS: Final = [MESSAGES.c[name] for name in HistoryMessage.__slots__]
_OF_CHAT: Final = MESSAGES.c.chat == sa.bindparam("chat")
_MOST: Final[sa.BindParameter[int]] = sa.bindparam("most")
BELOW: Final = (
    sa.select(*MESSAGE_COLUMNS)
    .where(_OF_CHAT, MESSAGES.c.id < sa.bindparam("pivot"))
    .order_by(MESSAGES.c.id.desc())
    .limit(_MOST)
)
FROM: Final = (
    sa.select(*MESSAGE_COLUMNS)
    .where(_OF_CHAT, MESSAGES.c.id >= sa.bindparam("pivot"))
    .order_by(MESSAGES.c.id)
    .limit(_MOST)
)
RANGE: Final = (
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
STATES: Final = (
    sa.select(
        _STATE,
        *_unread(_STATE),
        *(column.label(f"message_{column.name}") for column in MESSAGE_COLUMNS),
    )
    .outerjoin_from(
        _STATE,
        MESSAGES,
        sa.and_(MESSAGES.c.chat == _STATE.c.chat, MESSAGES.c.id == _STATE.c.newest),
    )
    .order_by(_STATE.c.newest.desc(), _STATE.c.chat.desc())
)
HAS: Final = sa.select(CHAT_STATES, *_unread(CHAT_STATES)).where(
    CHAT_STATES.c.user == sa.bindparam("user"), CHAT_STATES.c.newest > 0
)
