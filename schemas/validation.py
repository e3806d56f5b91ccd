"""Checks of texts and chats that the gateway makes, and again each function that reads them from
the log.
"""

from __future__ import annotations

import json
from typing import Final

from schemas.errors import Malformed, Refused
from schemas.ids import ChatId, UserId, direct_members, parse_chat

JSON_TEXT_BYTES: Final = 40 * 1024
"""The longest text in JSON, where a control character is six bytes: with the other fields of its
message it fits into a page, and so into a frame.
"""
_LONGEST: Final = 6


def check_fits(text: str) -> None:
    """Checks that a text fits into a frame of every codec, not only of its sender's.

    Raises Malformed too_large.
    """
    if (
        len(text) * _LONGEST > JSON_TEXT_BYTES
        and (escaped := len(json.dumps(text, ensure_ascii=False).encode()) - 2) > JSON_TEXT_BYTES
    ):
        raise Malformed(
            f"text takes {escaped} bytes in JSON, {JSON_TEXT_BYTES} are allowed",
            field="text",
            code="too_large",
        )


def check_own(chat: ChatId, user: UserId) -> None:
    """Checks that a direct chat is one of the user's; the members of groups are checked where they
    are known.

    Raises Refused.
    """
    members = direct_members(chat)
    if members is not None and user not in members:
        raise Refused("unknown_chat", "no such chat", field="chat")


def own_chat(text: str, user: UserId) -> ChatId:
    """The chat that a frame of this user names.

    Raises Malformed, or Refused unknown_chat for a direct chat without the user.
    """
    chat = parse_chat(text)
    check_own(chat, user)
    return chat
