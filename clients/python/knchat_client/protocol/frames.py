# Copied from schemas/frames.py and schemas/kinds by scripts/generate; change those files.
"""Frames: what all objects that travel over the WebSocket have, and those of the session itself.

Those of a kind of message or question are in its file in schemas/kinds; schemas/codec.py decodes
and encodes them all. Names, types and limits are those of protocol.md; unknown fields are ignored,
and an absent field is never sent as null. Ids are decimal strings and are parsed where they are
used (schemas/ids.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from msgspec import UNSET, Meta, Struct, UnsetType, field

FRAME_BYTES: Final = 65_536
FRAMES_IN_ARRAY: Final = 64
TEXT_BYTES: Final = 4_096
PAGE_BYTES: Final = 48 * 1024
"""A page or list ends at this size, so that it always fits into a frame."""
UNREAD_SHOWN: Final = 999
"""The highest unread count that is shown: 999 means 999 or more."""
SOCKET_PATH: Final = "/v1/socket"

Number = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Key = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:\-]{1,64}\Z")]
Id = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,18})\Z")]
Chat = Annotated[str, Meta(min_length=3, max_length=64)]
Limit = Annotated[int, Meta(ge=1, le=256)]


# ---- client to server ----------------------------------------------------------------------------


class ClientFrame(Struct, tag_field="type", kw_only=True, omit_defaults=True, frozen=True):
    """What every client frame has: `id` is the client's number for the reply; without it there is
    no `ok`, but errors are still told.
    """

    id: Number | UnsetType = UNSET


class ClientInfo(Struct, frozen=True, omit_defaults=True):
    """Name and version of the client program; for logs and metrics only."""

    name: Annotated[str, Meta(max_length=64)] = ""
    version: Annotated[str, Meta(max_length=64)] = ""


class Hello(ClientFrame, tag="hello", kw_only=True, frozen=True):
    """Must be first, within 5 s.

    `resume` is the newest cursor; `seen` the highest id the client knows.
    """

    token: Annotated[str, Meta(max_length=4096)]
    device: Key
    resume: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    seen: Id | UnsetType = UNSET
    client: ClientInfo | UnsetType = UNSET
    background: bool = False


class Refresh(ClientFrame, tag="refresh", kw_only=True, frozen=True):
    """A newer access token for this session, before the old one expires."""

    token: Annotated[str, Meta(max_length=4096)]


class Ping(ClientFrame, tag="ping", kw_only=True, frozen=True):
    """For browsers, which cannot send WebSocket pings."""


OF_CLIENTS: Final = (Hello, Refresh, Ping)
"""Frames of the session itself; every other one is of a kind."""


# ---- server to client ----------------------------------------------------------------------------


class ServerFrame(Struct, tag_field="type", kw_only=True, omit_defaults=True):
    """What the gateway sends. `re` repeats the `id` of the frame that asked."""

    re: int | UnsetType = UNSET


class Push(ServerFrame, kw_only=True):
    """A durable push.

    `n` counts them in this session from 1; `cursor` is the position right after it in the log.
    """

    durable: ClassVar[bool] = True
    n: int = 0
    cursor: str = ""


class Limits(Struct, frozen=True):
    """The limits of this server."""

    frame_bytes: int
    text_bytes: int
    send_per_minute: int
    frames_per_second: int = 0
    """WebSocket messages; those beyond are read later.

    0: not announced, by a server of before 2026-11-29.
    """
    units: int = 0
    """What a user, all sessions together, may spend at once; 0: not announced."""
    units_per_s: int = 0
    """What comes back of it in a second."""


class Welcome(ServerFrame, tag="welcome", kw_only=True):
    """The answer to hello. `result`: new, resumed or reset (reload from history)."""

    session: str
    user: str
    device: str
    time: str
    expires: str
    result: str
    cursor: str
    ping_s: int
    limits: Limits
    features: list[str]
    history_lag_s: float | UnsetType = UNSET


class Live(ServerFrame, tag="live", kw_only=True):
    """All that was missed has been pushed."""

    cursor: str


class Cursor(ServerFrame, tag="cursor", kw_only=True):
    """Everything up to this cursor has been pushed."""

    cursor: str


class Ok(ServerFrame, tag="ok", kw_only=True):
    """Done: a send is safe in the log. Which fields are set depends on the frame that asked."""

    message: str | UnsetType = UNSET
    version: str | UnsetType = UNSET
    time: str | UnsetType = UNSET
    duplicate: bool | UnsetType = UNSET
    expires: str | UnsetType = UNSET


class Error(ServerFrame, tag="error", kw_only=True):
    """A frame was refused, or could not be handled.

    `temporary: true`: the outcome is unknown, repeat with the same key; false: nothing happened.
    """

    code: str
    message: str
    temporary: bool
    retry_after_ms: int | UnsetType = UNSET
    details: dict[str, str] | UnsetType = UNSET


class Moved(ServerFrame, tag="moved", kw_only=True):
    """Another gateway owns this user; close 4001 follows."""

    url: str


class Drain(ServerFrame, tag="drain", kw_only=True):
    """The gateway will end soon; the socket stays usable until it is closed.

    `url`: where to connect next, when that is known.
    """

    reconnect_after_ms: int
    url: str | UnsetType = UNSET


class Expiring(ServerFrame, tag="expiring", kw_only=True):
    """The access token expires soon: send `refresh`."""

    at: str


class Pong(ServerFrame, tag="pong", kw_only=True):
    """The answer to ping."""

    time: str


OF_SERVERS: Final = (Welcome, Live, Cursor, Ok, Error, Moved, Drain, Expiring, Pong)
"""Frames that are neither a push nor the answer to a question."""


# Of schemas/kinds/changed.py.


class Changed(Push, tag="changed", kw_only=True):
    """A message was changed. `version` orders the changes; `for_` is `me` when it is deleted for
    this user alone.
    """

    chat: str
    message: str
    version: str
    op: str
    by: str
    text: str | UnsetType = UNSET
    emoji: str | UnsetType = UNSET
    for_: str | UnsetType = field(name="for", default=UNSET)


class ChangeFrame(ClientFrame, kw_only=True, frozen=True):
    """What each frame has that changes a message."""

    chat: Chat
    message: Id
    key: Key


# Of schemas/kinds/chat.py.


class ChatChanged(Push, tag="chat", kw_only=True):
    """A part of a chat as it is now; of two the one with the greater version counts.

    group: name, avatar?, members, role (mine), history, created. member: user, role, joined.
    mine: muted_until?, pinned?, archived?, draft?. deleted: the chat is mine no longer.
    """

    chat: str
    part: str
    version: str
    name: str | UnsetType = UNSET
    avatar: str | UnsetType = UNSET
    members: int | UnsetType = UNSET
    role: str | UnsetType = UNSET
    history: str | UnsetType = UNSET
    created: str | UnsetType = UNSET
    user: str | UnsetType = UNSET
    joined: str | UnsetType = UNSET
    muted_until: str | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET
    archived: str | UnsetType = UNSET
    draft: str | UnsetType = UNSET


# Of schemas/kinds/message.py.


class Send(ClientFrame, tag="send", kw_only=True, frozen=True):
    """A message: exactly one of chat and to; text, file (its id) or both. `mentions`: members of
    the chat whom it names, at most 32.
    """

    key: Key
    chat: Chat | UnsetType = UNSET
    to: Id | UnsetType = UNSET
    text: str | UnsetType = UNSET
    file: str | UnsetType = UNSET
    reply_to: Id | UnsetType = UNSET
    mentions: list[str] | UnsetType = UNSET


class File(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """A file of a message. Width and height are of images; thumbnail: there is a small one."""

    file: str
    name: str
    type: str
    bytes: int
    width: int | UnsetType = UNSET
    height: int | UnsetType = UNSET
    thumbnail: bool | UnsetType = UNSET


class GroupEvent(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """What a group tells of itself: a message without a text, which counts as read.

    `user`: whom it is about; `users` where it is about several. `message`: what is pinned, or no
    longer.
    """

    kind: str
    user: str | UnsetType = UNSET
    users: list[str] | UnsetType = UNSET
    role: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    message: str | UnsetType = UNSET


class Message(Push, tag="message", kw_only=True):
    """A new message. `device` is set on the sender's own devices only."""

    chat: str
    message: str
    sender: str
    time: str
    key: str
    text: str | UnsetType = UNSET
    file: File | UnsetType = UNSET
    reply_to: str | UnsetType = UNSET
    mentions: list[str] | UnsetType = UNSET
    device: str | UnsetType = UNSET
    event: GroupEvent | UnsetType = UNSET


