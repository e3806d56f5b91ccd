"""A program: makes previews of one image, in a process that may use little and knows nothing.

    python -I image_worker.py '{"type": ..., "pixels": ..., "memory_bytes": ..., "cpu_s": ...,
                                "sizes": [[side, square], ...]}' < image > previews

Each preview is written as its width, height and length (4 bytes each, big-endian), then a WebP of
one frame: turned as the camera was held, in sRGB, without anything that the file says about itself.
Exit code 3: it is no such image, or a broken one; any other but 0: it took too much. `images` calls
it. It imports Pillow and nothing of ours: a decoder that is taken over finds no settings and no
keys here.
"""

from __future__ import annotations

import io
import json
import resource
import struct
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from PIL import Image

BROKEN: Final = 3
FORMATS: Final = {
    "image/png": "PNG",
    "image/apng": "PNG",
    "image/jpeg": "JPEG",
    "image/gif": "GIF",
    "image/webp": "WEBP",
    "image/avif": "AVIF",
}
_QUALITY: Final = 80
# What decoders raise of broken files.
_RAISED: Final = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error, EOFError,
    ZeroDivisionError, OverflowError, NotImplementedError, AttributeError,
)  # fmt: skip


def main() -> int:
    """The exit code."""
    asked = json.loads(sys.argv[1])
    _limit(memory_bytes=asked["memory_bytes"], cpu_s=asked["cpu_s"])
    from PIL import AvifImagePlugin, Image  # noqa: PLC0415 - under the limits

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each would take memory of its own
    # Pillow's own check, of frames that are larger than their file says: an error above twice this.
    Image.MAX_IMAGE_PIXELS = asked["pixels"] // 2
    try:
        made = previews(
            sys.stdin.buffer.read(), asked["type"], asked["sizes"], pixels=asked["pixels"]
        )
    except (*_RAISED, Image.DecompressionBombError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}"[:500])
        return BROKEN
    for image, content in made:
        sys.stdout.buffer.write(struct.pack(">III", *image.size, len(content)) + content)
    return 0


def _limit(*, memory_bytes: int, cpu_s: int) -> None:
    for what, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def previews(
    content: bytes, content_type: str, sizes: list[tuple[int, bool]], *, pixels: int
) -> list[tuple[Image.Image, bytes]]:
    """A preview of each size (its longer side at most, or both sides of a square), and its WebP.

    Raises what decoders raise.
    """
    from PIL import Image  # noqa: PLC0415 - see above

    with Image.open(io.BytesIO(content), formats=[FORMATS[content_type]]) as image:
        width, height = image.size
        if width * height > pixels:
            raise ValueError(f"{width} x {height} pixels")
        squares = any(square for _, square in sizes)
        largest = max(side for side, _ in sizes)
        # A square is cut out of the middle: the shorter side has to fill it. Of a JPEG only so much
        # is decoded as that needs.
        ratio = max(width, height) / min(width, height) if squares else 1
        image.draft("RGB", (int(largest * ratio), int(largest * ratio)))
        small: Image.Image = image
        small.load()
        if small.mode == "I;16":
            # Greys of 16 bits: a conversion would cut them off above 255.
            small = small.point(lambda value: value * (1 / 256)).convert("L")
        if small.mode not in {"RGB", "RGBA"}:
            small = small.convert("RGBA" if _has_alpha(small) else "RGB")
        if not squares:
            small.thumbnail((largest, largest), Image.Resampling.LANCZOS)
        elif min(small.size) > largest:
            # Before it is turned: turned is a small one.
            factor = largest / min(small.size)
            sides = [max(largest, round(side * factor)) for side in small.size]
            small = small.resize((sides[0], sides[1]), Image.Resampling.LANCZOS, reducing_gap=2)
        small = _in_srgb(_turned(small))
    return [_preview(small, side, square=square) for side, square in sizes]


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in {"LA", "PA", "La", "RGBa"} or "transparency" in image.info


def _turned(image: Image.Image) -> Image.Image:
    """As the camera was held; as it is where that is not to be read."""
    from PIL import ImageOps  # noqa: PLC0415 - see above

    try:
        return ImageOps.exif_transpose(image)
    except _RAISED:
        return image


def _in_srgb(image: Image.Image) -> Image.Image:
    """Colours as a screen without colour management shows them; as they are where the profile says
    nothing, or nonsense.
    """
    from PIL import ImageCms  # noqa: PLC0415 - see above

    profile = image.info.get("icc_profile")
    if not profile:
        return image
    try:
        turned = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode=image.mode,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return image if turned is None else turned


def _preview(image: Image.Image, side: int, *, square: bool) -> tuple[Image.Image, bytes]:
    from PIL import Image, ImageOps  # noqa: PLC0415 - see above

    if square:
        made = ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
    else:
        made = image.copy()
        made.thumbnail((side, side), Image.Resampling.LANCZOS)
    # What it is called, where and by whom it was taken stays behind.
    made.info.clear()
    out = io.BytesIO()
    made.save(out, "WEBP", quality=_QUALITY, method=4)
    return made, out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
