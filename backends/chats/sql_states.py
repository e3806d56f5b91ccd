"""What is asked of states of chats: the newest of a user, what is unread in them, and groups'."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from backends.chats.sql_tables import CHAT_STATES, MENTIONS, MESSAGE_COLUMNS, MESSAGES, shown_to
from schemas.frames import UNREAD_SHOWN

MOST: Final[sa.BindParameter[int]] = sa.bindparam("most")


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
            shown_to(user),
        )
        .limit(UNREAD_SHOWN)
        .correlate(states)
        .subquery()
    )
    return sa.select(sa.func.count()).select_from(named).correlate(states).scalar_subquery()


def _others(
    states: sa.FromClause, user: sa.ColumnElement[int], above: sa.ColumnElement[int]
) -> tuple[sa.ColumnElement[bool], ...]:
    """What is true of others' messages above this id in a state's chat."""
    return (
        MESSAGES.c.chat == states.c.chat,
        MESSAGES.c.id > above,
        MESSAGES.c.sender != user,
        MESSAGES.c.sender != 0,
    )


def _shown(
    states: sa.FromClause, user: sa.ColumnElement[int], *others: sa.ColumnElement[bool]
) -> sa.Select[*tuple[Any, ...]]:
    """A row for each of these messages that is not deleted."""
    return (
        sa.select(sa.literal_column("1"))
        .where(*others, MESSAGES.c.deleted == 0, shown_to(user))
        .correlate(states)
    )


def _counted(states: sa.FromClause, rows: sa.Select[*tuple[Any, ...]]) -> sa.ScalarSelect[int]:
    """How many there are, up to UNREAD_SHOWN."""
    some = rows.limit(UNREAD_SHOWN).subquery()
    return sa.select(sa.func.count()).select_from(some).correlate(states).scalar_subquery()


def _upto(states: sa.FromClause, *others: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    """The newest of these messages."""
    return (
        sa.select(MESSAGES.c.id)
        .where(*others)
        .order_by(MESSAGES.c.id.desc())
        .limit(1)
        .correlate(states)
        .scalar_subquery()
    )


def _unread(states: sa.FromClause) -> tuple[sa.ColumnElement[int], ...]:
    """Others' messages above the read pointer, counted up to UNREAD_SHOWN, and only where anything
    is new; the newest of them, deleted or not; and how many of them name the user.

    One's own messages above it are passed over (6 in a microsecond): only who sends many thousands
    and never reads pays for them.
    """
    others = _others(states, states.c.user, states.c.read)
    count = _counted(states, _shown(states, states.c.user, *others))
    new = states.c.newest > states.c.read
    return (
        sa.case((new, count), else_=0).label("unread"),
        sa.func.coalesce(sa.case((new, _upto(states, *others))), states.c.read).label("upto"),
        sa.case((new, _mentions(states, states.c.user, states.c.read)), else_=0).label("mentions"),
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
    .limit(MOST)
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
            shown_to(_STATE.c.user),
        ),
    )
    .order_by(_STATE.c.newest.desc(), _STATE.c.chat.desc())
)
UNREAD_CHATS: Final = sa.select(
    _STATE.c.chat, _mentions(_STATE, _STATE.c.user, _STATE.c.read).label("mentions")
).where(
    _STATE.c.newest > _STATE.c.read,
    _shown(_STATE, _STATE.c.user, *_others(_STATE, _STATE.c.user, _STATE.c.read)).exists(),
)
HAS: Final = sa.select(CHAT_STATES, *_unread(CHAT_STATES)).where(
    CHAT_STATES.c.user == sa.bindparam("user"), CHAT_STATES.c.newest > 0
)


def head_of(groups: sa.FromClause) -> sa.Label[int]:
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


def _group_state(groups: sa.FromClause, user: sa.ColumnElement[int]) -> sa.Subquery:
    """The state of a user in each of these groups, and above which id a message is new to him."""
    read = sa.func.coalesce(CHAT_STATES.c.read, 0)
    return (
        sa.select(
            groups.c.chat,
            head_of(groups),
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


def _of_user() -> sa.BindParameter[int]:
    return sa.bindparam("user", type_=sa.BigInteger())


def group_states(groups: sa.FromClause) -> sa.Select[*tuple[Any, ...]]:
    """The state of a user in each of these groups, with its newest message."""
    user = _of_user()
    state = _group_state(groups, user)
    others = (*_others(state, user, state.c.since), MESSAGES.c.event == "")
    count = _counted(state, _shown(state, user, *others))
    return sa.select(
        state.c.chat,
        sa.func.coalesce(state.c.newest, 0).label("newest"),
        state.c.received,
        state.c.read,
        sa.literal(0).label("sent"),
        count.label("unread"),
        sa.func.coalesce(_upto(state, *others), state.c.read).label("upto"),
        _mentions(state, user, state.c.since).label("mentions"),
        *(column.label(f"message_{column.name}") for column in MESSAGE_COLUMNS),
    ).outerjoin_from(
        state,
        MESSAGES,
        sa.and_(MESSAGES.c.chat == state.c.chat, MESSAGES.c.id == state.c.newest, shown_to(user)),
    )


def unread_groups(groups: sa.FromClause) -> sa.Select[*tuple[Any, ...]]:
    """Those of these groups that hold something unread, as UNREAD_CHATS."""
    user = _of_user()
    state = _group_state(groups, user)
    others = (*_others(state, user, state.c.since), MESSAGES.c.event == "")
    return sa.select(state.c.chat, _mentions(state, user, state.c.since).label("mentions")).where(
        _shown(state, user, *others).exists()
    )
