"""Changes of a chat: `chat` with one part of it as it is now. `send` decides, for groups."""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, UnsetType

from schemas import chat_pb2 as pb
from schemas.frames import Push
from schemas.ids import time_text, unix_ms_of
from schemas.kinds.kind import Kind, PushSpec


class ChatChanged(Push, tag="chat", kw_only=True):
    """A part of a chat as it is now; of two the one with the greater version counts.

    group: name, avatar?, members, role (mine), history, created. member: user, role, joined.
    mine: muted_until?, pinned?, archived?, draft?. deleted: the chat is mine no longer.
    """

    chat: str
    part: str
    version: str
    name: str | UnsetType = UNSET
    avatar: str | UnsetType = UNSET
    members: int | UnsetType = UNSET
    role: str | UnsetType = UNSET
    history: str | UnsetType = UNSET
    created: str | UnsetType = UNSET
    user: str | UnsetType = UNSET
    joined: str | UnsetType = UNSET
    muted_until: str | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET
    archived: str | UnsetType = UNSET
    draft: str | UnsetType = UNSET


def _push(part: pb.ChatPart, _user: int) -> ChatChanged:
    kind, chat, version = part.WhichOneof("part") or "deleted", part.chat, str(part.version)
    if kind == "group":
        group = part.group
        return ChatChanged(
            chat=chat,
            part=kind,
            version=version,
            name=group.name,
            avatar=group.avatar or UNSET,
            members=group.members,
            role=group.role,
            history=group.history,
            created=time_text(unix_ms_of(group.created)),
        )
    if kind == "member":
        return ChatChanged(
            chat=chat,
            part=kind,
            version=version,
            user=str(part.member.user),
            role=part.member.role,
            joined=time_text(unix_ms_of(part.member.joined)),
        )
    if kind == "mine":
        mine = part.mine
        return ChatChanged(
            chat=chat,
            part=kind,
            version=version,
            muted_until=time_text(mine.muted_until_ms) if mine.muted_until_ms else UNSET,
            pinned=mine.pinned or UNSET,
            archived=str(mine.archived) if mine.archived else UNSET,
            draft=mine.draft or UNSET,
        )
    return ChatChanged(chat=chat, part="deleted", version=version)


def _replaces(part: pb.ChatPart) -> tuple[str, int]:
    return part.chat, -1 if part.HasField("mine") else part.member.user


def _outdates(newer: pb.ChatPart, older: pb.ChatPart) -> bool:
    return newer.version >= older.version


KIND: Final = Kind(
    push=PushSpec(
        frame=ChatChanged, body="chat", push=_push, replaces=_replaces, outdates=_outdates
    )
)
