"""Previews of images, and avatars of users and groups (protocol.md sections 1 and 3)."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import httpx

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.of_files import READ, png, uploaded
from tests.conformance.protocol.server import Server, User

ME, PROFILE = "GET /v1/me", "GET /v1/users/{user}"
BLOCK, UNBLOCK = "PUT /v1/blocks/{user}", "DELETE /v1/blocks/{user}"
WITHIN_S = 15.0
"""A preview is there in a moment; on a busy machine in a longer one."""


async def preview(at: Server, user: User, file: str, size: str | None) -> httpx.Response:
    """The bytes of a preview, as soon as it is there."""
    token, until = await at.token(user), asyncio.get_running_loop().time() + WITHIN_S
    query = {} if size is None else {"size": size}
    while True:
        answer = await at.http.raw("GET", f"/v1/files/{file}", token=token, params=query)
        if answer.status_code != 404:
            break
        late = asyncio.get_running_loop().time() > until
        check(not late, f"a preview within {WITHIN_S:.0f} s", answer.text)
        await asyncio.sleep(0.1)
    expect("status of a preview", 307, answer.status_code)
    async with httpx.AsyncClient(timeout=15) as http:
        return await http.get(answer.url.join(answer.headers["location"]))


def sides(content: bytes) -> tuple[int, int]:
    """Width and height of a WebP, of each of its three kinds."""
    check(content[:4] + content[8:12] == b"RIFFWEBP", "a WebP", content[:16])
    kind = content[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return (
        int.from_bytes(content[24:27], "little") + 1,
        int.from_bytes(content[27:30], "little") + 1,
    )


async def shown(at: Server, user: User, **change: object) -> dict[str, Any]:
    """The profile after a change; what is not ready yet is asked for again."""
    token = await at.token(user)
    version = (await at.http.call(ME, token=token))["version"]
    body = {"version": version, **change}
    answer: dict[str, Any] = await at.http.call("PATCH /v1/me", token=token, body=body)
    return answer


@case(once=True)
async def an_image_has_a_thumbnail(at: Server) -> None:
    """512 pixels at most, as a WebP to be saved; other files, and other sizes, have none."""
    user = await at.new_user()
    token, file = await at.token(user), await uploaded(at, user, png(1000, 500))
    has(file, "own file", thumbnail=True, width=1000, height=500)
    got = await preview(at, user, file["file"], "thumbnail")
    expect("a thumbnail", (200, "image/webp"), (got.status_code, got.headers["content-type"]))
    expect("its sides", (512, 256), sides(got.content))
    check(got.headers["content-disposition"].startswith("attachment;"), "attachment", got.headers)
    text = await uploaded(at, user, b"hello", name="a.txt", type="text/plain")
    has(text, "own file", thumbnail=None)
    for named, size, code in (
        (text, "thumbnail", "not_found"),
        (file, "64", "not_found"),
        (file, "65", "malformed"),
    ):
        await at.http.refused(
            READ, code, field="size", token=token, file=named["file"], query={"size": size}
        )
    stranger = await at.token(at.ann)
    query = {"size": "thumbnail"}
    await at.http.refused(READ, "not_found", token=stranger, file=file["file"], query=query)
    await at.http.call(READ, token=token, file=file["file"], query=query)


@case(once=True)
async def a_user_shows_an_avatar(at: Server) -> None:
    """A file of that purpose, read by every user as squares and never as it was uploaded."""
    user, other = await at.new_user(), await at.new_user()
    token, content = await at.token(user), png(300, 200)
    avatar = (await uploaded(at, user, content, purpose="avatar"))["file"]
    has(await shown(at, user, avatar=avatar), "own profile", avatar=avatar)
    profile = await at.http.call(PROFILE, token=await at.token(other), user=user.user)
    has(profile, "profile", avatar=avatar)
    for size in ("64", "192", "512", None):
        got = await preview(at, other, avatar, size)
        expect("a square", (int(size or 512),) * 2, sides(got.content))
    has(await shown(at, user, display_name="Another"), "own profile", avatar=avatar)
    for one, two in ((user, other), (other, user)):
        blocker = await at.token(one)
        await at.http.call(BLOCK, token=blocker, user=two.user)
        profile = await at.http.call(PROFILE, token=await at.token(other), user=user.user)
        has(profile, "profile across a block", avatar=None)
        await at.http.call(UNBLOCK, token=blocker, user=two.user)
    has(await shown(at, user, avatar=""), "own profile", avatar=None)
    image = (await uploaded(at, user, content))["file"]
    theirs = (await uploaded(at, other, content, purpose="avatar"))["file"]
    version = (await at.http.call(ME, token=token))["version"]
    for file in (image, theirs, "4611686018427387904"):
        body = {"version": version, "avatar": file}
        refused = "PATCH /v1/me", "not_found"
        await at.http.refused(*refused, field="avatar", token=token, body=body)
    body = {"version": version, "avatar": "x"}
    await at.http.refused("PATCH /v1/me", "malformed", field="avatar", token=token, body=body)
