"""Texts as searches compare them: composed (NFC), case folded, with one space for any white space;
and where what was found stands in the text as it was written.

Names and messages are folded alike. Pure texts. Source: Unicode, section 3.13 (caseless matching)
and UAX 15; decisions/0065.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

# A store may not hold it, and no text means anything by it.
_NUL: Final = {0: " "}
_WORD: Final = re.compile(r"[^\s\0]+")


def caseless(text: str) -> str:
    """The text without capitals and ways to compose an accent; doing it again changes nothing."""
    if text.isascii():
        return text.lower()
    # What was one letter with an accent may be two, of which the second one takes it.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def folded(text: str) -> str:
    """The same without widths of white space; none at its ends."""
    return " ".join(caseless(text).translate(_NUL).split())


def places(text: str, terms: Sequence[str], *, most: int) -> list[tuple[int, int]]:
    """Where these folded terms stand in the text: [start, end) in its code points, in order,
    without overlap; the first `most` of them.
    """
    words = _Words(text)
    joined: list[tuple[int, int]] = []
    for start, end in heapq.merge(*(words.places(term) for term in terms if term)):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        elif len(joined) == most:
            break
        else:
            joined.append((start, end))
    return joined


class _Words:
    """A text by its words, which are taken apart only where something is found in them: a text may
    have thirty thousand characters, and a page fifty texts.
    """

    def __init__(self, text: str) -> None:
        self._words = [(word.start(), word[0]) for word in _WORD.finditer(text)]
        parts = [caseless(word) for _, word in self._words]
        self._folded = " ".join(parts)
        self._sizes = [len(part) for part in parts]
        self._begins = list(itertools.accumulate((size + 1 for size in self._sizes), initial=0))
        self._places: dict[int, Sequence[tuple[int, int]]] = {}

    def places(self, term: str) -> Iterator[tuple[int, int]]:
        """Where the term stands in the written text, in order."""
        at = self._folded.find(term)
        while at >= 0:
            yield self._place(at)[0], self._place(at + len(term) - 1)[1]
            at = self._folded.find(term, at + len(term))

    def _place(self, at: int) -> tuple[int, int]:
        """What was written where this character of the folded text is."""
        number = bisect.bisect_right(self._begins, at) - 1
        start, word = self._words[number]
        if number not in self._places:
            self._places[number] = _places_in(word, self._sizes[number])
        first, last = self._places[number][at - self._begins[number]]
        return start + first, start + last


def _places_in(word: str, size: int) -> Sequence[tuple[int, int]]:
    """Of each character of the folded word, of which there are so many."""
    pieces = list(_pieces(word))
    ends = [*(at for at, _ in pieces[1:]), len(word)]
    alike = len(pieces) == len(word) == size
    return [
        (at, end)
        for (at, piece), end in zip(pieces, ends, strict=True)
        for _ in (piece if alike else caseless(piece))
    ]


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """The text in parts that compose alone: where each begins, and what it is."""
    if unicodedata.is_normalized("NFC", text) and not any(map(unicodedata.combining, text)):
        yield from enumerate(text)
        return
    start, held = 0, ""
    for at, character in enumerate(text):
        if held and not _joins(held, character):
            yield start, held
            start, held = at, ""
        held += character
    if held:
        yield start, held


def _joins(held: str, character: str) -> bool:
    """Whether the character changes with what is before it, or belongs to it."""
    if unicodedata.combining(character):
        return True
    before, alone = (unicodedata.normalize("NFC", part) for part in (held, character))
    return unicodedata.normalize("NFC", held + character) != before + alone
