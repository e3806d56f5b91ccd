"""The suite of the `Chats` port: edits, deletions, reactions and pins, and what readers see."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.chats import Pin, Reaction, Stretch
from schemas.errors import Malformed
from schemas.ids import LATEST
from tests.backends.chat_pairs import (
    BORDERS,
    NOW,
    Pair,
    ids_of,
    newest,
    property_of_a_store,
    state_of,
)


async def test_reactions_are_those_of_each_user(chats, pair):
    """One user may have several, the newest version of each counts, and the message's version is
    the highest.
    """
    await chats.put([pair.message(NOW)])
    await chats.change(
        [
            pair.change("react", NOW, NOW + 1, "👍", user=pair.ben),
            pair.change("react", NOW, NOW + 2, "❤️", user=pair.ben),
            pair.change("react", NOW, NOW + 3, "👍", user=pair.anna),
            pair.change("unreact", NOW, NOW + 5, "❤️", user=pair.ben),
            pair.change("react", NOW, NOW + 4, "❤️", user=pair.ben),
        ]
    )

    [found] = (await newest(chats, pair.chat)).messages
    assert found == replace(
        pair.message(NOW),
        version=NOW + 5,
        reactions=(Reaction("👍", pair.anna, NOW + 3), Reaction("👍", pair.ben, NOW + 1)),
    )


async def test_of_two_changes_of_one_version_the_one_that_takes_away_wins(chats, pair):
    """What was refused stays so, in whatever order its outcomes come."""
    await chats.put([pair.message(NOW), pair.message(NOW + 1)])
    for number, ops in enumerate((("react", "unreact"), ("unreact", "react"))):
        for op in ops:
            await chats.change([pair.change(op, NOW + number, NOW + 9, "👍")])
            pin = {"react": "pin", "unreact": "unpin"}[op]
            await chats.change([pair.change(pin, NOW + number, NOW + 9)])

    assert [m.reactions for m in (await newest(chats, pair.chat)).messages] == [(), ()]
    assert await chats.pins(pair.chat) == []


async def test_a_deletion_for_all_leaves_no_text(chats, pair):
    """Whatever comes before or after it; the version still tells of everything."""
    sent = pair.message(NOW, text="secret")
    await chats.change([pair.edit(NOW, NOW + 1, "secret too"), pair.change("delete", NOW, NOW + 5)])
    await chats.put([sent])
    await chats.change([pair.edit(NOW, NOW + 9, "again"), pair.change("react", NOW, NOW + 8, "👍")])
    await chats.put([sent])

    deleted = replace(sent, text="", deleted=NOW + 5, version=NOW + 9)
    assert (await newest(chats, pair.chat)).messages == [deleted]
    assert (await chats.states(pair.ben, after=None, limit=9))[0][0].newest_message == deleted


async def test_a_message_that_is_only_changed_is_not_there(chats, pair):
    """Until it comes; then its changes are in force."""
    await chats.change(
        [
            pair.edit(NOW, NOW + 1, "new"),
            pair.change("react", NOW, NOW + 2, "👍"),
            pair.change("hide", NOW, NOW + 3, user=pair.ben),
        ]
    )
    place = (pair.chat, NOW)

    assert ids_of(await newest(chats, pair.chat)) == []
    assert await chats.find([place]) == {}
    assert await chats.present([Stretch(pair.chat, 0, LATEST)]) == set()
    assert (await chats.digest(pair.chat, first=0, last=LATEST)).count == 0
    assert await chats.states(pair.ben, after=None, limit=9) == ([], None)
    await chats.put([pair.message(NOW)])
    found = (await chats.find([place, (pair.chat, NOW + 1)]))[place]
    assert (found.text, found.version, len(found.reactions)) == ("new", NOW + 2, 1)
    assert (await state_of(chats, pair.ben, pair.chat)).unread == 0


async def test_a_page_for_no_reader_says_from_whom_its_messages_are_hidden(chats, pair):
    """All of them are in it; for a reader it says nothing."""
    await chats.put(pair.messages(range(NOW, NOW + 4)))
    await chats.change(
        [
            pair.change("hide", NOW, NOW + 10, user=pair.ben),
            pair.change("hide", NOW + 2, NOW + 11, user=pair.ben),
            pair.change("hide", NOW + 2, NOW + 12, user=pair.anna),
        ]
    )

    page = await newest(chats, pair.chat, limit=3)
    assert ids_of(page) == [NOW + 3, NOW + 2, NOW + 1]
    assert {one: set(users) for one, users in page.hidden.items() if one > NOW} == {
        NOW + 2: {pair.anna, pair.ben}
    }
    bens = await chats.page(pair.chat, direction="before", anchor=LATEST, limit=9, reader=pair.ben)
    assert (ids_of(bens), bens.hidden) == ([NOW + 3, NOW + 1], {})


@given(
    ids=st.sets(st.sampled_from(BORDERS[1:-2]), min_size=1),
    hidden=st.sets(st.sampled_from(BORDERS[1:-2])),
    direction=st.sampled_from(["before", "after", "around"]),
    anchor=st.sampled_from(BORDERS),
    limit=st.integers(1, 4),
)
@property_of_a_store
async def test_a_page_without_hidden_messages_is_that_of_a_chat_without_them(
    chats, ids, hidden, direction, anchor, limit
):
    """For who has deleted them; the other one sees all. The same of digests."""
    whole, part = Pair(), Pair()
    await chats.put(whole.messages(ids))
    await chats.change(
        [whole.change("hide", one, LATEST - 1, user=whole.ben) for one in ids & hidden]
    )
    await chats.put(part.messages(ids - hidden))
    asked = {"direction": direction, "anchor": anchor, "limit": limit}
    page = await chats.page(whole.chat, **asked, reader=whole.ben)
    expected = await chats.page(part.chat, **asked)

    assert ids_of(page) == ids_of(expected)
    assert (page.more_before, page.more_after) == (expected.more_before, expected.more_after)
    digests = [
        await chats.digest(whole.chat, first=0, last=LATEST, reader=whole.ben),
        await chats.digest(part.chat, first=0, last=LATEST),
    ]
    assert digests[0] == digests[1]
    assert (await chats.digest(whole.chat, first=0, last=LATEST, reader=whole.anna)).count == len(
        ids
    )


async def test_deleted_messages_do_not_count_as_unread(chats, pair):
    """Those deleted for all, and those deleted for the reader; `upto` is the newest."""
    await chats.put(pair.messages(range(NOW, NOW + 10)))
    await chats.change(
        [
            pair.change("delete", NOW + 9, NOW + 20),
            pair.change("hide", NOW + 8, NOW + 21, user=pair.ben),
            pair.change("hide", NOW + 7, NOW + 22, user=pair.anna),
        ]
    )

    state = await state_of(chats, pair.ben, pair.chat)
    assert (state.unread, state.upto) == (8, NOW + 9)


async def test_pins_newest_first(chats, pair):
    """The newest version of each counts."""
    await chats.change(
        [
            pair.change("pin", NOW, NOW + 5),
            pair.change("pin", NOW + 1, NOW + 3, user=pair.ben),
            pair.change("unpin", NOW + 2, NOW + 9),
            pair.change("pin", NOW + 2, NOW + 8),
            pair.change("unpin", NOW, NOW + 4),
        ]
    )

    assert await chats.pins(pair.chat) == [
        Pin(NOW, pair.anna, NOW + 5),
        Pin(NOW + 1, pair.ben, NOW + 3),
    ]
    assert await chats.pins(Pair().chat) == []


@pytest.mark.parametrize(
    "change",
    [
        {"version": NOW},
        {"version": 1 << 63},
        {"message": 0},
        {"user": 1 << 63},
        {"chat": "d-2-1"},
    ],
    ids=str,
)
async def test_an_impossible_change_is_malformed_and_nothing_of_its_call_is_stored(
    chats, pair, change
):
    """The caller changes the others again without it."""
    await chats.put([pair.message(NOW)])
    good = pair.edit(NOW, NOW + 1)
    with pytest.raises(Malformed):
        await chats.change([good, replace(good, **change)])

    assert (await newest(chats, pair.chat)).messages == [pair.message(NOW)]


async def test_an_empty_change_and_an_empty_question(chats):
    """There may be nothing to write and nothing to ask."""
    await chats.change([])
    assert await chats.find([]) == {}
