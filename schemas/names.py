"""Names that people give: what they may hold. Pure texts, for models of any kind."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from schemas.errors import Malformed

MAX_NAME: Final = 64
"""Code points of a display name, or of a group's name."""

# Stores cannot hold U+0000, no name needs the other control characters, and two separators break
# lines wherever a name is shown.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Characters that turn the direction of the text after a name.
_BIDIRECTIONAL: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# Letters and symbols by their category that are invisible (Unicode, Default_Ignorable_Code_Point,
# and the empty braille cell).
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0\u17b4\u17b5")
_JOINERS: Final = "\u200c\u200d"


def plain(text: str) -> str:
    """The text. Raises ValueError for control characters and those that turn its direction."""
    if _CONTROL.search(text) or _BIDIRECTIONAL.search(text):
        raise ValueError(
            "control characters are not allowed, nor characters that turn the direction of text"
        )
    return text


def shown(name: str) -> str:
    """The name. Raises ValueError when nothing of it, or a part, is visible."""
    if not any(map(_visible, name)):
        raise ValueError("it has no visible character")
    for at, character in enumerate(name):
        if character in _JOINERS:
            before = name[:at].rstrip("\ufe0e\ufe0f")[
                -1:
            ]  # an emoji's variation is no sign of its own
            if not (_visible(before) or _mark(before)) or not _visible(name[at + 1 : at + 2]):
                raise ValueError(
                    "a joiner (U+200C, U+200D) is allowed between visible characters only"
                )
    return name


def _visible(character: str) -> bool:
    return (
        character != "" and unicodedata.category(character)[0] in "LNPS" and character not in _BLANK
    )


def _mark(character: str) -> bool:
    return character != "" and unicodedata.combining(character) != 0


def composed(text: object) -> object:
    """The text in its composed form.

    Keyboards compose accents differently; the same text must be the same bytes (RFC 8265).

    Lengths count what comes of it.
    """
    return unicodedata.normalize("NFC", text) if isinstance(text, str) else text


def checked_name(text: str, *, field: str) -> str:
    """The name in its composed form (NFC). Raises Malformed for what no name may be."""
    name = unicodedata.normalize("NFC", text)
    if not 1 <= len(name) <= MAX_NAME:
        raise Malformed(f"{field} has 1 to {MAX_NAME} characters", field=field)
    try:
        return shown(plain(name))
    except ValueError as error:
        raise Malformed(f"{field}: {error}", field=field) from None
