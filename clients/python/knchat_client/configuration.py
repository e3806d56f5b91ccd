"""What administrators see and set over HTTP (protocol.md section 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from knchat_client.accounts import Accounts
from knchat_client.protocol.errors import Refused

Value = bool | int | float | str
Answer = TypeVar("Answer")


class ConfigurationField(msgspec.Struct, frozen=True, kw_only=True):
    """What a field means, what it may be, and what it is.

    `is_set`: an administrator has set it; else `value` is the default.
    """

    name: str
    type: str
    unit: str
    meaning: str
    default: Value
    value: Value
    is_set: bool
    least: int | None = None
    most: int | None = None
    choices: list[str] | None = None


class ConfigurationSection(msgspec.Struct, frozen=True, kw_only=True):
    """A section: `version` counts its changes, by `author` at `changed` the last one."""

    section: str
    meaning: str
    version: str
    fields: list[ConfigurationField]
    author: str | None = None
    changed: str | None = None

    @property
    def values(self) -> dict[str, Value]:
        """What is set in it; the other fields have their defaults."""
        return {field.name: field.value for field in self.fields if field.is_set}


class ConfigurationRevision(msgspec.Struct, frozen=True, kw_only=True):
    """What one change has set."""

    version: str
    author: str
    changed: str
    values: dict[str, Value]


class _Sections(msgspec.Struct):
    sections: list[ConfigurationSection]


class _Revisions(msgspec.Struct):
    revisions: list[ConfigurationRevision]
    before: str | None = None


class Configuration:
    """One device's calls about the configuration. They raise as those of `Accounts`."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def all(self) -> Sequence[ConfigurationSection]:
        """All sections."""
        return (await self._call("GET", "/v1/config", _Sections)).sections

    async def section(self, name: str) -> ConfigurationSection:
        """The section of this name."""
        return await self._call("GET", f"/v1/config/{name}", ConfigurationSection)

    async def change(
        self, name: str, values: Mapping[str, Value], *, version: str
    ) -> ConfigurationSection:
        """The section with these values; fields that are not among them have their defaults."""
        body = {"version": version, "values": dict(values)}
        return await self._call("PUT", f"/v1/config/{name}", ConfigurationSection, body=body)

    async def history(self, name: str, *, limit: int) -> Sequence[ConfigurationRevision]:
        """The last changes of a section, the newest first, part by part."""
        found: list[ConfigurationRevision] = []
        query: dict[str, str] = {}
        while True:
            query["limit"] = str(min(100, limit - len(found)))
            path = f"/v1/config/{name}/history"
            part = await self._call("GET", path, _Revisions, query=query)
            found += part.revisions
            if part.before is None or len(found) >= limit:
                return found
            query["before"] = part.before

    async def _call(self, method: str, path: str, kind: type[Answer], **more: Any) -> Answer:
        """Who has just become an administrator learns it by a new token."""
        token = self._accounts.login.access_token
        try:
            return await self._accounts.call(method, path, kind, **more)
        except Refused as error:
            if error.code != "forbidden":
                raise
        await self._accounts.renew(token)
        return await self._accounts.call(method, path, kind, **more)
