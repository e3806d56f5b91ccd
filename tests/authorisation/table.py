"""The table: every call and frame, who asks, what it names, and what must come of it.

A new call or frame is one row in OPERATIONS. A new relation (blocked, invited, contact, former
member, reader, member, admin, owner) is one row in ACTORS, made in `world.py`; what it may do is
said by the rows' `may`, and by who belongs to a target (`world.People`). A new kind of thing that
can be named (a group, a file) is one row in TARGETS. `test_matrix.py` makes the checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# ---- who asks ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Actor:
    """Who asks: a user, and what is wrong with the token, if anything."""

    name: str
    user: str
    """Of `world.py`; empty: no user."""
    closed_with: int = 0
    """Of one whose token does not count: the code that a hello is closed with."""
    refused_with: str = "unauthorized"
    """The code that all calls of such a one are refused with."""

    @property
    def is_known(self) -> bool:
        """Whether the token counts."""
        return not self.closed_with


ACTORS: Final = (
    Actor("no one", "", closed_with=4400),
    Actor("forged", "ann", closed_with=4401),
    Actor("expired", "ann", closed_with=4004),
    Actor("revoked", "ann", closed_with=4403),
    Actor("suspended", "mo", closed_with=4403, refused_with="suspended"),
    Actor("stranger", "dan"),
    Actor("former", "kim"),
    Actor("reader", "jo"),
    Actor("member", "ian"),
    Actor("admin", "hal"),
    Actor("blocked", "eve"),
    Actor("invited", "fay"),
    Actor("contact", "gil"),
    Actor("administrator", "max"),
    Actor("other", "ben"),
    Actor("second", "ann"),
    Actor("self", "ann"),
)
"""`other` is the other person of ann's chat, `second` another device of ann; those between are to
ann what their names say, and have no chat with ann.
"""

# ---- what is named -------------------------------------------------------------------------------

TARGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "nothing": ("",),
    "chat": (
        "ann and ben",
        "ann and cem, empty",
        "with ann",
        "with lee",
        "of no users",
        "group",
        "no such group",
    ),
    "group": ("group", "no such group", "of no users"),
    "user": ("ann", "cem", "no user"),
    "other user": ("cem", "no user"),
    "ann as user": ("ann",),
    "device": ("spare of ann", "no device"),
    "section": ("a section", "no section"),
    "file": ("file to ben", "file of ann", "no such file"),
    "own file": ("file of ann", "no such file"),
    "avatar file": ("avatar of ann",),
    "avatar": ("avatar of ann", "no such file"),
}
"""What can be named -> the ones that are tried; `world.py` knows their ids."""

UNWATCHED: Final = frozenset({"ann and cem, empty", "with ann", "with lee", "no such group"})
"""What `World.state` leaves out; the chat of ben with ann it does not."""
_ALL: Final = frozenset(
    {"ann", "ben", "cem", "dan", "eve", "fay", "gil", "hal", "ian", "jo", "kim", "lee", "max", "mo"}
)
BELONGS: Final[Mapping[str, frozenset[str]]] = {
    "ann and ben": frozenset({"ann", "ben"}),
    "ann and cem, empty": frozenset({"ann", "cem"}),
    "of no users": frozenset(),
    "group": frozenset({"ann", "hal", "ian", "jo"}),
    "no such group": frozenset(),
    "ann": frozenset({"ann"}),
    "cem": frozenset({"cem"}),
    "no user": frozenset(),
    "spare of ann": frozenset({"ann"}),
    "no device": frozenset(),
    "a section": frozenset({"max"}),
    "no section": frozenset(),
    "file to ben": frozenset({"ann", "ben"}),
    "file of ann": frozenset({"ann"}),
    "avatar of ann": frozenset({"ann"}),
    "no such file": frozenset(),
    "with ann": _ALL,
    "with lee": _ALL,
    "": _ALL,
}
"""Whose each of them is. `with` is the direct chat of who asks."""
REFUSED: Final[Mapping[str, frozenset[str]]] = {
    "with ann": frozenset({"eve"}),
    "with lee": _ALL - {"gil", "lee"},
}
"""Who may not write there: eve is blocked, and lee hears contacts alone. The two look alike."""
FORMER: Final[Mapping[str, frozenset[str]]] = {"group": frozenset({"kim"})}
"""Whose it was: they are told so."""

# ---- what is asked -------------------------------------------------------------------------------

May = Callable[[Actor, str], str]
"""What an actor whose token counts gets for a target: empty for the good answer, else a code."""


def anyone(_actor: Actor, _target: str) -> str:
    """All who are logged in; what it shows is the caller's own, or public."""
    return ""


