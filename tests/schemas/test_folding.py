"""Folding of texts for searches, and where in the written text something stands."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.folding import caseless, folded, places

LETTERS = "aAeE\u0131\u0130\u00df\u1e9e\u03a3\u03c3\u03c2\ufb01\u0301\u0308\u0323"
LETTERS += "\u1100\u1161\u11a8\u09c7\u09be\ud55c\u5b57\U0001f642\t\n\0 x"
TEXTS = st.text(st.sampled_from(LETTERS)) | st.text()


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("Meet  me\tAT\nthe  Harbour ", "meet me at the harbour"),
        ("STRASSE Straße", "strasse strasse"),
        ("cafe\u0301", "caf\u00e9"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευσ"),
        ("a\0b", "a b"),
        (" \u3000\u00a0", ""),
    ],
)
def test_what_a_search_passes_over(text, result):
    """Capitals, ways to compose an accent, widths of white space."""
    assert folded(text) == result


@settings(deadline=None)
@given(TEXTS)
def test_folding_again_changes_nothing(text):
    """What an index holds can be read back."""
    assert folded(folded(text)) == folded(text)
    assert caseless(caseless(text)) == caseless(text)


@settings(deadline=None)
@given(TEXTS)
def test_the_same_text_is_folded_alike_however_it_is_composed(text):
    """Keyboards compose accents differently."""
    for form in ("NFC", "NFD"):
        assert folded(unicodedata.normalize(form, text)) == folded(text)


@pytest.mark.parametrize(
    ("text", "terms", "found"),
    [
        ("Lunch at noon, LUNCH!", ["lunch"], ["Lunch", "LUNCH"]),
        ("a red  \n wine", ["red wine"], ["red  \n wine"]),
        ("Straße", ["ss"], ["ß"]),
        ("Straße", ["asse"], ["aße"]),
        ("cafe\u0301 latte", ["caf\u00e9"], ["cafe\u0301"]),
        ("🙂🙂 ok 🙂", ["ok"], ["ok"]),
        ("北京北京", ["北京"], ["北京", "北京"]),
        ("abcabc", ["abc", "bca"], ["abcabc"]),
        ("ab", ["ab", "b"], ["ab"]),
        ("nothing", ["else"], []),
        ("", ["x"], []),
        ("x", [], []),
    ],
)
def test_places_are_code_points_of_the_written_text(text, terms, found):
    """In order, and joined where they overlap."""
    assert [text[start:end] for start, end in places(text, terms, most=9)] == found


def test_only_the_first_places_are_told():
    """A text may hold a word a thousand times."""
    assert places("ab ab ab ab", ["ab"], most=2) == [(0, 2), (3, 5)]


@settings(deadline=None)
@given(TEXTS, st.integers(0, 30), st.integers(1, 5))
def test_what_is_in_the_folded_text_has_a_place(text, start, length):
    """Whatever stretch is searched for, its place holds it."""
    whole = folded(text)
    term = whole[start : start + length].strip()
    if term:
        found = places(text, [term], most=99)

        assert found
        assert all(0 <= begin < end <= len(text) for begin, end in found)
        assert all(term in folded(text[begin:end]) for begin, end in found)


def test_every_character_has_its_place():
    """Whatever it becomes between others."""
    special = [
        chr(number)
        for number in range(0x30000)
        if caseless(chr(number)) != chr(number)
        or unicodedata.combining(chr(number))
        or not unicodedata.is_normalized("NFD", chr(number))
    ]
    for character in special:
        text = f"a{character}b"

        assert places(text, [folded(text)], most=1) == [(0, 3)], hex(ord(character))
        assert places(text, ["b"], most=9)[-1] == (2, 3), hex(ord(character))
