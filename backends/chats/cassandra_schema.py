"""Cassandra's tables for chats, made and upgraded by `kn-chat migrate`, and the refusal of a
keyspace that does not fit this version.

All calls block: `cassandra_session.py` makes them in its thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cassandra import InvalidRequest
from cassandra.cluster import ResultSet, Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import SimpleStatement

from backends.chats.cassandra_searches import bucket_of
from backends.chats.rules import hour_of
from schemas.errors import Unfit

# No strategy by time: it would take our timestamps, which are message ids, for microseconds. A
# chat's rows come in over ten days, and levels keep a partition in one file each, where tiers would
# spread it over dozens (decisions/0018).
_OPTIONS: Final = "compaction = {'class': 'LeveledCompactionStrategy'}"

_MESSAGES: Final = """
CREATE TABLE IF NOT EXISTS {keyspace}.messages (
    chat text, bucket int, id bigint, sender bigint, key text, text text, reply_to bigint,
    version bigint, reactions map<text, bigint>,
    PRIMARY KEY ((chat, bucket), id)
) WITH CLUSTERING ORDER BY (id DESC) AND {options}"""
# `bucket` counts 10 days each; a key of `reactions` is user and emoji, its value the version.
# `sender` null: what has changed the message is there before it.

_CHAT_BUCKETS: Final = """
CREATE TABLE IF NOT EXISTS {keyspace}.chat_buckets (
    chat text, bucket int, PRIMARY KEY (chat, bucket)
)
WITH CLUSTERING ORDER BY (bucket DESC) AND {options}"""

_CHAT_STATES: Final = """
CREATE TABLE IF NOT EXISTS {keyspace}.chat_states (
    user bigint, chat text, newest bigint, received bigint, read bigint, PRIMARY KEY (user, chat)
) WITH {options}"""

# For whom messages are deleted lies with the messages: a page asks for both at once.
_MESSAGE_COLUMNS: Final = (
    "ALTER TABLE {keyspace}.messages ADD IF NOT EXISTS (edited bigint, deleted bigint, "
    "hidden set<bigint>)"
)
_CHAT_PINS: Final = """
CREATE TABLE IF NOT EXISTS {keyspace}.chat_pins (
    chat text, message bigint, user bigint, version bigint, PRIMARY KEY (chat, message)
) WITH {options}"""

# A message of a group moves one row, whatever its members.
_CHAT_HEADS: Final = """
CREATE TABLE IF NOT EXISTS {keyspace}.chat_heads (chat text PRIMARY KEY, newest bigint)
WITH {options}"""

# What a group tells of itself, as JSON; absent: a user's message.
_EVENT: Final = "ALTER TABLE {keyspace}.messages ADD IF NOT EXISTS event text"

# Before `chats_by_hour`; kept, since processes of the version before write it while they are
# replaced.
_CHATS_OF_USER: Final = """
CREATE TABLE IF NOT EXISTS {keyspace}.chats_of_user (
    user bigint, bucket int, chat text, PRIMARY KEY ((user, bucket), chat)
) WITH {options}"""
_USER_BUCKETS: Final = """
CREATE TABLE IF NOT EXISTS {keyspace}.user_buckets (
    user bigint, bucket int, PRIMARY KEY (user, bucket)
)
WITH CLUSTERING ORDER BY (bucket DESC) AND {options}"""
# Of a user with many chats: in which hours each had messages, so that the newest are found without
# all the others. Written with `chat_buckets`: for most messages of a lively chat not at all.
_CHATS_BY_HOUR: Final = """
CREATE TABLE IF NOT EXISTS {keyspace}.chats_by_hour (
    user bigint, bucket int, hour int, chat text, PRIMARY KEY ((user, bucket), hour, chat)
)
WITH CLUSTERING ORDER BY (hour DESC, chat DESC) AND {options}"""
# The own newest message of the user; absent: none.
_SENT: Final = "ALTER TABLE {keyspace}.chat_states ADD IF NOT EXISTS sent bigint"

# Whom messages name: with the message, and for each of them, so that they are counted without
# reading all that is unread. `mentioned` is the newest of them: most chats are not asked.
_MENTION_COLUMNS: Final = (
    "ALTER TABLE {keyspace}.messages ADD IF NOT EXISTS mentions frozen<list<bigint>>",
    "ALTER TABLE {keyspace}.chat_states ADD IF NOT EXISTS mentioned bigint",
)
_MENTIONS: Final = """
CREATE TABLE IF NOT EXISTS {keyspace}.mentions (
    user bigint, chat text, message bigint, PRIMARY KEY ((user, chat), message)
)
WITH CLUSTERING ORDER BY (message DESC) AND {options}"""

# What a message brings, as JSON; absent: no file.
_FILE: Final = "ALTER TABLE {keyspace}.messages ADD IF NOT EXISTS file text"

STEPS: Final = (
    (_MESSAGES, _CHAT_BUCKETS, _CHAT_STATES),
    (_MESSAGE_COLUMNS, _CHAT_PINS),
    (_CHAT_HEADS, _EVENT),
    (_CHATS_OF_USER, _USER_BUCKETS),
    (_SENT,),
    (*_MENTION_COLUMNS, _MENTIONS),
    (_FILE,),
    (_CHATS_BY_HOUR,),
)
"""What each version added. A step may be taken again: every statement says IF NOT EXISTS."""

LIST_CHAT: Final = (
    "INSERT INTO {keyspace}.chats_by_hour (user, bucket, hour, chat) VALUES (?, ?, ?, ?) USING "
    "TIMESTAMP ?"
)
LIST_BUCKET: Final = (
    "INSERT INTO {keyspace}.user_buckets (user, bucket) VALUES (?, ?) USING TIMESTAMP ?"
)
_ALL_STATES: Final = "SELECT user, chat, newest FROM {keyspace}.chat_states"
_COUNT_AS_ANSWERED: Final = (
    "UPDATE {keyspace}.chat_states USING TIMESTAMP 1 SET sent = 1 WHERE user = ? AND chat = ?"
)

# Making a table took 2.5 s on two busy cores, and all nodes must agree on it.
STATEMENT_TIMEOUT_S: Final = 30.0
_STATES_AT_ONCE: Final = 1_000
VERSION: Final = len(STEPS)
VERSION_OF: Final = "SELECT step FROM {keyspace}.schema_steps WHERE name = 'chats' LIMIT 1"

_STEPS_TABLE: Final = """
CREATE TABLE IF NOT EXISTS {keyspace}.schema_steps (name text, step int, PRIMARY KEY (name, step))
WITH CLUSTERING ORDER BY (step DESC)"""
_STEP_TAKEN: Final = (
    "INSERT INTO {keyspace}.schema_steps (name, step) VALUES ('chats', {step}) "
    "USING TIMESTAMP {step}"
)


def check(session: Session, keyspace: str) -> None:
    """Raises Unfit when the keyspace is not there, or of another version than this code's."""
    try:
        version = _version(session.execute(VERSION_OF.format(keyspace=keyspace)))
    except InvalidRequest as error:
        raise Unfit(
            f"the keyspace {keyspace} is not there, or without tables: run `kn-chat migrate`"
        ) from error
    _refuse_newer(version, keyspace)
    if version < VERSION:
        raise Unfit(
            f"the keyspace {keyspace} is of an older kn-chat (its schema is {version}): run "
            "`kn-chat migrate`"
        )


