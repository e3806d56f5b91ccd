"""How messages and questions become tokens: what holds a text, holds the tokens of its parts."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from backends.search import Entry, Wanted, join
from backends.search.tokens import (
    FILE,
    MAX_STRETCHES,
    first_of,
    period_of,
    question_of,
    tokens_of,
    within,
)
from schemas.folding import folded
from schemas.ids import direct_chat

# Tests share their machine.
UNTIMED = settings(deadline=None)
TEXTS = st.text(
    st.sampled_from(
        "ab \"'()|&!:*-^\\%_.\ue100\ue021\u5317\u4eac\u00df\u0301\0 X\x01\x1f\x7f\u2028"
    )
)


def entry(text, **fields):
    return Entry(**{"chat": "d-1-2", "message": 7, "version": 7, "sender": 1, **fields}, text=text)


def tokens(text, **fields):
    return set(tokens_of(entry(text, **fields))[1].split(" "))


@UNTIMED
@given(TEXTS, st.integers(0, 40), st.integers(1, 9))
def test_every_part_of_a_text_is_asked_for_by_tokens_that_it_has(text, start, length):
    """So an index never misses what a comparison of the texts would find."""
    term = folded(text)[start : start + length].strip()
    wanted = Wanted(user=1, directs=True, terms=(term,) if term else ())
    question = question_of(wanted, [])

    if folded(text):
        assert set(question.all_of) <= tokens(text)
        assert not question.any_of


@UNTIMED
@given(TEXTS)
def test_tokens_can_stand_in_any_index_s_language(text):
    """No white space, no ASCII punctuation: nothing of them has a meaning of its own."""
    for token in filter(None, tokens_of(entry(text))[1].split(" ")):
        assert not any(part.isascii() and not part.isalnum() for part in token)
        assert not token.isspace()


def test_marks_say_who_may_see_and_who_wrote():
    """Both of a direct chat, a group by its id; a chat with oneself is one of its own."""
    direct, group, notes = tokens("x"), tokens("x", chat="g-1"), tokens("x", chat="d-1-1")
    mine = Wanted(user=1, directs=True)

    def asked(wanted, *groups):
        question = question_of(wanted, list(groups))
        return set(question.all_of), set(question.any_of)

    all_of, any_of = asked(mine)
    assert all_of <= direct
    assert all_of <= notes
    assert not all_of <= group
    assert not any_of
    all_of, any_of = asked(mine, "g-1", "g-2")
    assert (all_of, len(any_of)) == (set(), 3)
    for some in (direct, group, notes):
        assert any_of & some
    one_chat, _ = asked(Wanted(user=1, directs=True, chat=direct_chat(1, 1)))
    assert one_chat <= notes
    assert not one_chat <= direct
    sender, _ = asked(Wanted(user=1, directs=True, sender=2))
    assert not sender <= direct
    assert sender <= tokens("x", sender=2)
    assert FILE in tokens("", has_file=True)
    assert tokens("") == tokens(" ")
    assert tokens_of(entry("", version=0)) == ("", "")


def test_a_question_of_a_period_is_of_the_same_places():
    """Only who may see is marked by it, and no other period is found."""
    message = first_of(9) - 1
    wanted = Wanted(user=1, directs=True, terms=("ab",), sender=1)
    for chat, groups in (("d-1-2", []), ("g-1", ["g-1"])):
        sent = entry("ab", chat=chat, message=message, version=message)
        held = set(tokens_of(sent, by_period=True)[1].split(" "))
        plain = question_of(wanted, groups)

        assert period_of(message) == 8
        for question, is_found in (
            (plain, True),
            (within(plain, 8), True),
            (within(plain, 7), False),
            (within(plain, 80), False),
        ):
            places = set(question.any_of) or set(question.all_of)
            found = set(question.all_of) <= held and (not question.any_of or places & held)
            assert bool(found) == is_found


def test_a_long_question_asks_for_some_stretches():
    """Evenly chosen, the longest ones; one character asks for none."""
    long = "".join(chr(0x4E00 + number) for number in range(200))
    question = question_of(Wanted(user=1, directs=True, terms=(long, "x", "ab")), [])
    stretches = [token for token in question.all_of if len(token) <= 3]

    assert len(stretches) == MAX_STRETCHES
    assert stretches[0] == long[:3]
    assert len(set(stretches)) == MAX_STRETCHES


@UNTIMED
@given(
    st.permutations(
        [
            entry("first"),
            entry("second", version=9),
            entry("third", version=8, has_file=True),
            Entry(chat="d-1-2", message=7, hidden=frozenset({1})),
            Entry(chat="d-1-2", message=7, hidden=frozenset({2})),
        ]
    )
)
def test_what_events_tell_is_joined_in_any_order(entries):
    """The newest text, the file, all from whom it is hidden; a deletion ends the text."""
    known = entries[0]
    for one in entries[1:]:
        known = join(known, one)

    assert known == entry("second", version=9, has_file=True, hidden=frozenset({1, 2}))
    gone = join(Entry(chat="d-1-2", message=7, deleted=True), known)
    assert (gone.text, gone.has_file, gone.deleted, gone.hidden) == ("", False, True, {1, 2})
