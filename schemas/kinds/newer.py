"""New messages of large groups: `newer` for all members but the sender. `send` decides."""

from __future__ import annotations

from typing import Final

from schemas import chat_pb2 as pb
from schemas.frames import Push
from schemas.kinds.kind import Kind, PushSpec


class Newer(Push, tag="newer", kw_only=True):
    """A large group has messages up to `newest`: ask for its history."""

    chat: str
    newest: str


def _push(newer: pb.Newer, _user: int) -> Newer:
    return Newer(chat=newer.chat, newest=str(newer.newest))


def _replaces(newer: pb.Newer) -> tuple[str, int]:
    return newer.chat, 0


def _outdates(newer: pb.Newer, older: pb.Newer) -> bool:
    return newer.newest >= older.newest


KIND: Final = Kind(
    push=PushSpec(
        frame=Newer,
        body="newer",
        push=_push,
        replaces=_replaces,
        outdates=_outdates,
        watermarks=("newest",),
    )
)
