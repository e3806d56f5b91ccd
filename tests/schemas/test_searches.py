"""The small language of the search for messages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import Malformed
from schemas.ids import first_id_at
from schemas.searches import Asked, SearchQuery, asked_by


def asked(text, **fields):
    return asked_by(SearchQuery.read({"q": text, **fields}))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Lunch", Asked(("lunch",))),
        ("red wine red", Asked(("red", "wine"))),
        ('"Red  wine" now', Asked(("red wine", "now"))),
        ('say "no end', Asked(("say", "no end"))),
        ('"from:1002"', Asked(("from:1002",))),
        ("from:1002", Asked(sender=1002)),
        ("hi from:1002 in:d-1-2", Asked(("hi",), chat="d-1-2", sender=1002)),
        ("has:file", Asked(has_file=True)),
        ("hi after:5 before:9", Asked(("hi",), before=9, after=5)),
        (
            "hi after:2026-01-31T00:00:00Z",
            Asked(("hi",), after=first_id_at(1_769_817_600_000) - 1),
        ),
        ("http://x.org from: In:d-1-2", Asked(("http://x.org", "from:", "in:d-1-2"))),
        ("茶 from:7", Asked(("茶",), sender=7)),
        ("from:7 from:7", Asked(sender=7)),
    ],
)
def test_words_phrases_and_filters(text, meaning):
    """What only looks like a filter is a word."""
    assert asked(text) == meaning


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x", "q"),
        ("x y", "2 characters"),
        ("  ", "2 characters"),
        ('""', "2 characters"),
        ("before:9", "2 characters"),
        ("from:alice", "from:"),
        ("from:0", "from:"),
        ("in:g-x", "d-<lower"),
        ("has:link", "has:file"),
        ("hi before:noon", "before"),
        ("hi after:-1", "after"),
        ("from:1 from:2", "once"),
        (" ".join(f"w{number}" for number in range(17)), "16"),
        ("x" * 257, "q"),
    ],
)
def test_what_is_wrong_is_said_of_q(text, says):
    """The field is `q`, and the text says which part of it."""
    with pytest.raises(Malformed) as error:
        asked(text)

    assert error.value.field == "q"
    assert says in error.value.message


def test_fields_of_the_call_say_the_same_as_filters():
    """`chat` and `before`; where both are there, both count."""
    assert asked("hi", chat="g-5") == Asked(("hi",), chat="g-5")
    assert asked("hi in:g-5", chat="g-5") == Asked(("hi",), chat="g-5")
    assert asked("hi before:9", before="7").before == 7
    assert asked("hi before:7", before="9").before == 7
    for fields, field in (
        ({"chat": "g-6"}, "chat"),
        ({"chat": "six"}, "chat"),
        ({"before": "x"}, "before"),
        ({"limit": "0"}, "limit"),
    ):
        with pytest.raises(Malformed) as error:
            asked("hi in:g-5", **fields)
        assert error.value.field == field


@settings(deadline=None)
@given(st.text(st.sampled_from('ab "\\:-+*()fromin12. 北\0é'), min_size=2, max_size=60))
def test_whatever_is_typed_has_a_meaning_or_is_malformed(text):
    """Terms are folded and never empty."""
    try:
        meaning = asked(text)
    except Malformed as error:
        assert error.field == "q"
    else:
        assert all(term == term.strip() and term for term in meaning.terms)
