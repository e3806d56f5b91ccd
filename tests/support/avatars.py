"""Avatar files in a database, as if they had been uploaded and made ready."""

from __future__ import annotations

from backends.files import File, FileId, Limits
from backends.files.sql import SqlFiles
from schemas.ids import random_id


async def avatar_of(database, owner, **fields) -> str:
    """The id of an avatar of this user."""
    file = File(
        **{
            "id": FileId(random_id()),
            "owner": owner,
            "name": "me.png",
            "declared": "image/png",
            "type": "image/png",
            "bytes": 9,
            "purpose": "avatar",
            "state": "complete",
            "created_ms": 1,
            "idle_since_ms": 1,
            "previews": "made",
            **fields,
        }
    )
    await SqlFiles(database).add(file, Limits(files=99, bytes=10_000))
    return str(file.id)


async def idle_since(database, file: str) -> int | None:
    """Since when nothing refers to it; 0: something does; None: it was removed."""
    found = await SqlFiles(database).find([FileId(int(file))])
    return found[FileId(int(file))].idle_since_ms if found else None
