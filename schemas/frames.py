"""Frames: what all objects that travel over the WebSocket have, and those of the session itself.

Those of a kind of message or question are in its file in schemas/kinds; schemas/codec.py decodes
and encodes them all. Names, types and limits are those of protocol.md; unknown fields are ignored,
and an absent field is never sent as null. Ids are decimal strings and are parsed where they are
used (schemas/ids.py).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from msgspec import UNSET, Meta, Struct, UnsetType

FRAME_BYTES: Final = 65_536
FRAMES_IN_ARRAY: Final = 64
TEXT_BYTES: Final = 4_096
PAGE_BYTES: Final = 48 * 1024
"""A page or list ends at this size, so that it always fits into a frame."""
UNREAD_SHOWN: Final = 999
"""The highest unread count that is shown: 999 means 999 or more."""
SOCKET_PATH: Final = "/v1/socket"

Number = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Key = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:\-]{1,64}\Z")]
Id = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,18})\Z")]
Chat = Annotated[str, Meta(min_length=3, max_length=64)]
Limit = Annotated[int, Meta(ge=1, le=256)]


# ---- client to server ----------------------------------------------------------------------------


class ClientFrame(Struct, tag_field="type", kw_only=True, omit_defaults=True, frozen=True):
    """What every client frame has: `id` is the client's number for the reply; without it there is
    no `ok`, but errors are still told.
    """

    id: Number | UnsetType = UNSET


class ClientInfo(Struct, frozen=True, omit_defaults=True):
    """Name and version of the client program; for logs and metrics only."""

    name: Annotated[str, Meta(max_length=64)] = ""
    version: Annotated[str, Meta(max_length=64)] = ""


class Hello(ClientFrame, tag="hello", kw_only=True, frozen=True):
    """Must be first, within 5 s.

    `resume` is the newest cursor; `seen` the highest id the client knows.
    """

    token: Annotated[str, Meta(max_length=4096)]
    device: Key
    resume: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    seen: Id | UnsetType = UNSET
    client: ClientInfo | UnsetType = UNSET
    background: bool = False


class Refresh(ClientFrame, tag="refresh", kw_only=True, frozen=True):
    """A newer access token for this session, before the old one expires."""

    token: Annotated[str, Meta(max_length=4096)]


class Ping(ClientFrame, tag="ping", kw_only=True, frozen=True):
    """For browsers, which cannot send WebSocket pings."""


OF_CLIENTS: Final = (Hello, Refresh, Ping)
"""Frames of the session itself; every other one is of a kind."""


# ---- server to client ----------------------------------------------------------------------------


class ServerFrame(Struct, tag_field="type", kw_only=True, omit_defaults=True):
    """What the gateway sends. `re` repeats the `id` of the frame that asked."""

    re: int | UnsetType = UNSET


class Push(ServerFrame, kw_only=True):
    """A durable push.

    `n` counts them in this session from 1; `cursor` is the position right after it in the log.
    """

    durable: ClassVar[bool] = True
    n: int = 0
    cursor: str = ""


class Limits(Struct, frozen=True):
    """The limits of this server."""

    frame_bytes: int
    text_bytes: int
    send_per_minute: int
    frames_per_second: int = 0
    """WebSocket messages; those beyond are read later.

    0: not announced, by a server of before 2026-11-29.
    """
    units: int = 0
    """What a user, all sessions together, may spend at once; 0: not announced."""
    units_per_s: int = 0
    """What comes back of it in a second."""


class Welcome(ServerFrame, tag="welcome", kw_only=True):
    """The answer to hello. `result`: new, resumed or reset (reload from history)."""

    session: str
    user: str
    device: str
    time: str
    expires: str
    result: str
    cursor: str
    ping_s: int
    limits: Limits
    features: list[str]
    history_lag_s: float | UnsetType = UNSET


class Live(ServerFrame, tag="live", kw_only=True):
    """All that was missed has been pushed."""

    cursor: str


class Cursor(ServerFrame, tag="cursor", kw_only=True):
    """Everything up to this cursor has been pushed."""

    cursor: str


class Ok(ServerFrame, tag="ok", kw_only=True):
    """Done: a send is safe in the log. Which fields are set depends on the frame that asked."""

    message: str | UnsetType = UNSET
    version: str | UnsetType = UNSET
    time: str | UnsetType = UNSET
    duplicate: bool | UnsetType = UNSET
    expires: str | UnsetType = UNSET


class Error(ServerFrame, tag="error", kw_only=True):
    """A frame was refused, or could not be handled.

    `temporary: true`: the outcome is unknown, repeat with the same key; false: nothing happened.
    """

    code: str
    message: str
    temporary: bool
    retry_after_ms: int | UnsetType = UNSET
    details: dict[str, str] | UnsetType = UNSET


class Moved(ServerFrame, tag="moved", kw_only=True):
    """Another gateway owns this user; close 4001 follows."""

    url: str


class Drain(ServerFrame, tag="drain", kw_only=True):
    """The gateway will end soon; the socket stays usable until it is closed.

    `url`: where to connect next, when that is known.
    """

    reconnect_after_ms: int
    url: str | UnsetType = UNSET


class Expiring(ServerFrame, tag="expiring", kw_only=True):
    """The access token expires soon: send `refresh`."""

    at: str


class Pong(ServerFrame, tag="pong", kw_only=True):
    """The answer to ping."""

    time: str


OF_SERVERS: Final = (Welcome, Live, Cursor, Ok, Error, Moved, Drain, Expiring, Pong)
"""Frames that are neither a push nor the answer to a question."""
