"""Message ids: order, time, and the one spelling of every id on the wire."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Malformed, Unavailable
from schemas.ids import (
    EPOCH_MS,
    GENERATORS,
    LATEST,
    MAX_AHEAD_MS,
    Snowflake,
    direct_chat,
    direct_members,
    first_id_at,
    parse_anchor,
    parse_chat,
    parse_id,
    parse_id_or_time,
    parse_user,
    random_id,
    time_of,
    time_text,
    unix_ms_of,
)

NOW_MS = 1_795_560_000_000  # 2026-11-24T22:40:00Z
IDS = st.integers(0, LATEST)
GENERATOR = st.integers(0, GENERATORS - 1)
MOMENTS_MS = st.integers(EPOCH_MS, EPOCH_MS + 2**41 - 1)


@given(GENERATOR, st.lists(st.one_of(st.none(), IDS, st.integers(-3_000, 3_000)), max_size=60))
def test_a_mint_only_goes_up(generator, steps):
    """Whatever the clock does and whatever ids are seen, each id is greater than all before it, and
    names its generator.
    """
    snowflake, now_ms, highest = Snowflake(generator), NOW_MS, -1
    for step in steps:
        if step is None:
            try:
                minted = snowflake.next_id(now_ms)
            except Unavailable:
                continue
            assert minted > highest
            assert minted >> 10 & (GENERATORS - 1) == generator
            assert minted <= LATEST
            highest = minted
        elif abs(step) <= 3_000:
            now_ms += step  # the clock runs on, stands, or is set back
        elif snowflake.advance(step, now_ms):
            highest = max(highest, step)


@given(GENERATOR, GENERATOR, st.integers(-5_000, MAX_AHEAD_MS - 1), st.integers(0, 1023))
def test_an_id_seen_makes_later_ids_greater(mine, others, ahead_ms, sequence):
    """A reply sorts after its question, whichever generator and sequence the question has."""
    seen = first_id_at(NOW_MS + ahead_ms) | others << 10 | sequence
    snowflake = Snowflake(mine)

    assert snowflake.advance(seen, NOW_MS)
    assert snowflake.next_id(NOW_MS) > seen


def test_an_id_too_far_ahead_is_not_followed():
    """One wrong clock does not drag the others along: over MAX_AHEAD_MS nothing changes."""
    snowflake = Snowflake(7)
    before = snowflake.next_id(NOW_MS)

    assert not snowflake.advance(first_id_at(NOW_MS + MAX_AHEAD_MS + 1), NOW_MS)
    assert snowflake.next_id(NOW_MS) == before + 1


def test_an_id_of_my_own_past_stays_behind():
    """Seeing an older id again changes nothing."""
    snowflake = Snowflake(7)
    first = snowflake.next_id(NOW_MS)
    second = snowflake.next_id(NOW_MS)

    assert snowflake.advance(first, NOW_MS)
    assert snowflake.next_id(NOW_MS) == second + 1


def test_a_full_millisecond_flows_into_the_next():
    """1,024 ids fit a millisecond; the next one takes the next millisecond, the clock
    notwithstanding.
    """
    snowflake = Snowflake(0)
    minted = [snowflake.next_id(NOW_MS) for _ in range(1025)]

    assert [unix_ms_of(minted[1023]), unix_ms_of(minted[1024])] == [NOW_MS, NOW_MS + 1]
    assert minted == sorted(set(minted))


def test_the_mint_waits_for_a_clock_that_stands():
    """The logical clock runs at most MAX_AHEAD_MS ahead; then Unavailable, until the real one has
    moved on; nothing is lost.
    """
    snowflake = Snowflake(0)
    assert snowflake.advance(first_id_at(NOW_MS + MAX_AHEAD_MS) | 1022, NOW_MS)
    last = snowflake.next_id(NOW_MS)
    for _ in range(3):
        with pytest.raises(Unavailable) as refusal:
            snowflake.next_id(NOW_MS)
        assert refusal.value.temporary

    assert snowflake.next_id(NOW_MS + 1) == first_id_at(NOW_MS + 1 + MAX_AHEAD_MS) > last


@given(MOMENTS_MS)
def test_time_to_id_and_back(unix_ms):
    """An id holds its millisecond, and the first id of a millisecond lies above all ids of the one
    before.
    """
    first = first_id_at(unix_ms)

    assert unix_ms_of(first) == unix_ms == unix_ms_of(first | (1 << 22) - 1)
    assert time_of(first) == datetime.fromtimestamp(unix_ms / 1000, UTC).replace(
        microsecond=unix_ms % 1000 * 1000
    )
    assert parse_id_or_time(time_text(unix_ms), name="before") == first


@given(st.integers(-(2**53), 2**53))
def test_any_time_has_an_id_in_range(unix_ms):
    """Times before the epoch and after the last id are as good as the ends."""
    assert 0 <= first_id_at(unix_ms) <= LATEST


def test_time_on_the_wire():
    """RFC 3339, UTC, three digits of milliseconds, always."""
    assert time_text(EPOCH_MS) == "2024-01-01T00:00:00.000Z"
    assert time_text(NOW_MS + 7) == "2026-11-24T22:40:00.007Z"


@given(IDS)
def test_ids_are_decimal(number):
    """Every id has one spelling."""
    assert (
        parse_id(str(number), name="message")
        == number
        == parse_id_or_time(str(number), name="before")
    )


NO_IDS = [
    "",
    "-1",
    "+1",
    "01",
    "1 ",
    " 1",
    "1.0",
    "1e3",
    "0x1",
    "\u0661",
    "\u00b2",
    str(LATEST + 1),
    "9" * 19,
    "1" * 5_000,
    "none",
    "1\n",
]


@pytest.mark.parametrize("text", NO_IDS)
def test_what_is_no_id_is_named(text):
    """Malformed carries the name of the field, so that the client can find its mistake."""
    for parse in (parse_id, parse_user, parse_id_or_time):
        with pytest.raises(Malformed) as refusal:
            parse(text, name="reply_to")
        assert refusal.value.field == "reply_to"
        assert "reply_to" in refusal.value.message


def test_no_user_is_zero():
    """0 stands for `none` in the log, so it is no user's id."""
    with pytest.raises(Malformed, match="0 is none"):
        parse_user("0", name="to")
    assert parse_user("1", name="to") == 1


