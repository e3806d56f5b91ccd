"""`typing` by a client: the other user's sessions are told, for the next six seconds; in a group
those of members who look at it.

Not `typing.py`: a module of the standard library has that name.
"""

from __future__ import annotations

from typing import Final

from schemas import chat_pb2 as pb
from schemas.costs import ONE
from schemas.frames import Chat, ClientFrame, ServerFrame
from schemas.kinds.kind import EphemeralActions, EphemeralSpec, Kind
from schemas.validation import own_chat

TYPING_S: Final = 6
"""So long a user counts as typing after each `typing`."""


class Typing(ClientFrame, tag="typing", kw_only=True, frozen=True):
    """I am typing in this chat; again every few seconds, as long as that is so."""

    chat: Chat


class IsTyping(ServerFrame, tag="typing", kw_only=True):
    """A user is typing, and was not if nothing more comes for six seconds."""

    chat: str
    user: str


def _act(frame: Typing, session: EphemeralActions) -> None:
    chat = own_chat(frame.chat, session.user)
    session.notify(chat, pb.Answer(typing=pb.Typing(chat=chat, user=session.user)))


def _show(typing: pb.Typing) -> IsTyping:
    return IsTyping(chat=typing.chat, user=str(typing.user))


KIND: Final = Kind(
    ephemeral=EphemeralSpec(
        frame=Typing, cost=ONE, act=_act, push=IsTyping, body="typing", show=_show
    )
)
