"""The suite's own list of what docs/protocol.md serves: frames with their fields, calls, close and
error codes.

`tests/test_conformance_rows.py` compares it with the page. The client checks all that comes by
these rows and notes what it has sent and seen; a row that no case has sent or seen fails the run,
unless NOT_CAUSED says why no client can cause it.

A new frame is its row in CLIENT_FRAMES or SERVER_FRAMES, a call its row in CALLS, a code its row
below; then a case beside the others of its subject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.conformance.protocol.shapes import (
    CHATS,
    CONTACT,
    DEVICE,
    DIGEST,
    EVENT,
    FILE,
    FOUND,
    GROUP,
    LIMITS,
    MEMBER,
    MINE,
    OWN_FILE,
    OWN_PROFILE,
    PAGE,
    PIN,
    PUBLIC_PROFILE,
    REVISION,
    ROLE,
    SECTION,
    SETTINGS,
    TOKENS,
    UPLOAD,
    WATERMARKS,
    Shape,
    chat,
    flag,
    identifier,
    list_of,
    moment,
    number,
    one_of,
    shaped,
    socket_url,
    text,
    whole,
)

# ---- section 2: frames ---------------------------------------------------------------------------

CLIENT_FRAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "hello": ("token", "device", "resume", "seen", "client", "background"),
    "send": ("chat", "to", "key", "text", "file", "reply_to", "mentions"),
    "edit": ("chat", "message", "key", "text"),
    "delete": ("chat", "message", "key", "for"),
    "react": ("chat", "message", "key", "emoji"),
    "unreact": ("chat", "message", "key", "emoji"),
    "pin": ("chat", "message", "key"),
    "unpin": ("chat", "message", "key"),
    "mark": ("chat", "received", "read"),
    "history": ("chat", "before", "after", "around", "limit"),
    "chats": ("after", "limit"),
    "digest": ("chat", "from", "to"),
    "typing": ("chat",),
    "watch": ("users",),
    "unwatch": ("users",),
    "presence": ("state", "text"),
    "refresh": ("token",),
    "ping": (),
}
"""Fields besides `type` and `id`."""

_PUSH: Final[Shape] = {"n": whole, "cursor": text}
_RE: Final[Shape] = {"re": whole}
SERVER_FRAMES: Final[Mapping[str, Shape]] = {
    "welcome": {
        "session": text,
        "user": identifier,
        "device": text,
        "time": moment,
        "expires": moment,
        "result": one_of("new", "resumed", "reset"),
        "cursor": text,
        "history_lag_s?": number,
        "ping_s": whole,
        "limits": shaped(LIMITS),
        "features": list_of(text),
    },
    "live": {"cursor": text},
    "cursor": {"cursor": text},
    "ok": {
        **_RE,
        "message?": identifier,
        "version?": identifier,
        "time?": moment,
        "duplicate?": flag,
        "expires?": moment,
    },
    "error": {
        "re?": whole,
        "code": text,
        "message": text,
        "temporary": flag,
        "retry_after_ms?": whole,
        "details?": lambda value: isinstance(value, dict),
    },
    "page": {**_RE, **PAGE},
    "chats": {**_RE, **CHATS},
    "digest": {**_RE, **DIGEST},
    "pong": {"re?": whole, "time": moment},
    "message": {
        **_PUSH,
        "chat": chat,
        "message": identifier,
        "sender": identifier,
        "time": moment,
        "text?": text,
        "file?": shaped(FILE),
        "reply_to?": identifier,
        "mentions?": list_of(identifier),
        "key": text,
        "device?": text,
        "event?": shaped(EVENT),
    },
    "newer": {**_PUSH, "chat": chat, "newest": identifier},
    "chat": {
        **_PUSH,
        "chat": chat,
        "part": one_of("group", "member", "mine", "deleted"),
        "version": identifier,
        **SETTINGS,
        "name?": text,
        "avatar?": identifier,
        "members?": whole,
        "role?": ROLE,
        "history?": one_of("all", "from_join"),
        "created?": moment,
        "user?": identifier,
        "joined?": moment,
    },
    "changed": {
        **_PUSH,
        "chat": chat,
        "message": identifier,
        "version": identifier,
        "op": one_of("edit", "delete", "react", "unreact", "pin", "unpin"),
        "by": identifier,
        "text?": text,
        "emoji?": text,
        "for?": one_of("me"),
    },
    "receipt": {
        **_PUSH,
        "chat": chat,
        "user": identifier,
        "received?": identifier,
        "read?": identifier,
    },
    "refused": {**_PUSH, "chat": chat, "message": identifier, "key": text, "code": text},
    "failed": {**_PUSH, "message": identifier, "key": text},
    "unread": {
        **_PUSH,
        "chat": chat,
        "unread": whole,
        "mentions": whole,
        "read": identifier,
        "upto": identifier,
    },
    "typing": {"chat": chat, "user": identifier},
    "presence": {
        "user": identifier,
        "state": one_of("online", "away", "busy", "offline"),
        "text?": text,
        "last_seen?": moment,
    },
    "contact": {**_PUSH, **CONTACT},
    "device": {
        **_PUSH,
        "device": text,
        "op": one_of("logged_in", "password_changed"),
        "time": moment,
        "device_name?": text,
    },
    "moved": {"url": socket_url},
    "drain": {"reconnect_after_ms": whole, "url?": socket_url},
    "expiring": {"at": moment},
}

# ---- codes ---------------------------------------------------------------------------------------

CLOSE_CODES: Final = (
    1000, 1001, 1002, 1007, 1009, 1011, 1012,
    4001, 4002, 4003, 4004, 4005, 4006, 4400, 4401, 4403, 4404, 4409, 4429,
)  # fmt: skip
ERROR_CODES: Final[Mapping[str, tuple[int, bool]]] = {
    "malformed": (400, False),
    "unknown_type": (400, False),
    "unauthorized": (401, False),
    "forbidden": (403, False),
    "blocked": (403, False),
    "not_member": (403, False),
    "not_found": (404, False),
    "unknown_chat": (404, False),
    "unknown_message": (404, False),
    "unknown_user": (404, False),
    "stale": (409, False),
    "key_reused": (409, False),
    "name_taken": (409, False),
    "too_many": (409, False),
    "too_large": (413, False),
    "rate_limited": (429, True),
    "unavailable": (503, True),
    "starting": (503, True),
    "suspended": (403, False),
}
"""Code -> its HTTP status, and whether it is temporary."""

# ---- section 1: calls ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One call: the status of its good answer, and that answer's shape; None: no body."""

    status: int
    answer: Shape | None
    fields: tuple[str, ...] = ()
    """Of its body or query."""
    is_open: bool = False


