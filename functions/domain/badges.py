"""What an app's badge shows: of all chats of a user, what is unread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas import chat_pb2 as pb
from schemas.frames import UNREAD_SHOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backends.groups import Membership
    from backends.wiring import Backends
    from schemas.ids import ChatId, MessageId, UserId

MAX_LOOKED_AT: Final = 256
"""Direct chats, and groups, the newest of each: older ones are not counted."""
CHATS_SHOWN: Final = 99


async def read_total(
    backends: Backends,
    user: UserId,
    mine: Mapping[ChatId, Membership],
    newest: Mapping[ChatId, MessageId],
) -> pb.Total:
    """Chats with something unread, but for the muted ones, and unread messages that name the user.

    `mine` are the user's groups, `newest` their newest ids. Raises Unavailable.
    """
    groups = sorted(newest, key=lambda chat: newest[chat], reverse=True)[:MAX_LOOKED_AT]
    unread = await backends.chats.unread_chats(
        user, direct=MAX_LOOKED_AT, groups={chat: mine[chat].member.joined for chat in groups}
    )
    preferences = await backends.preferences.of(user, unread)
    now_ms = backends.clock.now_ms()
    chats = sum(
        chat not in preferences or preferences[chat].muted_until_ms <= now_ms for chat in unread
    )
    return pb.Total(chats=min(chats, CHATS_SHOWN), mentions=min(sum(unread.values()), UNREAD_SHOWN))