def migrate(session: Session, keyspace: str, *, replication: int) -> list[str]:
    """Makes or upgrades keyspace and tables, and says in lines what was done.

    A keyspace that exists keeps its replication; a new one lies in the session's data centre. Any
    number may do it at once. Raises Unfit for a newer schema; the driver's errors pass through.
    """
    # Two nodes that make a table at once make it twice, under two ids. So all who migrate ask the
    # same node, which does one at a time.
    node = min(session.get_pool_state(), key=lambda host: host.host_id)

    def run(statement: str) -> ResultSet:
        return session.execute(
            statement.format(keyspace=keyspace, options=_OPTIONS),
            host=node,
            timeout=STATEMENT_TIMEOUT_S,
        )

    done = []
    if keyspace not in session.cluster.metadata.keyspaces:
        where = f"{{{{'class': 'NetworkTopologyStrategy', '{node.datacenter}': {replication}}}}}"
        run(f"CREATE KEYSPACE IF NOT EXISTS {{keyspace}} WITH replication = {where}")
        done.append(f"keyspace {keyspace}: made, {replication} copies in {node.datacenter}")
    run(_STEPS_TABLE)
    was = _version(run(VERSION_OF))
    _refuse_newer(was, keyspace)
    for number, statements in enumerate(STEPS[was:], was + 1):
        for statement in statements:
            run(statement)
        if _CHATS_BY_HOUR in statements:
            _list_chats(session, keyspace)
        if _SENT in statements:
            _count_as_answered(session, keyspace)
        run(_STEP_TAKEN.replace("{step}", str(number)))
        done.append(
            f"keyspace {keyspace}: tables "
            f"{f'brought from {number - 1} to' if number > 1 else 'made, schema'} {number}"
        )
    return done


def _list_chats(session: Session, keyspace: str) -> None:
    """The chats that are there already, in the hour of their newest message."""
    [by_hour, bucket_of_user] = [
        session.prepare(statement.format(keyspace=keyspace))
        for statement in (LIST_CHAT, LIST_BUCKET)
    ]
    for states in _pages_of_states(session, keyspace):
        writes = [
            (user, bucket_of(newest), hour_of(newest), chat, newest)
            for user, chat, newest in states
            if newest
        ]
        execute_concurrent_with_args(session, by_hour, writes)
        execute_concurrent_with_args(
            session, bucket_of_user, [(user, bucket, at) for user, bucket, *_, at in writes]
        )


def _count_as_answered(session: Session, keyspace: str) -> None:
    """The chats that are there already: of which their users have sent messages is not known."""
    update = session.prepare(_COUNT_AS_ANSWERED.format(keyspace=keyspace))
    for states in _pages_of_states(session, keyspace):
        execute_concurrent_with_args(session, update, [(user, chat) for user, chat, _ in states])


def _pages_of_states(
    session: Session, keyspace: str
) -> Iterator[list[tuple[int, str, int | None]]]:
    rows = session.execute(
        SimpleStatement(_ALL_STATES.format(keyspace=keyspace), fetch_size=_STATES_AT_ONCE),
        timeout=STATEMENT_TIMEOUT_S,
    )
    while True:
        yield rows.current_rows
        if not rows.has_more_pages:
            return
        rows.fetch_next_page()


def _version(rows: ResultSet) -> int:
    row = rows.one()
    return 0 if row is None else int(row[0])


def _refuse_newer(version: int, keyspace: str) -> None:
    if version > VERSION:
        raise Unfit(
            f"the keyspace {keyspace} was made by a newer kn-chat (its schema is {version}, this "
            f"one knows up to {VERSION}): "
            "upgrade kn-chat, or choose another keyspace"
        )
