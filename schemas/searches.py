"""The call that searches messages: its query with the small language of `q`, and its answer.

Source: protocol.md section 1, `GET /v1/search/messages`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.chat_queries import Position, Query
from schemas.errors import Malformed
from schemas.folding import folded
from schemas.frames import Limit
from schemas.groups import Body
from schemas.ids import (
    LATEST,
    ChatId,
    MessageId,
    UserId,
    parse_anchor,
    parse_chat,
    parse_user,
)
from schemas.kinds.history import HistoryMessage

MIN_CHARACTERS: Final = 2
MAX_CHARACTERS: Final = 256
MAX_TERMS: Final = 16

_PARTS: Final = re.compile(r'"([^"]*)"?|(\S+)')
_FILTER: Final = re.compile(r"(from|in|has|before|after):(.+)")


class SearchQuery(Query, kw_only=True, frozen=True):
    """What is searched: words, "phrases" and filters, in one text."""

    q: Annotated[
        str,
        Meta(
            min_length=MIN_CHARACTERS,
            max_length=MAX_CHARACTERS,
            description='words and "phrases", each at least somewhere in the text, one of them of '
            "2 characters or more; from:USER, in:CHAT, has:file, before: and after: with an id or "
            "a time",
            examples=["lunch from:1002"],
        ),
    ]
    chat: Annotated[str, Meta(max_length=64, description="as in: within q")] | None = None
    before: Annotated[Position, Meta(description="as before: within q")] | None = None
    limit: Limit = 50


class Asked(Struct, frozen=True):
    """What a query means. `terms` are folded; `before` and `after` exclude their id."""

    terms: tuple[str, ...] = ()
    chat: ChatId | None = None
    sender: UserId | None = None
    has_file: bool = False
    before: MessageId = LATEST
    after: MessageId = MessageId(0)


class FoundMessage(HistoryMessage, kw_only=True, omit_defaults=True, frozen=True):
    """A message as it is now. `highlights`: where its text holds what was searched, [start, end) in
    code points; none where it was searched for other things than its text.
    """

    highlights: list[Annotated[list[int], Meta(min_length=2, max_length=2)]]


class FoundMessages(Body, kw_only=True, frozen=True):
    """Messages that were found, newest first. `more`: there are older ones; ask again with `before`
    of `last`, the lowest id that was looked at.
    """

    messages: list[FoundMessage]
    more: bool
    last: str | UnsetType = UNSET


def asked_by(query: SearchQuery) -> Asked:
    """What the query asks for. Raises Malformed naming `q`, `chat` or `before`."""
    asked = _of_text(query.q)
    chat, before = asked.chat, asked.before
    if query.chat is not None:
        chat = parse_chat(query.chat)
        if asked.chat not in {None, chat}:
            raise Malformed("chat and in: name two chats, give one of them", field="chat")
    if query.before is not None:
        before = min(before, parse_anchor(query.before, name="before"))
    return msgspec.structs.replace(asked, chat=chat, before=before)


def _of_text(text: str) -> Asked:
    terms: dict[str, None] = {}
    filters: dict[str, str] = {}
    for name, value in _parts(text):
        if not name:
            terms |= dict.fromkeys(filter(None, [folded(value)]))
        elif filters.setdefault(name, value) != value:
            raise Malformed(f"q: give {name}: once", field="q")
    if len(terms) > MAX_TERMS:
        raise Malformed(f"q: at most {MAX_TERMS} words and phrases", field="q")
    if not filters.keys() & {"from", "in", "has"} and not any(
        len(term) >= MIN_CHARACTERS for term in terms
    ):
        raise Malformed(f"q: give a word of {MIN_CHARACTERS} characters or more", field="q")
    if filters.get("has", "file") != "file":
        raise Malformed("q: has:file is the only has:", field="q")
    try:
        return Asked(
            terms=tuple(terms),
            chat=parse_chat(filters["in"]) if "in" in filters else None,
            sender=parse_user(filters["from"], name="from:") if "from" in filters else None,
            has_file="has" in filters,
            before=parse_anchor(filters["before"], name="before")
            if "before" in filters
            else LATEST,
            after=parse_anchor(filters["after"], name="after")
            if "after" in filters
            else MessageId(0),
        )
    except Malformed as error:
        raise Malformed(f"q: {error.message}", field="q") from error


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """Filters with their names, words and phrases without; a quote that does not end, ends there.

    What only looks like a filter is a word.
    """
    for phrase, word in _PARTS.findall(text):
        filtered = _FILTER.fullmatch(word)
        yield (filtered[1], filtered[2]) if filtered else ("", phrase or word)
