"""Bodies and answers of the calls about files: msgspec structs, as all of `files`
(schemas/chat_queries.py). Source: protocol.md sections 1 and 3.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from schemas.chat_queries import Query
from schemas.frames import Limit
from schemas.groups import Body

Type = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9!#$&^_.+\-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+\-]{0,63}\Z",
        description="a media type in small letters, without parameters",
        examples=["image/png"],
    ),
]


class NewFile(Body, kw_only=True, frozen=True, omit_defaults=True):
    """A file that is going to be uploaded."""

    name: Annotated[str, Meta(min_length=1, max_length=255, description="no path")]
    bytes: Annotated[int, Meta(ge=1, le=256 * 2**20)]
    type: Type
    purpose: Literal["message", "avatar"]


class UploadRequest(Body, kw_only=True, frozen=True, omit_defaults=True):
    """The request that uploads a file, to be made as it is until it expires."""

    url: str
    method: str
    headers: dict[str, str]
    expires: str


class NewUpload(Body, kw_only=True, frozen=True, omit_defaults=True):
    """A new file, and how it is uploaded."""

    file: str
    upload: UploadRequest


class OwnFile(Body, kw_only=True, frozen=True, omit_defaults=True):
    """A file of mine. `state`: pending (not checked yet), complete, or held (a check goes on)."""

    file: str
    name: str
    type: str
    bytes: int
    purpose: str
    state: str
    created: str
    width: int | UnsetType = UNSET
    height: int | UnsetType = UNSET
    thumbnail: bool | UnsetType = UNSET


class OwnFiles(Body, kw_only=True, frozen=True, omit_defaults=True):
    """Files of mine, the newest first. `after` asks for the next part; absent in the last one."""

    files: list[OwnFile]
    after: str | UnsetType = UNSET


class FileQuery(Query, kw_only=True, frozen=True):
    """What is given of a file."""

    size: (
        Annotated[
            Literal["thumbnail", "64", "192", "512"],
            Meta(description="a preview: the thumbnail of an image, a side of an avatar's square"),
        ]
        | None
    ) = None


class FilesQuery(Query, kw_only=True, frozen=True):
    """A part of the caller's files."""

    after: Annotated[str, Meta(max_length=256, description="that of the part before")] | None = None
    limit: Limit = 50
