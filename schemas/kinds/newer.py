"""New messages of large groups: `newer` for all members but the sender. `send` decides.

None replaces another: one may come late, below others that a page has shown. A session that has
been told of one, and has not asked yet, is told of those below it alone.
"""

from __future__ import annotations

from typing import Final

from schemas import chat_pb2 as pb
from schemas.frames import Push
from schemas.kinds.kind import Kind, PushSpec

MAX_WITH_BODY: Final = 1_000
"""Members up to which each is told the message; of a larger group each is told that there is
one, and nothing of who is typing.
"""


class Newer(Push, tag="newer", kw_only=True):
    """A large group has the message `newest`: ask for its history."""

    chat: str
    newest: str


def _push(newer: pb.Newer, _user: int) -> Newer:
    return Newer(chat=newer.chat, newest=str(newer.newest))


KIND: Final = Kind(push=PushSpec(frame=Newer, body="newer", push=_push))