# Of schemas/kinds/history.py.


class History(ClientFrame, tag="history", kw_only=True, frozen=True):
    """A page of a chat: at most one of before, after and around, each an id or a time; none means
    the newest.
    """

    chat: Chat
    before: str | UnsetType = UNSET
    after: str | UnsetType = UNSET
    around: str | UnsetType = UNSET
    limit: Limit = 50


class Reactions(Struct, frozen=True):
    """An emoji at a message: how many users have put it there, and the first 10 of them."""

    emoji: str
    count: int
    users: list[str]


class HistoryMessage(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """A message as it is now. `edited` and `deleted` are the versions of the edit that the text is
    of, and of its deletion for all: without text, file and reactions then.
    """

    chat: str
    message: str
    sender: str
    key: str
    time: str
    version: str
    reactions: list[Reactions]
    text: str | UnsetType = UNSET
    file: File | UnsetType = UNSET
    reply_to: str | UnsetType = UNSET
    mentions: list[str] | UnsetType = UNSET
    edited: str | UnsetType = UNSET
    deleted: str | UnsetType = UNSET
    event: GroupEvent | UnsetType = UNSET


class Page(ServerFrame, tag="page", kw_only=True):
    """Messages, newest first; `first` and `last` are their lowest and highest id, absent when there
    are none.
    """

    chat: str
    messages: list[HistoryMessage]
    more_before: bool
    more_after: bool
    first: str | UnsetType = UNSET
    last: str | UnsetType = UNSET


# Of schemas/kinds/chats.py.


class Chats(ClientFrame, tag="chats", kw_only=True, frozen=True):
    """A part of the user's list of chats, newest first; `after` is that of the previous answer."""

    after: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    limit: Limit = 50


class ChatState(Struct, kw_only=True, frozen=True):
    """One of the user's chats: its newest id, the watermarks, how many messages are unread, and how
    many of them name the user: 0 by a server that does not count them.

    `request`: a stranger has begun it, and this user has not answered.
    name, avatar, members, role and version are those of a group. The last four are what the user
    wants of the chat; `archived`: a message above this id brings it back, unless it is muted.
    """

    chat: str
    kind: str
    newest: str
    unread: int
    read: str
    received: str
    mentions: int = 0
    others: list[str] | UnsetType = UNSET
    request: bool | UnsetType = UNSET
    newest_message: HistoryMessage | UnsetType = UNSET
    name: str | UnsetType = UNSET
    avatar: str | UnsetType = UNSET
    members: int | UnsetType = UNSET
    role: str | UnsetType = UNSET
    version: str | UnsetType = UNSET
    muted_until: str | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET
    archived: str | UnsetType = UNSET
    draft: str | UnsetType = UNSET


class Total(Struct, kw_only=True, frozen=True):
    """What an app's badge shows: how many chats that are not muted hold something unread, at most
    99, and how many unread messages name the user, in muted ones too, at most 999.
    """

    chats: int
    mentions: int


class ChatList(ServerFrame, tag="chats", kw_only=True):
    """A part of the user's list of chats, newest first. `after` asks for the next part; absent in
    the last one. `total` comes with the first part.
    """

    chats: list[ChatState]
    after: str | UnsetType = UNSET
    total: Total | UnsetType = UNSET


# Of schemas/kinds/contact.py.


class Contact(Push, tag="contact", kw_only=True):
    """What another user is to me, as of now; of two the one with the greater version counts.

    `state`: none, invited (by me), invited_me, contact.
    """

    user: str
    state: str
    version: str


# Of schemas/kinds/delete.py.


class Delete(ChangeFrame, tag="delete", kw_only=True, frozen=True):
    """Takes a message away, for all who see it or for me."""

    # A pattern: of a Literal msgspec says nothing where half a surrogate pair is given.
    for_: Annotated[str, Meta(pattern=r"^(all|me)\Z")] = field(name="for")


# Of schemas/kinds/device.py.


class Device(Push, tag="device", kw_only=True):
    """A device of mine has logged in, or changed the password, which ended all other log-ins.

    `op`: logged_in, password_changed. The same `device`, `op` and `time` again is a repeat.
    """

    device: str
    op: str
    time: str
    device_name: str | UnsetType = UNSET


# Of schemas/kinds/digest.py.


class DigestAsk(ClientFrame, tag="digest", kw_only=True, frozen=True):
    """Asks for count and hash of a range of messages, to compare with what the client holds: ids,
    both inclusive, at most 1,024 messages.
    """

    chat: Chat
    from_: Id = field(name="from")
    to: Id


class Digest(ServerFrame, tag="digest", kw_only=True):
    """Count and hash of a range (protocol.md section 3)."""

    count: int
    hash: str


# Of schemas/kinds/edit.py.


class Edit(ChangeFrame, tag="edit", kw_only=True, frozen=True):
    """Another text for a message of mine."""

    text: str


# Of schemas/kinds/failed.py.


class Failed(Push, tag="failed", kw_only=True):
    """A command could not be processed and was dead-lettered; sending again with the same key is
    safe.
    """

    message: str
    key: str


# Of schemas/kinds/is_typing.py.


class Typing(ClientFrame, tag="typing", kw_only=True, frozen=True):
    """I am typing in this chat; again every few seconds, as long as that is so."""

    chat: Chat


class IsTyping(ServerFrame, tag="typing", kw_only=True):
    """A user is typing, and was not if nothing more comes for six seconds."""

    chat: str
    user: str


# Of schemas/kinds/mark.py.


class Mark(ClientFrame, tag="mark", kw_only=True, frozen=True):
    """Watermarks: received and/or read up to a message id. Read implies received."""

    chat: Chat
    received: Id | UnsetType = UNSET
    read: Id | UnsetType = UNSET


class Receipt(Push, tag="receipt", kw_only=True):
    """How far a user has received or read a chat."""

    chat: str
    user: str
    received: str | UnsetType = UNSET
    read: str | UnsetType = UNSET


class Watermarks(Struct, frozen=True):
    """How far a user has received and read a chat; 0: nothing yet."""

    user: str
    received: str
    read: str


class Receipts(ServerFrame, tag="receipts", kw_only=True):
    """Watermarks of a chat's users, by their ids. `after` asks for the next part; absent in the
    last one. Over HTTP only.
    """

    receipts: list[Watermarks]
    after: str | UnsetType = UNSET


# Of schemas/kinds/newer.py.


class Newer(Push, tag="newer", kw_only=True):
    """A large group has the message `newest`: ask for its history."""

    chat: str
    newest: str


# Of schemas/kinds/pins.py.


class Pin(ChangeFrame, tag="pin", kw_only=True, frozen=True):
    """Puts a message among the pins of its chat."""


class Unpin(ChangeFrame, tag="unpin", kw_only=True, frozen=True):
    """Takes a message from the pins of its chat."""


class PinnedMessage(Struct, frozen=True):
    """A pin: of which message, by whom and when."""

    message: str
    by: str
    time: str


class Pins(ServerFrame, tag="pins", kw_only=True):
    """The pins of a chat, newest first. Over HTTP only."""

    pins: list[PinnedMessage]


# Of schemas/kinds/presence.py.


class Declare(ClientFrame, tag="presence", kw_only=True, frozen=True):
    """How I want to be shown. `online`: as I am, away after five minutes without a frame;
    `invisible`: as offline. A text is told to all who watch.
    """

    # A pattern: of a Literal msgspec says nothing where half a surrogate pair is given.
    state: Annotated[str, Meta(pattern=r"^(online|away|busy|invisible)\Z")]
    text: Annotated[str, Meta(max_length=128)] = ""


class Presence(ServerFrame, tag="presence", kw_only=True):
    """How a user is: online, away, busy or offline. `last_seen`: of one who is offline, where it is
    known and may be seen.
    """

    user: str
    state: str
    text: str | UnsetType = UNSET
    last_seen: str | UnsetType = UNSET


# Of schemas/kinds/reactions.py.


class React(ChangeFrame, tag="react", kw_only=True, frozen=True):
    """Puts an emoji to a message: one of Unicode's list, in any of its spellings."""

    emoji: str


class Unreact(ChangeFrame, tag="unreact", kw_only=True, frozen=True):
    """Takes an emoji of mine away."""

    emoji: str


# Of schemas/kinds/refused.py.


class Refused(Push, tag="refused", kw_only=True):
    """A command that had got its `ok` had no effect; `code` says why."""

    chat: str
    message: str
    key: str
    code: str


# Of schemas/kinds/unread.py.


class Unread(Push, tag="unread", kw_only=True, omit_defaults=False):
    """How many messages lie above the user's read watermark; 999 means 999 or more.

    `mentions`: how many of them name the user; 0 by a server that does not count them. `upto`: the
    newest message that was counted.
    """

    chat: str
    unread: int
    read: str
    upto: str
    mentions: int = 0


# Of schemas/kinds/watch.py.


class Watch(ClientFrame, tag="watch", kw_only=True, frozen=True):
    """Tell me how these users are, at most 100 in all, until this session ends."""

    users: list[str]


class Unwatch(ClientFrame, tag="unwatch", kw_only=True, frozen=True):
    """Tell me no longer how these users are."""

    users: list[str]


CLIENT_FRAMES: Final[Mapping[str, type[ClientFrame]]] = {
    "hello": Hello,
    "refresh": Refresh,
    "ping": Ping,
    "send": Send,
    "mark": Mark,
    "edit": Edit,
    "delete": Delete,
    "react": React,
    "unreact": Unreact,
    "pin": Pin,
    "unpin": Unpin,
    "history": History,
    "chats": Chats,
    "digest": DigestAsk,
    "typing": Typing,
    "watch": Watch,
    "unwatch": Unwatch,
    "presence": Declare,
}


SERVER_FRAMES: Final[Mapping[str, type[ServerFrame]]] = {
    "welcome": Welcome,
    "live": Live,
    "cursor": Cursor,
    "ok": Ok,
    "error": Error,
    "moved": Moved,
    "drain": Drain,
    "expiring": Expiring,
    "pong": Pong,
    "message": Message,
    "receipt": Receipt,
    "changed": Changed,
    "newer": Newer,
    "chat": ChatChanged,
    "unread": Unread,
    "refused": Refused,
    "failed": Failed,
    "contact": Contact,
    "device": Device,
    "page": Page,
    "chats": ChatList,
    "digest": Digest,
    "typing": IsTyping,
    "presence": Presence,
}
