"""What an uploaded file is, by its content: its type, and whether a browser may show it.

`inspect` gets the first and the last bytes of a file and what was said of it before the upload.
It decodes, unpacks and runs nothing, so no bomb goes off here. What says two things at once is
refused: a page called photo.png, an image that is a Java archive too. Whatever a browser could run
(HTML, SVG, XML, PDF, scripts) is never inline: only what stands in INLINE is.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from functions.domain.file_types import (
    INLINE,
    TEXT,
    UNKNOWN,
    agreed_type,
    canonical,
    check_extensions,
)
from functions.domain.image_sizes import image_size
from schemas.errors import Malformed
from schemas.previews import MAX_PIXELS

HEAD_BYTES: Final = 64 * 1024
"""So much of the beginning is looked at: a photo's size stands behind its preview and profile."""
TAIL_BYTES: Final = 64 * 1024 + 22
"""So much of the end: there a ZIP has its directory's end, with a comment of at most 64 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a client said of a file before it uploaded it."""

    name: str
    type: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What a file is. `width`, `height`: of an image whose header tells them."""

    type: str
    safe_inline: bool
    width: int | None = None
    height: int | None = None

    @property
    def served_type(self) -> str:
        """The Content-Type of its downloads: a browser can run none of these."""
        return self.type if self.safe_inline else UNKNOWN


def inspect(head: bytes, tail: bytes, *, size: int, declared: Declared) -> Inspected:
    """What a file is.

    `head`, `tail`: its first HEAD_BYTES and last TAIL_BYTES, or all of a shorter one; `size`: all
    of its bytes. Raises Malformed that names the field which is not true: `bytes`, `type`, `name`,
    or `content` for a file that is two things at once.
    """
    if size != declared.bytes:
        raise Malformed(f"bytes is {declared.bytes}, {size} were uploaded", field="bytes")
    if not size:
        raise Malformed("bytes is 0: an empty file is no file", field="bytes")
    found = found_type(head)
    _check_single(found, head, tail)
    content_type = agreed_type(canonical(declared.type), found)
    check_extensions(declared.name, content_type, found)
    pixels = image_size(content_type, head) or (None, None)
    too_large = pixels[0] is not None and pixels[0] * pixels[1] > MAX_PIXELS
    return Inspected(
        type=content_type,
        safe_inline=content_type in INLINE and not too_large,
        width=pixels[0],
        height=pixels[1],
    )


def found_type(head: bytes) -> str:
    """The type that content has, whatever is said of it; UNKNOWN where it does not tell."""
    text = _decoded(head)
    if text is not None:
        return _text_type(text)
    # 30 ms to import, which only the function that asks here pays.
    import filetype  # noqa: PLC0415 - see above

    guessed = filetype.guess_mime(head)
    if guessed is not None:
        return canonical(guessed)
    if b"%PDF-" in head[:_PDF_BYTES]:
        return "application/pdf"
    if _ACTIVE.search(head[:SNIFFED_BYTES]):
        return "text/html"
    # Texts in older encodings: their characters do not matter here.
    legacy = head.decode("latin-1")
    return UNKNOWN if _BINARY.search(legacy) else _text_type(legacy)


# ---- text ----------------------------------------------------------------------------------------

_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
_BINARY: Final = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_COMMENTS: Final = re.compile(r"\A(?:\s+|<!--.*?-->)*", re.DOTALL)
_MARKUP: Final = re.compile(r"<(?:[a-z_!?]|/[a-z])", re.IGNORECASE)
_HTML: Final = re.compile(
    r"<(?:!doctype\s+html|(?:html|head|body|script|iframe|object|embed|style|title|meta|link|base"
    r"|form|img|video|audio|table|div|span|font|br|p|b|a|h[1-6])(?=[\s/>]))",
    re.IGNORECASE,
)
_SVG: Final = re.compile(r"<(?:[\w.-]+:)?svg(?=[\s/>])", re.IGNORECASE)
_MAIL: Final = re.compile(r"^mime-version:", re.IGNORECASE | re.MULTILINE)
_XHTML: Final = "http://www.w3.org/1999/xhtml"


def _decoded(head: bytes) -> str | None:
    """Content as a text, None when it is none."""
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
    # The last character may be cut.
    cut = head[: len(head) - len(head) % 2] if encoding.startswith("utf-16") else head
    try:
        text = cut.decode(encoding, errors="strict")
    except UnicodeDecodeError as error:
        if len(head) < HEAD_BYTES or error.start < len(cut) - 4:
            return None
        text = cut[: error.start].decode(encoding)
    return None if _BINARY.search(text) else text.removeprefix("\ufeff")


def _text_type(text: str) -> str:
    """The most dangerous reading of a text."""
    rest = _COMMENTS.sub("", text, count=1)
    if rest.startswith("%PDF-"):
        return "application/pdf"
    if rest.startswith("%!PS"):
        return "application/postscript"
    if rest.startswith("{\\rtf"):
        return "application/rtf"
    if _HTML.match(rest):
        return "text/html"
    if _MARKUP.match(rest):
        if _SVG.search(rest):
            return "image/svg+xml"
        if rest.startswith("<?xml"):
            return "application/xhtml+xml" if _XHTML in rest else "application/xml"
        return "text/html" if _HTML.search(rest) else "application/xml"
    if _MAIL.search(rest[:4096]):
        return "message/rfc822"
    return TEXT


# ---- two things at once --------------------------------------------------------------------------

SNIFFED_BYTES: Final = 1_445
"""So much of a response browsers look at when they guess its type (WHATWG, MIME Sniffing)."""
_PDF_BYTES: Final = 1_024  # so far from the beginning readers look for a PDF
_ACTIVE: Final = re.compile(
    rb"<(?:!doctype\s+html|html|head|body|script|iframe|svg|object|embed)(?=[\s/>])", re.IGNORECASE
)
_END: Final = struct.Struct("<4sHHHHIIH")
"""The end of a ZIP's directory: signature, two numbers of discs, two of entries, size, offset, and
the length of the comment behind it.
"""
_HOLDS_ONE: Final = INLINE | {"application/pdf"}
"""Others are never shown, and some hold others honestly: archives, programs that unpack themselves.
"""


def _check_single(found: str, head: bytes, tail: bytes) -> None:
    """Checks that a file is one thing. Raises Malformed with the field `content`."""
    other = None
    if found in INLINE and b"%PDF-" in head[:_PDF_BYTES]:
        other = "a PDF"
    elif found in INLINE and _ACTIVE.search(head[:SNIFFED_BYTES]):
        other = "a page with markup"
    elif found in _HOLDS_ONE and _ends_as_zip(tail):
        other = "a ZIP archive"
    if other is not None:
        raise Malformed(f"the content is {found} and {other} at once", field="content")


def _ends_as_zip(tail: bytes) -> bool:
    """Whether readers of archives, Java's among them, find a directory at the end."""
    at = len(tail)
    while (at := tail.rfind(b"PK\x05\x06", 0, at)) >= 0:
        if len(tail) - at >= _END.size:
            _, disc, begins, here, entries, _, _, comment = _END.unpack_from(tail, at)
            # Four bytes alone come by chance in one of 60,000 photos.
            if disc == begins == 0 and here == entries and at + _END.size + comment <= len(tail):
                return True
    return False
