"""What `CassandraChats` sends to Cassandra and what its rows mean: statements, buckets, values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from backends.chats import ChatState, HistoryMessage
from backends.chats.cassandra_schema import VERSION_OF
from backends.chats.cassandra_session import Rows, Statement
from backends.chats.rules import States
from schemas.ids import EPOCH_MS, MessageId, unix_ms_of

BUCKET_MS: Final = 10 * 24 * 3_600_000
_COLUMNS: Final = "id, chat, sender, key, text, reply_to, version"
_OF_BUCKET: Final = "FROM {keyspace}.messages WHERE chat = ? AND bucket = ?"

STATEMENTS: Final = {
    "put": "INSERT INTO {keyspace}.messages (id, chat, sender, key, text, reply_to, version, "
    "bucket) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    " USING TIMESTAMP ?",
    "put_bucket": "INSERT INTO {keyspace}.chat_buckets (chat, bucket) VALUES (?, ?) USING "
    "TIMESTAMP ?",
    "newest": "UPDATE {keyspace}.chat_states USING TIMESTAMP ? SET newest = ? WHERE user = ? AND "
    "chat = ?",
    "received": "UPDATE {keyspace}.chat_states USING TIMESTAMP ? SET received = ? WHERE user = ? "
    "AND chat = ?",
    "read": "UPDATE {keyspace}.chat_states USING TIMESTAMP ? SET read = ? WHERE user = ? AND chat "
    "= ?",
    "received_and_read": "UPDATE {keyspace}.chat_states USING TIMESTAMP ? SET received = ?, read = "
    "? WHERE user = ? AND chat = ?",
    "buckets": "SELECT bucket FROM {keyspace}.chat_buckets WHERE chat = ?",
    "below": f"SELECT {_COLUMNS} {_OF_BUCKET} AND id < ? LIMIT ?",
    "from": f"SELECT {_COLUMNS} {_OF_BUCKET} AND id >= ? ORDER BY id ASC LIMIT ?",
    "range": f"SELECT id, version {_OF_BUCKET} AND id >= ? AND id <= ? LIMIT ?",
    "message": f"SELECT {_COLUMNS} {_OF_BUCKET} AND id = ?",
    # It filters within one partition, as far as the limit: one's own messages are passed over.
    "unread": f"SELECT id {_OF_BUCKET} AND id > ? AND sender = ? LIMIT ? ALLOW FILTERING",
    "states": "SELECT chat, newest, received, read FROM {keyspace}.chat_states WHERE user = ? "
    "LIMIT ?",
    "some_states": "SELECT chat, newest, received, read FROM {keyspace}.chat_states WHERE user = ? "
    "AND chat IN ?",
    "clock": "SELECT toUnixTimestamp(now()) FROM system.local",
    "version": VERSION_OF,
}


def bucket_of(message: int) -> int:
    """The 10 days, counted from the epoch of ids, that an id lies in."""
    return (unix_ms_of(message) - EPOCH_MS) // BUCKET_MS


def moves(states: States) -> list[Statement]:
    """The writes that move pointers forward.

    A pointer's timestamp is its value, so what lies behind another never shows.
    """
    moves: list[Statement] = []
    for (user, chat), (newest, received, read) in sorted(states.items()):
        if newest:
            moves.append(("newest", (newest, newest, user, chat)))
        if received and received == read:  # as in most marks
            moves.append(("received_and_read", (read, read, read, user, chat)))
            continue
        if received:
            moves.append(("received", (received, received, user, chat)))
        if read:
            moves.append(("read", (read, read, user, chat)))
    return moves


def messages_of(rows: Rows) -> list[HistoryMessage]:
    """What rows of `_COLUMNS` hold."""
    return [HistoryMessage(*row) for row in rows]


def state_of(
    row: Sequence[Any], unread: Sequence[int], newest_message: HistoryMessage | None = None
) -> ChatState:
    """What a row of `states` holds, with the ids of its unread messages, newest first."""
    chat, newest, received, read = row
    upto = unread[0] if unread else read or 0
    return ChatState(
        chat,
        newest,
        newest_message,
        len(unread),
        MessageId(upto),
        MessageId(read or 0),
        MessageId(received or 0),
    )
