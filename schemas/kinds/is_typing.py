"""`typing` by a client: the other user's sessions are told, for the next six seconds.

Not `typing.py`: a module of the standard library has that name.
"""

from __future__ import annotations

from typing import Final

from schemas import chat_pb2 as pb
from schemas.costs import ONE
from schemas.frames import Chat, ClientFrame, ServerFrame
from schemas.ids import direct_members
from schemas.kinds.kind import EphemeralSpec, Kind, Speaker
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


def _act(frame: Typing, speaker: Speaker) -> None:
    chat = own_chat(frame.chat, speaker.user)
    # The members of a group are not known here.
    others = [user for user in direct_members(chat) or () if user != speaker.user]
    if others:
        typing = pb.Typing(users=others, chat=chat, user=speaker.user)
        speaker.tell(others, pb.Answer(typing=typing), about=chat)


def _show(typing: pb.Typing) -> IsTyping:
    return IsTyping(chat=typing.chat, user=str(typing.user))


KIND: Final = Kind(
    ephemeral=EphemeralSpec(
        frame=Typing, cost=ONE, act=_act, push=IsTyping, body="typing", show=_show
    )
)