def theirs(code: str) -> May:
    """Those whose it is; to all others it is refused with this code, whether it exists or not."""

    def may(actor: Actor, target: str) -> str:
        if actor.user in BELONGS[target]:
            return ""
        return "not_member" if actor.user in FORMER.get(target, ()) else code

    return may


def with_role(*lacking: str) -> May:
    """Those of the group but these actors, who are refused `forbidden`."""

    def may(actor: Actor, target: str) -> str:
        code = theirs("unknown_chat")(actor, target)
        return "forbidden" if not code and actor.name in lacking else code

    return may


def command_of(*lacking: str) -> May:
    """Those whose chat it is, but these actors of the group. That a direct chat is another's is
    known at once; all else is decided after the `ok`, and told by `refused`.
    """

    def may(actor: Actor, target: str) -> str:
        if actor.user in REFUSED.get(target, ()):
            return "refused forbidden"
        if "group" not in target:
            return theirs("unknown_chat")(actor, target)
        code = with_role(*lacking)(actor, target)
        return f"refused {code}" if code else ""

    return may


def stale(actor: Actor, target: str) -> str:
    """Those whose chat it is, who name an older version here."""
    return theirs("unknown_chat")(actor, target) or "stale"


def unanswered(actor: Actor, target: str) -> str:
    """Marks and typing: that one is refused in a group is not told, nor that it is by the other
    user of a direct chat.
    """
    return theirs("unknown_chat")(actor, target) if "group" not in target else ""


def existing(code: str) -> May:
    """All who are logged in, where it exists: that it does is no secret."""
    return lambda _actor, target: "" if BELONGS[target] else code


def never_a_contact(_actor: Actor, target: str) -> str:
    """No one has been invited by these: there is nothing to accept."""
    return "malformed" if BELONGS[target] else "unknown_user"


def accept_ann(actor: Actor, _target: str) -> str:
    """An invitation of ann, by a version that is only right where there is none."""
    codes = {"invited": "stale", "contact": "stale", "blocked": "forbidden"}
    return codes.get(actor.name, "malformed")


def administrators(actor: Actor, target: str) -> str:
    """They alone, who are told which there are; others may ask for nothing."""
    if actor.name != "administrator":
        return "forbidden"
    return "" if actor.user in BELONGS[target] else "not_found"


def avatar_by_version_1(actor: Actor, _target: str) -> str:
    """The profile of ann has changed since; no avatar of the others is named here."""
    return "stale" if actor.user == "ann" else "not_found"


def never(code: str) -> May:
    """No one, as it is asked here."""
    return lambda _actor, _target: code


@dataclass(frozen=True)
class Operation:
    """A call (`GET /v1/me`) or a frame (`send`) as the page names it, and how it is asked."""

    name: str
    may: May
    names: str = "nothing"
    """What it names: a key of TARGETS, and the place or field that holds the id."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Query, body or fields besides."""
    is_open: bool = False
    """It is asked without a token by everyone."""
    changes: bool = False
    """Where it is allowed it changes what the checks compare: it is done in UNWATCHED only."""

    has_reply: bool = True
    """False: of a frame that is refused only."""

    @property
    def is_call(self) -> bool:
        """Whether it goes over HTTP."""
        return " " in self.name

    @property
    def writes(self) -> bool:
        """Whether it could change something, if it were not refused."""
        return self.changes or (self.is_call and not self.name.startswith("GET "))


