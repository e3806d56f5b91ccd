"""Reactions: `react` and `unreact` by a client; all members of the chat are told `changed`."""

from __future__ import annotations

from typing import Final

from schemas import chat_pb2 as pb
from schemas.costs import ONE
from schemas.emoji import MAX_BYTES, emoji_of
from schemas.errors import Malformed
from schemas.ids import UserId
from schemas.kinds import changed
from schemas.kinds.changed import ChangeFrame
from schemas.kinds.kind import CommandSpec, Kind


class React(ChangeFrame, tag="react", kw_only=True, frozen=True):
    """Puts an emoji to a message: one of Unicode's list, in any of its spellings."""

    emoji: str


class Unreact(ChangeFrame, tag="unreact", kw_only=True, frozen=True):
    """Takes an emoji of mine away."""

    emoji: str


def _command(frame: React | Unreact, user: UserId, device: str, _text_bytes: int) -> pb.Command:
    command, message = changed.command_of(frame, user, device)
    body = command.react if isinstance(frame, React) else command.unreact
    body.message, body.emoji = message, emoji_of(frame.emoji)
    return command


def _check(body: pb.React) -> None:
    changed.check_message(body.message)
    if not 0 < len(body.emoji.encode()) <= MAX_BYTES or "\0" in body.emoji:
        raise Malformed("an emoji is missing or too long", field="emoji")


def _kind(frame: type[React | Unreact], body: str, *, inverse: str = "") -> Kind:
    return Kind(
        command=CommandSpec(
            frame=frame,
            body=body,
            cost=ONE,
            command=_command,
            ok=changed.ok,
            check=_check,
            deliver=changed.deliver,
            changes=True,
            inverse=inverse,
            kept="changes",
        )
    )


REACT: Final = _kind(React, "react", inverse="unreact")
UNREACT: Final = _kind(Unreact, "unreact")
