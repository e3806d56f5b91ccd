"""The user beside a flood, whose waits are measured: sends until `ok`, GET /v1/me, and log-ins; and
neighbours who only write.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final

from measure.flooder import Connection, Http
from measure.process import ahead_of_others

OTHER_ADDRESS: Final = "127.0.0.2"
"""The address of the one who is measured."""
PASSWORD: Final = "correct horse battery staple"  # noqa: S105 - accounts live as long as a run
NEIGHBOURS, NEIGHBOUR_INTERVAL_S = 10, 0.1
"""Who writes beside them all the time. Where no one else writes, messages never wait for others',
and the first who writes, flood or not, changes that (docs/decisions/0001).
"""
SEND_INTERVAL_S, ME_INTERVAL_S, LOG_IN_INTERVAL_S = 0.02, 0.05, 1.0


@dataclass(slots=True)
class Waits:
    """What the other user has waited, in ms."""

    ack: list[float] = field(default_factory=list)
    me: list[float] = field(default_factory=list)
    log_in: list[float] = field(default_factory=list)

    def __add__(self, other: Waits) -> Waits:
        return Waits(self.ack + other.ack, self.me + other.me, self.log_in + other.log_in)


def p99(waits: list[float]) -> float:
    """The wait that one in a hundred was above; of fewer than a hundred the longest."""
    return sorted(waits)[min(len(waits) - 1, len(waits) * 99 // 100)] if waits else float("nan")


@dataclass(slots=True)
class User:
    """A user with a log-in."""

    name: str
    user: str
    token: str
    refresh: str
    gateway: str


class Session:
    """A user's session, and its tokens."""

    def __init__(self, address: str, me: User) -> None:
        self._http = Http(address, own=OTHER_ADDRESS)
        self._me = me
        self._connection = Connection()

    async def open(self) -> None:
        """Connects."""
        await self._connection.open(self._me.gateway, self._me.token, "phone")

    async def renew(self) -> None:
        """A token lives 15 minutes, and all floods take longer."""
        self._http.close()  # the server ends it when nothing comes for long
        body = {"refresh_token": self._me.refresh}
        log_in = json.loads(await call(self._http, "POST", "/v1/tokens", body=body))
        self._me.token, self._me.refresh = log_in["access_token"], log_in["refresh_token"]
        await self._say({"type": "refresh", "token": self._me.token})

    async def send(self) -> None:
        """One message to oneself, until its `ok`."""
        chat = f"d-{self._me.user}-{self._me.user}"
        await self._say({"type": "send", "chat": chat, "key": secrets.token_hex(4), "text": "hi"})

    async def _say(self, frame: dict[str, Any]) -> None:
        reply = await self._connection.ask(frame)
        if reply["type"] != "ok":
            raise SystemExit(f"the other user was refused: {frame['type']} {reply}")


class Neighbour(Session):
    """One who writes all the time."""

    async def write(self) -> None:
        """Ten messages a second, until it is cancelled."""
        while True:
            await self.send()
            await asyncio.sleep(NEIGHBOUR_INTERVAL_S)


class OtherUser(Session):
    """The user who is measured: one session, and calls beside."""

    def __init__(self, address: str, me: User) -> None:
        super().__init__(address, me)
        self._logging_in = Http(address, own=OTHER_ADDRESS)

    async def measure(self, seconds: float) -> Waits:
        """Sends, asks and logs in for so long."""
        waits, until_s = Waits(), time.monotonic() + seconds
        log_in = {"user_name": self._me.name, "password": PASSWORD, "device": "tablet"}

        async def repeat(every_s: float, took_ms: list[float], ask: Any) -> None:
            while time.monotonic() < until_s:
                began_s = time.monotonic()
                await ask()
                took_ms.append((time.monotonic() - began_s) * 1_000)
                await asyncio.sleep(max(0.0, began_s + every_s - time.monotonic()))

        with ahead_of_others(timing=True):
            await asyncio.gather(
                repeat(SEND_INTERVAL_S, waits.ack, self.send),
                repeat(
                    ME_INTERVAL_S,
                    waits.me,
                    lambda: call(self._http, "GET", "/v1/me", token=self._me.token),
                ),
                repeat(
                    LOG_IN_INTERVAL_S,
                    waits.log_in,
                    lambda: call(self._logging_in, "POST", "/v1/sessions", body=log_in),
                ),
            )
        return waits


async def call(connection: Http, *request: str, **more: Any) -> bytes:
    """The answer to a call that is not to be refused."""
    status, _, content = await connection.ask(*request, **more)
    if status >= 400:
        raise SystemExit(f"the other user was refused: {request} {status} {content[:200]!r}")
    return content
