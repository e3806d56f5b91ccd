"""Refusals after `ok`: `refused` for all devices of the sender. `send` decides."""

from __future__ import annotations

from typing import Final

from schemas import chat_pb2 as pb
from schemas.frames import Push
from schemas.kinds.kind import Kind, PushSpec


class Refused(Push, tag="refused", kw_only=True):
    """A command that had got its `ok` had no effect; `code` says why."""

    chat: str
    message: str
    key: str
    code: str


def _push(refused: pb.Refused, _user: int) -> Refused:
    return Refused(
        chat=refused.chat, message=str(refused.message), key=refused.key, code=refused.code
    )


KIND: Final = Kind(
    push=PushSpec(frame=Refused, body="refused", push=_push, wakes=True, command="message")
)
