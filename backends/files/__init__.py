"""Files: what is known of them and who may read them (`Files`), and their bytes (`FileStore`).

A client writes to, and reads from, the store by signed URLs; no bytes pass through a function. What
is uploaded lies under `upload_key`, which the URL names; its holders may write there as long as it
is valid. To complete the file is to copy that to a key of its own, and to look at the copy.
Source: protocol.md section 1, decisions/0062.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple, NewType, Protocol

from schemas.ids import ChatId, MessageId, UserId
from schemas.previews import previews_of

FileId = NewType("FileId", int)
"""Random, 62 bits, never 0."""
Purpose = Literal["message", "avatar"]
State = Literal["pending", "complete", "held", "removed"]
"""pending: not uploaded, or not checked yet. held: a plug-in has to look first. removed: its bytes
are being deleted, then its row is.
"""

Previews = Literal["none", "due", "made"]
"""Of an image: due until `resize` has made them, or found that there can be none."""

UPLOAD_S: Final = 300
"""How long an upload's URL is valid."""
DOWNLOAD_S: Final = 60
CLAIM_MS: Final = 60_000
"""After which another `complete` takes over from one that has not ended: more than a call takes."""
UPLOADING_MS: Final = 900_000
"""From the making of a file to the end of the slowest upload: one that began with the last second
of its URL may go on.
"""


@dataclass(frozen=True, slots=True)
class File:
    """One file. `type` is the declared one until it has been looked at, then what it is; `declared`
    stays.

    `idle_since_ms`: since when nothing refers to it; 0: something does. `attempt`: how many calls
    have copied what was uploaded; the last one's copy counts. `safe`: browsers run nothing of this
    type. Width and height are of images, else 0. `previews`: whether there are small copies of it.
    """

    id: FileId
    owner: UserId
    name: str
    declared: str
    type: str
    bytes: int
    purpose: Purpose
    state: State
    created_ms: int
    idle_since_ms: int
    attempt: int = 0
    safe: bool = False
    width: int = 0
    height: int = 0
    previews: Previews = "none"

    @property
    def upload_key(self) -> str:
        """Where it is uploaded to."""
        return f"uploads/{self.id}"

    @property
    def key(self) -> str:
        """Where the copy lies that was looked at."""
        return self._copy_key(self.attempt)

    @property
    def spare_keys(self) -> list[str]:
        """All that the store may hold of it, but for what `key` names if it is not removed."""
        kept = self.state != "removed"
        copies = range(1, self.attempt if kept else self.attempt + 1)
        previews = () if kept else map(self.preview_key, previews_of(self.purpose))
        return [self.upload_key, *map(self._copy_key, copies), *previews]

    def preview_key(self, name: str) -> str:
        """Where the preview of that name lies: making it again makes it there."""
        return f"previews/{self.id}-{name}"

    def _copy_key(self, attempt: int) -> str:
        return f"files/{self.id}-{attempt}"


class Limits(NamedTuple):
    """What one user may keep, with what is not uploaded yet."""

    files: int
    bytes: int


class Grant(NamedTuple):
    """A message that brings a file into a chat: its members may read it from then on."""

    file: FileId
    owner: UserId
    chat: ChatId
    message: MessageId


