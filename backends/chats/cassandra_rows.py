"""Cassandra's statements for chats, and what their rows mean.

`cassandra.py` calls them; the tables stand in `cassandra_schema.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from backends.chats import NO_MESSAGE, ChatState, HistoryMessage, Reaction
from backends.chats.cassandra_schema import LIST_BUCKET, LIST_CHAT, VERSION_OF
from backends.chats.cassandra_searches import Row
from backends.chats.cassandra_session import Rows, Statement
from backends.chats.rules import States, as_it_is
from schemas.ids import ChatId, MessageId, UserId

_COLUMNS: Final = (
    "id, chat, sender, key, text, reply_to, version, event, edited, deleted, reactions, hidden, "
    "file, mentions"
)
SENDER, HIDDEN = 2, 11  # places among them
_STATE: Final = "SELECT chat, newest, received, read, sent, mentioned FROM {keyspace}.chat_states"
_OF_BUCKET: Final = "FROM {keyspace}.messages WHERE chat = ? AND bucket = ?"

STATEMENTS: Final = {
    "put": "INSERT INTO {keyspace}.messages (id, chat, sender, key, text, reply_to, version, "
    "bucket) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    " USING TIMESTAMP ?",
    "put_event": "INSERT INTO {keyspace}.messages (id, chat, sender, key, text, reply_to, version, "
    "bucket, event) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " USING TIMESTAMP ?",
    "put_mentions": "INSERT INTO {keyspace}.messages (id, chat, sender, key, text, reply_to, "
    "version, bucket, mentions) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " USING TIMESTAMP ?",
    "put_file": "INSERT INTO {keyspace}.messages (id, chat, sender, key, text, reply_to, version, "
    "bucket, mentions, file) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " USING TIMESTAMP ?",
    "mention": "INSERT INTO {keyspace}.mentions (user, chat, message) VALUES (?, ?, ?) USING "
    "TIMESTAMP ?",
    "mentioned": "UPDATE {keyspace}.chat_states USING TIMESTAMP ? SET mentioned = ? WHERE user = ? "
    "AND chat = ?",
    "head": "UPDATE {keyspace}.chat_heads USING TIMESTAMP ? SET newest = ? WHERE chat = ?",
    "heads": "SELECT chat, newest FROM {keyspace}.chat_heads WHERE chat IN ?",
    "put_bucket": "INSERT INTO {keyspace}.chat_buckets (chat, bucket) VALUES (?, ?) USING "
    "TIMESTAMP ?",
    "list_chat": LIST_CHAT,
    "list_bucket": LIST_BUCKET,
    "user_buckets": "SELECT bucket FROM {keyspace}.user_buckets WHERE user = ?",
    "listed": "SELECT hour, chat FROM {keyspace}.chats_by_hour WHERE user = ? AND bucket = ? AND "
    "(hour, chat) < (?, ?) LIMIT ?",
    "edit": "UPDATE {keyspace}.messages USING TIMESTAMP ? SET text = ?, edited = ?, version = ? "
    "WHERE chat = ? AND bucket = ? AND id = ?",
    "delete": "UPDATE {keyspace}.messages USING TIMESTAMP ? SET deleted = ?, version = ? "
    "WHERE chat = ? AND bucket = ? AND id = ?",
    # Final: no edit is newer than this, whatever comes when.
    "erase": "DELETE text, file FROM {keyspace}.messages USING TIMESTAMP ? "
    "WHERE chat = ? AND bucket = ? AND id = ?",
    # A reaction that is null is taken away.
    "react": "UPDATE {keyspace}.messages USING TIMESTAMP ? SET reactions[?] = ?, version = ? "
    "WHERE chat = ? AND bucket = ? AND id = ?",
    "hide": "UPDATE {keyspace}.messages USING TIMESTAMP ? SET hidden = hidden + ? "
    "WHERE chat = ? AND bucket = ? AND id = ?",
    "pin": "INSERT INTO {keyspace}.chat_pins (chat, message, user, version) VALUES (?, ?, ?, ?) "
    "USING TIMESTAMP ?",
    "unpin": "DELETE FROM {keyspace}.chat_pins USING TIMESTAMP ? WHERE chat = ? AND message = ?",
    "pins": "SELECT message, user, version FROM {keyspace}.chat_pins WHERE chat = ?",
    "newest": "UPDATE {keyspace}.chat_states USING TIMESTAMP ? SET newest = ? WHERE user = ? AND "
    "chat = ?",
    "newest_and_sent": "UPDATE {keyspace}.chat_states USING TIMESTAMP ? SET newest = ?, sent = ? "
    "WHERE user = ? AND chat = ?",
    "sent": "UPDATE {keyspace}.chat_states USING TIMESTAMP ? SET sent = ? WHERE user = ? AND "
    "chat = ?",
    "received": "UPDATE {keyspace}.chat_states USING TIMESTAMP ? SET received = ? WHERE user = ? "
    "AND chat = ?",
    "read": "UPDATE {keyspace}.chat_states USING TIMESTAMP ? SET read = ? WHERE user = ? AND chat "
    "= ?",
    "received_and_read": "UPDATE {keyspace}.chat_states USING TIMESTAMP ? SET received = ?, read = "
    "? WHERE user = ? AND chat = ?",
    "all_chats": "SELECT DISTINCT chat, token(chat) FROM {keyspace}.chat_buckets WHERE token(chat) "
    "> ? LIMIT ?",
    "buckets": "SELECT bucket FROM {keyspace}.chat_buckets WHERE chat = ?",
    "below": f"SELECT {_COLUMNS} {_OF_BUCKET} AND id < ? LIMIT ?",
    "from": f"SELECT {_COLUMNS} {_OF_BUCKET} AND id >= ? ORDER BY id ASC LIMIT ?",
    "range": f"SELECT id, version, sender, hidden {_OF_BUCKET} AND id >= ? AND id <= ? LIMIT ?",
    "message": f"SELECT {_COLUMNS} {_OF_BUCKET} AND id = ?",
    # It filters within one partition, as far as the limit: one's own messages are passed over.
    "unread": f"SELECT id, deleted, hidden {_OF_BUCKET} AND id > ? AND id < ? AND sender = ? "
    "LIMIT ? ALLOW FILTERING",
    "group_unread": f"SELECT id, sender, event, deleted, hidden {_OF_BUCKET} AND id > ? AND id < ? "
    "LIMIT ?",
    "mentions": "SELECT message FROM {keyspace}.mentions WHERE user = ? AND chat = ? AND message > "
    "? LIMIT ?",
    "named": f"SELECT id, deleted, hidden {_OF_BUCKET} AND id IN ?",
    "states": f"{_STATE} WHERE user = ? LIMIT ?",
    "some_states": f"{_STATE} WHERE user = ? AND chat IN ?",
    "clock": "SELECT toUnixTimestamp(now()) FROM system.local",
    "version": VERSION_OF,
}


def moves(states: States) -> list[Statement]:
    """The writes that move pointers forward.

    A pointer's timestamp is its value, so what lies behind another never shows.
    """
    writes: list[Statement] = []
    for (user, chat), (newest, received, read, sent) in sorted(states.items()):
        if newest and newest == sent:  # as with every message's sender
            writes.append(("newest_and_sent", (sent, sent, sent, user, chat)))
        else:
            if newest:
                writes.append(("newest", (newest, newest, user, chat)))
            if sent:
                writes.append(("sent", (sent, sent, user, chat)))
        if received and received == read:  # as in most marks
            writes.append(("received_and_read", (read, read, read, user, chat)))
            continue
        if received:
            writes.append(("received", (received, received, user, chat)))
        if read:
            writes.append(("read", (read, read, user, chat)))
    return writes


def sent_rows(rows: Rows) -> Rows:
    """Without what is only changed yet."""
    return [row for row in rows if row[SENDER] is not None]


def messages_of(rows: Iterable[Row]) -> list[HistoryMessage]:
    """What rows of `_COLUMNS` hold."""
    return [_message(*row) for row in rows]


def _message(
    id_: MessageId,
    chat: ChatId,
    sender: UserId,
    key: str,
    text: str | None,
    reply_to: MessageId,
    version: MessageId,
    event: str | None,
    edited: MessageId | None,
    deleted: MessageId | None,
    reactions: Mapping[str, int] | None,
    _hidden: object,
    file: str | None,
    mentions: Sequence[UserId] | None,
) -> HistoryMessage:
    message = HistoryMessage(
        id_,
        chat,
        sender,
        key,
        text or "",
        reply_to,
        version,
        event or "",
        edited=edited or NO_MESSAGE,
        deleted=deleted or NO_MESSAGE,
        file=file or "",
        mentions=tuple(mentions or ()),
    )
    if not reactions and not deleted:
        return message
    given = []
    for cell, at in (reactions or {}).items():
        user, _, emoji = cell.partition(" ")
        given.append(Reaction(emoji, UserId(int(user)), MessageId(at)))
    return as_it_is(message, given)


def state_of(
    row: Row, counted: tuple[int, int], mentions: int, newest_message: HistoryMessage | None = None
) -> ChatState:
    """What a row of `states` holds, with how many are unread, the newest id of those, and how many
    of them name the user.
    """
    chat, newest, received, read, sent, _ = row
    unread, upto = counted
    return ChatState(
        chat,
        newest,
        newest_message,
        unread,
        MessageId(upto or read or 0),
        MessageId(read or 0),
        MessageId(received or 0),
        MessageId(sent or 0),
        mentions,
    )
