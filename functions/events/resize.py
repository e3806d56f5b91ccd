"""Uploaded images into previews: thumbnails, and the squares of avatars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.files import FileId
from functions.domain.previews import make
from functions.runtime.event_handler import on_event
from schemas import chat_pb2 as pb
from schemas.errors import Malformed
from schemas.topics import UPLOADS

if TYPE_CHECKING:
    from functions.runtime.context import Context
    from schemas.cloudevents import Event


@on_event(pb.Uploads, UPLOADS)
async def resize(uploads: pb.Uploads, _event: Event, context: Context) -> None:
    """Target: inbox `chat-uploads`. One image is decoded at a time."""
    if not uploads.uploads:
        raise Malformed("an event of uploads without an upload", field="uploads")
    for upload in uploads.uploads:
        await make(FileId(upload.file), context.backends, context.images)
