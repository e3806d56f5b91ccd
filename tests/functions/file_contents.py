"""Files for tests, made in code: honest ones of each type, and hostile ones."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib


def png(width: int = 4, height: int = 3, *, extra: bytes = b"") -> bytes:
    """A whole PNG, black; `extra`: chunks before the pixels."""
    rows = b"".join(b"\0" + b"\0\0\0" * width for _ in range(height))
    return png_of(width, height, zlib.compress(rows), extra=extra)


def png_of(width: int, height: int, pixels: bytes, *, extra: bytes = b"") -> bytes:
    """A PNG that says what its size is; `pixels`: the compressed ones."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_bomb(side: int = 40_000) -> bytes:
    """A PNG of a few KB that takes gigabytes once decoded."""
    # A part of the pixels is enough: what stands in the header decides.
    return png_of(side, side, deflated(bytes(side * 3 + 1) * 20))


def deflated(content: bytes) -> bytes:
    """As small as it gets."""
    return zlib.compress(content, 9)


def gif(width: int = 4, height: int = 3, *, frames: int = 1, comment: bytes = b"") -> bytes:
    """A GIF; `comment`: of at most 255 bytes."""
    head = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    said = b"\x21\xfe" + bytes([len(comment)]) + comment + b"\0" if comment else b""
    one = b"\x21\xf9\x04\0\0\0\0\0" + b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0"
    return head + said + (one + b"\x02\x02\x44\x01\0") * frames + b"\x3b"


def jpeg(width: int = 4, height: int = 3, *, comment: bytes = b"", exif: bytes = b"") -> bytes:
    """The headers of a JPEG: enough for who reads its size."""

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    said = segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0")
    said += segment(0xE1, b"Exif\0\0" + exif) if exif else b""
    said += segment(0xFE, comment) if comment else b""
    said += segment(0xC0, struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\0")
    return b"\xff\xd8" + said + b"\xff\xd9"


def exif(*, orientation: int, order: str) -> bytes:
    """What a camera writes into a photo, in the byte order `<` or `>`."""
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HIH", 42, 8, 1) + entry


def webp(width: int = 4, height: int = 3) -> bytes:
    """The headers of an extended WebP."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + sides
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def archive(files: dict[str, bytes], *, comment: bytes = b"", stored: bool = False) -> bytes:
    """A ZIP."""
    out = io.BytesIO()
    how = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(out, "w", how) as written:
        for name, content in files.items():
            written.writestr(name, content)
        written.comment = comment
    return out.getvalue()


def docx() -> bytes:
    """A document of Word, as far as its type goes."""
    return archive({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w:document/>"})


def zip_bomb(*, layers: int = 2) -> bytes:
    """A ZIP of a few KB: unpacked layer by layer it is gigabytes."""
    packed = bytes(4_000_000)
    for layer in range(layers):
        packed = archive({f"{layer}-{at}": packed for at in range(8)})
    return packed


def gzip_bomb() -> bytes:
    """20 MB of zeros in 20 KB."""
    return gzip.compress(bytes(20_000_000))


MP4 = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + b"\0" * 64
MOV = b"\0\0\0\x14ftypqt  \0\0\2\0qt  " + b"\0" * 64
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64
WEBM = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\1\x42\xf7\x81\1\x42\xf2\x81\4\x42\xf3\x81\x08\x42\x82\x84"
WEBM += b"webm"
MP3 = b"ID3\3\0\0\0\0\0\x0f" + b"\0" * 64
WAV = b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 64
OGG = b"OggS\0\2" + b"\0" * 22 + b"\x01\x13OpusHead" + b"\0" * 64
FLAC = b"fLaC\0\0\0\x22" + b"\0" * 64
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n"
SCRIPTED_PDF = PDF + b"<</Type/Action/S/JavaScript/JS(app.alert\\(1\\))>>\n"
EXE = b"MZ\x90\0\3\0\0\0" + b"\0" * 128 + b"PE\0\0"
ELF = b"\x7fELF\2\1\1" + b"\0" * 64
SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c" + b"\0" * 64
SWF = b"FWS\x0a" + b"\0" * 64
HTML = b"<!doctype html>\n<title>hello</title><script>alert(document.domain)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
XHTML = (
    b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script>'
    b"</html>"
)
MHTML = (
    b"From: <Saved by Blink>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related;"
    b" boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n<script>alert(1)</script>\r\n--x--"
)
