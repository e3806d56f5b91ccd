"""What a file may be called, and how its name is told to a browser: one rule for the name that is
stored, shown and downloaded.

A name is refused, never repaired: what its owner sees is what everyone gets. Pure texts. Source:
RFC 6266 (Content-Disposition), RFC 8187 (filename*).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

from schemas.errors import Malformed
from schemas.names import plain, shown

MAX_FILE_NAME_BYTES: Final = 255
"""Of UTF-8: what file systems hold."""

_SEPARATORS: Final = re.compile(r"[/\\\u2044\u2215\u29f5\u29f8\ufe68\uff0f\uff3c]")
# Windows opens a device by these names, with any extension.
_DEVICES: Final = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])\s*(?:\.|$)",
    re.IGNORECASE,
)
# What may stand in the quotes of `filename` as it is: no quote, no backslash, no %, which some
# browsers decode, and nothing that a file system refuses.
_NO_FALLBACK: Final = re.compile(r"[^A-Za-z0-9 !#$&'()+,\-.;=@\[\]^_`{}~]")
_ATTR_CHAR: Final = "!#$&+-.^_`|~"


def file_name(text: str) -> str:
    """The name in its composed form (NFC), without white space around it.

    Raises Malformed with the field `name` for an empty or too long one, path separators, control
    characters, those that turn the direction of text, a dot at its end, and names of devices.
    """
    name = unicodedata.normalize("NFC", text).strip()
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise _refused("half a surrogate pair is no character") from None
    if not 1 <= size <= MAX_FILE_NAME_BYTES:
        raise _refused(f"it has 1 to {MAX_FILE_NAME_BYTES} bytes of UTF-8")
    try:
        shown(plain(name))
    except ValueError as error:
        raise _refused(str(error)) from None
    if _SEPARATORS.search(name):
        raise _refused("path separators are not allowed: give the last part of the path")
    if name.endswith("."):
        raise _refused("it ends in a dot, which file systems drop")
    if _DEVICES.match(name):
        raise _refused("Windows keeps this name for a device")
    return name


def extensions(name: str) -> tuple[str, ...]:
    """The extensions of a file's name, small and without dots: of `a.tar.GZ` they are tar and gz.

    White space around one does not hide it; a dot in front of the whole name begins none.
    """
    return tuple(part.strip().lower() for part in name.lstrip(".").split(".")[1:])


def content_disposition(name: str) -> str:
    """The Content-Disposition header of a file that is saved, and never shown by the browser.

    ASCII whatever the name holds: `filename` for old clients, where what could end the quotes or
    mean a path is an underscore, `filename*` with the name itself.
    """
    fallback = _NO_FALLBACK.sub("_", name)
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe=_ATTR_CHAR)}"


def _refused(why: str) -> Malformed:
    return Malformed(f"name: {why}", field="name")
