"""What an uploaded file is, by its content."""

from __future__ import annotations

import pytest

from functions.domain.contents import (
    HEAD_BYTES,
    TAIL_BYTES,
    Declared,
    Inspected,
    inspect,
)
from functions.domain.file_types import INLINE, UNKNOWN
from schemas.errors import Malformed
from schemas.previews import MAX_PIXELS
from tests.functions import file_contents as made
from tests.functions.hostile.contents import ACTIVE, LIES


def looked_at(content: bytes, name: str = "file", declared: str = UNKNOWN, **said) -> Inspected:
    size = len(content)
    what = Declared(name=name, type=declared, bytes=said.get("bytes", size))
    return inspect(content[:HEAD_BYTES], content[-TAIL_BYTES:], size=size, declared=what)


HONEST = {
    # content, name, declared, stored as
    "png": (made.png(), "a.png", "image/png", "image/png"),
    "png by its old name": (made.png(), "a.PNG", "image/x-png", "image/png"),
    "jpeg": (made.jpeg(), "a.jpg", "image/jpeg", "image/jpeg"),
    "jpeg, wrong but usual": (made.jpeg(), "a.jpeg", "image/jpg", "image/jpeg"),
    "gif": (made.gif(), "a.gif", "image/gif", "image/gif"),
    "webp": (made.webp(), "a.webp", "image/webp", "image/webp"),
    "heic": (made.HEIC, "IMG_1.HEIC", "image/heic", "image/heic"),
    "mp4": (made.MP4, "a.mp4", "video/mp4", "video/mp4"),
    "voice message": (made.MP4, "a.m4a", "audio/x-m4a", "audio/mp4"),
    "mov": (made.MOV, "a.mov", "video/quicktime", "video/quicktime"),
    "webm": (made.WEBM, "a.webm", "audio/webm;codecs=opus", "audio/webm"),
    "mp3": (made.MP3, "a.mp3", "audio/mp3", "audio/mpeg"),
    "wav": (made.WAV, "a.wav", "audio/x-wav", "audio/wav"),
    "opus": (made.OGG, "a.opus", "audio/ogg", "audio/ogg"),
    "flac": (made.FLAC, "a.flac", "audio/flac", "audio/flac"),
    "pdf": (made.PDF, "a.pdf", "application/pdf", "application/pdf"),
    "pdf behind a line": (b"\n\n" + made.PDF, "a.pdf", "application/pdf", "application/pdf"),
    "zip": (made.archive({"a": b"1"}), "a.zip", "application/zip", "application/zip"),
    "zip of pages": (
        made.archive({"a.html": made.HTML, "a.pdf": made.PDF}, stored=True),
        "a.zip", "application/x-zip-compressed", "application/zip",
    ),
    "java": (
        made.archive({"META-INF/MANIFEST.MF": b""}),
        "a.jar", "application/java-archive", "application/java-archive",
    ),
    "docx": (
        made.docx(), "a.docx",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    "docx called zip": (
        made.docx(), "a.zip", "application/zip",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ),
    "7z": (made.SEVEN_ZIP, "a.7z", "application/x-7z-compressed", "application/x-7z-compressed"),
    "text": (b"hello\n", "a.txt", "text/plain; charset=utf-8", "text/plain"),
    "text with marks of a bitmap": (b"BMW is a car", "a.txt", "text/plain", "text/plain"),
    "older text": ("gr\u00fc\u00dfe".encode("latin-1"), "a.txt", "text/plain", "text/plain"),
    "text of Windows": ("gr\u00fc\u00dfe".encode("utf-16"), "a.txt", "text/plain", "text/plain"),
    "a heart": (b"<3 you", "a.txt", "text/plain", "text/plain"),
    "csv": (b"a,b\n1,2\n", "a.csv", "text/csv", "text/csv"),
    "json": (b'{"a": 1}', "a.json", "application/json", "application/json"),
    "readme with tags": (b"<p align=center>x</p>\n# a", "README.md", "text/markdown", "text/html"),
    "track": (b'<?xml version="1.0"?><gpx/>', "a.gpx", "application/gpx+xml", "application/xml"),
    "page": (made.HTML, "a.html", "text/html", "text/html"),
    "page with a drawing": (
        b"<!doctype html><body><svg></svg></body>", "a.html", "text/html", "text/html",
    ),
    "drawing": (made.SVG, "a.svg", "image/svg+xml", "image/svg+xml"),
    "program": (made.EXE, "setup.exe", "application/x-msdownload", "application/x-msdownload"),
    "installer": (
        made.EXE + made.archive({"a": b"1"}),
        "setup.exe", "application/octet-stream", "application/x-msdownload",
    ),
    "unknown": (bytes(range(256)), "a.bin", "application/octet-stream", UNKNOWN),
    "unknown, called something": (bytes(range(256)), "a.xyz", "application/x-xyz", UNKNOWN),
    "log with NULs": (b"a\0b\n", "a.log", "text/plain", UNKNOWN),
    "image by another's name": (made.webp(), "a.jpg", "image/jpeg", "image/webp"),
    "sound by another's name": (made.MP3, "a.m4a", "audio/mp4", "audio/mpeg"),
    "presentation": (
        made.archive({"Index.iwa": b"1"}), "a.key", "application/x-iwork-keynote-sffkey",
        "application/zip",
    ),
    "drawing of a program that uses PDF": (
        made.PDF, "a.ai", "application/postscript", "application/pdf",
    ),
    "image of an unknown type": (made.png(), "a.xyz", "application/x-xyz", "image/png"),
    "undeclared image": (made.png(), "a.png", "application/octet-stream", "image/png"),
    "undeclared page": (made.HTML, "a", "application/octet-stream", "text/html"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "name", "declared", "stored"), HONEST.values(), ids=HONEST)
def test_honest_files_are_stored_as_what_they_are(content, name, declared, stored):
    """Each gets the type that its content has, and the client's word where content is silent."""
    assert looked_at(content, name, declared).type == stored


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (made.png(640, 480), (640, 480)),
        (made.gif(7, 9), (7, 9)),
        (made.jpeg(1024, 768, exif=b"\0" * 60_000), (1024, 768)),
        (made.jpeg(1024, 768, comment=b"x" * 100), (1024, 768)),
        (made.webp(300, 200), (300, 200)),
        (made.png()[:20], None),
        (b"\xff\xd8\xff\xe0" + b"\0" * 40, None),
        (b"\xff\xd8" + b"\xff" * 60_000, None),
        (made.MP4, None),
    ],
)
def test_the_size_of_an_image_is_read_from_its_header(content, size):
    """A broken header tells none, and costs little."""
    found = looked_at(content)

    assert (found.width, found.height) == (size or (None, None))


