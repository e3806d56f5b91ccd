"""The server that is tested: users of the suite's own, their log-ins and their sockets."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Any

import websockets

from tests.conformance.protocol.calls import Http
from tests.conformance.protocol.expectations import Seen, expect, has
from tests.conformance.protocol.sockets import JSON, MSGPACK, Socket


@dataclass
class User:
    """A user of the suite's own, and the log-ins of its devices."""

    user: str
    name: str
    password: str
    logins: dict[str, dict[str, Any]] = field(default_factory=dict)


class Server:
    """The server that is tested, in one codec."""

    def __init__(
        self,
        http: str,
        ws: str,
        seen: Seen,
        *,
        packed: bool,
        administrator: tuple[str, str] | None = None,
    ) -> None:
        self._administrator = administrator
        self.http = Http(http, seen)
        self.ws = ws
        self.seen = seen
        self.packed = packed
        self.ann: User
        self.ben: User
        self._users: list[User] = []
        self._sockets: list[Socket] = []

    async def start(self) -> None:
        """Registers the two users that most cases share."""
        self.ann, self.ben = await asyncio.gather(self.new_user(), self.new_user())

    async def new_user(self) -> User:
        """A user of a random name."""
        name, password = f"cf-{secrets.token_hex(6)}", secrets.token_urlsafe(12)
        body = {"user_name": name, "password": password, "display_name": "Conformance"}
        profile = await self.http.call("POST /v1/users", body=body)
        has(profile, "the new profile", user_name=name, display_name="Conformance")
        self._users.append(User(profile["user"], name, password))
        return self._users[-1]

    async def administrator(self) -> str:
        """An access token of the one that the command names."""
        assert self._administrator is not None
        name, password = self._administrator
        body = {"user_name": name, "password": password, "device": f"cf-{secrets.token_hex(6)}"}
        login = await self.http.call("POST /v1/sessions", body=body)
        self._users.append(User(login["user"], name, password, {body["device"]: login}))
        return str(login["access_token"])

    async def log_in(self, user: User, device: str = "phone") -> dict[str, Any]:
        """A new log-in of this device."""
        body = {"user_name": user.name, "password": user.password, "device": device}
        user.logins[device] = await self.http.call("POST /v1/sessions", body=body)
        expect("user of the log-in", user.user, user.logins[device]["user"])
        return user.logins[device]

    async def token(self, user: User, device: str = "phone") -> str:
        """An access token of this device, which is logged in for it when it is not."""
        login = user.logins.get(device) or await self.log_in(user, device)
        return str(login["access_token"])

    def chat(self, one: User, other: User) -> str:
        """The direct chat of two users: both sides can derive it."""
        lower, higher = sorted((int(one.user), int(other.user)))
        return f"d-{lower}-{higher}"

    async def open(
        self, url: str | None = None, *, packed: bool | None = None, **more: Any
    ) -> Socket:
        """A WebSocket on which nothing is said yet."""
        packed = self.packed if packed is None else packed
        subprotocols = more.pop("subprotocols", [MSGPACK if packed else JSON])
        connection = await websockets.connect(
            url or self.ws,
            subprotocols=subprotocols,
            compression=more.pop("compression", None),
            max_size=2**20,
            max_queue=None,
            ping_interval=None,
            proxy=None,
            **more,
        )
        self._sockets.append(Socket(connection, self.seen, packed=packed))
        return self._sockets[-1]

    async def hello(self, user: User, device: str = "phone", **fields: Any) -> Socket:
        """A WebSocket at the gateway that owns the user, at `welcome`."""
        token = fields.pop("token", None) or await self.token(user, device)
        url = user.logins[device]["gateway"] if device in user.logins else None
        socket = await self.open(url)
        await socket.say({"type": "hello", "token": token, "device": device, **fields})
        socket.welcome = await socket.hear("welcome")
        has(socket.welcome, "welcome", user=user.user, device=device)
        return socket

    async def connect(self, user: User, device: str = "phone", **fields: Any) -> Socket:
        """A WebSocket that is live: what was missed has been pushed, and is forgotten."""
        socket = await self.hello(user, device, **fields)
        await socket.hear("live")
        socket.forget()
        return socket

    async def end_case(self) -> None:
        """Closes all WebSockets of a case."""
        sockets, self._sockets = self._sockets, []
        await asyncio.gather(*(socket.close() for socket in sockets), return_exceptions=True)

    async def end(self) -> None:
        """Logs out all that was logged in, so that nothing of the suite is left but its users."""
        await self.end_case()
        for user in self._users:
            for login in user.logins.values():
                await self.http.raw(
                    "DELETE", "/v1/sessions/current", token=str(login["access_token"])
                )
        await self.http.close()
