"""Pages and lists end at the size of a frame, next to what was asked for."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from backends.chats import HistoryMessage
from functions.domain.reading import _nearest, read_page
from schemas import chat_pb2 as pb
from schemas.codec import CODECS, JSON
from schemas.frames import PAGE_BYTES
from schemas.ids import direct_chat
from schemas.kinds.chats import chats_of
from schemas.kinds.history import page_of
from tests.functions.history.asked import history, ids


async def test_a_long_page_ends_at_its_size_next_to_the_anchor(ask, long_ones, event_targets):
    """What lies nearest to the anchor is kept; what was cut is `more`, on its side."""
    before, after, around = [
        (await ask(**history(event_targets.CHAT, 20, **{direction: long_ones[20]}))).page
        for direction in ("before", "after", "around")
    ]

    assert ids(before) == long_ones[19:8:-1]
    assert ids(after) == long_ones[31:20:-1]
    assert ids(around) == long_ones[26:15:-1] or ids(around) == long_ones[25:14:-1]
    for page in (before, after, around):
        assert PAGE_BYTES - 4_500 < len(CODECS[JSON].encode(page_of(page))) <= PAGE_BYTES
        assert (page.more_before, page.more_after) == (True, True)


async def test_cut_pages_join_to_the_whole_chat(ask, long_ones, event_targets):
    """Going on from first or last, page by page, misses nothing and repeats nothing, in both
    directions.
    """
    backwards, forwards = [], []
    page = (await ask(**history(event_targets.CHAT, 256))).page
    backwards += ids(page)
    while page.more_before:
        page = (await ask(**history(event_targets.CHAT, 256, before=backwards[-1]))).page
        backwards += ids(page)
    page = (await ask(**history(event_targets.CHAT, 256, after=0))).page
    forwards += reversed(ids(page))
    while page.more_after:
        page = (await ask(**history(event_targets.CHAT, 256, after=forwards[-1]))).page
        forwards += reversed(ids(page))

    assert backwards == long_ones[::-1]
    assert forwards == long_ones


async def test_a_message_larger_than_a_page_comes_alone(ask, event_targets, backends):
    """Control characters take six bytes in JSON: one of before such texts were refused is a page of
    its own, else no client got past it.
    """
    numbers = [event_targets.mint() for _ in range(3)]
    await backends.chats.put(
        [
            HistoryMessage(
                n, event_targets.CHAT, event_targets.ALICE, f"k{n}", "\x01" * 9_000, 0, n
            )
            for n in numbers
        ]
    )
    page = (await ask(**history(event_targets.CHAT, 10))).page

    assert (ids(page), page.more_before) == ([numbers[2]], True)


async def test_a_page_over_http_has_no_such_end(long_ones, event_targets, backends):
    """Only frames are bounded: HTTP answers hold the limit."""
    page = await read_page(
        backends, event_targets.ALICE, event_targets.CHAT, "after", 0, 40, max_bytes=None
    )

    assert ids(page) == long_ones[::-1]


@given(st.lists(st.integers(1, 50), max_size=30), st.data(), st.integers(1, 300))
def test_what_fits_is_the_longest_stretch_around_the_anchor(sizes, data, budget):
    """It touches the anchor, fits unless it is one item, and cannot grow on the side whose turn it
    is.
    """
    anchor = data.draw(st.integers(0, len(sizes)))
    first, last = _nearest(sizes, anchor, budget)

    assert 0 <= first <= anchor <= last <= len(sizes)
    assert sum(sizes[first:last]) <= budget or last - first == 1
    assert last > first or not sizes
    grown = [sum(sizes[first - 1 : last])] if first else []
    grown += [sum(sizes[first : last + 1])] if last < len(sizes) else []
    assert not grown or max(grown) > budget


@given(
    st.lists(st.tuples(st.text(max_size=4096), st.booleans()), min_size=1, max_size=40),
    st.sampled_from(["before", "after", "around"]),
    st.data(),
)
async def test_no_page_is_larger_than_a_frame_takes(texts, direction, data):
    """Whatever the texts are, a page of more than one message is at most 48 KiB of JSON, and of
    MessagePack.
    """
    messages = [
        HistoryMessage(n, "d-1-2", 1, "k" * 64, text, n if reply else 0, n)
        for n, (text, reply) in enumerate(texts, 1)
    ]
    page = await read_page(
        SimpleNamespace(chats=_Told(messages)),
        1,
        "d-1-2",
        direction,
        data.draw(st.integers(0, 41)),
        256,
    )

    if len(page.messages) > 1:
        frame = page_of(page)
        frame.re = 2**53 - 1
        assert all(len(codec.encode(frame)) <= PAGE_BYTES for codec in CODECS.values())


class _Told:
    """Answers with these messages, whatever is asked: the store's part is tested elsewhere."""

    def __init__(self, messages):
        self._messages = messages

    async def page(self, _chat, *, direction, anchor, limit, reader=0):
        from backends.chats import Page  # noqa: PLC0415 - see above

        chosen = {
            "before": [message for message in self._messages if message.id < anchor],
            "after": [message for message in self._messages if message.id > anchor],
            "around": self._messages,
        }[direction]
        return Page(chosen[::-1][:limit], more_before=False, more_after=False)


async def test_a_long_list_of_chats_ends_at_its_size_and_goes_on(ask, event_targets, backends):
    """Lists cut by size join to the whole."""
    commands = [
        event_targets.text("ü" * 2048, chat=direct_chat(event_targets.ALICE, 5_000 + n))
        for n in range(30)
    ]
    await event_targets.post("persist", [pb.Outcome(command=command) for command in commands])
    found, after = [], ""
    while True:
        states = (await ask(chats=pb.ChatsQuery(limit=50, after=after))).chats
        assert len(CODECS[JSON].encode(chats_of(states))) <= PAGE_BYTES
        found += [state.chat for state in states.chats]
        if not (after := states.after):
            break

    assert found == [command.chat for command in reversed(commands)]
