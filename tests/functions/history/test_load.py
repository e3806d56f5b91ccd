"""Many questions, slow ones, and stores that fail or hang: others do not wait, and answers come in
time.
"""

from __future__ import annotations

import asyncio

import pytest

from backends.wiring import Backends
from functions.runtime.context import Timing, use_backends
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.ids import direct_chat
from schemas.topics import SESSION_DELIVERIES, user_partition
from tests.functions.history.asked import FAR_FUTURE_MS, history


@pytest.fixture
def busy(backends):
    """On a busy machine quick answers are still answers that come together."""
    use_backends(backends, Timing(answers_delay_s=5.0))


async def test_answers_are_grouped_by_the_asker_s_partition(event_targets, said, topics, busy):
    """One event, many askers: each partition gets one record, and each asker all answers."""
    queries = [
        pb.Query(user=user, session=f"s-{user}", re=n, deadline_ms=FAR_FUTURE_MS, **body)
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
    use_backends(backends, Timing(queries_timeout_s=0.5))
    queries = [
        pb.Query(
            user=event_targets.ALICE, session="s", re=n, deadline_ms=FAR_FUTURE_MS, **history(chat)
        )
        for n, chat in enumerate([event_targets.CHAT, slow, event_targets.CHAT])
    ]
    posted = asyncio.create_task(event_targets.post("history", queries))
    async with asyncio.timeout(5):
        while len(first := await topics.items(SESSION_DELIVERIES)) < 2:
            await asyncio.sleep(0.01)
    answer = await posted

    assert sorted((item.re, item.WhichOneof("body")) for item in first) == [
        (0, "page"),
        (2, "page"),
    ]
    assert answer.status == 200
    late = (await topics.items(SESSION_DELIVERIES))[2:]
    assert [(item.re, item.refused.code) for item in late] == [(1, "unavailable")]


async def test_an_unavailable_store_is_tried_again(settings, event_targets, topics_of):
    """Those who made a mistake have their answer; for the others the event comes again."""
    (settings.data / "data.db").mkdir()
    opened = Backends(settings)
    use_backends(opened)
    wrong, right = [
        pb.Query(user=event_targets.ALICE, re=n, deadline_ms=FAR_FUTURE_MS, **history(chat))
        for n, chat in enumerate(["d-1-2", event_targets.CHAT])
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
            deadline_ms=FAR_FUTURE_MS,
            chats=pb.ChatsQuery(limit=5),
        )
        for n in range(10)
    ]
    bobs = pb.Query(
        user=event_targets.BOB,
        session="s-b",
        re=1,
        deadline_ms=FAR_FUTURE_MS,
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
            deadline_ms=FAR_FUTURE_MS,
            **history(event_targets.CHAT, limit=256),
        )
        for n in range(3)
    ]
    bobs = pb.Query(
        user=event_targets.BOB,
        session="s-b",
        re=1,
        deadline_ms=FAR_FUTURE_MS,
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
    use_backends(backends, Timing(queries_timeout_s=0.5, handler_timeout_s=1.5))
    queries = [
        pb.Query(
            user=event_targets.ALICE,
            session="s",
            re=n,
            deadline_ms=FAR_FUTURE_MS,
            **history(event_targets.CHAT, limit=256),
        )
        for n in range(48)
    ]
    answer = await event_targets.post("history", queries)

    assert answer.status == 200
