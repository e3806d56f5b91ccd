"""Small previews of images, made by a process that may use little."""

from __future__ import annotations

import io
import random
import struct

import pytest
from PIL import Image, ImageCms

from functions.domain import image_worker
from functions.domain.image_worker import FORMATS
from functions.domain.images import SIZES, Images, Size
from schemas.errors import Malformed, Unavailable
from schemas.previews import IMAGE_TYPES, MAX_IMAGE_BYTES, MAX_PIXELS, has_previews
from tests.functions import file_contents as made

THUMBNAILS = {"thumbnail": SIZES["thumbnail"]}
AVATARS = {name: size for name, size in SIZES.items() if size.square}
RED, BLUE = (255, 0, 0), (0, 0, 255)
SMALL = {"small": Size(64, square=False)}
SQUARE = {"square": Size(32, square=True)}


def drawn(kind: str, size: tuple[int, int] = (200, 100), mode: str = "RGB", **saved) -> bytes:
    """An image whose left half is red and whose right half is blue."""
    image = Image.new("RGB", size, BLUE)
    image.paste(RED, (0, 0, size[0] // 2, size[1]))
    out = io.BytesIO()
    image.convert(mode).save(out, kind, **saved)
    return out.getvalue()


@pytest.fixture
def images():
    return Images(timeout_s=20)


async def one(images, content, kind, sizes=None):
    """The only preview, as Pillow opens it."""
    (preview,) = (await images.previews(content, kind, sizes or SMALL)).values()
    opened = Image.open(io.BytesIO(preview.content), formats=["WEBP"])
    assert opened.size == (preview.width, preview.height)
    return opened


def here(content, kind, size=SMALL["small"]):
    """The same, made in this process: quicker, and seen by the tool that measures coverage."""
    ((_, made_of_it),) = image_worker.previews(content, kind, [size], pixels=MAX_PIXELS)
    return Image.open(io.BytesIO(made_of_it), formats=["WEBP"])


def near(pixel, colour):
    return all(abs(one - other) < 12 for one, other in zip(pixel, colour, strict=False))


async def test_a_worker_says_the_same(images):
    """Each format goes through a process of its own."""
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "AVIF"):
        content, name = drawn(kind, (100, 60)), f"image/{kind.lower()}"
        assert (await one(images, content, name)).tobytes() == here(content, name).tobytes()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, of broken EXIF
def test_broken_words_of_a_camera_spoil_no_preview():
    """The image is shown as it lies."""
    for exif in (b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0nonsense"):
        assert here(drawn("JPEG", exif=exif), "image/jpeg").size == (64, 32)


@pytest.mark.parametrize(
    ("kind", "mode", "name"),
    [
        ("PNG", "RGB", "image/png"),
        ("PNG", "P", "image/png"),
        ("PNG", "RGBA", "image/png"),
        ("JPEG", "RGB", "image/jpeg"),
        ("JPEG", "CMYK", "image/jpeg"),
        ("GIF", "P", "image/gif"),
        ("WEBP", "RGB", "image/webp"),
        ("AVIF", "RGB", "image/avif"),
    ],
)
def test_a_preview_is_small_and_shows_the_same(kind, mode, name):
    """Its longer side is what was asked for, its shape stays."""
    preview = here(drawn(kind, mode=mode), name)

    assert preview.size == (64, 32)
    pixels = preview.convert("RGB")
    assert near(pixels.getpixel((5, 16)), RED)
    assert near(pixels.getpixel((58, 16)), BLUE)


async def test_a_small_image_grows_only_as_a_square(images):
    """An avatar's sides are all the same length, whatever was uploaded."""
    tiny = drawn("PNG", (10, 6))

    thumbnail = await images.previews(tiny, "image/png", THUMBNAILS)
    squares = await images.previews(tiny, "image/png", AVATARS)

    assert [preview[:2] for preview in thumbnail.values()] == [(10, 6)]
    assert {name: preview[:2] for name, preview in squares.items()} == {
        "64": (64, 64),
        "192": (192, 192),
        "512": (512, 512),
    }


@pytest.mark.parametrize("size", [(3_000, 40), (40, 3_000), (900, 700)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_square_is_cut_out_of_the_middle(kind, size):
    """Both halves are in it when they stand side by side."""
    square = (here(drawn(kind, size), f"image/{kind.lower()}", SQUARE["square"])).convert("RGB")

    assert square.size == (32, 32)
    assert near(square.getpixel((2, 16)), RED)
    assert near(square.getpixel((29, 16)), BLUE)


def test_transparency_stays():
    """An icon has no black corners."""
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 32, 64))
    out = io.BytesIO()
    image.save(out, "PNG")

    preview = here(out.getvalue(), "image/png")

    assert preview.getpixel((60, 32))[3] == 0
    assert preview.getpixel((4, 32))[3] == 255


def test_greys_of_16_bits_stay_greys():
    """Scanners and microscopes make such images; the brightest is white, and no other."""
    image = Image.new("I;16", (64, 64))
    image.putdata([row * 1_000 for row in range(64) for _ in range(64)])
    out = io.BytesIO()
    image.save(out, "PNG")

    preview = here(out.getvalue(), "image/png").convert("L")

    for row in (1, 32, 62):
        assert abs(preview.getpixel((32, row)) - row * 1_000 / 256) < 8


def test_a_preview_is_turned_as_the_camera_was_held_and_tells_nothing_else():
    """Orientation is applied; place, time, camera and comment are gone."""
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera stood on its right side
    exif[0x010F] = "maker of the camera"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    photo = drawn("JPEG", exif=exif, comment=b"by me")
    assert b"maker" in photo

    preview = here(photo, "image/jpeg")

    assert preview.size == (32, 64)
    assert near(preview.convert("RGB").getpixel((16, 4)), RED)
    assert not {"exif", "xmp", "icc_profile", "comment"} & set(preview.info)
    assert not preview.getexif()


def test_colours_are_those_of_the_profile():
    """A profile is applied, and a broken one does nothing."""
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

    for profile in (plain, b"nonsense"):
        preview = here(drawn("JPEG", icc_profile=profile), "image/jpeg")
        assert near(preview.convert("RGB").getpixel((5, 16)), RED)


def test_of_an_animation_the_first_picture_counts():
    """However many there are."""
    frames = [Image.new("RGB", (80, 40), RED)] + [Image.new("RGB", (80, 40), BLUE)] * 3
    for kind in ("GIF", "WEBP", "PNG"):
        out = io.BytesIO()
        frames[0].save(out, kind, save_all=True, append_images=frames[1:])

        preview = here(out.getvalue(), f"image/{kind.lower()}")

        assert getattr(preview, "n_frames", 1) == 1
        assert near(preview.convert("RGB").getpixel((30, 16)), RED)


BAD = {
    "PNG bomb": (made.png_bomb(), "image/png"),
    "GIF bomb": (made.gif(65_535, 65_535), "image/gif"),
    "WebP bomb": (made.webp(16_384, 16_384), "image/webp"),
    "JPEG of headers": (made.jpeg(9_000, 5_000), "image/jpeg"),
    "text bomb": (
        made.png(extra=made.chunk(b"zTXt", b"a\0\0" + made.deflated(bytes(20_000_000)))),
        "image/png",
    ),
    "cut": (drawn("PNG", (300, 300))[:-40], "image/png"),
    "cut JPEG": (drawn("JPEG", (900, 900))[:3_000], "image/jpeg"),
    "another type": (drawn("GIF"), "image/png"),
    "another decoder's": (drawn("TIFF"), "image/jpeg"),
    "nothing": (b"", "image/png"),
    "a page": (made.HTML, "image/jpeg"),
}


@pytest.mark.parametrize(("content", "kind"), BAD.values(), ids=BAD)
async def test_bombs_and_broken_files_have_no_previews(images, content, kind):
    """They are refused for good, and cost little."""
    with pytest.raises(Malformed) as error:
        await images.previews(content, kind, THUMBNAILS)

    assert error.value.field == "content"


async def test_noise_in_an_image_ends_no_function(images):
    """Whatever a decoder makes of broken bytes, the answer is a preview or a refusal."""
    chance = random.Random(14)  # noqa: S311 - the same each time
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "AVIF"):
        content = bytearray(drawn(kind, (90, 60)))
        for _ in range(12):
            content[chance.randrange(len(content))] = chance.randrange(256)
        try:
            await one(images, bytes(content), f"image/{kind.lower()}")
        except Malformed as error:
            assert error.field == "content"


async def test_memory_of_a_worker_is_bounded():
    """An image that takes more ends its worker, and nothing else."""
    photo = drawn("PNG", (6_000, 6_000))

    with pytest.raises(Malformed):
        await Images(timeout_s=20, memory_bytes=160 * 2**20).previews(photo, "image/png", SMALL)


async def test_time_of_a_worker_is_bounded():
    """A worker that is late is ended, and the event tried again."""
    with pytest.raises(Unavailable):
        await Images(timeout_s=0.001).previews(drawn("PNG"), "image/png", SMALL)


def test_only_what_can_be_decoded_gets_previews():
    """Type, bytes and pixels decide, before anything is read."""
    assert {*FORMATS} == IMAGE_TYPES
    assert has_previews("image/jpeg", MAX_IMAGE_BYTES, width=MAX_PIXELS // 10, height=10)
    assert has_previews("image/avif", 10, width=0, height=0)
    assert not has_previews("image/svg+xml", 10, width=0, height=0)
    assert not has_previews("image/heic", 10, width=0, height=0)
    assert not has_previews("image/png", 10, width=MAX_PIXELS // 10 + 1, height=10)
    assert not has_previews("image/png", MAX_IMAGE_BYTES + 1, width=1, height=1)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\0" * 11,
        struct.pack(">III", 64, 32, 12) + b"RIFF\0\0\0\0WEBX",
        struct.pack(">III", 65, 32, 12) + b"RIFF\0\0\0\0WEBP",
        struct.pack(">III", 0, 0, 12) + b"RIFF\0\0\0\0WEBP",
        struct.pack(">III", 64, 32, 13) + b"RIFF\0\0\0\0WEBP",
        struct.pack(">III", 64, 32, 12) + b"RIFF\0\0\0\0WEBP<script>",
    ],
)
async def test_a_worker_that_was_taken_over_is_not_believed(images, monkeypatch, said):
    """What it writes is a WebP of the asked size, or nothing."""

    async def run(*_asked):
        return said

    monkeypatch.setattr(images, "_run", run)  # no file is known that takes Pillow over
    with pytest.raises(Malformed, match="nonsense"):
        await images.previews(b"", "image/png", SMALL)
