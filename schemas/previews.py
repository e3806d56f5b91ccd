"""Which files have previews: small copies that a function of its own makes of images.

It follows from what a file is, so a message that shows a file always says the same; the previews
are there a moment after the upload. Source: protocol.md section 3, decisions/0064.
"""

from __future__ import annotations

from typing import Final

IMAGE_TYPES: Final = frozenset(
    {"image/png", "image/apng", "image/jpeg", "image/gif", "image/webp", "image/avif"}
)
MAX_IMAGE_BYTES: Final = 32 * 2**20
"""A larger file is not decoded: it has to be held in memory."""
MAX_PIXELS: Final = 50_000_000
"""Decoded they take 200 MB."""
THUMBNAIL: Final = "thumbnail"
THUMBNAIL_SIDE: Final = 512
"""Of a thumbnail's longer side, in pixels."""
AVATAR_SIDES: Final = (64, 192, 512)
"""Avatars are squares."""
SIZES: Final = (THUMBNAIL, *map(str, AVATAR_SIDES))
"""What a client may ask for."""


def previews_of(purpose: str) -> tuple[str, ...]:
    """The names of the previews of an image with this purpose (message or avatar)."""
    return SIZES[1:] if purpose == "avatar" else SIZES[:1]


def has_previews(content_type: str, size: int, *, width: int, height: int) -> bool:
    """Whether previews are made of a file of so many bytes; width and height 0: its header does not
    tell them.
    """
    return content_type in IMAGE_TYPES and size <= MAX_IMAGE_BYTES and width * height <= MAX_PIXELS
