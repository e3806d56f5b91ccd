from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Commands(_message.Message):
    __slots__ = ("schema", "commands")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    schema: int
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    def __init__(self, schema: _Optional[int] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("id", "user", "device", "key", "chat", "send", "mark", "edit", "delete", "react", "unreact", "pin", "unpin", "group_event")
    ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    SEND_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    EDIT_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    REACT_FIELD_NUMBER: _ClassVar[int]
    UNREACT_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    UNPIN_FIELD_NUMBER: _ClassVar[int]
    GROUP_EVENT_FIELD_NUMBER: _ClassVar[int]
    id: int
    user: int
    device: str
    key: str
    chat: str
    send: Send
    mark: Mark
    edit: Edit
    delete: Delete
    react: React
    unreact: React
    pin: Pin
    unpin: Pin
    group_event: GroupEvent
    def __init__(self, id: _Optional[int] = ..., user: _Optional[int] = ..., device: _Optional[str] = ..., key: _Optional[str] = ..., chat: _Optional[str] = ..., send: _Optional[_Union[Send, _Mapping]] = ..., mark: _Optional[_Union[Mark, _Mapping]] = ..., edit: _Optional[_Union[Edit, _Mapping]] = ..., delete: _Optional[_Union[Delete, _Mapping]] = ..., react: _Optional[_Union[React, _Mapping]] = ..., unreact: _Optional[_Union[React, _Mapping]] = ..., pin: _Optional[_Union[Pin, _Mapping]] = ..., unpin: _Optional[_Union[Pin, _Mapping]] = ..., group_event: _Optional[_Union[GroupEvent, _Mapping]] = ...) -> None: ...

class Send(_message.Message):
    __slots__ = ("text", "file", "reply_to", "mentions")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    REPLY_TO_FIELD_NUMBER: _ClassVar[int]
    MENTIONS_FIELD_NUMBER: _ClassVar[int]
    text: str
    file: File
    reply_to: int
    mentions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, text: _Optional[str] = ..., file: _Optional[_Union[File, _Mapping]] = ..., reply_to: _Optional[int] = ..., mentions: _Optional[_Iterable[int]] = ...) -> None: ...

class File(_message.Message):
    __slots__ = ("id", "name", "type", "bytes", "width", "height")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    type: str
    bytes: int
    width: int
    height: int
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., type: _Optional[str] = ..., bytes: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class Mark(_message.Message):
    __slots__ = ("received", "read")
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    received: int
    read: int
    def __init__(self, received: _Optional[int] = ..., read: _Optional[int] = ...) -> None: ...

class GroupEvent(_message.Message):
    __slots__ = ("kind", "users", "role", "name", "version", "message")
    KIND_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    users: _containers.RepeatedScalarFieldContainer[int]
    role: str
    name: str
    version: int
    message: int
    def __init__(self, kind: _Optional[str] = ..., users: _Optional[_Iterable[int]] = ..., role: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., message: _Optional[int] = ...) -> None: ...

