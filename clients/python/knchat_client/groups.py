"""Groups over HTTP: what is in them, who, and changes of both (protocol.md section 1)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from knchat_client.accounts import Accounts, Nothing


class Group(msgspec.Struct, kw_only=True, frozen=True):
    """A group that I am in. `role` is mine; `version` counts all its changes."""

    chat: str
    name: str
    members: int
    role: str
    history: str
    created: str
    version: str
    avatar: str | None = None


class Member(msgspec.Struct, kw_only=True, frozen=True):
    """A member of a group. role: owner, admin, member or reader."""

    user: str
    role: str
    joined: str
    version: str


class Mine(msgspec.Struct, kw_only=True, frozen=True):
    """What I want of a chat. `archived`: a message above this id brings it back, unless it is
    muted. `version` 0: nothing was ever set.
    """

    chat: str
    version: str
    muted_until: str | None = None
    pinned: bool = False
    archived: str | None = None
    draft: str = ""


class _Members(msgspec.Struct):
    members: list[Member]
    after: str | None = None


class Groups:
    """One device's calls about groups. They raise as those of `Accounts`."""

    def __init__(self, accounts: Accounts) -> None:
        self._call = accounts.call

    async def create(
        self, name: str, members: Sequence[str], *, history: str, avatar: str | None, key: str
    ) -> Group:
        """A repeat of the key is the same group."""
        body = {"key": key, "name": name, "members": list(members), "history": history}
        if avatar is not None:
            body["avatar"] = avatar
        return await self._call("POST", "/v1/chats", Group, body=body)

    async def group(self, chat: str) -> Group:
        """As it is now."""
        return await self._call("GET", f"/v1/chats/{chat}", Group)

    async def change(self, chat: str, version: str, **fields: str | None) -> Group:
        """What is None stays as it is."""
        given = {name: value for name, value in fields.items() if value is not None}
        return await self._call(
            "PATCH", f"/v1/chats/{chat}", Group, body={"version": version, **given}
        )

    async def delete(self, chat: str) -> None:
        """For all."""
        await self._call("DELETE", f"/v1/chats/{chat}", Nothing)

    async def mine(self, chat: str) -> Mine:
        """Of any chat of mine."""
        return await self._call("GET", f"/v1/chats/{chat}/mine", Mine)

    async def set_mine(self, chat: str, version: str, **fields: str | bool | None) -> Mine:
        """What is None stays as it is."""
        given = {name: value for name, value in fields.items() if value is not None}
        return await self._call(
            "PUT", f"/v1/chats/{chat}/mine", Mine, body={"version": version, **given}
        )

    async def members(self, chat: str) -> list[Member]:
        """All of them, part by part."""
        found: list[Member] = []
        query = {"limit": "256"}
        while True:
            part = await self._call("GET", f"/v1/chats/{chat}/members", _Members, query=query)
            found += part.members
            if part.after is None:
                return found
            query["after"] = part.after

    async def add(self, chat: str, users: Sequence[str], *, role: str) -> list[Member]:
        """At most 100 at once."""
        body = {"members": list(users), "role": role}
        answer = await self._call("POST", f"/v1/chats/{chat}/members", _Members, body=body)
        return answer.members

    async def set_role(self, chat: str, user: str, role: str) -> Member:
        """Of a member, or of a user who so becomes one."""
        return await self._call(
            "PUT", f"/v1/chats/{chat}/members/{user}", Member, body={"role": role}
        )

    async def remove(self, chat: str, user: str) -> None:
        """Another member, or myself."""
        await self._call("DELETE", f"/v1/chats/{chat}/members/{user}", Nothing)
