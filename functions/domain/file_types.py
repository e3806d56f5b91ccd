"""Media types of files: their names, which of them are texts, share a container or are safe to
show, and which extensions go with them. Tables and questions to them, for `contents`.
"""

from __future__ import annotations

import re
from typing import Final

from schemas.errors import Malformed
from schemas.file_names import extensions

UNKNOWN: Final = "application/octet-stream"
TEXT: Final = "text/plain"
INLINE: Final = frozenset(
    {
        "image/png", "image/apng", "image/jpeg", "image/gif", "image/webp", "image/avif",
        "audio/mpeg", "audio/mp4", "audio/ogg", "audio/wav", "audio/flac", "audio/aac",
        "video/mp4", "video/webm", "video/ogg", "video/quicktime",
    }
)  # fmt: skip
"""What a browser may show: none of it can hold a script that runs."""


def canonical(content_type: str) -> str:
    """A media type without parameters, in small letters, by its usual name.

    Raises Malformed for what is no media type (RFC 6838).
    """
    plain = content_type.partition(";")[0].strip().lower()
    if not _MEDIA_TYPE.fullmatch(plain):
        raise Malformed("type is a media type, such as image/png", field="type")
    return _ALIASES.get(plain, plain)


def agreed_type(said: str, found: str) -> str:
    """The type that is stored. Raises Malformed when what was said is not what was found.

    Systems say of images and sounds what their names say, which is often wrong: where both are
    harmless, content counts. Of what is not known here nothing can be wrong.
    """
    if said in {found, UNKNOWN}:
        return found
    if found == TEXT and is_text(said) and said not in _MARKED:
        return said
    if is_text(found) and found != TEXT and is_text(said):
        return found  # a page remains one, whatever it is called
    if any({said, found} <= container for container in _CONTAINERS):
        return said
    if _is_zip(found) and _is_zip(said):
        return said if found == "application/zip" else found
    if _OFFICE.fullmatch(found) and _OFFICE.fullmatch(said):
        return said
    if {said, found} <= INLINE:
        return found
    if said not in _TOLD and (found == UNKNOWN or not said.startswith("text/")):
        return found
    raise Malformed(f"type is {said}, and the content is {found}", field="type")


def check_extensions(name: str, content_type: str, found: str) -> None:
    """Checks that a name does not promise another type.

    Raises Malformed.
    """
    parts = extensions(name)
    if not parts:
        return
    said = _TYPE_OF.get(parts[-1])
    if said is not None and not _same(said, content_type) and not _same(said, found):
        raise Malformed(f"name ends in .{parts[-1]}, and the content is {found}", field="name")
    if parts[-1] in _PROGRAMS and any(part in _DISGUISES for part in parts[:-1]):
        raise Malformed(
            f"name has two extensions: .{parts[-1]} behind one of a harmless type", field="name"
        )


# ---- questions to the tables ---------------------------------------------------------------------


def is_text(content_type: str) -> bool:
    """Whether files of a type are texts."""
    return (
        content_type.startswith("text/")
        or content_type.endswith(("+xml", "+json"))
        or content_type in _TEXTS
    )


def _is_zip(content_type: str) -> bool:
    return _ZIPS.fullmatch(content_type) is not None


def _same(one: str, other: str) -> bool:
    pair = {one, other}
    if len(pair) == 1 or pair <= INLINE or any(pair <= container for container in _CONTAINERS):
        return True
    if _is_zip(one) and _is_zip(other):
        return True
    return is_text(one) and is_text(other) and one not in _MARKED


# ---- the tables ----------------------------------------------------------------------------------

