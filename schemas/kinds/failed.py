"""Dead-lettered commands: `failed` for all devices of the sender. `report_failed` decides."""

from __future__ import annotations

from typing import Final

from schemas import chat_pb2 as pb
from schemas.frames import Push
from schemas.kinds.kind import Kind, PushSpec


class Failed(Push, tag="failed", kw_only=True):
    """A command could not be processed and was dead-lettered; sending again with the same key is
    safe.
    """

    message: str
    key: str


def _push(failed: pb.Failed, _user: int) -> Failed:
    return Failed(message=str(failed.message), key=failed.key)


KIND: Final = Kind(
    push=PushSpec(frame=Failed, body="failed", push=_push, wakes=True, command="message")
)
