"""Checks of commands and chats that the gateway makes, and again each function that reads them
from the log.

Separate from `commands`, which imports the frames: functions that write need no frames and start
sooner without them (design.md D21).
"""

from __future__ import annotations

import json
from typing import Final

from schemas import chat_pb2 as pb
from schemas.errors import Malformed, Refused
from schemas.ids import LATEST, ChatId, UserId, direct_members, parse_chat

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


def check_command(command: pb.Command) -> ChatId:
    """The chat of a command from the log, after a check for values that no store can hold.

    Raises Malformed: no gateway writes such a command.
    """
    if not (0 < command.id <= LATEST and 0 < command.user <= LATEST):
        raise Malformed("id and user must be ids", field="id")
    if max(command.send.reply_to, command.mark.read, command.mark.received) > LATEST:
        raise Malformed("a message id is too large", field=command.WhichOneof("body"))
    if "\0" in command.key or "\0" in command.send.text:
        raise Malformed("key and text must not hold U+0000", field="text")
    check_fits(command.send.text)
    return parse_chat(command.chat)
