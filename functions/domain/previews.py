"""What is made of an uploaded image, and how `resize` hears of it.

A preview's place follows from the file's id and the preview's name, so making it again makes the
same one there, and who removes a file knows what to delete. Source: decisions/0064.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from backends.files import File, FileId
from backends.telemetry.metrics import count
from functions.domain.images import PREVIEW_TYPE, SIZES
from functions.domain.records import Writer
from functions.domain.relay import change_event
from schemas import chat_pb2 as pb
from schemas.errors import Malformed
from schemas.previews import MAX_IMAGE_BYTES, previews_of

if TYPE_CHECKING:
    from backends.wiring import Backends
    from functions.domain.images import Images

log = logging.getLogger(__name__)


async def announce_completed(files: Iterable[File], backends: Backends) -> None:
    """Tells `resize`, and plug-ins, of files whose bytes are there and were looked at.

    Raises Unavailable when the log is; a repeat does no harm.
    """
    uploads = [
        pb.Upload(
            file=file.id,
            owner=file.owner,
            type=file.type,
            bytes=file.bytes,
            purpose=file.purpose,
            state=file.state,
        )
        for file in files
    ]
    if not uploads:
        return
    cause = change_event(
        "files",
        source="/v1/files",
        event_type="knchat.files.changed.v1",
        now_ms=backends.clock.now_ms(),
    )
    await backends.appends.append(Writer("files", cause).uploads(uploads))


async def announce_due(backends: Backends, *, before_ms: int, limit: int) -> None:
    """Tells of files made before then whose previews are still due: the log was unavailable, or
    `resize` for longer than its events are kept. Raises Unavailable.
    """
    await announce_completed(
        await backends.files.due_previews(before_ms=before_ms, limit=limit), backends
    )


async def make(file_id: FileId, backends: Backends, images: Images) -> None:
    """The previews of a complete file that is still to have some.

    Of what is no image, or a broken one, there are none from now on. Raises Unavailable.
    """
    files, store = backends.files, backends.file_store
    file = (await files.find([file_id])).get(file_id)
    if file is None or file.state != "complete" or file.previews != "due":
        return
    sizes = {name: SIZES[name] for name in previews_of(file.purpose)}
    content = await store.read(file.key, limit=MAX_IMAGE_BYTES)
    try:
        made = await images.previews(content, file.type, sizes)
    except Malformed as error:
        log.info("no previews of a file", extra={"file": file_id, "why": error.message})
        await files.finish_previews(file_id, "none")
        count("knchat_files_total", became="broken")
        return
    keys = {name: file.preview_key(name) for name in made}
    for name, preview in made.items():
        await store.put(keys[name], preview.content, media_type=PREVIEW_TYPE)
    if await files.finish_previews(file_id, "made"):
        count("knchat_files_total", became="previewed")
    else:
        await store.delete(keys.values())  # the file was removed meanwhile
