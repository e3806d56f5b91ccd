"""Changes of messages: `changed` for all who see the message. What asks for one: edits.py,
reactions.py, pins.py.

Each change carries the id of its command as its version: the newest wins, in whatever order they
come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import UNSET, UnsetType, field

from schemas import chat_pb2 as pb
from schemas.errors import Malformed
from schemas.frames import Chat, ClientFrame, Id, Key, Ok, Push
from schemas.ids import LATEST, MessageId, UserId, parse_id
from schemas.kinds.kind import Kind, PushSpec
from schemas.validation import own_chat


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


def ok(command: pb.Command, version: MessageId, duplicate: bool) -> Ok:
    """The reply to each of them."""
    body = getattr(command, command.WhichOneof("body") or "")
    return Ok(message=str(body.message), version=str(version), duplicate=duplicate or UNSET)


class ChangeFrame(ClientFrame, kw_only=True, frozen=True):
    """What each frame has that changes a message."""

    chat: Chat
    message: Id
    key: Key


def command_of(frame: ChangeFrame, user: UserId, device: str) -> tuple[pb.Command, MessageId]:
    """Its command without a body, and the message. Raises Malformed, or Refused unknown_chat."""
    command = pb.Command(user=user, device=device, key=frame.key, chat=own_chat(frame.chat, user))
    message = parse_id(frame.message, name="message")
    check_message(message)
    return command, message


def check_message(message: int) -> None:
    """The id of the message that a command changes. Raises Malformed."""
    if not 0 < message <= LATEST:
        raise Malformed("the message must be an id", field="message")


def deliver(command: pb.Command, members: Sequence[UserId]) -> pb.Delivery:
    """What all members are told; of a deletion for one user, that one alone."""
    op = command.WhichOneof("body") or ""
    body = getattr(command, op)
    changed = pb.Changed(
        chat=command.chat,
        message=body.message,
        version=command.id,
        op=op,
        by=command.user,
        text=getattr(body, "text", ""),
        emoji=getattr(body, "emoji", ""),
        for_me=getattr(body, "for_me", False),
    )
    return pb.Delivery(users=[command.user] if changed.for_me else members, changed=changed)


def _push(changed: pb.Changed, _user: int) -> Changed:
    return Changed(
        chat=changed.chat,
        message=str(changed.message),
        version=str(changed.version),
        op=changed.op,
        by=str(changed.by),
        text=changed.text or UNSET,
        emoji=changed.emoji or UNSET,
        for_="me" if changed.for_me else UNSET,
    )


KIND: Final = Kind(
    push=PushSpec(
        frame=Changed, body="changed", push=_push, wakes=True, command="version", once=True
    )
)
