"""`history`: pages, lists and digests for the session that asks; mistakes are answers; nothing is
larger than a frame.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.chats import HistoryMessage
from backends.wiring import Backends
from functions.domain.reading import _nearest, read_page
from functions.runtime.context import use_backends
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.deliveries import chats_of, page_of
from schemas.frames import CODECS, JSON, PAGE_BYTES
from schemas.ids import direct_chat
from schemas.topics import SESSION_DELIVERIES, user_partition

FOR_EVER = 4_102_444_800_000


@pytest.fixture
def ask(event_targets, topics):
    """Posts one query and gives the newest answer to it."""

    async def answer_to(user=event_targets.ALICE, **body) -> pb.Answer:
        number = event_targets.mint()
        query = pb.Query(user=user, session="s-1", re=number, deadline_ms=FOR_EVER, **body)
        answer = await event_targets.post("history", [query])
        assert answer.status == 200
        (found,) = [item for item in await topics.items(SESSION_DELIVERIES) if item.re == number]
        assert found.session == "s-1"
        return found

    return answer_to


@pytest.fixture
def busy(monkeypatch):
    """On a busy machine quick answers are still answers that come together."""
    monkeypatch.setattr("functions.events.history.MAX_DELAY_S", 5.0)


@pytest.fixture
async def said(event_targets, backends):
    """The ids of 30 short messages between Alice and Bob, oldest first."""
    commands = [
        event_targets.text(
            f"number {n}", sender=event_targets.ALICE if n % 3 else event_targets.BOB
        )
        for n in range(30)
    ]
    await event_targets.post("persist", [pb.Outcome(command=command) for command in commands])
    return [command.id for command in commands]


def ids(page: pb.Page) -> list[int]:
    return [item.message.id for item in page.messages]


def history(chat, limit=10, **position):
    return {"history": pb.HistoryQuery(chat=chat, limit=limit, **position)}


async def test_the_newest_page(ask, said, event_targets):
    """Newest first; more lies before it, nothing after."""
    page = (await ask(**history(event_targets.CHAT))).page

    assert ids(page) == said[:19:-1]
    assert (page.more_before, page.more_after) == (True, False)
    item = page.messages[0]
    assert (item.message.sender, item.message.body.text, item.version) == (
        event_targets.ALICE,
        "number 29",
        said[29],
    )


async def test_pages_before_after_and_around_a_message(ask, said, event_targets):
    """before and after leave out their id, around holds it."""
    before, after, around = [
        (await ask(**history(event_targets.CHAT, 4, **{direction: said[15]}))).page
        for direction in ("before", "after", "around")
    ]

    assert ids(before) == said[14:10:-1]
    assert ids(after) == said[19:15:-1]
    assert said[15] in ids(around)
    assert len(ids(around)) == 4
    assert ids(around) == sorted(ids(around), reverse=True)
    assert all(page.more_before and page.more_after for page in (before, after, around))


async def test_the_ends_of_a_chat_have_no_more(ask, said, event_targets):
    """A page that reaches an end says so; the whole chat says so twice."""
    oldest = (await ask(**history(event_targets.CHAT, 10, before=said[5]))).page
    whole = (await ask(**history(event_targets.CHAT, 256, around=said[15]))).page

    assert ids(oldest) == said[4::-1]
    assert (oldest.more_before, oldest.more_after) == (False, True)
    assert ids(whole) == said[::-1]
    assert (whole.more_before, whole.more_after) == (False, False)


async def test_an_id_beyond_all_is_the_newest_page(ask, said, event_targets):
    """A number that no id can be reads as the greatest there is."""
    assert ids((await ask(**history(event_targets.CHAT, 3, before=2**64 - 1))).page) == said[:26:-1]


async def test_a_chat_without_messages_is_an_empty_page(ask, event_targets, backends):
    """Nothing was said yet: that is no mistake."""
    page = (await ask(**history(direct_chat(event_targets.ALICE, event_targets.ALICE)))).page

    assert (ids(page), page.more_before, page.more_after) == ([], False, False)


@pytest.fixture
async def long_ones(event_targets, backends):
    """The ids of 40 messages of 4 KiB, oldest first: 11 fill a page."""
    commands = [event_targets.text("ü" * 2048) for _ in range(40)]
    for start in range(0, 40, 10):
        await event_targets.post(
            "persist", [pb.Outcome(command=command) for command in commands[start : start + 10]]
        )
    return [command.id for command in commands]


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
        backends.chats, event_targets.ALICE, event_targets.CHAT, "after", 0, 40, max_bytes=None
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
        _Told(messages), 1, "d-1-2", direction, data.draw(st.integers(0, 41)), 256
    )

    if len(page.messages) > 1:
        frame = page_of(page)
        frame.re = 2**53 - 1
        assert all(len(codec.encode(frame)) <= PAGE_BYTES for codec in CODECS.values())


class _Told:
    """Answers with these messages, whatever is asked: the store's part is tested elsewhere."""

    def __init__(self, messages):
        self._messages = messages

    async def page(self, _chat, *, direction, anchor, limit):
        from backends.chats import Page  # noqa: PLC0415 - see above

        chosen = {
            "before": [message for message in self._messages if message.id < anchor],
            "after": [message for message in self._messages if message.id > anchor],
            "around": self._messages,
        }[direction]
        return Page(chosen[::-1][:limit], more_before=False, more_after=False)


