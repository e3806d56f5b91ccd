"""Unread counts: `unread` for all devices of a user who has read. `persist` counts."""

from __future__ import annotations

from typing import Final

from schemas import chat_pb2 as pb
from schemas.frames import Push
from schemas.kinds.kind import Kind, PushSpec


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


def _push(unread: pb.Unread, _user: int) -> Unread:
    return Unread(
        chat=unread.chat,
        unread=unread.unread,
        read=str(unread.read),
        upto=str(unread.upto or unread.read),
        mentions=unread.mentions,
    )


def _replaces(unread: pb.Unread) -> tuple[str, int]:
    return unread.chat, 0


def _outdates(newer: pb.Unread, older: pb.Unread) -> bool:
    return (newer.read, newer.upto) >= (older.read, older.upto)


KIND: Final = Kind(
    push=PushSpec(frame=Unread, body="unread", push=_push, replaces=_replaces, outdates=_outdates)
)
