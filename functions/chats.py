"""Chats over HTTP: my chats, pages, digests. The rules are those of the event function `history`, and so are the objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import functions_framework.aio

from functions.reading import read_digest, read_page, read_states
from functions.routes import Asked, Door, answer
from schemas import bodies, calls, frames
from schemas.deliveries import chats_of, digest_of, page_of
from schemas.errors import Malformed
from schemas.ids import LATEST, MessageId, parse_anchor, parse_chat, parse_id

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from backends.chats import Direction


async def _chats(asked: Asked) -> frames.ChatList:
    query: bodies.ChatsQuery = asked.query
    states = await read_states(asked.backends.chats, asked.claims.user, query.after, query.limit, max_bytes=None)
    return chats_of(states)


async def _messages(asked: Asked) -> frames.Page:
    query: bodies.MessagesQuery = asked.query
    direction, anchor = _position(query)
    chat = parse_chat(asked.path["chat"])
    page = await read_page(asked.backends.chats, asked.claims.user, chat, direction, anchor, query.limit, max_bytes=None)
    return page_of(page)


def _position(query: bodies.MessagesQuery) -> tuple[Direction, MessageId]:
    positions: tuple[tuple[Direction, str | None], ...] = (("before", query.before), ("after", query.after), ("around", query.around))
    given = [(direction, parse_anchor(text, name=direction)) for direction, text in positions if text is not None]
    if len(given) > 1:
        raise Malformed("give one of before, after and around", field=given[1][0])
    return given[0] if given else ("before", LATEST)


async def _digest(asked: Asked) -> frames.Digest:
    query: bodies.DigestQuery = asked.query
    first, last = parse_id(query.from_, name="from"), parse_id(query.to, name="to")
    return digest_of(await read_digest(asked.backends.chats, asked.claims.user, parse_chat(asked.path["chat"]), first, last))


DOORS: Final[dict[calls.Call, Door]] = {calls.CHATS: _chats, calls.MESSAGES: _messages, calls.DIGEST: _digest}


@functions_framework.aio.http
async def chats(request: Request) -> Response:
    """Target: GET /v1/chats and below."""
    return await answer(request, DOORS)