async def test_the_list_of_chats(ask, said, event_targets):
    """Newest first, with the newest message and what is unread."""
    to_carol = event_targets.text(
        "hi Carol", chat=direct_chat(event_targets.ALICE, event_targets.CAROL)
    )
    await event_targets.post("persist", [pb.Outcome(command=to_carol)])
    states = (await ask(chats=pb.ChatsQuery(limit=50))).chats

    carol, bob = states.chats
    assert (carol.chat, list(carol.others), carol.newest, carol.unread) == (
        "d-1001-1003",
        [event_targets.CAROL],
        to_carol.id,
        0,
    )
    assert carol.newest_message.message.body.text == "hi Carol"
    assert (bob.chat, list(bob.others), bob.newest, bob.unread) == (
        event_targets.CHAT,
        [event_targets.BOB],
        said[-1],
        10,
    )
    assert states.after == ""


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


async def test_a_digest_is_as_the_protocol_says(ask, said, event_targets):
    """XOR of the first 8 bytes of SHA-256("message:version"), both ends included."""
    query = pb.DigestQuery(chat=event_targets.CHAT, to=said[9])
    setattr(query, "from", said[3])
    digest = (await ask(digest=query)).digest

    expected = 0
    for number in said[3:10]:
        expected ^= int.from_bytes(sha256(f"{number}:{number}".encode()).digest()[:8])
    assert (digest.count, digest.hash) == (7, expected)


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (history("d-1002-1003"), "unknown_chat", "chat"),
        (history("g-5"), "unknown_chat", "chat"),
        (history("nonsense"), "malformed", "chat"),
        (history("d-1001-1002", limit=0), "malformed", "limit"),
        (history("d-1001-1002", limit=257), "malformed", "limit"),
        ({"chats": pb.ChatsQuery(limit=0)}, "malformed", "limit"),
        ({"chats": pb.ChatsQuery(limit=5, after="nonsense")}, "malformed", "after"),
        ({"digest": pb.DigestQuery(chat="d-1002-1003", to=1)}, "unknown_chat", "chat"),
        (
            {"digest": pb.DigestQuery(chat="d-1001-1002", **{"from": 2, "to": 1})},
            "malformed",
            "from",
        ),
        ({}, "unknown_type", ""),
    ],
)
async def test_a_mistake_is_answered(body, code, field, ask, backends):
    """The user hears what is wrong; the event is done."""
    refused = (await ask(**body)).refused

    assert (refused.code, refused.field) == (code, field)
    assert refused.message


async def test_a_query_past_its_deadline_is_not_answered(event_targets, backends, topics):
    """Its deadline has passed: no store is asked, nothing is appended."""
    answer = await event_targets.post(
        "history",
        [
            pb.Query(
                user=event_targets.ALICE,
                session="s",
                re=1,
                deadline_ms=1,
                chats=pb.ChatsQuery(limit=5),
            )
        ],
    )

    assert answer.status == 200
    assert not await topics.events(SESSION_DELIVERIES)


async def test_answers_are_grouped_by_the_asker_s_partition(event_targets, said, topics, busy):
    """One event, many askers: each partition gets one record, and each asker all answers."""
    queries = [
        pb.Query(user=user, session=f"s-{user}", re=n, deadline_ms=FOR_EVER, **body)
        for user in (event_targets.ALICE, event_targets.BOB)
        for n, body in enumerate(
            [history(event_targets.CHAT), {"chats": pb.ChatsQuery(limit=5)}, history("d-7-8")]
        )
    ]
    await event_targets.post("history", queries)

    events = dict(await topics.events(SESSION_DELIVERIES))
    assert set(events) == {
        user_partition(event_targets.ALICE, 12),
        user_partition(event_targets.BOB, 12),
    }
    for user in (event_targets.ALICE, event_targets.BOB):
        answers = cloudevents.parse(events[user_partition(user, 12)], pb.Answers).answers
        assert [(answer.session, answer.re, answer.WhichOneof("body")) for answer in answers] == [
            (f"s-{user}", 0, "page"),
            (f"s-{user}", 1, "chats"),
            (f"s-{user}", 2, "refused"),
        ]


