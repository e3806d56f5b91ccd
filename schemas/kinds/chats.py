"""Lists of a user's chats: asked by `chats`, answered by a frame of the same name."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas import chat_pb2 as pb
from schemas.costs import PAGE
from schemas.frames import ClientFrame, Limit, ServerFrame
from schemas.ids import ChatId, UserId, direct_members, time_text
from schemas.kinds.history import HistoryMessage, history_message
from schemas.kinds.kind import Kind, QuestionSpec


class Chats(ClientFrame, tag="chats", kw_only=True, frozen=True):
    """A part of the user's list of chats, newest first; `after` is that of the previous answer."""

    after: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    limit: Limit = 50


class ChatState(Struct, kw_only=True, frozen=True):
    """One of the user's chats: its newest id, the watermarks, how many messages are unread, and how
    many of them name the user: 0 by a server that does not count them.

    `request`: a stranger has begun it, and this user has not answered.
    name, avatar, members, role and version are those of a group. The last four are what the user
    wants of the chat; `archived`: a message above this id brings it back, unless it is muted.
    """

    chat: str
    kind: str
    newest: str
    unread: int
    read: str
    received: str
    mentions: int = 0
    others: list[str] | UnsetType = UNSET
    request: bool | UnsetType = UNSET
    newest_message: HistoryMessage | UnsetType = UNSET
    name: str | UnsetType = UNSET
    avatar: str | UnsetType = UNSET
    members: int | UnsetType = UNSET
    role: str | UnsetType = UNSET
    version: str | UnsetType = UNSET
    muted_until: str | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET
    archived: str | UnsetType = UNSET
    draft: str | UnsetType = UNSET


class Total(Struct, kw_only=True, frozen=True):
    """What an app's badge shows: how many chats that are not muted hold something unread, at most
    99, and how many unread messages name the user, in muted ones too, at most 999.
    """

    chats: int
    mentions: int


class ChatList(ServerFrame, tag="chats", kw_only=True):
    """A part of the user's list of chats, newest first. `after` asks for the next part; absent in
    the last one. `total` comes with the first part.
    """

    chats: list[ChatState]
    after: str | UnsetType = UNSET
    total: Total | UnsetType = UNSET


def _query(frame: Chats, _user: UserId, query: pb.Query) -> None:
    query.chats.after = "" if isinstance(frame.after, UnsetType) else frame.after
    query.chats.limit = frame.limit


def chat_state(state: pb.ChatState) -> ChatState:
    """A chat as the list of chats shows it."""
    direct = direct_members(ChatId(state.chat)) is not None
    group, mine = state.group.group, state.mine.mine
    return ChatState(
        chat=state.chat,
        kind="direct" if direct else "group",
        newest=str(state.newest),
        unread=state.unread,
        read=str(state.read),
        received=str(state.received),
        mentions=state.mentions,
        others=[str(other) for other in state.others] if direct else UNSET,
        request=state.request or UNSET,
        newest_message=history_message(state.newest_message)
        if state.HasField("newest_message")
        else UNSET,
        name=UNSET if direct else group.name,
        avatar=group.avatar or UNSET,
        members=UNSET if direct else group.members,
        role=UNSET if direct else group.role,
        version=UNSET if direct else str(state.group.version),
        muted_until=time_text(mine.muted_until_ms) if mine.muted_until_ms else UNSET,
        pinned=mine.pinned or UNSET,
        archived=str(mine.archived) if mine.archived else UNSET,
        draft=mine.draft or UNSET,
    )


def chats_of(states: pb.ChatStates) -> ChatList:
    """A list of chats, newest first."""
    total = states.total
    return ChatList(
        chats=[chat_state(state) for state in states.chats],
        after=states.after or UNSET,
        total=Total(chats=total.chats, mentions=total.mentions)
        if states.HasField("total")
        else UNSET,
    )


KIND: Final = Kind(
    question=QuestionSpec(
        frame=Chats,
        body="chats",
        cost=PAGE,
        query=_query,
        reply=ChatList,
        answer="chats",
        show=chats_of,
    )
)
