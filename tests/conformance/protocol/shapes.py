"""The shapes of what comes over the wire (protocol.md section 3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Check = Callable[[Any], bool]
Shape = Mapping[str, Check]
"""Field -> what it must be; a name that ends with `?` may be left out. Others are ignored."""

_ID: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_CHAT: Final = re.compile(r"d-[1-9][0-9]{0,18}-[1-9][0-9]{0,18}|g-[1-9][0-9]{0,18}")
_SOCKET: Final = re.compile(r"wss?://[^/]+/v1/socket")


_SHAPES: Final[dict[Check, Shape]] = {}
"""The shape that a check of `shaped`, or of a list of them, looks for."""


def text(value: Any) -> bool:
    return isinstance(value, str)


def identifier(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None and int(value) < 2**63


def moment(value: Any) -> bool:
    return isinstance(value, str) and _TIME.fullmatch(value) is not None


def chat(value: Any) -> bool:
    return isinstance(value, str) and _CHAT.fullmatch(value) is not None


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)


def socket_url(value: Any) -> bool:
    return isinstance(value, str) and _SOCKET.fullmatch(value) is not None


def one_of(*values: str) -> Check:
    return lambda value: value in values


def list_of(check: Check) -> Check:
    def all_of(value: Any) -> bool:
        return isinstance(value, list) and all(map(check, value))

    if check in _SHAPES:
        _SHAPES[all_of] = _SHAPES[check]
    return all_of


def shaped(shape: Shape) -> Check:
    def check(value: Any) -> bool:
        return isinstance(value, dict) and not faults(value, shape)

    _SHAPES[check] = shape
    return check


def fields_of(value: Mapping[str, Any], shape: Shape) -> Iterator[tuple[str, str]]:
    """(object, field) of all that an answer holds of OBJECTS, whatever it is in."""
    named = next((name for name, each in OBJECTS.items() if each is shape), "")
    for name, check in shape.items():
        field = name.removesuffix("?")
        if field not in value:
            continue
        if named:
            yield named, field
        if (inner := _SHAPES.get(check)) is not None:
            some = value[field] if isinstance(value[field], list) else [value[field]]
            for one in some:
                yield from fields_of(one, inner)


def faults(value: Mapping[str, Any], shape: Shape) -> list[str]:
    """What is wrong with an object: fields that are missing, and those of another form."""
    wrong = []
    for name, check in shape.items():
        field = name.removesuffix("?")
        if field not in value:
            if field == name:
                wrong.append(f"{field} is missing")
        elif not check(value[field]):
            wrong.append(f"{field} is {value[field]!r}")
    return wrong


# ---- objects -------------------------------------------------------------------------------------

REACTION: Final[Shape] = {"emoji": text, "count": whole, "users": list_of(identifier)}
EVENT: Final[Shape] = {
    "kind": text,
    "user?": identifier,
    "users?": list_of(identifier),
    "role?": text,
    "name?": text,
    "message?": identifier,
}
FILE: Final[Shape] = {
    "file": identifier,
    "name": text,
    "type": text,
    "bytes": whole,
    "width?": whole,
    "height?": whole,
    "thumbnail?": flag,
}
OWN_FILE: Final[Shape] = {
    **FILE,
    "purpose": one_of("message", "avatar"),
    "state": one_of("pending", "complete", "held"),
    "created": moment,
}
UPLOAD: Final[Shape] = {
    "url": text,
    "method": text,
    "headers": lambda value: isinstance(value, dict),
    "expires": moment,
}
SETTINGS: Final[Shape] = {
    "muted_until?": moment,
    "pinned?": flag,
    "archived?": identifier,
    "draft?": text,
}
MESSAGE: Final[Shape] = {
    "chat": chat,
    "message": identifier,
    "sender": identifier,
    "key": text,
    "time": moment,
    "text?": text,
    "file?": shaped(FILE),
    "reply_to?": identifier,
    "mentions?": list_of(identifier),
    "event?": shaped(EVENT),
    "version": identifier,
    "edited?": identifier,
    "deleted?": identifier,
    "reactions": list_of(shaped(REACTION)),
}
CHAT_STATE: Final[Shape] = {
    "chat": chat,
    "kind": one_of("direct", "group"),
    **SETTINGS,
    "name?": text,
    "avatar?": identifier,
    "members?": whole,
    "role?": text,
    "version?": identifier,
    "others?": list_of(identifier),
    "newest": identifier,
    "newest_message?": shaped(MESSAGE),
    "unread": lambda value: whole(value) and value <= 999,
    "mentions": lambda value: whole(value) and value <= 999,
    "read": identifier,
    "received": identifier,
    "request?": flag,
}
PUBLIC_PROFILE: Final[Shape] = {
    "user": identifier,
    "user_name": text,
    "display_name": text,
    "avatar?": identifier,
    "version": identifier,
}
OWN_PROFILE: Final[Shape] = {
    **PUBLIC_PROFILE,
    "phone?": text,
    "email?": text,
    "settings?": lambda value: isinstance(value, dict),
}
TOKENS: Final[Shape] = {"access_token": text, "access_expires": moment, "refresh_token": text}
PAGE: Final[Shape] = {
    "chat": chat,
    "messages": list_of(shaped(MESSAGE)),
    "first?": identifier,
    "last?": identifier,
    "more_before": flag,
    "more_after": flag,
}
FOUND_MESSAGE: Final[Shape] = {
    **MESSAGE,
    "highlights": list_of(lambda pair: list_of(whole)(pair) and len(pair) == 2),
}
FOUND: Final[Shape] = {
    "messages": list_of(shaped(FOUND_MESSAGE)),
    "more": flag,
    "last?": identifier,
}
TOTAL: Final[Shape] = {
    "chats": lambda value: whole(value) and value <= 99,
    "mentions": lambda value: whole(value) and value <= 999,
}
CHATS: Final[Shape] = {
    "chats": list_of(shaped(CHAT_STATE)),
    "after?": text,
    "total?": shaped(TOTAL),
}
DIGEST: Final[Shape] = {
    "count": whole,
    "hash": lambda value: text(value) and re.fullmatch("[0-9a-f]{16}", value) is not None,
}
ROLE: Final = one_of("owner", "admin", "member", "reader")
GROUP: Final[Shape] = {
    "chat": chat,
    "name": text,
    "avatar?": identifier,
    "members": whole,
    "role": ROLE,
    "history": one_of("all", "from_join"),
    "created": moment,
    "version": identifier,
}
MEMBER: Final[Shape] = {
    "user": identifier,
    "role": ROLE,
    "joined": moment,
    "version": identifier,
}
CONTACT: Final[Shape] = {
    "user": identifier,
    "state": one_of("invited", "invited_me", "contact", "none"),
    "version": identifier,
}
PROBLEM: Final[Shape] = {
    "code": text,
    "message": text,
    "details": lambda value: isinstance(value, dict),
}
DEVICE: Final[Shape] = {
    "device": text,
    "device_name": text,
    "created": moment,
    "seen": moment,
    "current": flag,
}
PIN: Final[Shape] = {"message": identifier, "by": identifier, "time": moment}
WATERMARKS: Final[Shape] = {"user": identifier, "received": identifier, "read": identifier}
MINE: Final[Shape] = {"chat": chat, "version": identifier, **SETTINGS}
FIELD: Final[Shape] = {
    "name": text,
    "type": one_of("boolean", "integer", "number", "text"),
    "unit": text,
    "meaning": text,
    "default": scalar,
    "value": scalar,
    "is_set": flag,
    "least?": number,
    "most?": number,
    "choices?": list_of(text),
}
SECTION: Final[Shape] = {
    "section": text,
    "meaning": text,
    "version": identifier,
    "author?": identifier,
    "changed?": moment,
    "fields": list_of(shaped(FIELD)),
}
REVISION: Final[Shape] = {
    "version": identifier,
    "author": identifier,
    "changed": moment,
    "values": lambda value: isinstance(value, dict) and all(map(scalar, value.values())),
}
LIMITS: Final[Shape] = {
    "frame_bytes": whole,
    "text_bytes": whole,
    "send_per_minute": whole,
    "frames_per_second": whole,
    "units": whole,
    "units_per_s": whole,
}
OBJECTS: Final[Mapping[str, Shape]] = {
    "message": MESSAGE,
    "event": EVENT,
    "reaction": REACTION,
    "chat state": CHAT_STATE,
    "profile": PUBLIC_PROFILE,
    "own profile": OWN_PROFILE,
    "group": GROUP,
    "member": MEMBER,
    "contact": CONTACT,
    "mine": MINE,
    "device": DEVICE,
    "pin": PIN,
    "watermarks": WATERMARKS,
    "file": FILE,
    "own file": OWN_FILE,
    "upload": UPLOAD,
    "limits": LIMITS,
    "section": SECTION,
    "field": FIELD,
    "revision": REVISION,
}
"""Name -> shape of what frames and answers hold; `run` wants to see each of their fields."""