class Files(Protocol):
    """What is known of all files.

    Every method raises Unavailable when the database does not answer. Times are Unix milliseconds
    and come from the caller.
    """

    async def add(self, file: File, limits: Limits) -> None:
        """Keeps a new file.

        Raises Refused too_many when its owner would keep more than `limits`.
        """
        ...

    async def find(self, files: Collection[FileId]) -> Mapping[FileId, File]:
        """Those of these files that there are: one statement; removed ones are left out."""
        ...

    async def of_owner(
        self, owner: UserId, *, after: tuple[int, FileId] | None, limit: int
    ) -> tuple[Sequence[File], bool]:
        """The owner's files, newest first, at most `limit`, after the one made then with that id;
        whether there are more.
        """
        ...

    async def claim(self, file: FileId, *, now_ms: int) -> File | None:
        """A pending file with an attempt of the caller's own; None: it is not pending, or another
        call claimed it less than CLAIM_MS ago and has not given it up.
        """
        ...

    async def give_up(self, file: File) -> None:
        """Ends the claim of this attempt: the next call need not wait."""
        ...

    async def settle(self, file: File) -> bool:
        """Writes what this attempt has found: type, safety, dimensions, previews and state as they
        are in `file`. False, and nothing is written: the claim was lost.
        """
        ...

    async def finish_previews(self, file: FileId, previews: Previews) -> bool:
        """Previews that were due are `made`, or there are `none`. False: there is no such file."""
        ...

    async def due_previews(self, *, before_ms: int, limit: int) -> Sequence[File]:
        """Complete files made before then whose previews are due, the oldest first."""
        ...

    async def grant(self, grants: Collection[Grant]) -> Mapping[FileId, File]:
        """Lets the members of these chats read these files, as long as the messages are there; the
        files that it was done for: of that owner, complete, for messages. A repeat changes nothing.
        """
        ...

    async def withdraw(
        self, messages: Collection[tuple[ChatId, MessageId]], *, now_ms: int
    ) -> None:
        """What these messages brought may be read for their sake no longer, nor ever again."""
        ...

    async def may_read(self, file: File, user: UserId) -> bool:
        """Whether one of the chats that a complete file was sent to shows it to this user; its
        owner may, and of an avatar everyone.
        """
        ...

    async def judge(self, file: FileId, *, good: bool) -> bool:
        """Ends the quarantine of a held file: it is complete, or removed. False: it is not held."""
        ...

    async def held(self, *, limit: int) -> Sequence[File]:
        """Files in quarantine, the oldest first."""
        ...

    async def remove(self, files: Collection[FileId]) -> None:
        """They are `removed` from now on, whatever they were."""
        ...

    async def remove_idle(self, *, before_ms: int, limit: int) -> int:
        """Makes `removed` what nothing has referred to since then, at most `limit`: how many."""
        ...

    async def leftovers(self, *, before_ms: int, limit: int) -> Sequence[File]:
        """What was made before then and is removed, or has been checked and has its upload still to
        be deleted.
        """
        ...

    async def forget(self, files: Collection[File]) -> None:
        """The store holds no bytes of the removed ones, and no uploads of the others, any more."""
        ...

    async def ping(self) -> None:
        """Raises Unavailable when the database does not answer, within 2 s."""
        ...

    async def close(self) -> None:
        """Waits for calls under way, then closes connections."""
        ...


# ---- bytes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Upload:
    """A request that a client may make until the URL is over: method, URL and headers as they are.

    A URL that begins with `/` is one of this server's.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class FileStore(Protocol):
    """Bytes by key.

    Keys are of letters, digits, `-` and `/`. Every method raises Unavailable when the store does
    not answer within its timeout.
    """

    async def upload(self, key: str, *, length: int, media_type: str, expires_s: int) -> Upload:
        """Lets a client write exactly `length` bytes of this type there, until then, any number of
        times.
        """
        ...

    async def download(self, key: str, *, name: str, media_type: str, expires_s: int) -> str:
        """A URL that gives a client the bytes as an attachment of this name and type, until then;
        one that begins with `/` is of this server.
        """
        ...

    async def copy(self, key: str, to: str, *, length: int) -> int | None:
        """Copies what lies at `key`, as it is at one moment, if it has this length; the length that
        it has. None: there is nothing.
        """
        ...

    async def read(self, key: str, *, limit: int, last: bool = False) -> bytes:
        """The first bytes, or the last ones, at most `limit`; none where there is nothing."""
        ...

    async def put(self, key: str, content: bytes, *, media_type: str) -> None:
        """Writes it whole, or not at all."""
        ...

    async def delete(self, keys: Collection[str]) -> None:
        """They are there no longer; those that were not are no error."""
        ...

    @property
    def local(self) -> LocalFiles | None:
        """What serves the URLs of a store that has no server of its own."""
        ...

    async def ping(self) -> None:
        """Raises Unavailable when the store does not answer, Malformed when it refuses a setting.

        Answers within 2 s.
        """
        ...

    async def close(self) -> None:
        """Waits for calls under way, then closes connections."""
        ...


class LocalFile(NamedTuple):
    """What a download's URL leads to."""

    path: Path
    name: str
    type: str


class LocalFiles(Protocol):
    """Serves the signed URLs of a folder. Both raise Refused forbidden for a URL that was not
    signed so, or is over.
    """

    async def receive(
        self,
        key: str,
        query: Mapping[str, str],
        *,
        media_type: str,
        content: AsyncIterator[bytes],
    ) -> None:
        """Writes what is sent, whole or not at all. Raises Malformed where it is not what was
        announced.
        """
        ...

    async def open(self, key: str, query: Mapping[str, str]) -> LocalFile:
        """What lies there. Raises Refused not_found."""
        ...
