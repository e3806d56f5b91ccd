"""The product under load, over HTTP: registers users, logs them in, reads history."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from measure.checker import History


@dataclass(frozen=True, slots=True)
class User:
    """One logged-in user of a run."""

    number: int
    user: str
    name: str
    token: str
    gateway: str


def _explain(response: httpx.Response) -> str:
    return (
        f"{response.request.method} {response.request.url.path} answered "
        f"{response.status_code}: {response.text[:200]}"
    )


class Target:
    """HTTP calls with a limit on how many run at once; answers that say when to
    retry are repeated.
    """

    def __init__(self, http_url: str, *, at_once: int = 8) -> None:
        self._client = httpx.AsyncClient(base_url=http_url, timeout=30)
        self._gate = asyncio.Semaphore(at_once)

    async def _call(
        self, method: str, path: str, *, token: str = "", **arguments: object
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with self._gate:
            for attempt in range(8):
                try:
                    response = await self._client.request(
                        method,
                        path,
                        headers=headers,
                        **arguments,  # type: ignore[arg-type] # forwarded
                    )
                except httpx.TransportError:
                    if attempt == 7:
                        raise
                    await asyncio.sleep(0.2 * 2**attempt)
                    continue
                if response.status_code not in {429, 503}:
                    break
                await asyncio.sleep(min(float(response.headers.get("retry-after", 1)), 10))
        if response.status_code >= 400:
            raise SystemExit(_explain(response))
        return response

    async def call(self, method: str, path: str, *, token: str, json: object) -> dict[str, Any]:
        """The answer to any other call."""
        return dict((await self._call(method, path, token=token, json=json)).json())

    async def users(self, count: int, run: str) -> list[User]:
        """New users of this run, logged in on one device each."""
        password = secrets.token_urlsafe(12)
        named = await self.register(count, run, password)
        return await asyncio.gather(*(self.log_in(user, password) for user in named))

    async def register(self, count: int, run: str, password: str) -> list[User]:
        """New users of this run, not logged in."""

        async def one(number: int) -> User:
            body = {
                "user_name": f"{run}-{number}",
                "password": password,
                "display_name": f"Load {number}",
            }
            answer = (await self._call("POST", "/v1/users", json=body)).json()
            return User(number, answer["user"], body["user_name"], "", "")

        return await asyncio.gather(*(one(number) for number in range(count)))

    async def log_in(self, user: User, password: str) -> User:
        """The user with the token of a device, and its gateway."""
        body = {"user_name": user.name, "password": password, "device": f"load-{user.number}"}
        answer = (await self._call("POST", "/v1/sessions", json=body)).json()
        return replace(user, token=answer["access_token"], gateway=answer["gateway"])

    async def gateway(self, user: User) -> str:
        """The URL of the user's gateway now; empty when that cannot be had at the moment."""
        try:
            answer = await self._client.get(
                "/v1/gateways",
                params={"user": user.user},
                headers={"authorization": f"Bearer {user.token}"},
            )
        except httpx.TransportError:
            return ""
        return str(answer.json()["gateway"]) if answer.is_success else ""

    async def history(self, users: Sequence[User], chats: Sequence[str]) -> History:
        """Every chat of these users from its newest message to its first, read page by page by
        `users[i]` for `chats[i]`.
        """

        async def one(user: User, chat: str) -> tuple[str, list[tuple[int, str]]]:
            messages: list[tuple[int, str]] = []
            before: str | None = None
            while True:
                query = {"limit": "256"} | ({"before": before} if before else {})
                page = (
                    await self._call(
                        "GET", f"/v1/chats/{chat}/messages", token=user.token, params=query
                    )
                ).json()
                messages += [
                    (int(message["message"]), message["key"]) for message in page["messages"]
                ]
                if not page["more_before"]:
                    return chat, messages
                before = page["first"]

        return dict(
            await asyncio.gather(
                *(one(user, chat) for user, chat in zip(users, chats, strict=True))
            )
        )

    async def newest_keys(self, user: User, chat: str) -> list[str]:
        """The keys of a chat's newest 50 messages."""
        page = (await self._call("GET", f"/v1/chats/{chat}/messages", token=user.token)).json()
        return [message["key"] for message in page["messages"]]

    async def newest_chats(self, user: User, limit: int) -> list[str]:
        """The user's newest chats, newest first."""
        query = {"limit": str(limit)}
        listed = (await self._call("GET", "/v1/chats", token=user.token, params=query)).json()
        return [state["chat"] for state in listed["chats"]]

    async def reactions(self, user: User, chat: str) -> set[tuple[str, str, str]]:
        """(message, emoji, user) of all that is at a chat's newest 50 messages."""
        page = (await self._call("GET", f"/v1/chats/{chat}/messages", token=user.token)).json()
        return {
            (message["message"], each["emoji"], by)
            for message in page["messages"]
            for each in message["reactions"]
            for by in each["users"]
        }

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()
