"""What a session wants done, as values: effects, which its connection executes. No I/O."""

from __future__ import annotations

import math
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from gateway.sessions.close import Close
from schemas import chat_pb2 as pb
from schemas import frames
from schemas.errors import ChatError
from schemas.kinds.kind import CommandSpec, EphemeralSpec

Re = int | UnsetType


class SendFrame(Struct, frozen=True):
    """Send this frame."""

    frame: frames.ServerFrame


class Ping(Struct, frozen=True):
    """Send a ping: the client answers with a pong, if it is there."""


class PauseReading(Struct, frozen=True):
    """Read nothing of the socket for so many seconds."""

    seconds: float


class Authenticate(Struct, frozen=True):
    """Check the token of this hello; `on_admitted` or a close comes of it."""

    hello: frames.Hello


class RefreshToken(Struct, frozen=True):
    """Check this newer token."""

    token: str
    re: Re


class Publish(Struct, frozen=True):
    """Put this command into the log and say `ok`."""

    kind: CommandSpec[Any, Any]
    command: pb.Command
    re: Re


class Coalesce(Struct, frozen=True):
    """Put the watermarks of this command into the log within a second or so, and say `ok`."""

    kind: CommandSpec[Any, Any]
    command: pb.Command
    re: Re


class Query(Struct, frozen=True):
    """Put this query into the log; the session waits for the answer."""

    query: pb.Query
    attended: str = ""
    """The chat that its user looks at, if asking says so."""


class ActNow(Struct, frozen=True):
    """Do what this frame, which is ephemeral, asks for, and reply."""

    kind: EphemeralSpec[Any, Any]
    frame: frames.ClientFrame


Effect = (
    SendFrame
    | Close
    | Ping
    | PauseReading
    | Authenticate
    | RefreshToken
    | Publish
    | Coalesce
    | Query
    | ActNow
)


def error_of(error: ChatError, re: Re) -> frames.Error:
    """An error as the client is told it."""
    return frames.Error(
        re=re,
        code=error.code,
        message=error.message,
        temporary=error.temporary,
        retry_after_ms=UNSET
        if error.retry_after_s is None
        else math.ceil(error.retry_after_s * 1_000),
        details=error.details or UNSET,
    )