_PART: Final = ("after", "limit")


_MEMBERS: Final[Shape] = {"members": list_of(shaped(MEMBER)), "after?": text}
_PRIVACY: Final[Shape] = {
    "who_may_write": one_of("everyone", "contacts"),
    "receipts": flag,
    "last_seen": one_of("everyone", "contacts", "none"),
    "version": identifier,
}
_SESSION: Final[Shape] = {
    **TOKENS,
    "user": identifier,
    "gateway": socket_url,
    "profile": shaped(OWN_PROFILE),
}
CALLS: Final[Mapping[str, Call]] = {
    "POST /v1/users": Call(
        201, OWN_PROFILE, ("user_name", "password", "display_name", "phone", "email"), is_open=True
    ),
    "POST /v1/sessions": Call(
        201, _SESSION, ("user_name", "password", "device", "device_name"), is_open=True
    ),
    "POST /v1/tokens": Call(201, _SESSION, ("refresh_token",), is_open=True),
    "DELETE /v1/sessions/current": Call(204, None),
    "GET /v1/devices": Call(200, {"devices": list_of(shaped(DEVICE))}),
    "DELETE /v1/devices/{device}": Call(204, None),
    "GET /v1/me": Call(200, OWN_PROFILE),
    "PATCH /v1/me": Call(
        200, OWN_PROFILE, ("version", "display_name", "avatar", "phone", "email", "settings")
    ),
    "PUT /v1/me/password": Call(200, {**OWN_PROFILE, **TOKENS}, ("password", "new_password")),
    "GET /v1/me/privacy": Call(200, _PRIVACY),
    "PUT /v1/me/privacy": Call(200, _PRIVACY, tuple(_PRIVACY)),
    "GET /v1/contacts": Call(200, {"contacts": list_of(shaped(CONTACT)), "after?": text}, _PART),
    "PUT /v1/contacts/{user}": Call(200, CONTACT, ("action", "version")),
    "GET /v1/blocks": Call(
        200, {"blocks": list_of(shaped({"user": identifier})), "after?": text}, _PART
    ),
    "PUT /v1/blocks/{user}": Call(204, None),
    "DELETE /v1/blocks/{user}": Call(204, None),
    "GET /v1/users": Call(
        200, {"users": list_of(shaped(PUBLIC_PROFILE))}, ("search", "ids", "limit")
    ),
    "GET /v1/users/{user}": Call(200, PUBLIC_PROFILE),
    "GET /v1/gateways": Call(200, {"gateway": socket_url}, ("user",)),
    "GET /v1/chats": Call(200, CHATS, (*_PART, "archived")),
    "POST /v1/chats": Call(201, GROUP, ("key", "name", "members", "history", "avatar")),
    "GET /v1/chats/{chat}": Call(200, GROUP),
    "PATCH /v1/chats/{chat}": Call(200, GROUP, ("version", "name", "avatar", "history")),
    "DELETE /v1/chats/{chat}": Call(204, None),
    "GET /v1/chats/{chat}/members": Call(200, _MEMBERS, _PART),
    "POST /v1/chats/{chat}/members": Call(200, _MEMBERS, ("members", "role")),
    "PUT /v1/chats/{chat}/members/{user}": Call(200, MEMBER, ("role",)),
    "DELETE /v1/chats/{chat}/members/{user}": Call(204, None),
    "GET /v1/chats/{chat}/mine": Call(200, MINE),
    "PUT /v1/chats/{chat}/mine": Call(
        200, MINE, ("version", "muted_until", "pinned", "archived", "draft")
    ),
    "GET /v1/chats/{chat}/messages": Call(200, PAGE, ("before", "after", "around", "limit")),
    "GET /v1/chats/{chat}/digest": Call(200, DIGEST, ("from", "to")),
    "GET /v1/chats/{chat}/pins": Call(200, {"pins": list_of(shaped(PIN))}),
    "GET /v1/chats/{chat}/receipts": Call(
        200, {"receipts": list_of(shaped(WATERMARKS)), "after?": text}, _PART
    ),
    "GET /v1/config": Call(200, {"sections": list_of(shaped(SECTION))}),
    "GET /v1/config/{section}": Call(200, SECTION),
    "PUT /v1/config/{section}": Call(200, SECTION, ("version", "values")),
    "GET /v1/config/{section}/history": Call(
        200, {"revisions": list_of(shaped(REVISION)), "before?": text}, ("before", "limit")
    ),
    "POST /v1/files": Call(
        201, {"file": identifier, "upload": shaped(UPLOAD)}, ("name", "bytes", "type", "purpose")
    ),
    "POST /v1/files/{file}/complete": Call(200, OWN_FILE),
    "GET /v1/files": Call(200, {"files": list_of(shaped(OWN_FILE)), "after?": text}, _PART),
    "GET /v1/files/{file}": Call(307, None, ("size",)),
    "GET /v1/search/messages": Call(200, FOUND, ("q", "chat", "before", "limit")),
    "GET /.well-known/jwks.json": Call(
        200, {"keys": list_of(lambda key: isinstance(key, dict))}, is_open=True
    ),
    "GET /v1/openapi.json": Call(200, {"openapi": text, "paths": shaped({})}, is_open=True),
    "GET /v1/docs": Call(200, None, is_open=True),
}

