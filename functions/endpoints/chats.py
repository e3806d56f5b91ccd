"""Chats over HTTP: my chats, pages, digests, pins, receipts; the target serves `groups`,
`preferences` and `search` too.

The rules are those of the event function `history`, and so are the objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import functions_framework.aio

from functions.domain.reading import (
    read_digest,
    read_page,
    read_pins,
    read_receipts,
    read_states,
)
from functions.endpoints import groups, preferences, search
from functions.runtime.context import Context
from functions.runtime.http_endpoint import Endpoint, endpoint
from functions.runtime.router import router_of
from schemas import costs
from schemas.chat_queries import ChatsQuery, DigestQuery, MembersQuery, MessagesQuery
from schemas.errors import Malformed
from schemas.ids import (
    LATEST,
    MessageId,
    UserId,
    parse_anchor,
    parse_chat,
    parse_id,
    parse_user,
)
from schemas.kinds.chats import ChatList, chats_of
from schemas.kinds.digest import Digest, digest_of
from schemas.kinds.history import Page, page_of
from schemas.kinds.mark import Receipts
from schemas.kinds.pins import Pins
from schemas.tokens import Claims

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Router

    from backends.chats import Direction


@endpoint("GET", "/v1/chats", cost=costs.PAGE)
async def list_chats(query: ChatsQuery, caller: Claims, context: Context) -> ChatList:
    """My chats, newest first."""
    return chats_of(
        await read_states(
            context.backends,
            caller.user,
            query.after,
            query.limit,
            archived=query.archived,
            max_bytes=None,
        )
    )


@endpoint(
    "GET", "/v1/chats/{chat}/messages", cost=costs.PAGE, errors=("unknown_chat", "not_member")
)
async def get_messages(chat: str, query: MessagesQuery, caller: Claims, context: Context) -> Page:
    """A page of a chat, newest first."""
    direction, anchor = _position(query)
    page = await read_page(
        context.backends,
        caller.user,
        parse_chat(chat),
        direction,
        anchor,
        query.limit,
        max_bytes=None,
        shared=context.shared_pages,
    )
    return page_of(page)


def _position(query: MessagesQuery) -> tuple[Direction, MessageId]:
    positions: tuple[tuple[Direction, str | None], ...] = (
        ("before", query.before),
        ("after", query.after),
        ("around", query.around),
    )
    given = [
        (direction, parse_anchor(text, name=direction))
        for direction, text in positions
        if text is not None
    ]
    if len(given) > 1:
        raise Malformed("give one of before, after and around", field=given[1][0])
    return given[0] if given else ("before", LATEST)


@endpoint(
    "GET", "/v1/chats/{chat}/digest", cost=costs.DIGEST, errors=("unknown_chat", "not_member")
)
async def get_digest(chat: str, query: DigestQuery, caller: Claims, context: Context) -> Digest:
    """Count and hash of a range: proves that a client holds all of it."""
    first, last = parse_id(query.from_, name="from"), parse_id(query.to, name="to")
    return digest_of(
        await read_digest(context.backends, caller.user, parse_chat(chat), first, last)
    )


@endpoint("GET", "/v1/chats/{chat}/pins", cost=costs.PAGE, errors=("unknown_chat", "not_member"))
async def get_pins(chat: str, caller: Claims, context: Context) -> Pins:
    """The pins of a chat, newest first."""
    return await read_pins(context.backends, caller.user, parse_chat(chat))


@endpoint(
    "GET", "/v1/chats/{chat}/receipts", cost=costs.PAGE, errors=("unknown_chat", "not_member")
)
async def get_receipts(
    chat: str, query: MembersQuery, caller: Claims, context: Context
) -> Receipts:
    """How far each user of a chat has received and read it: those who show receipts, while I do."""
    after = UserId(0) if query.after is None else parse_user(query.after, name="after")
    return await read_receipts(context.backends, caller.user, parse_chat(chat), after, query.limit)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    list_chats,
    groups.create_group,
    groups.get_group,
    groups.change_group,
    groups.delete_group,
    groups.list_members,
    groups.add_members,
    groups.put_member,
    groups.remove_member,
    preferences.get_mine,
    preferences.set_mine,
    get_messages,
    get_digest,
    get_pins,
    get_receipts,
    search.find_messages,
)
_ROUTER: Final = router_of(ENDPOINTS)


# It calls what is returned, as Starlette does; its types know responses only.
@functions_framework.aio.http  # type: ignore[arg-type]
async def chats(_request: Request) -> Router:
    """Target: /v1/chats and /v1/search, and below."""
    return _ROUTER
