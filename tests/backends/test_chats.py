"""The suite of the `Chats` port, over all its adapters: messages, pages and digests.

Users are random, so a store may hold other tests' chats too.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.chats import Digest, HistoryMessage, Page, Stretch, Watermark
from schemas.errors import Malformed
from schemas.ids import LATEST, direct_chat, random_id
from tests.backends.chat_pairs import BORDERS, NOW, Pair, ids_of, newest, property_of_a_store


# ---- put and page ----
async def test_a_message_comes_back_as_it_was_put(chats, pair):
    """Every field survives, whatever the text."""
    message = HistoryMessage(
        NOW,
        pair.chat,
        pair.ben,
        "a.B_c:9-",
        "naïve 'quoted' \U0001f600",
        reply_to=NOW - 1,
        version=NOW,
    )
    await chats.put([message])

    assert await newest(chats, pair.chat) == Page([message], more_before=False, more_after=False)


async def test_a_repeated_put_shows_one_message(chats, pair):
    """The log may deliver a record again."""
    for _ in range(3):
        await chats.put(pair.messages([NOW, NOW, NOW + 1]))

    assert ids_of(await newest(chats, pair.chat)) == [NOW + 1, NOW]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0, 1)])
async def test_the_newest_edit_of_a_message_wins(chats, pair, order):
    """Whatever order the message and its edits come in, the highest version stays."""
    writes = [
        lambda: chats.put([pair.message(NOW, text="as sent")]),
        lambda: chats.change([pair.edit(NOW, NOW + 1, "older")]),
        lambda: chats.change([pair.edit(NOW, NOW + 2, "newer")]),
    ]
    for number in order:
        await writes[number]()

    assert (await newest(chats, pair.chat)).messages == [
        replace(pair.message(NOW, text="newer"), version=NOW + 2, edited=NOW + 2)
    ]


async def test_the_last_ids_there_are_can_be_versions_and_marks(chats, pair):
    """2^63 - 1 is no id, but a version or a mark may say it."""
    await chats.change([pair.edit(LATEST - 1, LATEST, "last")])
    await chats.put([pair.message(LATEST - 1)])
    await chats.mark([Watermark(pair.ben, pair.chat, received=LATEST, read=1)])

    assert [message.text for message in (await newest(chats, pair.chat)).messages] == ["last"]
    [state] = await chats.unread(pair.ben, [pair.chat])
    assert (state.received, state.read, state.unread) == (LATEST, 1, 1)


async def test_the_newest_edit_of_one_call_wins(chats, pair):
    """A batch may hold several."""
    await chats.put([pair.message(NOW)])
    await chats.change([pair.edit(NOW, NOW + 9, "new"), pair.edit(NOW, NOW + 2, "old")])

    assert [message.text for message in (await newest(chats, pair.chat)).messages] == ["new"]


@given(
    ids=st.sets(st.sampled_from(BORDERS[1:-1])),
    direction=st.sampled_from(["before", "after", "around"]),
    anchor=st.sampled_from(BORDERS),
    limit=st.integers(1, 20),
)
@property_of_a_store
async def test_a_page_is_what_a_sorted_list_would_give(chats, ids, direction, anchor, limit):
    """At the borders of buckets, over empty ones, and at both ends of all ids."""
    pair = Pair()
    await chats.put(pair.messages(ids))
    page = await chats.page(pair.chat, direction=direction, anchor=anchor, limit=limit)

    older = sorted((id_ for id_ in ids if id_ < anchor), reverse=True)
    newer = sorted(id_ for id_ in ids if (id_ > anchor if direction == "after" else id_ >= anchor))
    if direction == "after":
        older, taken_newer, taken_older = (
            sorted((id_ for id_ in ids if id_ <= anchor), reverse=True),
            newer[:limit],
            [],
        )
    elif direction == "before":
        taken_newer, taken_older = [], older[:limit]
    else:
        above = min(len(newer), max((limit + 1) // 2, limit - len(older)))
        taken_newer, taken_older = newer[:above], older[: limit - above]
    assert ids_of(page) == [*reversed(taken_newer), *taken_older]
    assert page.more_after == (len(newer) > len(taken_newer))
    assert page.more_before == (len(older) > len(taken_older))


async def test_around_holds_the_anchor_itself_and_both_sides(chats, pair):
    """The message that a user jumps to stands in the middle."""
    await chats.put(pair.messages(range(NOW, NOW + 100)))
    page = await chats.page(pair.chat, direction="around", anchor=NOW + 50, limit=10)

    assert ids_of(page) == list(range(NOW + 54, NOW + 44, -1))


async def test_a_chat_without_messages_is_an_empty_page(chats, pair):
    """No message was written yet."""
    assert await newest(chats, pair.chat) == Page([], more_before=False, more_after=False)


async def test_a_page_holds_messages_of_its_chat_only(chats, pair):
    """Neighbours in the store are not neighbours in the chat."""
    third = random_id()
    other = HistoryMessage(NOW, direct_chat(pair.anna, third), pair.anna, "k", "elsewhere", 0, NOW)
    await chats.put([*pair.messages([NOW - 1, NOW, NOW + 1]), other])

    assert [message.chat for message in (await newest(chats, pair.chat)).messages] == [
        pair.chat
    ] * 3


@pytest.mark.parametrize(
    "change",
    [
        {"id": 0},
        {"id": -1},
        {"id": LATEST, "version": LATEST},
        {"version": NOW + 9},
        {"sender": 0},
        {"id": 1 << 63, "version": 1 << 63},
        {"version": NOW - 1},
        {"version": 1 << 63},
        {"sender": 1 << 63},
        {"reply_to": 1 << 64},
        {"chat": "g-05"},
        {"chat": "d-2-1"},
        {"chat": "d-1-9999999999999999999"},
        {"chat": ""},
    ],
    ids=str,
)
async def test_an_impossible_message_is_malformed_and_nothing_of_its_put_is_stored(
    chats, pair, change
):
    """The caller puts the others again without it."""
    with pytest.raises(Malformed):
        await chats.put([pair.message(NOW), replace(pair.message(NOW + 1), **change)])

    assert ids_of(await newest(chats, pair.chat)) == []


# ---- digest ----
def digest_by_hand(messages):
    hash_ = 0
    for message in messages:
        hash_ ^= int(sha256(f"{message.id}:{message.version}".encode()).hexdigest()[:16], 16)
    return Digest(len(messages), hash_)


async def test_a_digest_covers_its_range_with_both_ends(chats, pair):
    """By the rule of protocol.md section 3."""
    sent = pair.messages(range(NOW, NOW + 10))
    await chats.put(sent)
    await chats.change(
        [pair.edit(NOW + number, NOW + number + number % 3) for number in range(10) if number % 3]
    )
    messages = [replace(one, version=one.id + (one.id - NOW) % 3) for one in sent]

    assert await chats.digest(pair.chat, first=NOW + 2, last=NOW + 7) == digest_by_hand(
        messages[2:8]
    )
    assert await chats.digest(pair.chat, first=0, last=LATEST) == digest_by_hand(messages)
    assert await chats.digest(pair.chat, first=NOW + 10, last=LATEST) == Digest(0, 0)


async def test_a_digest_of_more_than_1024_messages_is_malformed(chats, pair):
    """1,024 are the most."""
    await chats.put(pair.messages(range(NOW, NOW + 1_025)))

    assert (await chats.digest(pair.chat, first=NOW, last=NOW + 1_023)).count == 1_024
    with pytest.raises(Malformed):
        await chats.digest(pair.chat, first=NOW, last=NOW + 1_024)


# ---- present, pointers ----
@given(
    ids=st.sets(st.sampled_from(BORDERS[1:-1])),
    ends=st.lists(st.tuples(st.sampled_from(BORDERS), st.sampled_from(BORDERS)), max_size=4),
)
@property_of_a_store
async def test_what_is_present_is_what_a_list_would_give(chats, ids, ends):
    """Stretches of several chats in one question, over the borders of buckets, overlapping, the
    wrong way round and empty.
    """
    pairs = [Pair() for _ in ends]
    await chats.put([message for pair in pairs for message in pair.messages(ids)])
    stretches = [
        Stretch(pair.chat, first, last) for pair, (first, last) in zip(pairs, ends, strict=True)
    ]
    there = await chats.present([*stretches, *stretches[:1], Stretch(Pair().chat, 0, LATEST)])

    assert there == {
        (one.chat, id_) for one in stretches for id_ in ids if one.first <= id_ <= one.last
    }


@pytest.mark.slow
async def test_a_long_stretch_is_present_whole(chats, pair):
    """However many messages there are in it."""
    ids = range(NOW, NOW + 2_500)
    await chats.put(pair.messages(ids))

    assert await chats.present([Stretch(pair.chat, NOW, LATEST)]) == {
        (pair.chat, id_) for id_ in ids
    }
