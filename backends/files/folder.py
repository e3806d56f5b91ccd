"""The `FileStore` port on a folder: the embedded default. Only `wiring` and the port's suite name
it.

Its signed URLs are of this server, which serves them by `LocalFiles`: for `dev`, where processes of
one machine share the folder. What is written lies beside its place until it is whole, and synced.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final, TypeVar
from urllib.parse import urlencode

from backends import private
from backends.blocking import Blocking
from backends.files import LocalFile, Upload
from schemas.errors import Malformed, Refused, Unavailable

T = TypeVar("T")

PREFIX: Final = "/v1/blobs/"
"""Of the paths that this server serves."""
THREADS: Final = 4
# Of bytes that wait for the disk: a faster sender waits.
_WRITE_BYTES: Final = 262_144
_COPY_BYTES: Final = 1_048_576
_KEY: Final = re.compile(r"[a-z]+/[0-9A-Za-z-]{1,64}", re.ASCII)
_DRAFT: Final = ".part"


class FolderStore:
    """A folder, made at the first write."""

    def __init__(
        self,
        folder: Path,
        *,
        now_s: Callable[[], float],
        timeout_s: float,
    ) -> None:
        self._folder, self._now_s = folder, now_s
        self._threads = Blocking(
            "files", threads=THREADS, timeout_s=timeout_s, whom="the folder of files"
        )

    # ---- the port --------------------------------------------------------------------------------

    async def upload(self, key: str, *, length: int, media_type: str, expires_s: int) -> Upload:
        """A PUT to this server."""
        query = {"bytes": str(length), "type": media_type}
        return Upload(
            "PUT", await self._signed("PUT", key, query, expires_s), {"content-type": media_type}
        )

    async def download(self, key: str, *, name: str, media_type: str, expires_s: int) -> str:
        """A GET of this server."""
        return await self._signed("GET", key, {"name": name, "type": media_type}, expires_s)

    async def copy(self, key: str, to: str, *, length: int) -> int | None:
        """A file that is open stays what it is, whatever takes its place."""
        return await self._run(lambda: self._copied(key, to, length))

    def _copied(self, key: str, to: str, length: int) -> int | None:
        try:
            source = self._path(key).open("rb")
        except FileNotFoundError:
            return None
        with source:
            size = os.fstat(source.fileno()).st_size
            if size == length:
                self._write(to, lambda target: shutil.copyfileobj(source, target, _COPY_BYTES))
        return size

    async def read(self, key: str, *, limit: int, last: bool = False) -> bytes:
        """From the file."""

        def work() -> bytes:
            try:
                with self._path(key).open("rb") as stream:
                    if last:
                        stream.seek(max(0, os.fstat(stream.fileno()).st_size - limit))
                    return stream.read(limit)
            except FileNotFoundError:
                return b""

        return await self._run(work)

    async def put(self, key: str, content: bytes, *, media_type: str) -> None:  # noqa: ARG002 - the port's
        """Beside its place, then there."""
        await self._run(lambda: self._write(key, lambda target: target.write(content)))

    async def delete(self, keys: Collection[str]) -> None:
        """And drafts of theirs, of processes that have ended."""

        def work() -> None:
            for key in keys:
                path = self._path(key)
                path.unlink(missing_ok=True)
                for draft in path.parent.glob(f"{path.name}.*{_DRAFT}"):
                    draft.unlink(missing_ok=True)

        await self._run(work)

    @property
    def local(self) -> FolderStore:
        """Itself."""
        return self

    async def ping(self) -> None:
        """The folder can be written to."""

        def work() -> None:
            private.make_folder(self._folder)
            if not os.access(self._folder, os.W_OK):
                raise Unavailable(f"the folder {self._folder} cannot be written to")

        await self._run(work)

    async def close(self) -> None:
        """Waits for calls under way."""
        await self._threads.close()

    # ---- its URLs --------------------------------------------------------------------------------

    async def receive(
        self,
        key: str,
        query: Mapping[str, str],
        *,
        media_type: str,
        content: AsyncIterator[bytes],
    ) -> None:
        """Beside its place, then there."""
        await self._check("PUT", key, query)
        length = int(query["bytes"])
        if media_type != query["type"]:
            raise Malformed(f"the content type must be {query['type']}", field="content-type")
        draft = await self._run(lambda: self._draft(key))
        try:
            if await self._written(draft, content, length) != length:
                raise Malformed(f"the body must hold {length} bytes", field="body")  # noqa: TRY301 - the draft goes too
            await self._run(lambda: self._publish(draft, key))
        except BaseException:
            # Also where the sender is gone: the file system may be slow, and is not waited for.
            await asyncio.shield(self._run(lambda: draft.unlink(missing_ok=True)))
            raise

    async def _written(self, draft: Path, content: AsyncIterator[bytes], length: int) -> int:
        """How long it is, written and synced if it has this length."""
        written, waiting = 0, bytearray()
        async for part in content:
            written += len(part)
            waiting += part
            if written > length:
                return written
            if len(waiting) >= _WRITE_BYTES:
                await self._append(draft, waiting)
        await self._append(draft, waiting, last=True)
        return written

    async def open(self, key: str, query: Mapping[str, str]) -> LocalFile:
        """A file of the folder."""
        await self._check("GET", key, query)
        path = self._path(key)

        def is_there() -> bool:
            try:
                return stat.S_ISREG(path.lstat().st_mode)
            except FileNotFoundError:
                return False

        if not await self._run(is_there):
            raise Refused("not_found", "there is nothing here")
        return LocalFile(path, query["name"], query["type"])

    async def _signed(self, method: str, key: str, query: Mapping[str, str], expires_s: int) -> str:
        self._path(key)
        signed = {**query, "expires": str(int(self._now_s()) + expires_s)}
        secret = await self._run(lambda: self._secret)
        signed["signature"] = _signature(secret, method, key, signed)
        return f"{PREFIX}{key}?{urlencode(signed)}"

    async def _check(self, method: str, key: str, query: Mapping[str, str]) -> None:
        """Raises Refused forbidden."""
        given = dict(query)
        signature = given.pop("signature", "")
        secret = await self._run(lambda: self._secret)
        expected = _signature(secret, method, key, given)
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            raise Refused("forbidden", "this URL was not signed here")
        if int(given["expires"]) <= self._now_s():
            raise Refused("forbidden", "this URL is over: ask for another one")

    # ---- in a thread -----------------------------------------------------------------------------

    @cached_property
    def _secret(self) -> bytes:
        """What URLs are signed with: one for all processes of this folder."""
        file = self._folder / "url-key"
        if not file.exists():
            private.write_once(file, secrets.token_bytes(32))
        return file.read_bytes()

    def _path(self, key: str) -> Path:
        if _KEY.fullmatch(key) is None:
            raise Refused("not_found", "there is nothing here")
        return self._folder / key

    def _draft(self, key: str) -> Path:
        path = self._path(key)
        private.make_folder(path.parent)
        return path.with_name(f"{path.name}.{secrets.token_hex(8)}{_DRAFT}")

    def _write(self, key: str, write: Callable[[BinaryIO], object]) -> None:
        draft = self._draft(key)
        try:
            with draft.open("xb") as target:
                write(target)
                _sync(target)
            self._publish(draft, key)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def _publish(self, draft: Path, key: str) -> None:
        path = self._path(key)
        draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    async def _append(self, draft: Path, content: bytearray, *, last: bool = False) -> None:
        some = bytes(content)
        content.clear()

        def work() -> None:
            with draft.open("ab") as stream:
                stream.write(some)
                if last:
                    _sync(stream)

        await self._run(work)

    async def _run(self, work: Callable[[], T]) -> T:
        def guarded() -> T:
            try:
                return work()
            except OSError as error:
                raise Unavailable(
                    f"the folder of files {self._folder}: {error.strerror or error}"
                ) from error

        return await self._threads.run(guarded)


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _signature(secret: bytes, method: str, key: str, query: Mapping[str, str]) -> str:
    # Texts with their lengths: no two requests are written alike.
    texts = [method, key, *(text for item in sorted(query.items()) for text in item)]
    message = "".join(f"{len(text)}:{text}" for text in texts)
    return hmac.digest(secret, message.encode("utf-8", "surrogatepass"), "sha256").hex()
