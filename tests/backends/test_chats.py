"""The suite of the `Chats` port, over all its adapters.

Users are random, so a store may hold other tests' chats too.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.chats import ChatState, Digest, HistoryMessage, Page, Pointers, Stretch, Watermark
from backends.chats.sql import SqlChats
from backends.clock import Clock
from schemas.errors import Malformed
from schemas.ids import EPOCH_MS, LATEST, direct_chat, first_id_at, random_id
from tests.backends.conftest import DATABASES

BUCKET_MS = 10 * 24 * 3_600_000
NOW = first_id_at(EPOCH_MS + 60 * BUCKET_MS)
# A store of one test serves all examples of it: each has its own users.
property_of_a_store = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


@pytest.fixture(params=[*DATABASES, "cassandra"])
async def chats(request, open_database):
    """The adapter under test."""
    if request.param == "cassandra":
        chats = request.getfixturevalue("keyspaces").open()
        yield chats
        await chats.close()
    else:
        database = open_database(request.param)
        yield SqlChats(database)
        await database.close()


class Pair:
    """Two people and their chat."""

    def __init__(self):
        self.anna, self.ben = sorted((random_id(), random_id()))
        self.chat = direct_chat(self.anna, self.ben)

    def message(self, id_, *, text="hello", sender=None, version=None):
        sender = self.anna if sender is None else sender
        return HistoryMessage(
            id_,
            self.chat,
            sender,
            f"k{id_}",
            text,
            reply_to=0,
            version=id_ if version is None else version,
        )

    def messages(self, ids, **options):
        return [self.message(id_, **options) for id_ in ids]


@pytest.fixture
def pair():
    return Pair()


async def newest(chats, chat, limit=256):
    return await chats.page(chat, direction="before", anchor=LATEST, limit=limit)


def ids_of(page):
    return [message.id for message in page.messages]


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
        version=NOW + 5,
    )
    await chats.put([message])

    assert await newest(chats, pair.chat) == Page([message], more_before=False, more_after=False)


async def test_a_repeated_put_shows_one_message(chats, pair):
    """The log may deliver a record again."""
    for _ in range(3):
        await chats.put(pair.messages([NOW, NOW, NOW + 1]))

    assert ids_of(await newest(chats, pair.chat)) == [NOW + 1, NOW]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0, 1)])
async def test_the_newest_version_of_a_message_wins(chats, pair, order):
    """Whatever order the versions come in, the highest stays."""
    versions = [
        pair.message(NOW, text=f"version {number}", version=NOW + number) for number in range(3)
    ]
    for number in order:
        await chats.put([versions[number]])

    assert (await newest(chats, pair.chat)).messages == [versions[2]]


async def test_the_last_ids_there_are_can_be_versions_and_marks(chats, pair):
    """2^63 - 1 is no id, but a version or a mark may say it."""
    await chats.put(
        [pair.message(LATEST - 1, text="last", version=LATEST), pair.message(LATEST - 1)]
    )
    await chats.mark([Watermark(pair.ben, pair.chat, received=LATEST, read=1)])

    assert [message.text for message in (await newest(chats, pair.chat)).messages] == ["last"]
    [state] = await chats.unread(pair.ben, [pair.chat])
    assert (state.received, state.read, state.unread) == (LATEST, 1, 1)


async def test_the_newest_version_within_one_put_wins(chats, pair):
    """A batch may hold a message and its change."""
    await chats.put([pair.message(NOW, text="new", version=NOW + 9), pair.message(NOW, text="old")])

    assert [message.text for message in (await newest(chats, pair.chat)).messages] == ["new"]


async def test_an_empty_put_and_an_empty_mark_change_nothing(chats):
    """There may be nothing to write."""
    await chats.put([])
    await chats.mark([])


BORDERS = [
    0,
    *(
        first_id_at(EPOCH_MS + bucket * BUCKET_MS) + near
        for bucket in (1, 2, 3, 250)
        for near in (-2, -1, 0, 1)
    ),
    LATEST - 1,
    LATEST,
]


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
        {"id": 1 << 63, "version": 1 << 63},
        {"version": NOW - 1},
        {"version": 1 << 63},
        {"sender": 1 << 63},
        {"reply_to": 1 << 64},
        {"chat": "g-5"},
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


# ---- states, marks, unread ----


async def state_of(chats, user, chat):
    [state] = await chats.unread(user, [chat])
    return state


async def test_a_message_makes_its_chat_known_to_both_people(chats, pair):
    """Both see it in their list, with its newest message; it is unread for the other one only."""
    message = pair.message(NOW, sender=pair.anna)
    await chats.put([message])

    assert await chats.states(pair.anna, after=None, limit=50) == (
        [ChatState(pair.chat, NOW, message, unread=0, upto=0, read=0, received=0)],
        None,
    )
    assert await chats.states(pair.ben, after=None, limit=50) == (
        [ChatState(pair.chat, NOW, message, unread=1, upto=NOW, read=0, received=0)],
        None,
    )


async def test_a_notebook_has_one_person_and_nothing_unread(chats):
    """The chat with oneself."""
    me = random_id()
    await chats.put([HistoryMessage(NOW, direct_chat(me, me), me, "k", "note", 0, NOW)])
    states, _ = await chats.states(me, after=None, limit=50)

    assert [(state.chat, state.unread) for state in states] == [(direct_chat(me, me), 0)]


async def test_an_older_message_does_not_move_the_newest_id_back(chats, pair):
    """Messages may arrive in any order."""
    await chats.put(pair.messages([NOW + 5]))
    await chats.put(pair.messages([NOW]))

    assert (await state_of(chats, pair.ben, pair.chat)).newest == NOW + 5


async def test_marks_move_forward_only_and_read_implies_received(chats, pair):
    """An old mark that comes late changes nothing."""
    await chats.put(pair.messages(range(NOW, NOW + 10)))
    await chats.mark([Watermark(pair.ben, pair.chat, received=NOW + 2, read=NOW + 6)])
    await chats.mark([Watermark(pair.ben, pair.chat, received=NOW + 8, read=NOW + 1)])

    assert await state_of(chats, pair.ben, pair.chat) == ChatState(
        pair.chat, NOW + 9, None, unread=3, upto=NOW + 9, read=NOW + 6, received=NOW + 8
    )


async def test_a_mark_may_come_before_its_message(chats, pair):
    """It counts when the message has come; until then there is no chat to show."""
    await chats.mark([Watermark(pair.ben, pair.chat, received=0, read=NOW)])
    before = (
        await chats.states(pair.ben, after=None, limit=50),
        await chats.unread(pair.ben, [pair.chat]),
    )
    await chats.put(pair.messages([NOW, NOW + 1]))

    assert before == (([], None), [])
    assert await state_of(chats, pair.ben, pair.chat) == ChatState(
        pair.chat, NOW + 1, None, unread=1, upto=NOW + 1, read=NOW, received=NOW
    )


@pytest.mark.parametrize("mark", [(1, 1 << 63, 0), (1, 0, 1 << 64), (1 << 63, 0, 0)], ids=str)
async def test_an_impossible_mark_is_malformed(chats, pair, mark):
    """And the good one beside it is not written: the caller marks again without it."""
    await chats.put(pair.messages([NOW]))
    user, received, read = mark
    with pytest.raises(Malformed):
        await chats.mark(
            [Watermark(pair.ben, pair.chat, NOW, NOW), Watermark(user, pair.chat, received, read)]
        )

    assert (await state_of(chats, pair.ben, pair.chat)).read == 0


async def test_own_messages_are_never_unread(chats, pair):
    """Only what others wrote counts."""
    await chats.put(
        [
            *pair.messages([NOW, NOW + 2], sender=pair.anna),
            *pair.messages([NOW + 1, NOW + 3, NOW + 5], sender=pair.ben),
        ]
    )

    assert [(await state_of(chats, user, pair.chat)).unread for user in (pair.anna, pair.ben)] == [
        3,
        2,
    ]


@pytest.mark.parametrize(("messages", "unread"), [(998, 998), (999, 999), (1_100, 999)])
async def test_unread_is_exact_up_to_999(chats, pair, messages, unread):
    """999 means 999 or more."""
    await chats.put(pair.messages(range(NOW, NOW + messages)))

    assert (await state_of(chats, pair.ben, pair.chat)).unread == unread


async def test_states_lists_each_chat_once_newest_first(chats):
    """Page after page until the end is told; chats with the same newest id do not disappear between
    two pages.
    """
    me, others = random_id(), [random_id() for _ in range(7)]
    ids = [NOW, NOW + 3, NOW + 3, NOW + 3, NOW + 1, NOW + 9, NOW + 3]
    messages = [
        HistoryMessage(id_, direct_chat(me, other), other, "k", "hi", 0, id_)
        for id_, other in zip(ids, others, strict=True)
    ]
    await chats.put(messages)
    for limit in (1, 2, 3, 6, 7, 256):
        listed, after, pages = [], None, 0
        while pages == 0 or after is not None:
            states, after = await chats.states(me, after=after, limit=limit)
            listed, pages = [*listed, *states], pages + 1

        assert [(state.newest, state.chat) for state in listed] == sorted(
            ((m.id, m.chat) for m in messages), reverse=True
        )
        assert [state.newest_message.id for state in listed] == sorted(ids, reverse=True)
        assert pages == -(-7 // limit)


@pytest.mark.parametrize(
    "after",
    ["", "x", "5", "5.", ".d-1-2", "5.d-2-1", "99999999999999999999.d-1-2", "5.d-1-2\n", "٣.d-1-2"],
)
async def test_states_refuses_an_after_that_it_did_not_give(chats, after):
    """A client must return the text as it was."""
    with pytest.raises(Malformed) as error:
        await chats.states(random_id(), after=after, limit=10)

    assert error.value.field == "after"


async def test_unread_leaves_out_chats_that_the_user_does_not_have(chats, pair):
    """Of the chats asked for, those that are there."""
    await chats.put(pair.messages([NOW]))
    asked = [pair.chat, direct_chat(pair.ben, random_id())]

    assert [state.chat for state in await chats.unread(pair.ben, asked)] == [pair.chat]
    assert await chats.unread(random_id(), asked) == []
    assert await chats.unread(pair.ben, []) == []


# ---- digest ----


def digest_by_hand(messages):
    hash_ = 0
    for message in messages:
        hash_ ^= int(sha256(f"{message.id}:{message.version}".encode()).hexdigest()[:16], 16)
    return Digest(len(messages), hash_)


async def test_a_digest_covers_its_range_with_both_ends(chats, pair):
    """By the rule of protocol.md section 3."""
    messages = [
        pair.message(NOW + number, version=NOW + number + number % 3) for number in range(10)
    ]
    await chats.put(messages)

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


async def test_pointers_say_how_far_states_have_come(chats, pair):
    """Of both people, marks that came before their message included; of whom nothing was written
    there is nothing.
    """
    other = Pair()
    await chats.put([pair.message(NOW + 2), pair.message(NOW + 1)])
    await chats.mark(
        [
            Watermark(pair.ben, pair.chat, NOW + 2, NOW + 1),
            Watermark(other.ben, other.chat, NOW + 1, 0),
        ]
    )
    people = [(user, one.chat) for one in (pair, other) for user in (one.anna, one.ben)]

    assert await chats.pointers([*people, (pair.anna, other.chat)]) == {
        (pair.anna, pair.chat): Pointers(NOW + 2, 0, 0),
        (pair.ben, pair.chat): Pointers(NOW + 2, NOW + 2, NOW + 1),
        (other.ben, other.chat): Pointers(0, NOW + 1, 0),
    }
    assert await chats.pointers([]) == {}


# ---- any order, any repetition, all at once ----

WRITES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 5), st.integers(0, 3)),
        st.tuples(st.just("mark"), st.integers(0, 6), st.integers(0, 6)),
    ),
    min_size=1,
    max_size=12,
)


async def write(chats, pair, writes):
    """The writes in this order; neighbours of one kind in one call."""
    puts = [
        pair.message(
            NOW + number,
            sender=pair.anna if number % 2 else pair.ben,
            text=f"{number} {change}",
            version=NOW + number + change,
        )
        for kind, number, change in writes
        if kind == "put"
    ]
    marks = [
        Watermark(pair.ben, pair.chat, NOW + one, NOW + two)
        for kind, one, two in writes
        if kind == "mark"
    ]
    await chats.put(puts)
    await chats.mark(marks)


async def everything(chats, pair):
    """All that the port tells of a chat, without its users' ids."""
    page = await newest(chats, pair.chat)
    return (
        [
            (m.id, m.sender == pair.anna, m.key, m.text, m.reply_to, m.version)
            for m in page.messages
        ],
        [
            [
                (s.newest, s.unread, s.read, s.received, s.newest_message and s.newest_message.text)
                for s in states
            ]
            for states, _ in [
                await chats.states(user, after=None, limit=9) for user in (pair.anna, pair.ben)
            ]
        ],
        await chats.digest(pair.chat, first=0, last=LATEST),
    )


