"""Pages of a chat: asked by `history`, answered by `page`."""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, Struct, UnsetType

from schemas import chat_pb2 as pb
from schemas.costs import PAGE
from schemas.errors import Malformed
from schemas.frames import Chat, ClientFrame, Limit, ServerFrame
from schemas.ids import UserId, parse_anchor, time_text, unix_ms_of
from schemas.kinds.kind import Kind, QuestionSpec
from schemas.kinds.message import File, GroupEvent, file_of, group_event
from schemas.validation import own_chat


class History(ClientFrame, tag="history", kw_only=True, frozen=True):
    """A page of a chat: at most one of before, after and around, each an id or a time; none means
    the newest.
    """

    chat: Chat
    before: str | UnsetType = UNSET
    after: str | UnsetType = UNSET
    around: str | UnsetType = UNSET
    limit: Limit = 50


class Reactions(Struct, frozen=True):
    """An emoji at a message: how many users have put it there, and the first 10 of them."""

    emoji: str
    count: int
    users: list[str]


class HistoryMessage(Struct, kw_only=True, omit_defaults=True, frozen=True):
    """A message as it is now. `edited` and `deleted` are the versions of the edit that the text is
    of, and of its deletion for all: without text, file and reactions then.
    """

    chat: str
    message: str
    sender: str
    key: str
    time: str
    version: str
    reactions: list[Reactions]
    text: str | UnsetType = UNSET
    file: File | UnsetType = UNSET
    reply_to: str | UnsetType = UNSET
    mentions: list[str] | UnsetType = UNSET
    edited: str | UnsetType = UNSET
    deleted: str | UnsetType = UNSET
    event: GroupEvent | UnsetType = UNSET


class Page(ServerFrame, tag="page", kw_only=True):
    """Messages, newest first; `first` and `last` are their lowest and highest id, absent when there
    are none.
    """

    chat: str
    messages: list[HistoryMessage]
    more_before: bool
    more_after: bool
    first: str | UnsetType = UNSET
    last: str | UnsetType = UNSET


def _query(frame: History, user: UserId, query: pb.Query) -> None:
    query.history.chat = own_chat(frame.chat, user)
    query.history.limit = frame.limit
    positions = [
        (name, value)
        for name in ("before", "after", "around")
        if (value := getattr(frame, name)) is not UNSET
    ]
    if len(positions) > 1:
        raise Malformed("give one of before, after and around", field=positions[1][0])
    for name, value in positions:
        setattr(query.history, name, parse_anchor(value, name=name))


def history_message(item: pb.HistoryMessage) -> HistoryMessage:
    """A message as pages show it."""
    message = item.message
    return HistoryMessage(
        chat=message.chat,
        message=str(message.id),
        sender=str(message.sender),
        key=message.key,
        time=time_text(unix_ms_of(message.id)),
        version=str(item.version),
        reactions=[
            Reactions(given.emoji, given.count, [str(user) for user in given.users])
            for given in item.reactions
        ],
        text=message.body.text or UNSET,
        file=file_of(message.body),
        reply_to=str(message.body.reply_to) if message.body.reply_to else UNSET,
        mentions=[str(user) for user in message.body.mentions] or UNSET,
        edited=str(item.edited) if item.edited else UNSET,
        deleted=str(item.deleted) if item.deleted else UNSET,
        event=UNSET if message.body.text else group_event(message),
    )


def page_of(page: pb.Page) -> Page:
    """A page of history, newest first."""
    messages = [history_message(item) for item in page.messages]
    return Page(
        chat=page.chat,
        messages=messages,
        more_before=page.more_before,
        more_after=page.more_after,
        first=messages[-1].message if messages else UNSET,
        last=messages[0].message if messages else UNSET,
    )


KIND: Final = Kind(
    question=QuestionSpec(
        frame=History,
        body="history",
        cost=PAGE,
        query=_query,
        reply=Page,
        answer="page",
        show=page_of,
        attends=True,
    )
)
