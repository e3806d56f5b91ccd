"""Searching messages: the HTTP call of a client, and what it answers with.

Source: protocol.md section 1. `Client` uses it.
"""

from __future__ import annotations

import msgspec

from knchat_client.accounts import Accounts
from knchat_client.protocol.frames import HistoryMessage


class FoundMessage(HistoryMessage, kw_only=True, omit_defaults=True, frozen=True):
    """A message as it is now. `highlights`: where its text holds what was searched, [start, end) in
    characters.
    """

    highlights: list[tuple[int, int]]


class FoundMessages(msgspec.Struct, kw_only=True, frozen=True):
    """Messages that were found, newest first. `more`: older ones are found with `before` of
    `last`.
    """

    messages: list[FoundMessage]
    more: bool
    last: str | None = None


async def search_messages(
    accounts: Accounts, text: str, *, chat: str | None, before: str | None, limit: int
) -> FoundMessages:
    """The newest messages of my chats that hold it."""
    query = {"q": text, "limit": str(limit)} | {
        name: value for name, value in (("chat", chat), ("before", before)) if value is not None
    }
    return await accounts.call("GET", "/v1/search/messages", FoundMessages, query=query)
