"""Files over HTTP: uploads are announced and completed, downloads are redirects to the store.

The folder store has no server of its own: `/v1/blobs` is one for it. Source: protocol.md section 1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import functions_framework.aio
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from backends.files import DOWNLOAD_S, UPLOAD_S, FileId
from functions.domain.uploads import announce, complete, readable, shown_of
from functions.runtime.context import Context
from functions.runtime.http_endpoint import Endpoint, Redirect, endpoint
from functions.runtime.router import router_of
from schemas import costs
from schemas import files as bodies
from schemas.errors import Malformed, Refused
from schemas.file_names import content_disposition
from schemas.ids import LATEST, parse_id, time_text
from schemas.tokens import Claims

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.routing import Router

    from backends.files import File, LocalFiles

_AFTER: Final = re.compile(r"([0-9]{1,19})\.([0-9]{1,19})", re.ASCII)
_LOOK: Final = costs.Cost(12)
"""Up to 10 MiB are copied by the store, and a part of them is read."""


def _file(file: File) -> bodies.OwnFile:
    return bodies.OwnFile(
        file=str(file.id),
        name=file.name,
        type=file.type,
        bytes=file.bytes,
        purpose=file.purpose,
        state=file.state,
        created=time_text(file.created_ms),
        width=file.width or UNSET,
        height=file.height or UNSET,
        thumbnail=(file.previews != "none" and file.purpose == "message") or UNSET,
    )


def _parse_file(text: str) -> FileId:
    return FileId(parse_id(text, name="file"))


def _place(after: str) -> tuple[int, FileId]:
    match = _AFTER.fullmatch(after)
    if match is None or max(map(int, match.groups())) > LATEST:
        raise Malformed("after is no text that this call gave", field="after")
    return int(match[1]), FileId(int(match[2]))


# ---- endpoints -----------------------------------------------------------------------------------


@endpoint("POST", "/v1/files", cost=costs.WRITE, status=201, errors=("too_many",))
async def new_file(
    body: bodies.NewFile, caller: Claims, context: Context, now_ms: int, base: str
) -> bodies.NewUpload:
    """Announces a file, which is uploaded to the URL of the answer within 5 minutes."""
    file, upload = await announce(
        caller.user,
        context.backends,
        name=body.name,
        media_type=body.type,
        size=body.bytes,
        purpose=body.purpose,
        now_ms=now_ms,
    )
    return bodies.NewUpload(
        file=str(file.id),
        upload=bodies.UploadRequest(
            url=upload.url if "://" in upload.url else base + upload.url,
            method=upload.method,
            headers=dict(upload.headers),
            expires=time_text(now_ms + UPLOAD_S * 1_000),
        ),
    )


@endpoint("POST", "/v1/files/{file}/complete", cost=_LOOK, errors=("not_found",))
async def complete_file(file: str, caller: Claims, context: Context, now_ms: int) -> bodies.OwnFile:
    """Ends an upload: its size and content are checked, and it may be used from then on."""
    completed = await complete(
        _parse_file(file),
        caller.user,
        context.backends,
        now_ms=now_ms,
        log_timeout_s=context.timing.relay_timeout_s,
    )
    return _file(completed)


@endpoint("GET", "/v1/files", cost=costs.PAGE)
async def list_files(query: bodies.FilesQuery, caller: Claims, context: Context) -> bodies.OwnFiles:
    """My files, the newest first."""
    after = None if query.after is None else _place(query.after)
    found, more = await context.backends.files.of_owner(caller.user, after=after, limit=query.limit)
    shown = [_file(file) for file in found]
    if more:
        return bodies.OwnFiles(files=shown, after=f"{found[-1].created_ms}.{found[-1].id}")
    return bodies.OwnFiles(files=shown)


@endpoint("GET", "/v1/files/{file}", cost=costs.ONE, errors=("not_found", "forbidden"))
async def get_file(
    file: str, query: bodies.FileQuery, caller: Claims, context: Context
) -> Redirect:
    """A file that I may read, or a preview of it: a URL of the bytes, for a minute."""
    found = await readable(_parse_file(file), caller.user, context.backends)
    shown = shown_of(found, query.size)
    url = await context.backends.file_store.download(
        shown.key, name=shown.name, media_type=shown.media_type, expires_s=DOWNLOAD_S
    )
    return Redirect(url)


# ---- the folder store's own server ---------------------------------------------------------------


def _local(context: Context) -> LocalFiles:
    local = context.backends.file_store.local
    if local is None:
        raise Refused("not_found", "there is nothing here")
    return local


def _query(request: Request) -> Mapping[str, str]:
    return dict(request.query_params.multi_items())


@endpoint("PUT", "/v1/blobs/{area}/{name}", cost=costs.WRITE, is_open=True)
async def put_blob(area: str, name: str, context: Context, request: Request) -> Response:
    """Takes what is uploaded by a signed URL."""
    kind = request.headers.get("content-type", "")
    await _local(context).receive(
        f"{area}/{name}", _query(request), media_type=kind, content=request.stream()
    )
    return Response(status_code=204)


@endpoint("GET", "/v1/blobs/{area}/{name}", cost=costs.ONE, is_open=True)
async def get_blob(area: str, name: str, context: Context, request: Request) -> Response:
    """Gives what a signed URL names, as an attachment that browsers run nothing of."""
    found = await _local(context).open(f"{area}/{name}", _query(request))
    headers = {
        "content-disposition": content_disposition(found.name),
        "content-security-policy": "sandbox; default-src 'none'",
        "cache-control": "private, no-store",
    }
    return FileResponse(found.path, media_type=found.type, headers=headers)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    new_file,
    complete_file,
    list_files,
    get_file,
    put_blob,
    get_blob,
)
_ROUTER: Final = router_of(ENDPOINTS)


# It calls what is returned, as Starlette does; its types know responses only.
@functions_framework.aio.http  # type: ignore[arg-type]
async def files(_request: Request) -> Router:
    """Target: /v1/files, /v1/blobs and below."""
    return _ROUTER
