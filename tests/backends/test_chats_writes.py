"""The suite of the `Chats` port: writes in any order, repeated and at once, leave the same
state.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from backends.chats import ChatState, Digest, Page, Watermark
from backends.chats.sql import SqlChats
from backends.clock import Clock
from schemas.ids import LATEST
from tests.backends.chat_pairs import NOW, Pair, property_of_a_store, state_of


async def test_an_empty_put_and_an_empty_mark_change_nothing(chats):
    """There may be nothing to write."""
    await chats.put([])
    await chats.mark([])


EMOJI = ("👍", "❤️")
OPERATIONS = ("edit", "delete", "hide", "react", "unreact", "pin", "unpin")
CHANGES = st.builds(
    # The id of a command is of one operation on one message.
    lambda version: (OPERATIONS[version % 7], version // 7 % 6, version),
    st.integers(0, 7 * 6 * 8 - 1),
)
WRITES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 5), st.just(0)),
        CHANGES,
        st.tuples(st.just("mark"), st.integers(0, 6), st.integers(0, 6)),
    ),
    min_size=1,
    max_size=24,
)


async def write(chats, pair, writes):
    """The writes in this order; neighbours of one kind in one call."""
    puts = [
        replace(
            pair.message(NOW + number, sender=pair.anna if number % 2 else pair.ben),
            mentions=((), (pair.ben,), (pair.anna, pair.ben))[number % 3],
        )
        for kind, number, _ in writes
        if kind == "put"
    ]
    changes = [
        pair.change(
            op,
            NOW + number,
            NOW + 10 + version,
            # An id is of one command.
            f"{number} {version}" if op == "edit" else EMOJI[version % 2],
            user=pair.anna if op == "edit" else (pair.anna, pair.ben)[version // 2 % 2],
        )
        for op, number, version in writes
        if op not in {"put", "mark"}
    ]
    marks = [
        Watermark(pair.ben, pair.chat, NOW + one, NOW + two)
        for kind, one, two in writes
        if kind == "mark"
    ]
    await chats.put(puts)
    await chats.change(changes)
    await chats.mark(marks)


async def everything(chats, pair):
    """All that the port tells of a chat, without its users' ids."""

    def shown(m):
        return (
            *(m.id, m.sender == pair.anna, m.key, m.text, m.reply_to, m.version),
            *(m.edited, m.deleted, [user == pair.anna for user in m.mentions]),
            [(r.emoji, r.user == pair.anna, r.version) for r in m.reactions],
        )

    pages = [
        await chats.page(pair.chat, direction="before", anchor=LATEST, limit=256, reader=reader)
        for reader in (0, pair.anna, pair.ben)
    ]
    return (
        [[shown(message) for message in page.messages] for page in pages],
        [(pin.message, pin.user == pair.anna, pin.version) for pin in await chats.pins(pair.chat)],
        [
            [
                (
                    *(s.newest, s.unread, s.mentions, s.upto, s.read, s.received),
                    s.newest_message and shown(s.newest_message),
                )
                for s in states
            ]
            for states, _ in [
                await chats.states(user, after=None, limit=9) for user in (pair.anna, pair.ben)
            ]
        ],
        [
            await chats.digest(pair.chat, first=0, last=LATEST, reader=reader)
            for reader in (0, pair.anna, pair.ben)
        ],
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
