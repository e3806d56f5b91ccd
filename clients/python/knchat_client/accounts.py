"""The HTTP calls of a client: register, log in, keep the access token fresh, look users
and pins up.

Source: protocol.md section 1. `ReconnectingSession` and `Client` use it; it knows
nothing of sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import httpx
import msgspec

from knchat_client.errors import error_of, error_of_status
from knchat_client.protocol.errors import ChatError, Refused, Unavailable
from knchat_client.protocol.frames import PinnedMessage, Watermarks
from knchat_client.protocol.ids import parse_id_or_time, unix_ms_of
from knchat_client.tokens import Login, TokenStore

# A token is renewed after two thirds of its life, so that a server down for a while does not end
# the session.
_RENEW_AFTER: Final = 2 / 3
_LEAST_LIFE_MS: Final = 1_000


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A user as the server shows one; the last three only about oneself."""

    user: str
    user_name: str
    display_name: str
    version: str
    avatar: str | None = None
    phone: str | None = None
    email: str | None = None
    settings: dict[str, Any] | None = None


class _Session(msgspec.Struct):
    user: str
    access_token: str
    access_expires: str
    refresh_token: str
    gateway: str
    profile: Profile


class _Users(msgspec.Struct):
    users: list[Profile]


class _Gateway(msgspec.Struct):
    gateway: str


class Nothing(msgspec.Struct):
    """A 204 has no body."""


class _Pins(msgspec.Struct):
    pins: list[PinnedMessage]


class _Receipts(msgspec.Struct):
    receipts: list[Watermarks]
    after: str | None = None


class _Problem(msgspec.Struct):
    code: str
    message: str
    details: dict[str, Any] = {}


Answer = TypeVar("Answer")


