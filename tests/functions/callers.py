"""A client of the HTTP functions: the real app on real embedded stores, in this process."""

from __future__ import annotations

import secrets
import time
from typing import Any

import httpx

from backends.wiring import Backends
from functions.runtime.asgi import http_app
from schemas.topics import DELIVERIES

PASSWORD = "correct horse battery"


class Caller:
    """HTTP without a socket. After `log_in` calls carry its access token."""

    def __init__(self, backends: Backends, *, address: str = "192.0.2.1") -> None:
        self.backends = backends
        transport = httpx.ASGITransport(
            http_app(backends.settings.allowed_origins), client=(address, 4_000)
        )
        self._http = httpx.AsyncClient(transport=transport, base_url="http://chat.test", timeout=30)
        self.user = self.name = self.device = ""
        self.login: dict[str, Any] = {}

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        known = {"authorization": f"Bearer {self.login['access_token']}"} if self.login else {}
        if body is not None:
            more["json"] = body
        return await self._http.request(method, path, headers={**known, **(headers or {})}, **more)

    async def get(self, path: str, **query: Any) -> httpx.Response:
        return await self.call("GET", path, **({"params": query} if query else {}))

    async def register(self, name: str | None = None, **fields: Any) -> Caller:
        self.name = name or f"u{secrets.token_hex(6)}"
        answer = await self.call(
            "POST", "/v1/users", {"user_name": self.name, "password": PASSWORD, **fields}
        )
        assert answer.status_code == 201, answer.text
        self.user = answer.json()["user"]
        return self

    async def log_in(self, device: str = "phone", **fields: Any) -> Caller:
        answer = await self.call(
            "POST",
            "/v1/sessions",
            {"user_name": self.name, "password": PASSWORD, "device": device, **fields},
        )
        assert answer.status_code == 201, answer.text
        self.login, self.device = answer.json(), device
        return self

    async def on(self, device: str) -> Caller:
        """The same person on another device."""
        other = Caller(self.backends)
        other.name, other.user = self.name, self.user
        return await other.log_in(device)

    async def renew(self, refresh_token: str | None = None) -> httpx.Response:
        return await self.call(
            "POST", "/v1/tokens", {"refresh_token": refresh_token or self.login["refresh_token"]}
        )


def problem(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and field of an error, whose shape is checked."""
    body = answer.json()
    assert set(body) == {"code", "message", "details"}, body
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, body["code"], body["details"].get("field")


def at(backends, monkeypatch, seconds):
    """All clocks of this process are so far ahead of the true time."""
    monkeypatch.setattr(backends.clock, "now_ms", lambda: int((time.time() + seconds) * 1_000))
    monkeypatch.setattr(backends.clock, "now_s", lambda: time.time() + seconds)
    backends.reads.clock = lambda: time.time() + seconds


async def revoked(topics):
    """(user, device) of all revocations in the log."""
    return [
        (delivery.users[0], delivery.revoked.device)
        for delivery in await topics.items(DELIVERIES)
        if delivery.HasField("revoked")
    ]


async def noticed(topics):
    """(user, device, op) of all that devices are told of log-ins."""
    return [
        (delivery.users[0], delivery.device.device, delivery.device.op)
        for delivery in await topics.items(DELIVERIES)
        if delivery.HasField("device")
    ]