async def test_a_slow_question_costs_the_others_nothing(
    event_targets, said, backends, topics, monkeypatch
):
    """Their answers go out as they come; its own says `unavailable` when its time is over, and the
    event is done.
    """
    page, slow = (
        backends.chats.page,
        event_targets.text(chat=direct_chat(event_targets.ALICE, event_targets.ALICE)).chat,
    )
    told = asyncio.Event()

    async def held_up(chat, **asked):
        if chat == slow:
            await told.wait()
        return await page(chat, **asked)

    monkeypatch.setattr(backends.chats, "page", held_up)
    monkeypatch.setattr("functions.events.history.QUERY_TIMEOUT_S", 0.5)
    queries = [
        pb.Query(user=event_targets.ALICE, session="s", re=n, deadline_ms=FOR_EVER, **history(chat))
        for n, chat in enumerate([event_targets.CHAT, slow, event_targets.CHAT])
    ]
    posted = asyncio.create_task(event_targets.post("history", queries))
    async with asyncio.timeout(5):
        while len(first := await topics.items(SESSION_DELIVERIES)) < 2:
            await asyncio.sleep(0.01)
    answer = await posted

    assert [(item.re, item.WhichOneof("body")) for item in first] == [(0, "page"), (2, "page")]
    assert answer.status == 200
    late = (await topics.items(SESSION_DELIVERIES))[2:]
    assert [(item.re, item.refused.code) for item in late] == [(1, "unavailable")]


async def test_an_unavailable_store_is_tried_again(settings, event_targets, topics_of):
    """Those who made a mistake have their answer; for the others the event comes again."""
    (settings.data / "data.db").mkdir()
    opened = Backends(settings)
    use_backends(opened)
    wrong, right = [
        pb.Query(user=event_targets.ALICE, re=n, deadline_ms=FOR_EVER, **history(chat))
        for n, chat in enumerate(["g-1", event_targets.CHAT])
    ]
    answer = await event_targets.post("history", [wrong, right])
    answered = [item.re for item in await topics_of(opened).items(SESSION_DELIVERIES)]
    use_backends(None)
    await opened.close()

    assert (answer.status, answered) == (503, [0])


async def test_a_user_with_many_queries_delays_no_other(event_targets, topics, people, busy):
    """One event with ten questions of Alice before one of Bob: Bob's is answered with Alice's
    first, and nothing is answered twice.
    """
    alices = [
        pb.Query(
            user=event_targets.ALICE,
            session="s-a",
            re=n,
            deadline_ms=FOR_EVER,
            chats=pb.ChatsQuery(limit=5),
        )
        for n in range(10)
    ]
    bobs = pb.Query(
        user=event_targets.BOB,
        session="s-b",
        re=1,
        deadline_ms=FOR_EVER,
        chats=pb.ChatsQuery(limit=5),
    )
    await event_targets.post("history", [*alices, bobs])

    events = [event for _, event in await topics.events(SESSION_DELIVERIES)]
    assert len({event.id for event in events}) == len(events) == 4
    told = [
        [(answer.session, answer.re) for answer in cloudevents.parse(event, pb.Answers).answers]
        for event in events
    ]
    assert sorted(told) == [
        [("s-a", n) for n in range(4)],
        [("s-a", n) for n in range(4, 8)],
        [("s-a", 8), ("s-a", 9)],
        [("s-b", 1)],
    ]


async def test_a_turn_holds_few_great_pages(event_targets, topics, people):
    """Of those who ask for as much as they may each question is a turn; others' answers come after
    the first.
    """
    alices = [
        pb.Query(
            user=event_targets.ALICE,
            session="s-a",
            re=n,
            deadline_ms=FOR_EVER,
            **history(event_targets.CHAT, limit=256),
        )
        for n in range(3)
    ]
    bobs = pb.Query(
        user=event_targets.BOB,
        session="s-b",
        re=1,
        deadline_ms=FOR_EVER,
        chats=pb.ChatsQuery(limit=256),
    )
    await event_targets.post("history", [*alices, bobs])

    events = [event for _, event in await topics.events(SESSION_DELIVERIES)]
    told = [
        [(answer.session, answer.re) for answer in cloudevents.parse(event, pb.Answers).answers]
        for event in events
    ]
    assert sorted(told) == [[("s-a", 0)], [("s-a", 1)], [("s-a", 2)], [("s-b", 1)]]


async def test_many_great_pages_of_a_store_that_hangs_are_refused_in_time(
    event_targets, said, backends, monkeypatch
):
    """All have their answer within the handler's time, so the event does not come again."""

    async def hang(chat, **asked):
        await asyncio.Event().wait()

    monkeypatch.setattr(backends.chats, "page", hang)
    monkeypatch.setattr("functions.events.history.QUERY_TIMEOUT_S", 0.5)
    monkeypatch.setattr("functions.runtime.event_handler.HANDLER_TIMEOUT_S", 1.5)
    queries = [
        pb.Query(
            user=event_targets.ALICE,
            session="s",
            re=n,
            deadline_ms=FOR_EVER,
            **history(event_targets.CHAT, limit=256),
        )
        for n in range(48)
    ]
    answer = await event_targets.post("history", queries)

    assert answer.status == 200
