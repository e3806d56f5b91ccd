"""Every HTTP call: method, path, what comes in, what goes out, which errors. One declaration validates, routes and documents it.

The HTTP functions bind a door to each (functions/routes.py), and functions/documents.py makes the OpenAPI document from the list.
Source: protocol.md section 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas import bodies, costs, frames
from schemas.costs import Cost

Answer = type[bodies.Body | frames.ServerFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call. `errors` are the codes of its own, besides those that its parts imply (`all_errors`). No `answer`: 204.

    `cost` is drawn from who asks: the user, or the address where the call is open. `repeated`: a token that this very call has ended
    will do for its repeat; the door asks for more than the token.
    """

    method: str
    path: str
    summary: str
    cost: Cost
    answer: Answer | None = None
    status: int = 200
    body: type[bodies.Body] | None = None
    query: type[bodies.Query] | None = None
    open: bool = False
    repeated: bool = False
    errors: tuple[str, ...] = ()

    @property
    def all_errors(self) -> tuple[str, ...]:
        """Every code that this call may answer with."""
        takes = self.body is not None or self.query is not None or "{" in self.path
        implied = [
            *(["malformed"] if takes else []),
            *(["too_large"] if self.body is not None else []),
            *([] if self.open else ["unauthorized"]),
            *([] if self.cost == costs.FREE else ["rate_limited"]),
            "unavailable",
        ]
        return tuple(dict.fromkeys([*implied, *self.errors]))


REGISTER: Final = Call(
    method="POST",
    path="/v1/users",
    summary="Registers a user.",
    cost=costs.HASH,
    open=True,
    body=bodies.NewUser,
    answer=bodies.OwnProfile,
    status=201,
    errors=("name_taken",),
)
LOG_IN: Final = Call(
    method="POST",
    path="/v1/sessions",
    summary="Logs a device in. A log-in on a device that is logged in replaces the older one.",
    cost=costs.HASH,
    open=True,
    body=bodies.LogIn,
    answer=bodies.Session,
    status=201,
    errors=("unauthorized",),
)
RENEW: Final = Call(
    method="POST",
    path="/v1/tokens",
    summary="New tokens for a refresh token. It gives the same ones for 2 minutes; using it later, or an older one, logs the device out.",
    cost=costs.WRITE,
    open=True,
    body=bodies.Renewal,
    answer=bodies.Session,
    status=201,
    errors=("unauthorized",),
)
LOG_OUT: Final = Call(method="DELETE", path="/v1/sessions/current", summary="Logs this device out.", cost=costs.WRITE, status=204)
DEVICES: Final = Call(method="GET", path="/v1/devices", summary="My devices.", cost=costs.ONE, answer=bodies.Devices)
REMOVE_DEVICE: Final = Call(
    method="DELETE",
    path="/v1/devices/{device}",
    summary="Logs one of my devices out. It is disconnected within 5 s.",
    cost=costs.WRITE,
    status=204,
    errors=("not_found",),
)
ME: Final = Call(method="GET", path="/v1/me", summary="My profile.", cost=costs.ONE, answer=bodies.OwnProfile)
CHANGE_ME: Final = Call(
    method="PATCH",
    path="/v1/me",
    summary="Changes my profile.",
    cost=costs.WRITE,
    body=bodies.ProfileChange,
    answer=bodies.OwnProfile,
    errors=("stale",),
)
CHANGE_PASSWORD: Final = Call(
    method="PUT",
    path="/v1/me/password",
    summary="Changes my password and ends all log-ins; this device gets new tokens.",
    cost=costs.TWO_HASHES,
    repeated=True,
    body=bodies.PasswordChange,
    answer=bodies.PasswordChanged,
    errors=("forbidden", "stale"),
)
USERS: Final = Call(method="GET", path="/v1/users", summary="Finds users.", cost=costs.PAGE, query=bodies.UsersQuery, answer=bodies.Users)
USER: Final = Call(
    method="GET",
    path="/v1/users/{user}",
    summary="A user's public profile.",
    cost=costs.ONE,
    answer=bodies.PublicProfile,
    errors=("unknown_user",),
)
GATEWAY: Final = Call(
    method="GET",
    path="/v1/gateways",
    summary="Where my sockets connect.",
    cost=costs.ONE,
    query=bodies.GatewayQuery,
    answer=bodies.Gateway,
    errors=("forbidden",),
)
KEYS: Final = Call(
    method="GET", path="/.well-known/jwks.json", summary="Public keys of access tokens.", cost=costs.ONE, open=True, answer=bodies.Keys
)
CHATS: Final = Call(
    method="GET", path="/v1/chats", summary="My chats, newest first.", cost=costs.PAGE, query=bodies.ChatsQuery, answer=frames.ChatList
)
MESSAGES: Final = Call(
    method="GET",
    path="/v1/chats/{chat}/messages",
    summary="A page of a chat, newest first.",
    cost=costs.PAGE,
    query=bodies.MessagesQuery,
    answer=frames.Page,
    errors=("unknown_chat",),
)
DIGEST: Final = Call(
    method="GET",
    path="/v1/chats/{chat}/digest",
    summary="Count and hash of a range: proves that a client holds all of it.",
    cost=costs.DIGEST,
    query=bodies.DigestQuery,
    answer=frames.Digest,
    errors=("unknown_chat",),
)

CALLS: Final = (
    REGISTER,
    LOG_IN,
    RENEW,
    LOG_OUT,
    DEVICES,
    REMOVE_DEVICE,
    ME,
    CHANGE_ME,
    CHANGE_PASSWORD,
    USERS,
    USER,
    GATEWAY,
    KEYS,
    CHATS,
    MESSAGES,
    DIGEST,
)
"""All of them, in the order of the document."""
