"""Files: uploads, lists and downloads (protocol.md section 1).

Bytes go to the store and come from it by URLs that the server signs.
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from knchat_client.accounts import Accounts, Profile
from knchat_client.protocol.errors import Refused, Unavailable

_PART_BYTES: Final = 262_144
_ANY: Final = "application/octet-stream"
_AVATAR_TRIES: Final = 20
_AVATAR_DELAY_S: Final = 0.5
"""The squares of an avatar are made in a moment; with the server's own waiting, 10 s and more."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file of mine. `state`: pending (not checked yet), complete, or held (a check goes on)."""

    file: str
    name: str
    type: str
    bytes: int
    purpose: str
    state: str
    created: str
    width: int | None = None
    height: int | None = None
    thumbnail: bool | None = None


class _Request(msgspec.Struct):
    url: str
    method: str
    headers: dict[str, str]


class _New(msgspec.Struct):
    file: str
    upload: _Request


class _Files(msgspec.Struct):
    files: list[File]
    after: str | None = None


class _Place(msgspec.Struct):
    location: str


class Files:
    """One device's calls about files. They raise as those of `Accounts`."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def upload(
        self, path: Path, *, name: str | None, media_type: str | None, purpose: str
    ) -> File:
        """Announced, uploaded, and complete when this returns."""
        size = (await asyncio.to_thread(path.stat)).st_size
        body = {
            "name": name or path.name,
            "bytes": size,
            "type": media_type or mimetypes.guess_type(path.name)[0] or _ANY,
            "purpose": purpose,
        }
        new = await self._accounts.call("POST", "/v1/files", _New, body=body)
        headers = {**new.upload.headers, "content-length": str(size)}
        stream = await asyncio.to_thread(lambda: path.open("rb"))
        try:
            async with self._accounts.stream(
                new.upload.method, new.upload.url, headers=headers, content=_parts(stream)
            ) as answer:
                if not answer.is_success:
                    raise Unavailable(f"the store answered {answer.status_code} to the upload")
        finally:
            await asyncio.to_thread(stream.close)
        return await self._accounts.call("POST", f"/v1/files/{new.file}/complete", File)

    async def files(self) -> list[File]:
        """All of mine, part by part."""
        found: list[File] = []
        query = {"limit": "256"}
        while True:
            part = await self._accounts.call("GET", "/v1/files", _Files, query=query)
            found += part.files
            if part.after is None:
                return found
            query["after"] = part.after

    async def show_avatar(self, file: str) -> Profile:
        """My profile with this avatar, as soon as it is made ready; empty: none."""
        for tries in range(1, _AVATAR_TRIES + 1):
            mine = await self._accounts.call("GET", "/v1/me", Profile)
            body = {"version": mine.version, "avatar": file}
            try:
                return await self._accounts.call("PATCH", "/v1/me", Profile, body=body)
            except Refused as error:
                if error.code != "stale" or tries == _AVATAR_TRIES:
                    raise
            except Unavailable:
                if tries == _AVATAR_TRIES:
                    raise
                await asyncio.sleep(_AVATAR_DELAY_S)
        raise AssertionError

    async def download(self, file: str, path: Path, *, size: str | None) -> None:
        """Into a new file: FileExistsError where there is one."""
        query = None if size is None else {"size": size}
        place = await self._accounts.call("GET", f"/v1/files/{file}", _Place, query=query)
        async with self._accounts.stream("GET", place.location) as answer:
            if not answer.is_success:
                raise Unavailable(f"the store answered {answer.status_code} to the download")
            stream = await asyncio.to_thread(lambda: path.open("xb"))
            try:
                async for part in answer.aiter_bytes(_PART_BYTES):
                    await asyncio.to_thread(stream.write, part)
            except BaseException:
                await asyncio.shield(asyncio.to_thread(path.unlink))
                raise
            finally:
                await asyncio.to_thread(stream.close)


async def _parts(stream: BinaryIO) -> AsyncIterator[bytes]:
    while part := await asyncio.to_thread(stream.read, _PART_BYTES):
        yield part