@functools.cache
def _authorities(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """Those that httpx trusts by these variables: reading them takes 40 ms, and a process
    may have many clients.
    """
    return httpx.create_ssl_context()


class Accounts:
    """One device's calls to one server.

    Every call raises Refused when the server says no, Unavailable when it does not answer in time.
    """

    def __init__(self, http_url: str, tokens: TokenStore, *, device: str, timeout_s: float) -> None:
        authorities = _authorities(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        self._http = httpx.AsyncClient(base_url=http_url, timeout=timeout_s, verify=authorities)
        self._http_url = http_url
        self._tokens = tokens
        self._device = device
        kept = tokens.load()
        self._login = (
            kept
            if kept is not None and (kept.http_url, kept.device) == (http_url, device)
            else None
        )
        self._renewing = asyncio.Lock()

    @property
    def login(self) -> Login:
        """Who is logged in. Raises Refused before a log-in."""
        if self._login is None:
            raise Refused("unauthorized", "not logged in")
        return self._login

    async def register(
        self,
        user_name: str,
        password: str,
        *,
        display_name: str | None,
        phone: str | None,
        email: str | None,
    ) -> Profile:
        """A new account. It is not logged in by this."""
        optional = {"display_name": display_name, "phone": phone, "email": email}
        body = {"user_name": user_name, "password": password} | {
            name: value for name, value in optional.items() if value is not None
        }
        return await self._call("POST", "/v1/users", Profile, body=body)

    async def log_in(self, user_name: str, password: str, *, device_name: str) -> Login:
        """Logs this device in, and keeps its tokens."""
        body = {
            "user_name": user_name,
            "password": password,
            "device": self._device,
            "device_name": device_name,
        }
        return self._keep(await self._call("POST", "/v1/sessions", _Session, body=body))

    async def log_out(self) -> None:
        """Ends this device at the server and forgets its tokens."""
        await self.call("DELETE", "/v1/sessions/current", Nothing)
        self._login = None
        self._tokens.save(None)

    async def fresh(self) -> Login:
        """The log-in with an access token that has some life left, renewed where needed."""
        login = self.login
        return (
            login
            if time.time() * 1000 < login.renew_at_ms
            else await self.renew(login.access_token)
        )

    async def renew(self, stale: str) -> Login:
        """A newer access token than `stale`; calls at the same time share one.

        After a lost answer the same call may be repeated.
        """
        async with self._renewing:
            if self.login.access_token == stale:
                body = {"refresh_token": self.login.refresh_token}
                self._keep(await self._call("POST", "/v1/tokens", _Session, body=body))
            return self.login

    async def gateway(self) -> str:
        """The URL of the gateway that owns this user now."""
        answer = await self.call("GET", "/v1/gateways", _Gateway, query={"user": self.login.user})
        return answer.gateway

    async def search(self, text: str, *, limit: int) -> Sequence[Profile]:
        """Users whose name contains the text (3 characters or more)."""
        answer = await self.call(
            "GET", "/v1/users", _Users, query={"search": text, "limit": str(limit)}
        )
        return answer.users

    async def profiles(self, users: Sequence[str]) -> Sequence[Profile]:
        """The users of these ids, those that exist."""
        answer = await self.call("GET", "/v1/users", _Users, query={"ids": ",".join(users)})
        return answer.users

    async def pins(self, chat: str) -> Sequence[PinnedMessage]:
        """The pins of a chat, newest first."""
        return (await self.call("GET", f"/v1/chats/{chat}/pins", _Pins)).pins

    async def receipts(self, chat: str) -> Sequence[Watermarks]:
        """How far the users of a chat have come, part by part."""
        found: list[Watermarks] = []
        query = {"limit": "256"}
        while True:
            part = await self.call("GET", f"/v1/chats/{chat}/receipts", _Receipts, query=query)
            found += part.receipts
            if part.after is None:
                return found
            query["after"] = part.after

    async def call(
        self,
        method: str,
        path: str,
        kind: type[Answer],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """A call in the user's name.

        A refused access token is renewed once: our clock may be wrong, or the keys new.
        """
        login = await self.fresh()
        try:
            return await self._call(
                method, path, kind, query=query, body=body, token=login.access_token
            )
        except ChatError as error:
            if error.code != "unauthorized":
                raise
        login = await self.renew(login.access_token)
        return await self._call(
            method, path, kind, query=query, body=body, token=login.access_token
        )

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """The answer to a request that needs no token, whatever it is."""
        try:
            async with self._http.stream(method, url, headers=headers, content=content) as answer:
                yield answer
        except httpx.HTTPError as error:
            raise Unavailable(f"no answer: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Closes connections and the token store."""
        await self._http.aclose()
        self._tokens.close()

    async def _call(
        self,
        method: str,
        path: str,
        kind: type[Answer],
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> Answer:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        try:
            answer = await self._http.request(
                method, path, json=body, params=query, headers=headers
            )
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{self._http_url} does not answer: {error or type(error).__name__}"
            ) from error
        if answer.has_redirect_location:
            return msgspec.convert({"location": answer.headers["location"]}, kind)
        if answer.is_success:
            try:
                return msgspec.json.decode(answer.content or b"{}", type=kind)
            except msgspec.MsgspecError as error:
                raise Unavailable(f"{self._http_url} is no kn-chat server: {error}") from error
        try:
            problem = msgspec.json.decode(answer.content, type=_Problem)
        except msgspec.MsgspecError:
            raise error_of_status(answer.status_code, answer.reason_phrase) from None
        retry_after = answer.headers.get("retry-after", "")
        raise error_of(
            problem.code,
            problem.message,
            details={"field": str(problem.details["field"])}
            if "field" in problem.details
            else None,
            retry_after_s=float(retry_after) if retry_after.isdigit() else None,
        )

    def _keep(self, session: _Session) -> Login:
        now_ms = int(time.time() * 1000)
        life_ms = max(
            unix_ms_of(parse_id_or_time(session.access_expires, name="access_expires")) - now_ms,
            _LEAST_LIFE_MS,
        )
        self._login = Login(
            http_url=self._http_url,
            user=session.user,
            user_name=session.profile.user_name,
            device=self._device,
            access_token=session.access_token,
            refresh_token=session.refresh_token,
            gateway=session.gateway,
            renew_at_ms=now_ms + int(life_ms * _RENEW_AFTER),
        )
        self._tokens.save(self._login)
        return self._login
