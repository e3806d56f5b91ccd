"""How many pixels an image has, read from the first bytes of its file; nothing is decoded.

`contents` asks for each image; the exact check is the decoder's, in a function of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

# Frame headers of JPEG: SOF0 to SOF15, without those that mean something else (DHT, JPG, DAC).
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM, RST0 to RST7, SOI.
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_APP1: Final = 0xE1
_ORIENTATION: Final = 0x0112
_QUARTERS: Final = frozenset({5, 6, 7, 8})
_MAX_ENTRIES: Final = 256


def image_size(content_type: str, head: bytes) -> tuple[int, int] | None:
    """Width and height of an image; None where the header does not tell, or is broken.

    `head`: the beginning of the file. Of a photo: as its camera was held (EXIF).
    """
    read = _READERS.get(content_type)
    if read is None:
        return None
    try:
        width, height = read(head)
    except (struct.error, ValueError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _png(head: bytes) -> tuple[int, int]:
    length, name, width, height = struct.unpack_from(">I4sII", head, 8)
    if (length, name) != (13, b"IHDR"):
        raise ValueError("no IHDR")
    return width, height


def _gif(head: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", head, 6)
    return width, height


def _webp(head: bytes) -> tuple[int, int]:
    chunk = head[12:16]
    if chunk == b"VP8X":
        wide, high = head[24:27], head[27:30]
        if len(high) < 3:
            raise ValueError("cut")
        return int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("no image chunk")


def _jpeg(head: bytes) -> tuple[int, int]:
    at = 2
    turned = False
    while True:
        prefix, marker = struct.unpack_from(">BB", head, at)
        if prefix != 0xFF:
            raise ValueError("no marker")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        at += 2
        if marker in _BARE:
            continue
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", head, at + 3)
            return (height, width) if turned else (width, height)
        (length,) = struct.unpack_from(">H", head, at)
        if length < 2:
            raise ValueError("a segment shorter than its length")
        if marker == _APP1 and head.startswith(b"Exif\0\0", at + 2):
            turned = _is_turned(head[at + 8 : at + length])
        at += length


def _is_turned(tiff: bytes) -> bool:
    """Whether EXIF says that a photo is to be turned by a quarter."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return False
    try:
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, at)
        for entry in range(min(entries, _MAX_ENTRIES)):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, at + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return value in _QUARTERS
    except struct.error:
        pass  # broken, as far as it is read
    return False


_READERS: Final[dict[str, Callable[[bytes], tuple[int, int]]]] = {
    "image/png": _png,
    "image/apng": _png,
    "image/gif": _gif,
    "image/jpeg": _jpeg,
    "image/webp": _webp,
}
