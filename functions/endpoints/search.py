"""Messages by what they say; the target `chats` serves it."""

from __future__ import annotations

from functions.domain.searching import search_messages
from functions.runtime.context import Context
from functions.runtime.http_endpoint import endpoint
from schemas import costs
from schemas.searches import FoundMessages, SearchQuery, asked_by
from schemas.tokens import Claims


@endpoint("GET", "/v1/search/messages", cost=costs.SEARCH, errors=("unknown_chat", "not_member"))
async def find_messages(query: SearchQuery, caller: Claims, context: Context) -> FoundMessages:
    """Messages of my chats that hold these words, newest first."""
    return await search_messages(context.backends, caller.user, asked_by(query), query.limit)
