"""What is checked of a command or a chat wherever it turns up: at the gateway, and again by the
functions that find it in the log.

Apart from `commands`, which knows the frames: a function that writes needs none, and starts sooner
without them (design.md D21).
"""

from __future__ import annotations

import json
from typing import Final

from schemas import chat_pb2 as pb
from schemas.errors import Malformed, Refused
from schemas.ids import LATEST, ChatId, UserId, direct_members, parse_chat

JSON_TEXT_BYTES: Final = 40 * 1024
"""What a text may take in JSON, where a control character is six bytes: with all else of its
message it fits a page, and so a frame.
"""
_LONGEST: Final = 6


def check_fits(text: str) -> None:
    """A text must fit a frame of every codec, whichever its sender speaks.

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
    """A direct chat is known only to its people; a group has its members checked where they are
    known.

    Raises Refused.
    """
    members = direct_members(chat)
    if members is not None and user not in members:
        raise Refused("unknown_chat", "no such chat", field="chat")


def check_command(command: pb.Command) -> ChatId:
    """The chat of a command out of the log, checked for what no store could hold.

    Raises Malformed: no gateway writes such a command.
    """
    if not (0 < command.id <= LATEST and 0 < command.user <= LATEST):
        raise Malformed("id and user must be ids", field="id")
    if max(command.send.reply_to, command.mark.read, command.mark.received) > LATEST:
        raise Malformed("a message is named by what is no id", field=command.WhichOneof("body"))
    if "\0" in command.key or "\0" in command.send.text:
        raise Malformed("key and text must not hold U+0000", field="text")
    check_fits(command.send.text)
    return parse_chat(command.chat)
