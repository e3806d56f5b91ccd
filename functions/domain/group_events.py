"""What a group tells of itself, as history keeps it: JSON, so that it can be read in any store."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from schemas import chat_pb2 as pb
from schemas.commands import changed_message


class _Event(Struct, omit_defaults=True, frozen=True):
    kind: str
    users: list[int] = []
    role: str = ""
    name: str = ""
    version: int = 0
    message: int = 0


_PINS: Final = {"pin": "pinned", "unpin": "unpinned"}
_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode: Final = msgspec.json.Decoder(_Event).decode


def key_of(event: int) -> str:
    """The key of an event as a message: clients collapse what has the same sender and key."""
    return f"event.{event}"


def event_text(event: pb.GroupEvent) -> str:
    """The event as a row of history holds it. Equal events are equal texts."""
    kept = _Event(
        event.kind, list(event.users), event.role, event.name, event.version, event.message
    )
    return _encode(kept).decode()


def event_of(text: str) -> pb.GroupEvent:
    """The event that a row of history holds."""
    kept = _decode(text)
    return pb.GroupEvent(
        kind=kept.kind,
        users=kept.users,
        role=kept.role,
        name=kept.name,
        version=kept.version,
        message=kept.message,
    )


def event_of_pin(command: pb.Command) -> pb.Command | None:
    """The event that a pin is in a group, or its end, under the same id; None: it is none."""
    kind = _PINS.get(command.WhichOneof("body") or "")
    if kind is None or not command.chat.startswith("g-"):
        return None
    message = changed_message(command)
    return pb.Command(
        id=command.id,
        user=command.user,
        device=command.device,
        chat=command.chat,
        group_event=pb.GroupEvent(kind=kind, message=message),
    )