_RANGE: Final = {"from": "0", "to": str(2**62)}
_WRONG: Final = {"password": "not the password", "new_password": "another one of mine"}

CALLS: Final = (
    Operation("POST /v1/users", never("name_taken"), is_open=True, fields={"user_name": "@ann"}),
    Operation("POST /v1/sessions", never("unauthorized"), is_open=True, fields={
        "user_name": "@ann", "password": "not the password", "device": "x"}),
    Operation("POST /v1/tokens", never("unauthorized"), is_open=True, fields={
        "refresh_token": "@ended"}),
    Operation("DELETE /v1/sessions/current", anyone, changes=True),
    Operation("GET /v1/devices", anyone),
    Operation("DELETE /v1/devices/{device}", theirs("not_found"), "device", changes=True),
    Operation("GET /v1/me", anyone),
    Operation("PATCH /v1/me", never("stale"), fields={"version": "0", "display_name": "Mallory"}),
    Operation("PATCH /v1/me", avatar_by_version_1, "avatar", fields={"version": "1"}),
    Operation("PUT /v1/me/password", never("forbidden"), fields=_WRONG),
    Operation("GET /v1/me/privacy", anyone),
    Operation("PUT /v1/me/privacy", never("stale"), fields={
        "version": "7", "who_may_write": "contacts", "receipts": False, "last_seen": "none"}),
    Operation("GET /v1/contacts", anyone),
    Operation("PUT /v1/contacts/{user}", never_a_contact, "other user", fields={
        "action": "accept", "version": "0"}),
    Operation("PUT /v1/contacts/{user}", accept_ann, "ann as user", fields={
        "action": "accept", "version": "0"}),
    Operation("GET /v1/blocks", anyone),
    Operation("PUT /v1/blocks/{user}", existing("unknown_user"), "other user", changes=True),
    Operation("DELETE /v1/blocks/{user}", anyone, "other user"),
    Operation("GET /v1/users", anyone, fields={"ids": "@users"}),
    Operation("GET /v1/users/{user}", existing("unknown_user"), "user"),
    Operation("GET /v1/gateways", theirs("forbidden"), "user"),
    Operation("GET /v1/chats", anyone),
    Operation("POST /v1/chats", never("unknown_user"), fields={
        "key": "@key", "name": "A group", "members": ["5"]}),
    Operation("POST /v1/chats", theirs("not_found"), "avatar", fields={
        "key": "@key", "name": "A group"}),
    Operation("GET /v1/chats/{chat}", theirs("unknown_chat"), "group"),
    Operation("PATCH /v1/chats/{chat}", with_role("reader", "member"), "group", changes=True,
        fields={"version": "1", "name": "Mine now"}),
    Operation("DELETE /v1/chats/{chat}", with_role("reader", "member", "admin"), "group",
        changes=True),
    Operation("GET /v1/chats/{chat}/members", theirs("unknown_chat"), "group"),
    Operation("POST /v1/chats/{chat}/members", with_role("reader", "member"), "group", changes=True,
        fields={"members": "@users_list"}),
    Operation("PUT /v1/chats/{chat}/members/{user}", with_role("reader", "member"), "group",
        changes=True, fields={"role": "member"}),
    Operation("DELETE /v1/chats/{chat}/members/{user}", with_role("reader", "member"), "group",
        changes=True),
    Operation("GET /v1/chats/{chat}/mine", theirs("unknown_chat"), "chat"),
    Operation("PUT /v1/chats/{chat}/mine", stale, "chat", fields={
        "version": "9", "draft": "mine"}),
    Operation("GET /v1/chats/{chat}/messages", theirs("unknown_chat"), "chat"),
    Operation("GET /v1/chats/{chat}/digest", theirs("unknown_chat"), "chat", fields=_RANGE),
    Operation("GET /v1/chats/{chat}/pins", theirs("unknown_chat"), "chat"),
    Operation("GET /v1/chats/{chat}/receipts", theirs("unknown_chat"), "chat"),
    Operation("GET /v1/config", administrators),
    Operation("GET /v1/config/{section}", administrators, "section"),
    Operation("PUT /v1/config/{section}", administrators, "section", fields={
        "version": "0", "values": {}}),
    Operation("GET /v1/config/{section}/history", administrators, "section"),
    Operation("POST /v1/files", never("malformed"), fields={
        "name": "x", "bytes": 0, "type": "image/png", "purpose": "message"}),
    Operation("GET /v1/files", anyone),
    Operation("POST /v1/files/{file}/complete", theirs("not_found"), "own file"),
    Operation("GET /v1/files/{file}", theirs("not_found"), "file"),
    Operation("GET /v1/files/{file}", anyone, "avatar file"),
    # Both secrets that messages hold would be found.
    Operation("GET /v1/search/messages", theirs("unknown_chat"), "chat", fields={"q": "ro"}),
    Operation("GET /v1/search/messages", anyone, fields={"q": "ro"}),
    Operation("GET /.well-known/jwks.json", anyone, is_open=True),
    Operation("GET /v1/openapi.json", anyone, is_open=True),
    Operation("GET /v1/docs", anyone, is_open=True),
)  # fmt: skip
FRAMES: Final = (
    Operation(
        "send",
        command_of("reader"),
        "chat",
        fields={"key": "@key", "text": "intruded"},
        changes=True,
    ),
    Operation("mark", unanswered, "chat", fields={"read": "@message"}, changes=True),
    *(
        Operation(
            name,
            command_of(*lacking),
            "chat",
            fields={"message": "@message", "key": "@key", **fields},
            changes=True,
        )
        for name, fields, lacking in (
            ("edit", {"text": "intruded"}, ["reader"]),
            ("delete", {"for": "all"}, ["reader"]),
            ("react", {"emoji": "👍"}, ["reader"]),
            ("unreact", {"emoji": "👍"}, ["reader"]),
            ("pin", {}, ["reader", "member"]),
            ("unpin", {}, ["reader", "member"]),
        )
    ),
    Operation("history", theirs("unknown_chat"), "chat"),
    Operation("chats", anyone),
    Operation("digest", theirs("unknown_chat"), "chat", fields=_RANGE),
    Operation("typing", unanswered, "chat", changes=True, has_reply=False),
    Operation("watch", anyone, fields={"users": "@watched"}),
    Operation("unwatch", anyone, fields={"users": "@watched"}),
    Operation("presence", anyone, fields={"state": "busy"}),
    Operation("refresh", never("unauthorized"), fields={"token": "@cem"}),
    Operation("ping", anyone),
)
HELLO: Final = "hello"
"""Every socket of the matrix says it, and its own outcomes are in ACTORS."""
OPERATIONS: Final = CALLS + FRAMES


@dataclass(frozen=True)
class Check:
    """One cell: who asks what of which target, and what must come."""

    operation: Operation
    actor: Actor
    target: str
    code: str
    """Empty: the good answer; `close 4401`; `refused unknown_chat` after an `ok`; else the code of
    an error.
    """

    def __str__(self) -> str:
        target = self.target.replace(" ", "-").replace(",", "") or "own"
        return f"{self.operation.name.replace(' ', '-')}, {self.actor.name}, {target}"


def checks() -> Iterator[Check]:
    """All cells of the table."""
    for operation in OPERATIONS:
        for actor in ACTORS:
            for target in TARGETS[operation.names]:
                code = _code(operation, actor, target)
                is_watched = target not in UNWATCHED or (actor.name, target) == (
                    "other",
                    "with ann",
                )
                if code or not operation.changes or not is_watched:
                    yield Check(operation, actor, target, code)


def _code(operation: Operation, actor: Actor, target: str) -> str:
    if operation.is_open or actor.is_known:
        return operation.may(actor, target)
    return actor.refused_with if operation.is_call else f"close {actor.closed_with}"