_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_ALIASES: Final = {
    "binary/octet-stream": UNKNOWN,
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-ms-bmp": "image/bmp",
    "image/vnd.microsoft.icon": "image/x-icon",
    "image/heif": "image/heic",
    "audio/mp3": "audio/mpeg",
    "audio/x-flac": "audio/flac",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-m4a": "audio/mp4",
    "audio/aacp": "audio/aac",
    "audio/x-aac": "audio/aac",
    "video/x-m4v": "video/mp4",
    "application/x-pdf": "application/pdf",
    "application/x-zip-compressed": "application/zip",
    "application/x-zip": "application/zip",
    "application/x-gzip": "application/gzip",
    "application/x-rar": "application/x-rar-compressed",
    "application/vnd.rar": "application/x-rar-compressed",
    "application/x-rtf": "application/rtf",
    "text/rtf": "application/rtf",
    "text/xml": "application/xml",
    "application/vnd.microsoft.portable-executable": "application/x-msdownload",
    "application/x-dosexec": "application/x-msdownload",
}
# One container, several types: content tells the container, and the client which of them it is.
_CONTAINERS: Final = (
    frozenset({"image/png", "image/apng"}),
    frozenset({"audio/ogg", "video/ogg", "application/ogg", "audio/opus"}),
    frozenset({"video/mp4", "audio/mp4", "video/quicktime", "video/3gpp", "audio/3gpp"}),
    frozenset({"image/heic", "image/avif"}),
    frozenset({"video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska"}),
    frozenset({"audio/mpeg", "audio/aac"}),
)
_TEXTS: Final = frozenset(
    {
        "application/json", "application/xml", "application/javascript", "application/x-javascript",
        "application/sql", "application/toml", "application/yaml", "application/x-yaml",
        "application/x-sh", "application/x-httpd-php", "application/x-python-code",
        "application/rtf", "application/postscript", "message/rfc822", "multipart/related",
    }
)  # fmt: skip
# Text types that a browser takes for something which has a beginning of its own.
_MARKED: Final = frozenset({"image/svg+xml", "application/xhtml+xml", "application/xml"})
_ZIPS: Final = re.compile(
    r"application/(?:zip|vnd\.(?:openxmlformats-officedocument|oasis\.opendocument|ms-\w+|android|"
    r"apple|google-earth)[\w.+-]*|epub\+zip|java-archive|x-\w+-archive|\w[\w.-]*\+zip)"
)
_OFFICE: Final = re.compile(r"application/(?:msword|vnd\.ms-[\w.]+|x-msi)")

# Extensions of what content tells. Others say nothing that is checked.
_EXTENSIONS: Final = {
    "image/png": "png apng",
    "image/jpeg": "jpg jpeg jpe jfif",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif avifs",
    "image/heic": "heic heif hif",
    "image/bmp": "bmp dib",
    "image/tiff": "tif tiff",
    "image/x-icon": "ico cur",
    "image/svg+xml": "svg",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a m4b",
    "audio/ogg": "ogg oga opus",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "video/mp4": "mp4 m4v",
    "video/webm": "webm",
    "video/ogg": "ogv",
    "video/quicktime": "mov qt",
    "video/x-matroska": "mkv",
    "video/x-msvideo": "avi",
    "application/pdf": "pdf",
    "application/zip": "zip",
    "application/gzip": "gz tgz",
    "application/x-7z-compressed": "7z",
    "application/x-rar-compressed": "rar",
    "text/html": "html htm shtml",
    "application/xhtml+xml": "xhtml xht",
    "application/x-msdownload": "exe dll scr pif",
    "application/x-shockwave-flash": "swf",
}
_TOLD: Final = INLINE.union(_EXTENSIONS, *_CONTAINERS)
_TYPE_OF: Final = {ext: kind for kind, exts in _EXTENSIONS.items() for ext in exts.split()}
# A system runs these, or a browser what is in them.
_PROGRAMS: Final = frozenset(
    {
        "app", "apk", "bat", "chm", "cmd", "com", "cpl", "dll", "dmg", "exe", "gadget", "hta",
        "htm", "html", "inf", "iso", "jar", "jnlp", "js", "jse", "lnk", "mht", "mhtml", "msc",
        "msi", "msp", "pif", "ps1", "reg", "scf", "scr", "sh", "shtml", "svg", "swf", "url", "vb",
        "vbe", "vbs", "wsf", "wsh", "xht", "xhtml",
    }
)  # fmt: skip
_DISGUISES: Final = (frozenset(_TYPE_OF) - _PROGRAMS) | {
    "txt", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt", "ods", "odp", "rtf", "csv",
}  # fmt: skip
