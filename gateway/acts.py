"""What a session wants done, and the close codes that it ends with. No I/O.

A session returns acts; the hub does the deeds among them (say, end, ping), the conversation the rest.
"""

from __future__ import annotations

import math

from msgspec import UNSET, Struct, UnsetType

from schemas import chat_pb2 as pb
from schemas import frames
from schemas.errors import ChatError

# Close codes: the range tells the client what to do (protocol.md section 2).
INTERNAL_ERROR = 1011
RESTART, MOVED, NO_PONG, TOO_SLOW, EXPIRED, TOO_MANY_FRAMES, STARTING = 1012, 4001, 4002, 4003, 4004, 4005, 4006
MALFORMED, BAD_TOKEN, REVOKED, PROTOCOL, REPLACED, TOO_MANY_SESSIONS = 4400, 4401, 4403, 4404, 4409, 4429

Re = int | UnsetType


class Say(Struct, frozen=True):
    """Send this frame."""

    frame: frames.ServerFrame


class End(Struct, frozen=True):
    """Close with this code."""

    code: int
    reason: str


class Ping(Struct, frozen=True):
    """Ask for a sign of life."""


class Pause(Struct, frozen=True):
    """Read on after so many seconds."""

    seconds: float


class Greet(Struct, frozen=True):
    """Find out who this is; `admitted` or an end comes of it."""

    hello: frames.Hello


class Renew(Struct, frozen=True):
    """Check this newer token."""

    token: str
    re: Re


class Publish(Struct, frozen=True):
    """Put this command into the log and say `ok`."""

    command: pb.Command
    re: Re


class Hold(Struct, frozen=True):
    """Put this watermark into the log within a second or so, and say `ok`."""

    command: pb.Command
    re: Re


class Ask(Struct, frozen=True):
    """Put this question into the log; the session waits for the answer."""

    query: pb.Query


Deed = Say | End | Ping | Pause
Act = Deed | Greet | Renew | Publish | Hold | Ask


def error_of(error: ChatError, re: Re) -> frames.Error:
    """An error as the client is told it."""
    return frames.Error(
        re=re,
        code=error.code,
        message=error.message,
        temporary=error.temporary,
        retry_after_ms=UNSET if error.retry_after_s is None else math.ceil(error.retry_after_s * 1_000),
        details=error.details or UNSET,
    )
