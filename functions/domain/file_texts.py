"""What a message brings, as history keeps it: the JSON that clients are shown."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UnsetType

from schemas import chat_pb2 as pb
from schemas.kinds import message

_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode: Final = msgspec.json.Decoder(message.File).decode


def file_text(send: pb.Send) -> str:
    """The file of a message as a row of history holds it; empty: none."""
    file = message.file_of(send)
    return "" if isinstance(file, UnsetType) else _encode(file).decode()


def file_of(text: str) -> pb.File:
    """The file that a row of history holds."""
    file = _decode(text)
    return pb.File(
        id=int(file.file),
        name=file.name,
        type=file.type,
        bytes=file.bytes,
        width=_number(file.width),
        height=_number(file.height),
    )


def _number(given: int | UnsetType) -> int:
    return 0 if isinstance(given, UnsetType) else given
