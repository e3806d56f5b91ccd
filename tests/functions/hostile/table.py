"""The table: hostile files and requests, and how far each gets.

A new one is one row. `test_hostile_files.py` sends all of them, over HTTP, to each store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from tests.functions import file_contents as made
from tests.functions.hostile.contents import ACTIVE, LIES
from tests.functions.hostile.names import REFUSED

Step = Literal["announced", "uploaded", "completed", "inert", "avatar"]
"""Where it ends. announced: refused before there is a URL. uploaded: by the store. completed: when
it is looked at, and it is removed. inert: it is a file, and no browser will run or show it. avatar:
it is a file, and no avatar.
"""


@dataclass(frozen=True)
class Hostile:
    """A file: its bytes, and what is said of it. `sent`: what is uploaded instead."""

    content: bytes
    ends: Step
    field: str = ""
    """Of the error."""
    name: str = "file"
    type: str = "application/octet-stream"
    said: int | None = None
    """Bytes, where that is a lie."""
    purpose: str = "message"
    headers: tuple[tuple[str, str], ...] = ()
    """Of the upload, instead of the given ones."""
    code: str = "malformed"


def _files() -> dict[str, Hostile]:
    found = {
        f"name: {title}": Hostile(b"x", "announced", "name", name)
        for title, name in REFUSED.items()
        if title != "half a surrogate pair"  # JSON holds none
    }
    for title, (content, name, declared, field) in LIES.items():
        # What is no media type is refused at once.
        ends: Step = "announced" if title in _NO_TYPE else "completed"
        found[f"lie: {title}"] = Hostile(content, ends, field, name, declared)
    found |= {f"active: {title}": Hostile(content, "inert") for title, content in ACTIVE.items()}
    return found


_NO_TYPE: Final = {"no type", "a type with a line", "a type in a type"}

FILES: Final[dict[str, Hostile]] = {
    **_files(),
    "bomb: zip": Hostile(made.zip_bomb(), "inert", name="a.zip", type="application/zip"),
    "bomb: gzip": Hostile(made.gzip_bomb(), "inert", name="a.gz", type="application/gzip"),
    "bomb: PNG": Hostile(made.png_bomb(), "inert", name="a.png", type="image/png"),
    "bomb: GIF": Hostile(made.gif(65_535, 65_535), "inert", name="a.gif", type="image/gif"),
    "bomb: JPEG": Hostile(made.jpeg(65_535, 65_535), "inert", name="a.jpg", type="image/jpeg"),
    "bomb: WebP": Hostile(made.webp(16_384, 16_384), "inert", name="a.webp", type="image/webp"),
    "bomb: PNG avatar": Hostile(
        made.png_bomb(), "avatar", name="a.png", type="image/png", purpose="avatar"
    ),
    "avatar: a page": Hostile(
        made.HTML, "avatar", name="a.html", type="text/html", purpose="avatar"
    ),
    "avatar: a drawing": Hostile(
        made.SVG, "avatar", name="a.svg", type="image/svg+xml", purpose="avatar"
    ),
    "avatar: cut": Hostile(
        made.png(300, 300)[:-60], "avatar", name="a.png", type="image/png", purpose="avatar"
    ),
    "avatar: headers only": Hostile(
        made.jpeg(9, 9), "avatar", name="a.jpg", type="image/jpeg", purpose="avatar"
    ),
    "size: more": Hostile(b"x" * 100, "uploaded", said=10),
    "size: less": Hostile(b"x" * 10, "uploaded", said=100),
    "size: none": Hostile(b"", "announced", "bytes", said=0),
    "size: negative": Hostile(b"x", "announced", "bytes", said=-1),
    "size: too much": Hostile(b"x", "announced", "bytes", said=10**8, code="too_large"),
    "size: beyond numbers": Hostile(b"x", "announced", "bytes", said=2**70),
    "type: another at upload": Hostile(
        made.HTML, "uploaded", type="image/png", headers=(("content-type", "text/html"),)
    ),
    "type: none at upload": Hostile(made.HTML, "uploaded", headers=(("content-type", ""),)),
}


# ---- requests ------------------------------------------------------------------------------------


def _path(url: str, change) -> str:
    parts = urlsplit(url)
    return parts._replace(path=change(parts.path)).geturl()


ALTERED = {
    "another file": lambda url, other: _path(url, lambda _: urlsplit(other).path),
    "another folder": lambda url, _: _path(url, lambda path: path.replace("files/", "uploads/")),
    "up": lambda url, _: _path(url, lambda path: f"{path}/../../../data.db"),
    "up, escaped": lambda url, _: _path(url, lambda path: f"{path}%2f..%2f..%2fdata.db"),
    "the key of URLs": lambda url, _: _path(url, lambda path: f"{path.rpartition('/')[0]}/url-key"),
    "a line": lambda url, _: _path(url, lambda path: f"{path}%0d%0aX-A:%20b"),
    "NUL": lambda url, _: _path(url, lambda path: f"{path}%00"),
    "no query": lambda url, _: urlsplit(url)._replace(query="").geturl(),
    "query of another": lambda url, other: (
        urlsplit(url)._replace(query=urlsplit(other).query).geturl()
    ),
}
"""A URL of a download, and one of another file -> a URL that leads nowhere."""

RANGES = {
    "nothing": "bytes=",
    "backwards": "bytes=9-2",
    "beyond": "bytes=99999999-",
    "huge": f"bytes=0-{2**70}",
    "negative": "bytes=--5",
    "another unit": "lines=0-1",
    "many": "bytes=" + ",".join(f"{at}-{at}" for at in range(1_500)),
    "the same, often": "bytes=" + ",".join(["0-"] * 1_500),
    "words": "bytes=a-b",
    "a tab": "bytes=0-1,\t2-3",
}
"""What a download is asked for, by its header Range."""

REQUESTS = {
    "read": ("GET", "/v1/files/{file}", None),
    "read small": ("GET", "/v1/files/{file}?size=thumbnail", None),
    "read an avatar's size": ("GET", "/v1/files/{file}?size=64", None),
    "read by a size that is a path": ("GET", "/v1/files/{file}?size=../{file}", None),
    "complete": ("POST", "/v1/files/{file}/complete", None),
    "complete what is not uploaded": ("POST", "/v1/files/{new}/complete", None),
    "read what is not uploaded": ("GET", "/v1/files/{new}", None),
    "delete": ("DELETE", "/v1/files/{file}", None),
    "overwrite": ("PUT", "/v1/files/{file}", {"name": "x"}),
    "as my avatar": ("PATCH", "/v1/me", {"version": "1", "avatar": "{avatar}"}),
    "no avatar as mine": ("PATCH", "/v1/me", {"version": "1", "avatar": "{file}"}),
    "as a group's avatar": (
        "POST", "/v1/chats", {"key": "k", "name": "G", "avatar": "{avatar}"},
    ),
    "no id": ("GET", "/v1/files/x", None),
    "id 0": ("GET", "/v1/files/0", None),
    "an id beyond": ("GET", f"/v1/files/{2**64}", None),
    "a path as an id": ("GET", "/v1/files/..%2f..%2fdata.db", None),
    "a list of ids": ("GET", "/v1/files/{file},{file}", None),
    "no signature": ("GET", "/v1/blobs/files/{file}-1", None),
    "write without a signature": ("PUT", "/v1/blobs/files/{file}-1", {}),
}  # fmt: skip
"""What Ben asks of Ann's files."""
