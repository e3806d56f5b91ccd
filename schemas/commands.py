"""Commands and queries by the table of kinds: from a client's frame into the log, and the checks of
a command from there.

The gateway calls this after the codec, and functions for what they read.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from msgspec import UnsetType

from schemas import chat_pb2 as pb
from schemas.errors import Malformed
from schemas.frames import ClientFrame
from schemas.ids import LATEST, ChatId, MessageId, UserId, parse_chat
from schemas.kinds import COMMAND_BODIES
from schemas.kinds.kind import CommandSpec, QuestionSpec


def spec_of(command: pb.Command) -> CommandSpec[Any, Any]:
    """The row of the table for a command from the log. Raises Malformed for an unknown kind."""
    spec = COMMAND_BODIES.get(command.WhichOneof("body"))
    if spec is None:
        raise Malformed("this version knows no such command", field="body")
    return spec


def check_command(command: pb.Command) -> ChatId:
    """The chat of a command from the log, after a check for values that no store can hold.

    Raises Malformed: no gateway writes such a command.
    """
    if not (0 < command.id <= LATEST and 0 < command.user <= LATEST):
        raise Malformed("id and user must be ids", field="id")
    if "\0" in command.key:
        raise Malformed("key and text must not hold U+0000", field="text")
    spec = COMMAND_BODIES.get(command.WhichOneof("body"))
    if spec is not None:
        spec.check(getattr(command, spec.body))
    return parse_chat(command.chat)


def changed_message(command: pb.Command) -> MessageId:
    """The message that a command changes; 0: it changes none."""
    spec = COMMAND_BODIES.get(command.WhichOneof("body"))
    return MessageId(
        getattr(command, spec.body).message if spec is not None and spec.changes else 0
    )


def taken_back(command: pb.Command, refused: str) -> pb.Command | None:
    """What a refusal by a limit leaves: that this is not there, as of its version. So it stays
    refused when the command is decided again, when there is room for it. None: nothing is left.
    """
    spec = COMMAND_BODIES.get(command.WhichOneof("body"))
    if refused != "too_many" or spec is None or not spec.inverse:
        return None
    back = pb.Command()
    back.CopyFrom(command)
    getattr(back, spec.inverse).CopyFrom(getattr(command, spec.body))
    return back


def content_hash(command: pb.Command) -> bytes:
    """8 bytes that are equal for two commands only if their contents are: a key used again with
    other contents is `key_reused`.
    """
    body = command.WhichOneof("body")
    assert body is not None  # noqa: S101 - made by its kind
    content = getattr(command, body).SerializeToString(deterministic=True)
    return blake2b(
        b"%b\n%b\n%b" % (command.chat.encode(), body.encode(), content), digest_size=8
    ).digest()


def query_of(
    spec: QuestionSpec[Any, Any],
    frame: ClientFrame,
    *,
    user: UserId,
    session: str,
    deadline_ms: int,
) -> pb.Query:
    """The query of a frame that has an `id`. Raises Malformed or Refused."""
    if isinstance(frame.id, UnsetType):
        raise Malformed("id is missing: the answer would have no number", field="id")
    query = pb.Query(user=user, session=session, re=frame.id, deadline_ms=deadline_ms)
    spec.query(frame, user, query)
    return query
