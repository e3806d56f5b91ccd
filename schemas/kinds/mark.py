"""Watermarks: `mark` by a client, `receipt` for the members of the chat who show receipts.

`persist` then counts what is unread for the reader: schemas/kinds/unread.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import UNSET, Struct, UnsetType

from schemas import chat_pb2 as pb
from schemas.costs import ONE
from schemas.errors import Malformed
from schemas.frames import Chat, ClientFrame, Id, Ok, Push, ServerFrame
from schemas.ids import LATEST, MessageId, UserId, parse_id
from schemas.kinds.kind import CommandSpec, Kind, PushSpec
from schemas.validation import own_chat


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


def _command(frame: Mark, user: UserId, device: str, _text_bytes: int) -> pb.Command:
    command = pb.Command(user=user, device=device, chat=own_chat(frame.chat, user))
    if isinstance(frame.received, UnsetType) and isinstance(frame.read, UnsetType):
        raise Malformed("received or read is missing", field="read")
    read = 0 if isinstance(frame.read, UnsetType) else parse_id(frame.read, name="read")
    received = (
        0 if isinstance(frame.received, UnsetType) else parse_id(frame.received, name="received")
    )
    command.mark.read, command.mark.received = read, max(read, received)
    return command


def _ok(_command: pb.Command, _message_id: MessageId, _duplicate: bool) -> Ok:
    return Ok()


def _check(mark: pb.Mark) -> None:
    if max(mark.read, mark.received) > LATEST:
        raise Malformed("a message id is too large", field="mark")


def _deliver(command: pb.Command, members: Sequence[UserId]) -> pb.Delivery:
    mark = command.mark
    receipt = pb.Receipt(
        chat=command.chat,
        user=command.user,
        received=max(mark.received, mark.read),
        read=mark.read,
    )
    return pb.Delivery(users=members, receipt=receipt)


def _push(receipt: pb.Receipt, _user: int) -> Receipt:
    return Receipt(
        chat=receipt.chat,
        user=str(receipt.user),
        received=str(receipt.received) if receipt.received else UNSET,
        read=str(receipt.read) if receipt.read else UNSET,
    )


def _replaces(receipt: pb.Receipt) -> tuple[str, int]:
    return receipt.chat, receipt.user


def _outdates(newer: pb.Receipt, older: pb.Receipt) -> bool:
    return newer.read >= older.read and newer.received >= older.received


KIND: Final = Kind(
    command=CommandSpec(
        frame=Mark,
        body="mark",
        cost=ONE,
        command=_command,
        ok=_ok,
        check=_check,
        deliver=_deliver,
        watermarks=("read", "received"),
        attends=True,
        is_mine=lambda _: True,
        kept="marks",
    ),
    push=PushSpec(
        frame=Receipt,
        body="receipt",
        push=_push,
        replaces=_replaces,
        outdates=_outdates,
        watermarks=("received", "read"),
    ),
)
