"""Emoji, each in one spelling: so that one count is kept for spellings of the same emoji.

emoji.txt is the list of fully-qualified emoji of Unicode's emoji-test.txt, version 18.0, one a
line. It is read at the first emoji: 5 ms, and none for who never sees one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from schemas.errors import Malformed

MAX_BYTES: Final = 64
"""The longest has 35."""
_SELECTOR: Final = "\ufe0f"
"""Asks for the coloured form: some keyboards leave it out, others add it."""


@cache
def _spellings() -> Mapping[str, str]:
    """Each emoji without selectors -> the emoji as Unicode spells it."""
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    return {emoji.replace(_SELECTOR, ""): emoji for emoji in text.split("\n") if emoji}


def emoji_of(text: str) -> str:
    """The emoji that this is a spelling of, fully qualified; skin tones and sequences are emoji of
    their own. Raises Malformed for what is none, or more than one.
    """
    found = _spellings().get(text.replace(_SELECTOR, "")) if len(text) <= MAX_BYTES else None
    if found is None:
        raise Malformed("emoji must be one of Unicode's list", field="emoji")
    return found
