"""Files: uploads, downloads, and messages that bring them (protocol.md sections 1 and 2)."""

from __future__ import annotations

import secrets
import struct
import zlib
from typing import Any, Final

import httpx

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.server import Server, User

NEW, COMPLETE = "POST /v1/files", "POST /v1/files/{file}/complete"
LIST, READ = "GET /v1/files", "GET /v1/files/{file}"
_SHOWN: Final = ("file", "name", "type", "bytes", "width", "height", "thumbnail")
NAME: Final = 'a "photo" ü.png'


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int = 4, height: int = 3) -> bytes:
    """A black one."""
    rows = b"".join(b"\0" + bytes(3 * width) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def body_of(content: bytes, **fields: object) -> dict[str, object]:
    """The announcement of a file with this content."""
    known = {"name": NAME, "bytes": len(content), "type": "image/png", "purpose": "message"}
    return {**known, **fields}


async def put(upload: dict[str, Any], content: bytes, **headers: str) -> int:
    """The status of the upload's request."""
    async with httpx.AsyncClient(timeout=15) as http:
        answer = await http.request(
            upload["method"],
            upload["url"],
            headers={**upload["headers"], **headers},
            content=content,
        )
    return answer.status_code


async def uploaded(at: Server, user: User, content: bytes, **fields: object) -> dict[str, Any]:
    """A complete file of the user's."""
    token = await at.token(user)
    new = await at.http.call(NEW, token=token, body=body_of(content, **fields))
    check(await put(new["upload"], content) < 300, "the upload is taken", new["upload"])
    file: dict[str, Any] = await at.http.call(COMPLETE, token=token, file=new["file"])
    return file


async def read(at: Server, user: User, file: str) -> httpx.Response:
    """What the redirect of a file leads to."""
    _, path = READ.split(" ")
    token = await at.token(user)
    answer = await at.http.raw("GET", path.format(file=file), token=token)
    expect("status of the read", 307, answer.status_code)
    expect("nosniff", "nosniff", answer.headers.get("x-content-type-options"))
    async with httpx.AsyncClient(timeout=15) as http:
        return await http.get(answer.url.join(answer.headers["location"]))


@case()
async def a_file_is_uploaded_and_read(at: Server) -> None:
    """By a signed URL, with exactly its bytes; unusable before it is complete; an attachment of
    its name afterwards.
    """
    user, content = await at.new_user(), png()
    token = await at.token(user)
    new = await at.http.call(NEW, token=token, body=body_of(content))
    file = new["file"]
    await at.http.refused(COMPLETE, "not_found", token=token, file=file)
    await at.http.refused(READ, "not_found", token=token, file=file)
    expect("taken", True, await put(new["upload"], content) < 300)
    done = await at.http.call(COMPLETE, token=token, file=file)
    has(done, "own file", file=file, name=NAME, bytes=len(content), type="image/png")
    has(done, "own file", state="complete", purpose="message", width=4, height=3, thumbnail=True)
    expect("a repeat", done, await at.http.call(COMPLETE, token=token, file=file))
    listed = await at.http.call(LIST, token=token, query={"limit": 1})
    expect("files", ([done], None), (listed["files"], listed.get("after")))
    await at.http.call(READ, token=token, file=file)
    got = await read(at, user, file)
    expect("content", (200, content), (got.status_code, got.content))
    said = got.headers["content-disposition"]
    check(said.startswith("attachment;") and "filename*=UTF-8''" in said, "an attachment", said)
    await uploaded(at, user, content, name="second.png")
    part = await at.http.call(LIST, token=token, query={"limit": 1})
    rest = await at.http.call(LIST, token=token, query={"limit": 1, "after": part["after"]})
    expect("files in parts", [done], rest["files"])


@case()
async def a_message_brings_a_file(at: Server) -> None:
    """Text, file or both: in the push, in pages and in the list of chats; the other user may read
    it from then on, until the message is deleted for all, and no one else ever.
    """
    one, other = await at.new_user(), await at.new_user()
    phone, ben, content = await at.connect(one), await at.connect(other), png()
    file = await uploaded(at, one, content)
    shown = {name: file[name] for name in _SHOWN}
    await at.http.refused(READ, "not_found", token=await at.token(other), file=file["file"])
    key = f"f-{secrets.token_hex(8)}"
    ok = await phone.done("send", to=other.user, key=key, file=file["file"])
    push = await ben.hear("message", message=ok["message"])
    has(push, "message", file=shown, text=None)
    expect("content", content, (await read(at, other, file["file"])).content)
    await at.http.refused(READ, "not_found", token=await at.token(at.ann), file=file["file"])
    key = f"f-{secrets.token_hex(8)}"
    both = await phone.done("send", to=other.user, key=key, file=file["file"], text="look")
    has(await ben.hear("message", message=both["message"]), "message", file=shown, text="look")
    chat, messages = at.chat(one, other), []
    while len(messages) < 2:
        messages = (await ben.ask("history", chat=chat))["messages"]
    expect("files of the page", [shown, shown], [message.get("file") for message in messages])
    for sent in (ok, both):
        expect("content", content, (await read(at, other, file["file"])).content)
        key = f"d-{secrets.token_hex(8)}"
        await phone.done("delete", chat=chat, message=sent["message"], key=key, **{"for": "all"})
        await ben.hear("changed", message=sent["message"], op="delete")
    await at.http.refused(READ, "not_found", token=await at.token(other), file=file["file"])
    while messages[0].get("file"):
        messages = (await ben.ask("history", chat=chat))["messages"]
    expect("files of deleted ones", [None, None], [one.get("file") for one in messages])


@case()
async def only_complete_files_of_mine_are_sent(at: Server) -> None:
    """Another's, one that is not complete, an avatar or none at all: `refused` `not_found`."""
    one, other, content = await at.new_user(), await at.new_user(), png()
    phone, token = await at.connect(one), await at.token(one)
    pending = (await at.http.call(NEW, token=token, body=body_of(content)))["file"]
    avatar = (await uploaded(at, one, content, purpose="avatar"))["file"]
    theirs = (await uploaded(at, other, content))["file"]
    for file in (pending, avatar, theirs, "4611686018427387904"):
        key = f"f-{secrets.token_hex(8)}"
        await phone.done("send", to=other.user, key=key, file=file)
        has(await phone.hear("refused", key=key), "refused", code="not_found")
    for file in ("", "0", "x"):
        await phone.refused("send", "malformed", field="file", to=other.user, key="f", file=file)
    await at.http.refused(READ, "not_found", token=await at.token(at.ann), file=theirs)


@case(once=True)
async def an_upload_is_what_it_was_announced_as(at: Server) -> None:
    """Name, size, type and purpose are checked at once; size and content when it is completed."""
    user, content = await at.new_user(), png()
    token = await at.token(user)
    for field, value, code in (
        ("name", "../x.png", "malformed"),
        ("name", "", "malformed"),
        ("name", "a\nb", "malformed"),
        ("bytes", 0, "malformed"),
        ("bytes", "9", "malformed"),
        ("type", "image", "malformed"),
        ("purpose", "other", "malformed"),
    ):
        body = body_of(content, **{field: value})
        await at.http.refused(NEW, code, field=field, token=token, body=body)
    new = await at.http.call(NEW, token=token, body=body_of(content))
    check(await put(new["upload"], content + b"x") >= 400, "a longer one is refused", new)
    check(
        await put(new["upload"], content, **{"content-type": "text/html"}) >= 400,
        "another type is refused",
        new,
    )
    altered = {**new["upload"], "url": new["upload"]["url"][:-1] + "!"}
    check(await put(altered, content) >= 400, "an altered URL is refused", altered)
    await at.http.refused(COMPLETE, "not_found", token=token, file=new["file"])
    page = b"<!doctype html><script>alert(1)</script>" + bytes(10)
    new = await at.http.call(NEW, token=token, body=body_of(page))
    await put(new["upload"], page)
    await at.http.refused(COMPLETE, "malformed", field="type", token=token, file=new["file"])
    await at.http.refused(READ, "not_found", token=token, file=new["file"])
    await at.http.refused(READ, "malformed", field="file", token=token, file="x")
