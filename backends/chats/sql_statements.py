"""What is asked of the tables of chats, and written into them: every statement of `sql.py`.

Those that depend on the database's dialect, or on how it takes many rows, are made once a database.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from backends.chats import HistoryMessage
from backends.chats.sql_tables import CHAT_STATES, HIDDEN, MENTIONS, MESSAGES, PINS, REACTIONS
from backends.sql.database import Database
from schemas.frames import UNREAD_SHOWN


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


def _mentions(
    states: sa.FromClause, user: sa.ColumnElement[int], above: sa.ColumnElement[int]
) -> sa.ScalarSelect[int]:
    """Messages of a state's chat above this id that name the user, counted up to UNREAD_SHOWN."""
    named = (
        sa.select(sa.literal_column("1"))
        .join_from(
            MENTIONS,
            MESSAGES,
            sa.and_(MESSAGES.c.chat == MENTIONS.c.chat, MESSAGES.c.id == MENTIONS.c.message),
        )
        .where(
            MENTIONS.c.user == user,
            MENTIONS.c.chat == states.c.chat,
            MENTIONS.c.message > above,
            MESSAGES.c.deleted == 0,
            _shown_to(user),
        )
        .limit(UNREAD_SHOWN)
        .correlate(states)
        .subquery()
    )
    return sa.select(sa.func.count()).select_from(named).correlate(states).scalar_subquery()


def _unread(states: sa.FromClause) -> tuple[sa.ColumnElement[int], ...]:
    """Others' messages above the read pointer, counted up to UNREAD_SHOWN, and only where anything
    is new; the newest of them, deleted or not; and how many of them name the user.

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
        sa.case((new, _mentions(states, states.c.user, states.c.read)), else_=0).label("mentions"),
    )


MESSAGE_COLUMNS: Final = [
    MESSAGES.c[name] for name in HistoryMessage.__slots__ if name in MESSAGES.c
]
SENT_COLUMNS: Final = (
    *("chat", "id", "sender", "key", "text", "reply_to", "version", "event", "file", "mentions"),
)
"""The columns of a message as it was sent."""
STATE_COLUMNS: Final = ("user", "chat", "newest", "received", "read", "sent")
"""The columns of a state that are written."""
_READER: Final[sa.BindParameter[int]] = sa.bindparam("reader", type_=sa.BigInteger)
_POINTERS: Final = ("user", "chat", "newest", "received", "read")
_OF_CHAT: Final = MESSAGES.c.chat == sa.bindparam("chat")
_MOST: Final[sa.BindParameter[int]] = sa.bindparam("most")
PAGE_BELOW: Final = (
    sa.select(*MESSAGE_COLUMNS)
    .where(_OF_CHAT, MESSAGES.c.id < sa.bindparam("pivot"), _shown_to(_READER))
    .order_by(MESSAGES.c.id.desc())
    .limit(_MOST)
)
PAGE_FROM: Final = (
    sa.select(*MESSAGE_COLUMNS)
    .where(_OF_CHAT, MESSAGES.c.id >= sa.bindparam("pivot"), _shown_to(_READER))
    .order_by(MESSAGES.c.id)
    .limit(_MOST)
)
RANGE: Final = (
    sa.select(MESSAGES.c.id, MESSAGES.c.version)
    .where(
        _OF_CHAT,
        MESSAGES.c.id.between(sa.bindparam("first"), sa.bindparam("last")),
        _shown_to(_READER),
    )
    .limit(_MOST)
)
HIDDEN_FROM: Final = sa.select(HIDDEN.c.message, HIDDEN.c.user).where(
    HIDDEN.c.chat == sa.bindparam("chat"),
    HIDDEN.c.message.between(sa.bindparam("first"), sa.bindparam("last")),
)
# So many states as are wanted lie in the hours from this one up to the last that is below that of
# the place. 0: in all there are.
_FIRST_HOUR: Final = (
    sa.select(CHAT_STATES.c.hour)
    .where(CHAT_STATES.c.user == sa.bindparam("user"), CHAT_STATES.c.hour < sa.bindparam("hour"))
    .order_by(CHAT_STATES.c.hour.desc())
    .limit(1)
    .offset(sa.bindparam("limit"))
    .scalar_subquery()
)
_STATE: Final = (
    sa.select(CHAT_STATES)
    .where(
        CHAT_STATES.c.user == sa.bindparam("user"),
        CHAT_STATES.c.hour <= sa.bindparam("hour"),
        CHAT_STATES.c.hour >= sa.func.coalesce(_FIRST_HOUR, 0),
        CHAT_STATES.c.newest > 0,
        sa.tuple_(CHAT_STATES.c.newest, CHAT_STATES.c.chat)
        < sa.tuple_(sa.bindparam("newest"), sa.bindparam("chat")),
    )
    .order_by(CHAT_STATES.c.newest.desc(), CHAT_STATES.c.chat.desc())
    .limit(_MOST)
    .subquery("state")
)
STATES_OF_USER: Final = (
    sa.select(
        _STATE,
        *_unread(_STATE),
        *(column.label(f"message_{column.name}") for column in MESSAGE_COLUMNS),
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
PINS_OF_CHAT: Final = (
    sa.select(PINS.c.message, PINS.c.user, PINS.c.version)
    .where(PINS.c.chat == sa.bindparam("chat"), sa.not_(PINS.c.gone))
    .order_by(PINS.c.version.desc())
)
_HAS: Final = sa.select(CHAT_STATES, *_unread(CHAT_STATES)).where(
    CHAT_STATES.c.user == sa.bindparam("user"), CHAT_STATES.c.newest > 0
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
        self.some_states = _HAS.where(database.among(CHAT_STATES.c.chat, "chats"))
        self.groups = database.given(chat=sa.Text(), since=sa.BigInteger())
        self.heads = sa.select(self.groups.c.chat, _head_of(self.groups))
        self.group_states = _group_states(self.groups)


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
        _mentions(state, user, state.c.since).label("mentions"),
        *(column.label(f"message_{column.name}") for column in MESSAGE_COLUMNS),
    ).outerjoin_from(
        state,
        MESSAGES,
        sa.and_(MESSAGES.c.chat == state.c.chat, MESSAGES.c.id == state.c.newest, _shown_to(user)),
    )
