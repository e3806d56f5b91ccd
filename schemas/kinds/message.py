"""Messages: `send` by a client, `message` for all members of the chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import UNSET, Struct, UnsetType

from schemas import chat_pb2 as pb
from schemas.costs import ONE
from schemas.errors import Malformed
from schemas.frames import Chat, ClientFrame, Id, Key, Ok, Push
from schemas.ids import (
    LATEST,
    ChatId,
    MessageId,
    UserId,
    direct_chat,
    direct_members,
    parse_id,
    parse_user,
    time_text,
    unix_ms_of,
)
from schemas.kinds.kind import CommandSpec, Kind, PushSpec
from schemas.previews import has_previews
from schemas.validation import check_fits, own_chat

MAX_MENTIONS: Final = 32


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


def check_text(text: str, text_bytes: int, *, field: str = "text") -> None:
    """A message's text: 1 to `text_bytes` bytes of UTF-8, without U+0000, which PostgreSQL cannot
    store.

    Raises Malformed, or too_large, for this field.
    """
    if not text:
        raise Malformed(f"{field} must not be empty", field=field)
    if "\0" in text:
        raise Malformed(f"{field} must not hold U+0000", field=field)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise Malformed(f"{field} holds half of a surrogate pair", field=field) from error
    if size > text_bytes:
        raise Malformed(
            f"{field} has {size} bytes, {text_bytes} are allowed", field=field, code="too_large"
        )
    check_fits(text)


def check_kept_text(text: str) -> None:
    """A text from the log: one that every store can hold and every frame. Raises Malformed."""
    if "\0" in text:
        raise Malformed("key and text must not hold U+0000", field="text")
    check_fits(text)


def _chat_of(frame: Send, user: UserId) -> ChatId:
    if not isinstance(frame.to, UnsetType):
        if not isinstance(frame.chat, UnsetType):
            raise Malformed("give chat or to, not both", field="to")
        return direct_chat(user, parse_user(frame.to, name="to"))
    if isinstance(frame.chat, UnsetType):
        raise Malformed("chat or to is missing", field="chat")
    return own_chat(frame.chat, user)


def _mentions(texts: Sequence[str], chat: ChatId) -> list[UserId]:
    """The users, each once; whether they are in a group `send` knows. Raises Malformed."""
    users = sorted({parse_user(text, name="mentions") for text in texts})
    members = direct_members(chat)
    if len(texts) > MAX_MENTIONS:
        raise Malformed(f"a message names at most {MAX_MENTIONS} users", field="mentions")
    if members is not None and not set(users) <= set(members):
        raise Malformed("a message names members of its chat", field="mentions")
    return users


def _command(frame: Send, user: UserId, device: str, text_bytes: int) -> pb.Command:
    command = pb.Command(user=user, device=device, key=frame.key, chat=_chat_of(frame, user))
    if not isinstance(frame.file, UnsetType):
        if (file := parse_id(frame.file, name="file")) == 0:
            raise Malformed("file must be a file's id, and 0 is none", field="file")
        command.send.file.id = file
    elif isinstance(frame.text, UnsetType):
        raise Malformed("text or file is missing", field="text")
    if not isinstance(frame.text, UnsetType):
        check_text(frame.text, text_bytes)
        command.send.text = frame.text
    if not isinstance(frame.reply_to, UnsetType):
        command.send.reply_to = parse_id(frame.reply_to, name="reply_to")
    if not isinstance(frame.mentions, UnsetType):
        command.send.mentions.extend(_mentions(frame.mentions, ChatId(command.chat)))
    return command


def _ok(_command: pb.Command, message_id: MessageId, duplicate: bool) -> Ok:
    return Ok(
        message=str(message_id),
        time=time_text(unix_ms_of(message_id)),
        duplicate=duplicate or UNSET,
    )


def _check(send: pb.Send) -> None:
    if send.reply_to > LATEST:
        raise Malformed("a message id is too large", field="send")
    if send.mentions and (
        len(send.mentions) > MAX_MENTIONS or not all(0 < user <= LATEST for user in send.mentions)
    ):
        raise Malformed("mentions are too many, or no users", field="send")
    if send.HasField("file") and not 0 < send.file.id <= LATEST:
        raise Malformed("a file id is none", field="send")
    check_kept_text(send.text)


def _deliver(command: pb.Command, members: Sequence[UserId]) -> pb.Delivery:
    message = pb.Message(
        id=command.id,
        chat=command.chat,
        sender=command.user,
        key=command.key,
        device=command.device,
        body=command.send,
    )
    return pb.Delivery(users=members, message=message)


def file_of(send: pb.Send) -> File | UnsetType:
    """The file of a message, where it has one."""
    if not send.HasField("file"):
        return UNSET
    file = send.file
    return File(
        file=str(file.id),
        name=file.name,
        type=file.type,
        bytes=file.bytes,
        width=file.width or UNSET,
        height=file.height or UNSET,
        thumbnail=has_previews(file.type, file.bytes, width=file.width, height=file.height)
        or UNSET,
    )


def group_event(message: pb.Message) -> GroupEvent | UnsetType:
    """The event that a message is, where it has no body."""
    event = message.event
    if not event.kind:
        return UNSET
    users = list(map(str, event.users))
    return GroupEvent(
        kind=event.kind,
        user=users[0] if len(users) == 1 else UNSET,
        users=users if len(users) > 1 else UNSET,
        role=event.role or UNSET,
        name=event.name or UNSET,
        message=str(event.message) if event.message else UNSET,
    )


def _push(message: pb.Message, user: int) -> Message:
    text = message.body.text
    return Message(
        chat=message.chat,
        message=str(message.id),
        sender=str(message.sender),
        time=time_text(unix_ms_of(message.id)),
        key=message.key,
        text=text or UNSET,
        file=file_of(message.body),
        reply_to=str(message.body.reply_to) if message.body.reply_to else UNSET,
        mentions=[str(named) for named in message.body.mentions] or UNSET,
        device=message.device if message.sender == user else UNSET,
        event=UNSET if text else group_event(message),
    )


KIND: Final = Kind(
    command=CommandSpec(
        frame=Send,
        body="send",
        cost=ONE,
        command=_command,
        ok=_ok,
        check=_check,
        deliver=_deliver,
        kept="messages",
    ),
    push=PushSpec(
        frame=Message,
        body="message",
        push=_push,
        wakes=True,
        command="id",
        once=True,
        own="sender",
    ),
)
