"""Pins: `pin` and `unpin` by a member; all members of the chat are told `changed`."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from schemas import chat_pb2 as pb
from schemas.costs import ONE
from schemas.frames import ServerFrame
from schemas.ids import UserId
from schemas.kinds import changed
from schemas.kinds.changed import ChangeFrame
from schemas.kinds.kind import CommandSpec, Kind


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


def _command(frame: Pin | Unpin, user: UserId, device: str, _text_bytes: int) -> pb.Command:
    command, message = changed.command_of(frame, user, device)
    body = command.pin if isinstance(frame, Pin) else command.unpin
    body.message = message
    return command


def _check(pin: pb.Pin) -> None:
    changed.check_message(pin.message)


def _kind(frame: type[Pin | Unpin], body: str, *, inverse: str = "") -> Kind:
    return Kind(
        command=CommandSpec(
            frame=frame,
            body=body,
            cost=ONE,
            command=_command,
            ok=changed.ok,
            check=_check,
            deliver=changed.deliver,
            changes=True,
            inverse=inverse,
        )
    )


PIN: Final = _kind(Pin, "pin", inverse="unpin")
UNPIN: Final = _kind(Unpin, "unpin")
