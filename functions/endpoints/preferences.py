"""What I want of a chat, over HTTP: muted, pinned, archived, a draft. The target `chats` serves it.

Source: protocol.md section 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from msgspec import UNSET

from backends.preferences import Preferences
from functions.domain.reading import begins_of
from functions.runtime.context import Context
from functions.runtime.http_endpoint import endpoint
from schemas import costs, groups
from schemas.errors import Refused
from schemas.ids import (
    ChatId,
    MessageId,
    UserId,
    direct_members,
    first_id_at,
    parse_chat,
    parse_id,
    parse_id_or_time,
    time_text,
    unix_ms_of,
)
from schemas.kinds.message import check_text
from schemas.tokens import Claims

if TYPE_CHECKING:
    from backends.wiring import Backends


async def change(
    user: UserId, chat: ChatId, change: groups.MineChange, backends: Backends, *, now_ms: int
) -> Preferences:
    """What the user wants of a chat now. Raises as `begins_of` does, Malformed, Refused stale."""
    await begins_of(backends, user, chat)
    was = await _of(user, chat, backends)
    fresh = replace(was, version=was.version + 1)
    if change.muted_until is not None:
        fresh = replace(fresh, muted_until_ms=_ms(change.muted_until))
    if change.pinned is not None:
        fresh = replace(fresh, pinned=change.pinned)
    if change.archived is not None:
        newest = await _newest(user, chat, backends)
        until = MessageId(max(newest, first_id_at(now_ms))) if change.archived else MessageId(0)
        fresh = replace(fresh, archived=until)
    if change.draft is not None:
        if change.draft:
            text_bytes = backends.configuration.values.messages.text_bytes
            check_text(change.draft, text_bytes, field="draft")
        fresh = replace(fresh, draft=change.draft)
    known = parse_id(change.version, name="version")
    if known != was.version or not await backends.preferences.put(fresh):
        raise Refused("stale", "it has changed since: read it again", field="version")
    return fresh


async def _of(user: UserId, chat: ChatId, backends: Backends) -> Preferences:
    found = await backends.preferences.of(user, [chat])
    return found.get(chat, Preferences(user, chat))


async def _newest(user: UserId, chat: ChatId, backends: Backends) -> int:
    if direct_members(chat) is None:
        return (await backends.chats.heads([chat])).get(chat, 0)
    state = (await backends.chats.pointers([(user, chat)])).get((user, chat))
    return 0 if state is None else state.newest


def _ms(text: str) -> int:
    return unix_ms_of(parse_id_or_time(text, name="muted_until")) if text else 0


def _mine(preferences: Preferences) -> groups.Mine:
    muted_ms = preferences.muted_until_ms
    return groups.Mine(
        chat=preferences.chat,
        version=str(preferences.version),
        muted_until=time_text(muted_ms) if muted_ms else UNSET,
        pinned=preferences.pinned or UNSET,
        archived=str(preferences.archived) if preferences.archived else UNSET,
        draft=preferences.draft or UNSET,
    )


# ---- endpoints -----------------------------------------------------------------------------------


@endpoint("GET", "/v1/chats/{chat}/mine", cost=costs.ONE, errors=("unknown_chat", "not_member"))
async def get_mine(chat: str, caller: Claims, context: Context) -> groups.Mine:
    """What I want of a chat."""
    asked = parse_chat(chat)
    await begins_of(context.backends, caller.user, asked)
    return _mine(await _of(caller.user, asked, context.backends))


@endpoint(
    "PUT",
    "/v1/chats/{chat}/mine",
    cost=costs.WRITE,
    errors=("unknown_chat", "not_member", "stale"),
)
async def set_mine(
    chat: str, body: groups.MineChange, caller: Claims, context: Context, now_ms: int
) -> groups.Mine:
    """Changes what I want of a chat, on all my devices."""
    fresh = await change(caller.user, parse_chat(chat), body, context.backends, now_ms=now_ms)
    await context.preference_notices.publish()
    return _mine(fresh)
