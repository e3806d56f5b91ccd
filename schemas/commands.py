"""From a client's frame to what goes into the log: commands and queries.

The gateway calls this after the codec; it checks what the types cannot express. Raises Malformed or
Refused, shown as `error`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import assert_never

from msgspec import UNSET, UnsetType

from schemas import chat_pb2 as pb
from schemas import frames
from schemas.errors import Malformed
from schemas.ids import ChatId, UserId, direct_chat, parse_anchor, parse_chat, parse_id, parse_user
from schemas.validation import check_fits, check_own


def chat_of(
    frame: frames.Send | frames.Mark | frames.History | frames.DigestAsk, user: UserId
) -> ChatId:
    """The chat that a frame names.

    Raises Malformed, or unknown_chat for a direct chat without the user.
    """
    if isinstance(frame, frames.Send) and not isinstance(frame.to, UnsetType):
        if not isinstance(frame.chat, UnsetType):
            raise Malformed("give chat or to, not both", field="to")
        return direct_chat(user, parse_user(frame.to, name="to"))
    if isinstance(frame.chat, UnsetType):
        raise Malformed("chat or to is missing", field="chat")
    chat = parse_chat(frame.chat)
    check_own(chat, user)
    return chat


def check_text(text: str, text_bytes: int) -> None:
    """A message's text: 1 to `text_bytes` bytes of UTF-8, without U+0000, which PostgreSQL cannot
    store.

    Raises Malformed, or too_large.
    """
    if not text:
        raise Malformed("text must not be empty", field="text")
    if "\0" in text:
        raise Malformed("text must not hold U+0000", field="text")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise Malformed("text holds half of a surrogate pair", field="text") from error
    if size > text_bytes:
        raise Malformed(
            f"text has {size} bytes, {text_bytes} are allowed", field="text", code="too_large"
        )
    check_fits(text)


def command_of(
    frame: frames.Send | frames.Mark,
    *,
    user: UserId,
    device: str,
    text_bytes: int = frames.TEXT_BYTES,
) -> pb.Command:
    """The command of a frame, without its id. Raises Malformed or Refused."""
    command = pb.Command(user=user, device=device, chat=chat_of(frame, user))
    match frame:
        case frames.Send():
            if not isinstance(frame.file, UnsetType):
                raise Malformed("this server takes no files", field="file")
            if isinstance(frame.text, UnsetType):
                raise Malformed("text is missing", field="text")
            check_text(frame.text, text_bytes)
            command.key = frame.key
            command.send.text = frame.text
            if not isinstance(frame.reply_to, UnsetType):
                command.send.reply_to = parse_id(frame.reply_to, name="reply_to")
        case frames.Mark():
            if isinstance(frame.received, UnsetType) and isinstance(frame.read, UnsetType):
                raise Malformed("received or read is missing", field="read")
            read = 0 if isinstance(frame.read, UnsetType) else parse_id(frame.read, name="read")
            received = (
                0
                if isinstance(frame.received, UnsetType)
                else parse_id(frame.received, name="received")
            )
            command.mark.read, command.mark.received = read, max(read, received)
        case _:
            assert_never(frame)
    return command


def content_hash(command: pb.Command) -> bytes:
    """8 bytes that are equal for two commands only if their contents are: a key used again with
    other contents is `key_reused`.
    """
    body = command.WhichOneof("body")
    assert body is not None  # noqa: S101 - made by `command_of`
    content = getattr(command, body).SerializeToString(deterministic=True)
    return blake2b(
        b"%b\n%b\n%b" % (command.chat.encode(), body.encode(), content), digest_size=8
    ).digest()


def query_of(frame: frames.Ask, *, user: UserId, session: str, deadline_ms: int) -> pb.Query:
    """The query of a frame that has an `id`. Raises Malformed or Refused."""
    if isinstance(frame.id, UnsetType):
        raise Malformed("id is missing: the answer would have no number", field="id")
    query = pb.Query(user=user, session=session, re=frame.id, deadline_ms=deadline_ms)
    match frame:
        case frames.History():
            query.history.chat = chat_of(frame, user)
            query.history.limit = frame.limit
            positions = [
                (name, value)
                for name in ("before", "after", "around")
                if (value := getattr(frame, name)) is not UNSET
            ]
            if len(positions) > 1:
                raise Malformed("give one of before, after and around", field=positions[1][0])
            for name, value in positions:
                setattr(query.history, name, parse_anchor(value, name=name))
        case frames.Chats():
            query.chats.after = "" if isinstance(frame.after, UnsetType) else frame.after
            query.chats.limit = frame.limit
        case frames.DigestAsk():
            query.digest.chat = chat_of(frame, user)
            setattr(query.digest, "from", parse_id(frame.from_, name="from"))
            query.digest.to = parse_id(frame.to, name="to")
        case _:
            assert_never(frame)
    return query
