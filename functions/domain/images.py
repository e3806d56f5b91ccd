"""Previews, which are small copies of images: a thumbnail of what is sent, squares of avatars.

Decoders read what strangers wrote, so each image is decoded by a process of its own that may use
little memory and time (`image_worker`), and of which only its output is believed.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from functions.domain.image_worker import BROKEN
from schemas.errors import Malformed, Unavailable
from schemas.previews import AVATAR_SIDES, MAX_PIXELS, THUMBNAIL, THUMBNAIL_SIDE

PREVIEW_TYPE: Final = "image/webp"
MEMORY_BYTES: Final = 1024 * 2**20
"""Address space of a worker: MAX_PIXELS of 4 bytes, which WebP holds four times, and 150 MB of
Python, Pillow and its libraries.
"""


MAX_OUTPUT_BYTES: Final = 8 * 2**20
"""Three squares as WebP are below 1 MB."""


class Size(NamedTuple):
    """Of a preview: its longer side at most, or both sides."""

    side: int
    square: bool


SIZES: Final = {
    THUMBNAIL: Size(THUMBNAIL_SIDE, square=False),
    **{str(side): Size(side, square=True) for side in AVATAR_SIDES},
}


class Preview(NamedTuple):
    """A WebP."""

    width: int
    height: int
    content: bytes


class Images:
    """Makes previews, one image at a time."""

    def __init__(self, *, timeout_s: float, memory_bytes: int = MEMORY_BYTES) -> None:
        """`timeout_s`: of one image, whatever else the machine does."""
        self._timeout_s, self._memory_bytes = timeout_s, memory_bytes
        self._turn = asyncio.Semaphore(1)

    async def previews(
        self, content: bytes, content_type: str, sizes: Mapping[str, Size]
    ) -> dict[str, Preview]:
        """Its previews by their names.

        Raises Malformed `content` for what is no image of this type, is broken, or takes too much
        to decode: now and always. Unavailable when the machine was too slow: try again.
        """
        asked = {
            "type": content_type,
            "pixels": MAX_PIXELS,
            "memory_bytes": self._memory_bytes,
            # What always takes so long is refused; half the time is for a machine that is busy.
            "cpu_s": max(1, int(self._timeout_s / 2)),
            "sizes": list(sizes.values()),
        }
        async with self._turn:
            output = await self._run(json.dumps(asked), content)
        return dict(zip(sizes, _read(output, list(sizes.values())), strict=True))

    async def _run(self, asked: str, content: bytes) -> bytes:
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-I", str(_WORKER), asked,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
        )  # fmt: skip
        assert worker.stdin is not None  # noqa: S101 - they are pipes
        assert worker.stdout is not None  # noqa: S101
        assert worker.stderr is not None  # noqa: S101
        try:
            async with asyncio.timeout(self._timeout_s):
                output, said, _ = await asyncio.gather(
                    _limited(worker.stdout, MAX_OUTPUT_BYTES),
                    _limited(worker.stderr, MAX_OUTPUT_BYTES),
                    _feed(worker.stdin, content),
                )
                await worker.wait()
        except TimeoutError:
            raise Unavailable("an image was not decoded in time") from None
        finally:
            if worker.returncode is None:
                with suppress(ProcessLookupError):
                    worker.kill()
                await worker.wait()
        if worker.returncode == 0:
            return output
        if worker.returncode == BROKEN:
            why = said.decode(errors="replace").strip() or "it is broken"
            raise Malformed(f"the image cannot be decoded: {why}", field="content")
        raise Malformed("the image takes too much to be decoded", field="content")


_WORKER: Final = Path(__file__).with_name("image_worker.py")
_HEADER: Final = struct.Struct(">III")


async def _feed(stream: asyncio.StreamWriter, content: bytes) -> None:
    with suppress(ConnectionError):  # it has ended: its exit code says why
        stream.write(content)
        await stream.drain()
        stream.close()
        await stream.wait_closed()


async def _limited(stream: asyncio.StreamReader, limit: int) -> bytes:
    content = bytearray()
    while part := await stream.read(65_536):
        content += part
        if len(content) > limit:
            raise _nonsense()
    return bytes(content)


def _read(output: bytes, sizes: Sequence[Size]) -> list[Preview]:
    """What a worker has written, if it is what was asked for."""
    previews = []
    at = 0
    try:
        for side, square in sizes:
            width, height, length = _HEADER.unpack_from(output, at)
            at += _HEADER.size
            content = output[at : at + length]
            at += length
            fits = width == height == side if square else 0 < max(width, height) <= side
            if not fits or content[:4] != b"RIFF" or content[8:12] != b"WEBP":
                raise _nonsense()
            previews.append(Preview(width, height, content))
    except struct.error:
        raise _nonsense() from None
    if at != len(output):
        raise _nonsense()
    return previews


def _nonsense() -> Malformed:
    return Malformed("the image made its worker say nonsense", field="content")