class Edit(_message.Message):
    __slots__ = ("message", "text")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    message: int
    text: str
    def __init__(self, message: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class Delete(_message.Message):
    __slots__ = ("message", "for_me")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FOR_ME_FIELD_NUMBER: _ClassVar[int]
    message: int
    for_me: bool
    def __init__(self, message: _Optional[int] = ..., for_me: _Optional[bool] = ...) -> None: ...

class React(_message.Message):
    __slots__ = ("message", "emoji")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EMOJI_FIELD_NUMBER: _ClassVar[int]
    message: int
    emoji: str
    def __init__(self, message: _Optional[int] = ..., emoji: _Optional[str] = ...) -> None: ...

class Pin(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: int
    def __init__(self, message: _Optional[int] = ...) -> None: ...

class Outcomes(_message.Message):
    __slots__ = ("schema", "outcomes")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    schema: int
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, schema: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("command", "refused", "members", "since")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    command: Command
    refused: str
    members: int
    since: int
    def __init__(self, command: _Optional[_Union[Command, _Mapping]] = ..., refused: _Optional[str] = ..., members: _Optional[int] = ..., since: _Optional[int] = ...) -> None: ...

class Deliveries(_message.Message):
    __slots__ = ("schema", "deliveries")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    schema: int
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    def __init__(self, schema: _Optional[int] = ..., deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("users", "message", "receipt", "unread", "refused", "failed", "revoked", "changed", "contact", "chat", "newer", "device")
    USERS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    UNREAD_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    CONTACT_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    NEWER_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedScalarFieldContainer[int]
    message: Message
    receipt: Receipt
    unread: Unread
    refused: Refused
    failed: Failed
    revoked: Revoked
    changed: Changed
    contact: Contact
    chat: ChatPart
    newer: Newer
    device: DeviceNotice
    def __init__(self, users: _Optional[_Iterable[int]] = ..., message: _Optional[_Union[Message, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., unread: _Optional[_Union[Unread, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., revoked: _Optional[_Union[Revoked, _Mapping]] = ..., changed: _Optional[_Union[Changed, _Mapping]] = ..., contact: _Optional[_Union[Contact, _Mapping]] = ..., chat: _Optional[_Union[ChatPart, _Mapping]] = ..., newer: _Optional[_Union[Newer, _Mapping]] = ..., device: _Optional[_Union[DeviceNotice, _Mapping]] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("id", "chat", "sender", "key", "device", "body", "event")
    ID_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    id: int
    chat: str
    sender: int
    key: str
    device: str
    body: Send
    event: GroupEvent
    def __init__(self, id: _Optional[int] = ..., chat: _Optional[str] = ..., sender: _Optional[int] = ..., key: _Optional[str] = ..., device: _Optional[str] = ..., body: _Optional[_Union[Send, _Mapping]] = ..., event: _Optional[_Union[GroupEvent, _Mapping]] = ...) -> None: ...

class Changed(_message.Message):
    __slots__ = ("chat", "message", "version", "op", "by", "text", "emoji", "for_me")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EMOJI_FIELD_NUMBER: _ClassVar[int]
    FOR_ME_FIELD_NUMBER: _ClassVar[int]
    chat: str
    message: int
    version: int
    op: str
    by: int
    text: str
    emoji: str
    for_me: bool
    def __init__(self, chat: _Optional[str] = ..., message: _Optional[int] = ..., version: _Optional[int] = ..., op: _Optional[str] = ..., by: _Optional[int] = ..., text: _Optional[str] = ..., emoji: _Optional[str] = ..., for_me: _Optional[bool] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("chat", "user", "received", "read")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    chat: str
    user: int
    received: int
    read: int
    def __init__(self, chat: _Optional[str] = ..., user: _Optional[int] = ..., received: _Optional[int] = ..., read: _Optional[int] = ...) -> None: ...

class Unread(_message.Message):
    __slots__ = ("chat", "unread", "read", "upto", "mentions")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    UNREAD_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    UPTO_FIELD_NUMBER: _ClassVar[int]
    MENTIONS_FIELD_NUMBER: _ClassVar[int]
    chat: str
    unread: int
    read: int
    upto: int
    mentions: int
    def __init__(self, chat: _Optional[str] = ..., unread: _Optional[int] = ..., read: _Optional[int] = ..., upto: _Optional[int] = ..., mentions: _Optional[int] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("chat", "message", "key", "code")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    chat: str
    message: int
    key: str
    code: str
    def __init__(self, chat: _Optional[str] = ..., message: _Optional[int] = ..., key: _Optional[str] = ..., code: _Optional[str] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("message", "key")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    message: int
    key: str
    def __init__(self, message: _Optional[int] = ..., key: _Optional[str] = ...) -> None: ...

class Contact(_message.Message):
    __slots__ = ("user", "state", "version")
    USER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    user: int
    state: str
    version: int
    def __init__(self, user: _Optional[int] = ..., state: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Newer(_message.Message):
    __slots__ = ("chat", "newest")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    chat: str
    newest: int
    def __init__(self, chat: _Optional[str] = ..., newest: _Optional[int] = ...) -> None: ...

class ChatPart(_message.Message):
    __slots__ = ("chat", "version", "group", "member", "deleted", "mine")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    MINE_FIELD_NUMBER: _ClassVar[int]
    chat: str
    version: int
    group: Group
    member: Member
    deleted: bool
    mine: Mine
    def __init__(self, chat: _Optional[str] = ..., version: _Optional[int] = ..., group: _Optional[_Union[Group, _Mapping]] = ..., member: _Optional[_Union[Member, _Mapping]] = ..., deleted: _Optional[bool] = ..., mine: _Optional[_Union[Mine, _Mapping]] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("name", "avatar", "members", "role", "history", "created")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AVATAR_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    name: str
    avatar: str
    members: int
    role: str
    history: str
    created: int
    def __init__(self, name: _Optional[str] = ..., avatar: _Optional[str] = ..., members: _Optional[int] = ..., role: _Optional[str] = ..., history: _Optional[str] = ..., created: _Optional[int] = ...) -> None: ...

class Mine(_message.Message):
    __slots__ = ("muted_until_ms", "pinned", "archived", "draft")
    MUTED_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    DRAFT_FIELD_NUMBER: _ClassVar[int]
    muted_until_ms: int
    pinned: bool
    archived: int
    draft: str
    def __init__(self, muted_until_ms: _Optional[int] = ..., pinned: _Optional[bool] = ..., archived: _Optional[int] = ..., draft: _Optional[str] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("user", "role", "joined")
    USER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    JOINED_FIELD_NUMBER: _ClassVar[int]
    user: int
    role: str
    joined: int
    def __init__(self, user: _Optional[int] = ..., role: _Optional[str] = ..., joined: _Optional[int] = ...) -> None: ...

class Revoked(_message.Message):
    __slots__ = ("device", "before_ms", "epoch", "kept", "suspended")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    SUSPENDED_FIELD_NUMBER: _ClassVar[int]
    device: str
    before_ms: int
    epoch: int
    kept: str
    suspended: bool
    def __init__(self, device: _Optional[str] = ..., before_ms: _Optional[int] = ..., epoch: _Optional[int] = ..., kept: _Optional[str] = ..., suspended: _Optional[bool] = ...) -> None: ...

class DeviceNotice(_message.Message):
    __slots__ = ("device", "op", "at_ms", "device_name")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    OP_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    device: str
    op: str
    at_ms: int
    device_name: str
    def __init__(self, device: _Optional[str] = ..., op: _Optional[str] = ..., at_ms: _Optional[int] = ..., device_name: _Optional[str] = ...) -> None: ...

class Queries(_message.Message):
    __slots__ = ("schema", "queries")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    schema: int
    queries: _containers.RepeatedCompositeFieldContainer[Query]
    def __init__(self, schema: _Optional[int] = ..., queries: _Optional[_Iterable[_Union[Query, _Mapping]]] = ...) -> None: ...

class Query(_message.Message):
    __slots__ = ("user", "session", "re", "deadline_ms", "history", "chats", "digest")
    USER_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    CHATS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    user: int
    session: str
    re: int
    deadline_ms: int
    history: HistoryQuery
    chats: ChatsQuery
    digest: DigestQuery
    def __init__(self, user: _Optional[int] = ..., session: _Optional[str] = ..., re: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., history: _Optional[_Union[HistoryQuery, _Mapping]] = ..., chats: _Optional[_Union[ChatsQuery, _Mapping]] = ..., digest: _Optional[_Union[DigestQuery, _Mapping]] = ...) -> None: ...

class HistoryQuery(_message.Message):
    __slots__ = ("chat", "before", "after", "around", "limit")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    AROUND_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    chat: str
    before: int
    after: int
    around: int
    limit: int
    def __init__(self, chat: _Optional[str] = ..., before: _Optional[int] = ..., after: _Optional[int] = ..., around: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ChatsQuery(_message.Message):
    __slots__ = ("after", "limit")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    after: str
    limit: int
    def __init__(self, after: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class DigestQuery(_message.Message):
    __slots__ = ("chat", "to")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    chat: str
    to: int
    def __init__(self, chat: _Optional[str] = ..., to: _Optional[int] = ..., **kwargs) -> None: ...

class Answers(_message.Message):
    __slots__ = ("schema", "answers")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    schema: int
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    def __init__(self, schema: _Optional[int] = ..., answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("session", "re", "page", "chats", "digest", "refused", "typing", "presences", "watching")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RE_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    CHATS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    TYPING_FIELD_NUMBER: _ClassVar[int]
    PRESENCES_FIELD_NUMBER: _ClassVar[int]
    WATCHING_FIELD_NUMBER: _ClassVar[int]
    session: str
    re: int
    page: Page
    chats: ChatStates
    digest: Digest
    refused: QueryRefused
    typing: Typing
    presences: Presences
    watching: Watching
    def __init__(self, session: _Optional[str] = ..., re: _Optional[int] = ..., page: _Optional[_Union[Page, _Mapping]] = ..., chats: _Optional[_Union[ChatStates, _Mapping]] = ..., digest: _Optional[_Union[Digest, _Mapping]] = ..., refused: _Optional[_Union[QueryRefused, _Mapping]] = ..., typing: _Optional[_Union[Typing, _Mapping]] = ..., presences: _Optional[_Union[Presences, _Mapping]] = ..., watching: _Optional[_Union[Watching, _Mapping]] = ...) -> None: ...

class Typing(_message.Message):
    __slots__ = ("users", "chat", "user")
    USERS_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedScalarFieldContainer[int]
    chat: str
    user: int
    def __init__(self, users: _Optional[_Iterable[int]] = ..., chat: _Optional[str] = ..., user: _Optional[int] = ...) -> None: ...

class Watching(_message.Message):
    __slots__ = ("gateway", "partition", "users")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    partition: int
    users: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, gateway: _Optional[str] = ..., partition: _Optional[int] = ..., users: _Optional[_Iterable[int]] = ...) -> None: ...

class Presences(_message.Message):
    __slots__ = ("gateway", "presences")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    PRESENCES_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    presences: _containers.RepeatedCompositeFieldContainer[Presence]
    def __init__(self, gateway: _Optional[str] = ..., presences: _Optional[_Iterable[_Union[Presence, _Mapping]]] = ...) -> None: ...

class Presence(_message.Message):
    __slots__ = ("user", "state", "text", "seen_ms")
    USER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SEEN_MS_FIELD_NUMBER: _ClassVar[int]
    user: int
    state: str
    text: str
    seen_ms: int
    def __init__(self, user: _Optional[int] = ..., state: _Optional[str] = ..., text: _Optional[str] = ..., seen_ms: _Optional[int] = ...) -> None: ...

class Page(_message.Message):
    __slots__ = ("chat", "messages", "more_before", "more_after")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MORE_BEFORE_FIELD_NUMBER: _ClassVar[int]
    MORE_AFTER_FIELD_NUMBER: _ClassVar[int]
    chat: str
    messages: _containers.RepeatedCompositeFieldContainer[HistoryMessage]
    more_before: bool
    more_after: bool
    def __init__(self, chat: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[HistoryMessage, _Mapping]]] = ..., more_before: _Optional[bool] = ..., more_after: _Optional[bool] = ...) -> None: ...

class HistoryMessage(_message.Message):
    __slots__ = ("message", "version", "edited", "deleted", "reactions")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EDITED_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    REACTIONS_FIELD_NUMBER: _ClassVar[int]
    message: Message
    version: int
    edited: int
    deleted: int
    reactions: _containers.RepeatedCompositeFieldContainer[Reactions]
    def __init__(self, message: _Optional[_Union[Message, _Mapping]] = ..., version: _Optional[int] = ..., edited: _Optional[int] = ..., deleted: _Optional[int] = ..., reactions: _Optional[_Iterable[_Union[Reactions, _Mapping]]] = ...) -> None: ...

class Reactions(_message.Message):
    __slots__ = ("emoji", "count", "users")
    EMOJI_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    emoji: str
    count: int
    users: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, emoji: _Optional[str] = ..., count: _Optional[int] = ..., users: _Optional[_Iterable[int]] = ...) -> None: ...

class ChatStates(_message.Message):
    __slots__ = ("chats", "after", "total")
    CHATS_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    chats: _containers.RepeatedCompositeFieldContainer[ChatState]
    after: str
    total: Total
    def __init__(self, chats: _Optional[_Iterable[_Union[ChatState, _Mapping]]] = ..., after: _Optional[str] = ..., total: _Optional[_Union[Total, _Mapping]] = ...) -> None: ...

class Total(_message.Message):
    __slots__ = ("chats", "mentions")
    CHATS_FIELD_NUMBER: _ClassVar[int]
    MENTIONS_FIELD_NUMBER: _ClassVar[int]
    chats: int
    mentions: int
    def __init__(self, chats: _Optional[int] = ..., mentions: _Optional[int] = ...) -> None: ...

class ChatState(_message.Message):
    __slots__ = ("chat", "others", "newest", "newest_message", "unread", "read", "received", "group", "mine", "request", "mentions")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    NEWEST_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    UNREAD_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    MINE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    MENTIONS_FIELD_NUMBER: _ClassVar[int]
    chat: str
    others: _containers.RepeatedScalarFieldContainer[int]
    newest: int
    newest_message: HistoryMessage
    unread: int
    read: int
    received: int
    group: ChatPart
    mine: ChatPart
    request: bool
    mentions: int
    def __init__(self, chat: _Optional[str] = ..., others: _Optional[_Iterable[int]] = ..., newest: _Optional[int] = ..., newest_message: _Optional[_Union[HistoryMessage, _Mapping]] = ..., unread: _Optional[int] = ..., read: _Optional[int] = ..., received: _Optional[int] = ..., group: _Optional[_Union[ChatPart, _Mapping]] = ..., mine: _Optional[_Union[ChatPart, _Mapping]] = ..., request: _Optional[bool] = ..., mentions: _Optional[int] = ...) -> None: ...

class Digest(_message.Message):
    __slots__ = ("count", "hash")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    count: int
    hash: int
    def __init__(self, count: _Optional[int] = ..., hash: _Optional[int] = ...) -> None: ...

class QueryRefused(_message.Message):
    __slots__ = ("code", "message", "field")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    field: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ...) -> None: ...

class Uploads(_message.Message):
    __slots__ = ("schema", "uploads")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    UPLOADS_FIELD_NUMBER: _ClassVar[int]
    schema: int
    uploads: _containers.RepeatedCompositeFieldContainer[Upload]
    def __init__(self, schema: _Optional[int] = ..., uploads: _Optional[_Iterable[_Union[Upload, _Mapping]]] = ...) -> None: ...

class Upload(_message.Message):
    __slots__ = ("file", "owner", "type", "bytes", "purpose", "state")
    FILE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    file: int
    owner: int
    type: str
    bytes: int
    purpose: str
    state: str
    def __init__(self, file: _Optional[int] = ..., owner: _Optional[int] = ..., type: _Optional[str] = ..., bytes: _Optional[int] = ..., purpose: _Optional[str] = ..., state: _Optional[str] = ...) -> None: ...
