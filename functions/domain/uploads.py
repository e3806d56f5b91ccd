"""Uploads: a file is announced, its client writes it to the store, and it is complete when its
bytes have been looked at.

By an upload's URL its client may write again as long as it is valid. So what was uploaded is
copied to a place that no URL names, and that copy is what is looked at, and read from then on
(decisions/0062).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from backends.files import UPLOAD_S, UPLOADING_MS, File, FileId, Limits, Purpose
from backends.telemetry.metrics import count
from functions.domain.contents import HEAD_BYTES, TAIL_BYTES, Declared, inspect
from functions.domain.file_types import UNKNOWN, canonical
from functions.domain.images import PREVIEW_TYPE
from functions.domain.previews import announce_completed, announce_due
from schemas.errors import Malformed, Refused, Unavailable
from schemas.file_names import file_name
from schemas.ids import UserId, random_id
from schemas.previews import has_previews, previews_of

if TYPE_CHECKING:
    from backends.files import Upload
    from backends.wiring import Backends

log = logging.getLogger(__name__)

SWEPT_AT_ONCE: Final = 100


async def announce(
    user: UserId,
    backends: Backends,
    *,
    name: str,
    media_type: str,
    size: int,
    purpose: Purpose,
    now_ms: int,
) -> tuple[File, Upload]:
    """A new file, and the request that uploads it.

    Raises Malformed for a name or size that no file has, Refused too_many, Unavailable.
    """
    allowed = backends.configuration.values.files
    if size > allowed.file_bytes:
        raise Malformed(
            f"a file has at most {allowed.file_bytes} bytes", field="bytes", code="too_large"
        )
    file = File(
        id=FileId(random_id()),
        owner=user,
        name=file_name(name),
        declared=canonical(media_type),
        type=canonical(media_type),
        bytes=size,
        purpose=purpose,
        state="pending",
        created_ms=now_ms,
        idle_since_ms=now_ms,
    )
    # First what can be unavailable and leaves nothing.
    upload = await backends.file_store.upload(
        file.upload_key, length=size, media_type=file.declared, expires_s=UPLOAD_S
    )
    await backends.files.add(file, Limits(allowed.user_files, allowed.user_file_bytes))
    count("knchat_files_total", became="announced")
    return file, upload


async def complete(
    file_id: FileId, user: UserId, backends: Backends, *, now_ms: int, log_timeout_s: float
) -> File:
    """The file, which was looked at and is complete, or in quarantine. A repeat changes nothing.

    `log_timeout_s`: how long it waits for the log. Raises Refused not_found for what is not the
    user's, or was not uploaded; Malformed for what is not as it was announced: that file is
    removed. Unavailable: try again.
    """
    file = await _own(file_id, user, backends)
    if file.state != "pending":
        return file
    claimed = await backends.files.claim(file_id, now_ms=now_ms)
    if claimed is None:
        again = await _own(file_id, user, backends)
        if again.state != "pending":
            return again
        raise Unavailable("another call is looking at this file")
    try:
        settled = await _looked_at(claimed, backends)
    except Malformed as error:
        log.info("file refused", extra={"file": file_id, "user_id": user, "why": error.field})
        await backends.files.remove([file_id])
        count("knchat_files_total", became="refused")
        raise
    except BaseException:
        # Also a call that took too long. The next one takes over after a while in any case.
        with suppress(Unavailable):
            await asyncio.shield(backends.files.give_up(claimed))
        raise
    count("knchat_files_total", became=settled.state)
    with suppress(Unavailable):  # the sweep does it then
        await backends.file_store.delete(settled.spare_keys)
    with suppress(Unavailable, TimeoutError):  # the same
        async with asyncio.timeout(log_timeout_s):
            await announce_completed([settled], backends)
    return settled


async def _own(file_id: FileId, user: UserId, backends: Backends) -> File:
    file = (await backends.files.find([file_id])).get(file_id)
    if file is None or file.owner != user:
        raise Refused("not_found", "you have no such file", field="file")
    return file


async def _looked_at(file: File, backends: Backends) -> File:
    store = backends.file_store
    size = await store.copy(file.upload_key, file.key, length=file.bytes)
    if size is None:
        raise Refused("not_found", "nothing has been uploaded yet", field="file")
    head, tail = b"", b""
    if size == file.bytes:
        head = await store.read(file.key, limit=HEAD_BYTES)
        tail = await store.read(file.key, limit=TAIL_BYTES, last=True)
    declared = Declared(name=file.name, type=file.declared, bytes=file.bytes)
    found = inspect(head, tail, size=size, declared=declared)
    settled = replace(
        file,
        type=found.type,
        safe=found.safe_inline,
        width=found.width or 0,
        height=found.height or 0,
        state="held" if backends.configuration.values.files.held else "complete",
    )
    if has_previews(settled.type, settled.bytes, width=settled.width, height=settled.height):
        settled = replace(settled, previews="due")
    if not await backends.files.settle(settled):
        raise Unavailable("another call is looking at this file")
    return settled


async def judge(file_id: FileId, backends: Backends, *, good: bool) -> bool:
    """Ends the quarantine of a held file: it is complete, or removed. False: it is not held.

    Raises Unavailable.
    """
    if not await backends.files.judge(file_id, good=good):
        return False
    if good:
        with suppress(Unavailable):  # the sweep does it then
            await announce_completed((await backends.files.find([file_id])).values(), backends)
    return True


async def readable(file_id: FileId, user: UserId, backends: Backends) -> File:
    """A complete file that this user may read.

    Raises Refused not_found: also to who may not know that there is one; forbidden to its owner as
    long as it is in quarantine.
    """
    file = (await backends.files.find([file_id])).get(file_id)
    if file is not None:
        if await backends.files.may_read(file, user):
            return file
        if file.owner == user and file.state == "held":
            raise Refused("forbidden", "this file waits for a check", field="file")
    raise Refused("not_found", "no such file", field="file")


class Shown(NamedTuple):
    """What a download gives."""

    key: str
    name: str
    media_type: str


def shown_of(file: File, size: str | None) -> Shown:
    """What is given of a readable file: itself, or its preview of this size. Of an avatar it is
    never the file, since a camera writes into it where it was taken.

    Raises Refused not_found for a preview that is not made, or cannot be.
    """
    names = previews_of(file.purpose)
    if size is None and file.purpose == "avatar":
        size = names[-1]
    if size is None:
        return Shown(file.key, file.name, file.type if file.safe else UNKNOWN)
    if size not in names or file.previews != "made":
        raise Refused("not_found", "there is no preview of this size, or not yet", field="size")
    return Shown(file.preview_key(size), f"{size}.webp", PREVIEW_TYPE)


async def sweep(backends: Backends, *, now_ms: int) -> int:
    """Removes files that nothing has referred to for long, and what is left of uploads; how many
    files. In parts; what one part has done stays done.

    Raises Unavailable when the database or the store is: the next sweep goes on.
    """
    files, store = backends.files, backends.file_store
    idle_ms = now_ms - backends.settings.file_idle_s * 1_000
    removed = 0
    while some := await files.remove_idle(before_ms=idle_ms, limit=SWEPT_AT_ONCE):
        removed += some
        count("knchat_files_total", some, became="removed")
    while left := await files.leftovers(before_ms=now_ms - UPLOADING_MS, limit=SWEPT_AT_ONCE):
        await store.delete([key for file in left for key in file.spare_keys])
        await files.forget(left)
    await announce_due(backends, before_ms=now_ms - UPLOADING_MS, limit=SWEPT_AT_ONCE)
    return removed