@given(writes=WRITES, order=st.randoms(use_true_random=False))
@property_of_a_store
async def test_any_order_and_repetition_of_writes_leaves_the_same_state(chats, writes, order):
    """At-least-once, unordered dispatch and replays are harmless."""
    at_once, shuffled = Pair(), Pair()
    await write(chats, at_once, writes)
    again = writes + writes[: len(writes) // 2]
    order.shuffle(again)
    for one in again:
        await write(chats, shuffled, [one])

    assert await everything(chats, shuffled) == await everything(chats, at_once)


async def test_many_puts_and_marks_at_once_lose_nothing(chats, pair):
    """Batches of several events are written side by side."""
    batches = [pair.messages(range(NOW + start, NOW + start + 16)) for start in range(0, 640, 16)]
    marks = [Watermark(pair.ben, pair.chat, NOW + number, NOW + number) for number in range(640)]
    await asyncio.gather(
        *(chats.put(batch) for batch in batches), *(chats.mark([mark]) for mark in marks[::40])
    )

    assert (await chats.digest(pair.chat, first=NOW, last=LATEST)).count == 640
    assert await state_of(chats, pair.ben, pair.chat) == ChatState(
        pair.chat, NOW + 639, None, unread=39, upto=NOW + 639, read=NOW + 600, received=NOW + 600
    )


async def test_numbers_that_are_no_ids_find_nothing(chats, pair):
    """A fixed64 of an event may be greater than every id."""
    beyond = (1 << 64) - 1
    await chats.put(pair.messages([NOW]))

    assert await chats.states(beyond, after=None, limit=9) == ([], None)
    assert await chats.unread(beyond, [pair.chat]) == []
    assert await chats.digest(pair.chat, first=beyond, last=beyond) == Digest(0, 0)
    assert await chats.page(pair.chat, direction="after", anchor=beyond, limit=9) == Page(
        [], more_before=True, more_after=False
    )


async def test_ping_answers(chats):
    """A store that is there."""
    await chats.ping()
    await chats.close()


async def test_it_tells_the_time(chats):
    """The store's, to a clock that was an hour off: this machine's own, as it happens."""
    clock = Clock(alone=False, wall=lambda: time.time() - 3_600)
    clock.synchronise(
        await chats.read_clock(clock if not isinstance(chats, SqlChats) else Clock(alone=True))
    )

    assert abs(clock.now_s() - time.time()) < 5
