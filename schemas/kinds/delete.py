"""Deletions: `delete` for all by the author of a message, or for me alone by any member; those who
no longer see it are told `changed`.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, field

from schemas import chat_pb2 as pb
from schemas.costs import ONE
from schemas.ids import UserId
from schemas.kinds import changed
from schemas.kinds.changed import ChangeFrame
from schemas.kinds.kind import CommandSpec, Kind


class Delete(ChangeFrame, tag="delete", kw_only=True, frozen=True):
    """Takes a message away, for all who see it or for me."""

    # A pattern: of a Literal msgspec says nothing where half a surrogate pair is given.
    for_: Annotated[str, Meta(pattern=r"^(all|me)\Z")] = field(name="for")


def _command(frame: Delete, user: UserId, device: str, _text_bytes: int) -> pb.Command:
    command, message = changed.command_of(frame, user, device)
    command.delete.message, command.delete.for_me = message, frame.for_ == "me"
    return command


def _check(delete: pb.Delete) -> None:
    changed.check_message(delete.message)


KIND: Final = Kind(
    command=CommandSpec(
        frame=Delete,
        body="delete",
        cost=ONE,
        command=_command,
        ok=changed.ok,
        check=_check,
        deliver=changed.deliver,
        changes=True,
        is_mine=lambda delete: delete.for_me,
        kept="changes",
    )
)
