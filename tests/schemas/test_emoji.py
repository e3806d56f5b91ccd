"""Emoji: which there are, and that spellings of one are one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas import emoji
from schemas.emoji import MAX_BYTES, emoji_of
from schemas.errors import Malformed

LIST = Path(emoji.__file__).with_suffix(".txt").read_text().split()


@pytest.mark.parametrize(
    ("spelling", "one"),
    [
        ("\u2764\ufe0f", "\u2764\ufe0f"),
        ("\u2764", "\u2764\ufe0f"),
        ("\U0001f44d\ufe0f", "\U0001f44d"),
        ("\U0001f44d\U0001f3fd", "\U0001f44d\U0001f3fd"),
        ("1\u20e3", "1\ufe0f\u20e3"),
        ("\U0001f1e6\U0001f1f9", "\U0001f1e6\U0001f1f9"),
        (
            "\U0001f469\u200d\u2764\u200d\U0001f469",
            "\U0001f469\u200d\u2764\ufe0f\u200d\U0001f469",
        ),
    ],
)
def test_spellings_of_an_emoji_are_one(spelling, one):
    """Selectors may be there or not; skin tones, flags, keys and sequences are kept."""
    assert emoji_of(spelling) == one


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "1",
        ":)",
        "\U0001f44d\U0001f44d",
        "\U0001f44d ",
        "\U0001f3fd",
        "\u2764\ufe0e",
        "\ufe0f" * 99,
    ],
    ids=ascii,
)
def test_what_is_no_emoji_is_malformed(text):
    """Texts, several, parts of one, one that asks for the form of a letter."""
    with pytest.raises(Malformed) as refusal:
        emoji_of(text)

    assert refusal.value.field == "emoji"


def test_every_emoji_of_the_list_is_its_own_spelling():
    """And no two of them are spellings of one."""
    assert [emoji_of(one) for one in LIST] == LIST
    assert len({one.replace("\ufe0f", "") for one in LIST}) == len(LIST) > 3_900
    assert max(len(one.encode()) for one in LIST) <= MAX_BYTES
    assert not [one for one in LIST if re.search(r"[A-Za-z]", one)]