@pytest.mark.parametrize("content", ACTIVE.values(), ids=ACTIVE)
def test_what_could_run_is_never_shown(content):
    """Not inline, and served as bytes, whatever was declared; never taken for an image."""
    found = looked_at(content)

    assert not found.safe_inline
    assert found.served_type == UNKNOWN
    for harmless in sorted(INLINE):
        with pytest.raises(Malformed) as error:
            looked_at(content, declared=harmless)
        assert error.value.field == "type"


@pytest.mark.parametrize(("content", "name", "declared", "field"), LIES.values(), ids=LIES)
def test_what_is_not_true_is_refused_by_its_field(content, name, declared, field):
    """A file is what it says, or is not stored."""
    with pytest.raises(Malformed) as error:
        looked_at(content, name, declared)

    assert error.value.field == field


@pytest.mark.parametrize(("content", "said"), [(b"abc", 2), (b"abc", 4), (b"", 0), (b"", 1)])
def test_a_size_that_is_not_true_is_refused(content, said):
    """Neither more nor less, nor nothing."""
    with pytest.raises(Malformed) as error:
        looked_at(content, bytes=said)

    assert error.value.field == "bytes"


@pytest.mark.parametrize(
    "bomb",
    [
        made.png_bomb(),
        made.gif(65_535, 65_535),
        made.jpeg(65_535, 65_535),
        made.webp(16_384, 16_384),
    ],
)
def test_an_image_of_too_many_pixels_is_not_shown(bomb):
    """It is a file like others, to be saved."""
    found = looked_at(bomb)

    assert found.width * found.height > MAX_PIXELS
    assert not found.safe_inline


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_size_of_a_photo_is_as_its_camera_was_held(order):
    """EXIF turns it by a quarter; broken EXIF turns nothing."""
    exif = made.exif(orientation=6, order=order)

    upright = looked_at(made.jpeg(400, 300, exif=exif))
    lying = looked_at(made.jpeg(400, 300, exif=made.exif(orientation=3, order=order)))
    broken = looked_at(made.jpeg(400, 300, exif=exif[:15]))

    assert (upright.width, upright.height) == (300, 400)
    assert (lying.width, lying.height) == (broken.width, broken.height) == (400, 300)


@pytest.mark.parametrize("bomb", [made.zip_bomb(), made.gzip_bomb()])
def test_archives_are_not_unpacked(bomb):
    """However much is in them, they are what they are."""
    assert not looked_at(bomb).safe_inline
