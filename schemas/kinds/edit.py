"""Edits: `edit` by the author of a message; all members of the chat are told `changed`."""

from __future__ import annotations

from typing import Final

from schemas import chat_pb2 as pb
from schemas.costs import ONE
from schemas.ids import UserId
from schemas.kinds import changed
from schemas.kinds.changed import ChangeFrame
from schemas.kinds.kind import CommandSpec, Kind
from schemas.kinds.message import check_kept_text, check_text


class Edit(ChangeFrame, tag="edit", kw_only=True, frozen=True):
    """Another text for a message of mine."""

    text: str


def _command(frame: Edit, user: UserId, device: str, text_bytes: int) -> pb.Command:
    command, message = changed.command_of(frame, user, device)
    check_text(frame.text, text_bytes)
    command.edit.message, command.edit.text = message, frame.text
    return command


def _check(edit: pb.Edit) -> None:
    changed.check_message(edit.message)
    check_kept_text(edit.text)


KIND: Final = Kind(
    command=CommandSpec(
        frame=Edit,
        body="edit",
        cost=ONE,
        command=_command,
        ok=changed.ok,
        check=_check,
        deliver=changed.deliver,
        changes=True,
        kept="changes",
    )
)