@pytest.mark.parametrize(
    ("text", "unix_ms"),
    [
        ("2026-11-24T22:40:00.000Z", NOW_MS),
        ("2026-11-24T22:40:00Z", NOW_MS),
        ("2026-11-24T22:40:00.0079Z", NOW_MS + 7),
        ("1999-01-01T00:00:00.000Z", EPOCH_MS),
    ],
)
def test_a_time_stands_for_the_first_id_of_its_millisecond(text, unix_ms):
    """History at a time: fractions are cut to the millisecond, times before the epoch are the
    beginning.
    """
    assert parse_id_or_time(text, name="around") == first_id_at(unix_ms)


@given(st.integers(EPOCH_MS, EPOCH_MS + 2**41 - 1), st.integers(1, LATEST - 1))
def test_a_time_parts_all_ids_in_two(unix_ms, number):
    """Each id lies either below what `before` starts from or above what `after` does; an id as the
    anchor is left out by both.
    """
    before, after = (parse_anchor(time_text(unix_ms), name=name) for name in ("before", "after"))

    assert (number < before) is not (number > after)
    assert (number < before) is (unix_ms_of(number) < unix_ms)
    assert (
        parse_anchor(str(number), name="before")
        == parse_anchor(str(number), name="after")
        == number
    )


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-24",
        "2026-11-24 22:40:00Z",
        "2026-11-24T22:40:00",
        "2026-11-24T22:40:00+00:00",
        "2026-11-24T22:40:00.1234567Z",
        "2026-11-24T22:40:00.Z",
        "2026-13-24T22:40:00Z",
        "2026-02-30T22:40:00Z",
        "2026-11-24T25:40:00Z",
        "0000-01-01T00:00:00Z",
        "yesterday",
    ],
)
def test_what_is_no_time_is_named(text):
    """One form of time is taken; everything else is malformed, with its field."""
    with pytest.raises(Malformed) as refusal:
        parse_id_or_time(text, name="around")
    assert refusal.value.field == "around"


@given(st.integers(1, LATEST), st.integers(1, LATEST))
def test_both_sides_derive_the_same_direct_chat(one, other):
    """The chat of two people does not depend on who asks; one's own is a notebook of one."""
    chat = direct_chat(one, other)

    assert chat == direct_chat(other, one) == parse_chat(chat)
    assert direct_members(chat) == tuple(sorted({one, other}))


def test_a_group_is_known_by_its_store_only():
    """A group's id says nothing about its members."""
    assert direct_members(parse_chat("g-12")) is None


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "d-",
            "d-1",
            "d-1-",
            "d-2-1",
            "d-0-1",
            "d-01-2",
            "d-1-2-3",
            "D-1-2",
            "d-1-2 ",
            "d-1-2\n",
            "g-",
            "g-0",
            "g-x",
            "g-1-2",
            "x-1",
        ),
        *(f"d-1-{LATEST + 1}", f"g-{LATEST + 1}", "d-\u0661-\u0662"),
    ],
)
def test_what_is_no_chat_is_named(text):
    """A chat has one spelling, and its people are possible users: no store ever sees another
    number.
    """
    with pytest.raises(Malformed) as refusal:
        parse_chat(text)
    assert refusal.value.field == "chat"


def test_random_ids_fit_and_are_never_zero():
    """62 bits, so that every database takes them as a signed number."""
    ids = {random_id() for _ in range(1_000)}

    assert len(ids) == 1_000
    assert all(0 < number < 2**62 for number in ids)