# ---- what no client can cause --------------------------------------------------------------------

NOT_CAUSED: Final[Mapping[str, str]] = {
    "close 1001": "the server ends before a hello",
    "close 1011": "a bug of the server",
    "close 1012": "the server restarts",
    "close 4003": "a code does not reach a client that does not read",
    "close 4006": "the server starts",
    "error unavailable": "a part of the server does not answer",
    "error starting": "the server starts",
    "error suspended": "an operator suspends an account",
    "server failed": "a command was dead-lettered",
    "server newer": "takes a group of more than 1,000 members",
    "server drain": "the server ends",
    "server welcome.history_lag_s": "history is behind",
    "server expiring": "takes a token's life",
    "server cursor": "takes 5 minutes of silence",
}
"""Row -> why. They are checked whenever they come, and the run names those that did not."""
ONLY_SLOW: Final = frozenset({"close 4002", "server presence.last_seen"})
"""Rows that only the slow cases cause (`--slow`)."""
ONLY_SEVERAL: Final = frozenset({"close 4001", "server moved"})
"""Rows that need a server of several gateways; where `--ws` owns all users they do not come."""
ADMINISTRATORS: Final = frozenset(
    {
        *(f"call {name}" for name in CALLS if "/v1/config" in name),
        *(f"object {name}" for name in ("section", "field", "revision")),
    }
)
"""Rows that need an administrator (`--administrator`)."""
