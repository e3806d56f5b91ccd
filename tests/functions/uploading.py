"""Uploads as a client makes them, over HTTP on the real app."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.functions.file_contents import png

PNG = png()


async def announced(caller, content=PNG, **fields):
    """The answer to the announcement of a file with this content."""
    body = {
        "name": "photo.png",
        "bytes": len(content),
        "type": "image/png",
        "purpose": "message",
        **fields,
    }
    return await caller.call("POST", "/v1/files", body)


def path_of(url):
    """What of a URL of this server a request names."""
    split = urlsplit(url)
    return f"{split.path}?{split.query}"


async def put(caller, upload, content=PNG, **headers):
    """The answer to the upload's request."""
    return await caller.call(
        upload["method"],
        path_of(upload["url"]),
        content=content,
        headers={"authorization": "", **upload["headers"], **headers},
    )


async def complete(caller, file):
    return await caller.call("POST", f"/v1/files/{file}/complete")


async def uploaded(caller, content=PNG, **fields):
    """The id of a file that is uploaded and complete."""
    answer = await announced(caller, content, **fields)
    assert answer.status_code == 201, answer.text
    new = answer.json()
    answer = await put(caller, new["upload"], content)
    assert answer.status_code == 204, answer.text
    answer = await complete(caller, new["file"])
    assert answer.status_code == 200, answer.text
    return new["file"]


async def read(caller, file):
    """Where a file is, by the answer of its call; then what is there."""
    answer = await caller.get(f"/v1/files/{file}")
    assert answer.status_code == 307, answer.text
    return await caller.call("GET", path_of(answer.headers["location"]))
