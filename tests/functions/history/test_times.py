"""History at a time: whatever the moment and the way, each message lies on one side of it, and
pages walk the whole chat both ways.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from schemas import chat_pb2 as pb
from schemas.codec import CODECS, JSON
from schemas.commands import query_of
from schemas.ids import GENERATORS, UserId, direct_chat, first_id_at, time_text
from schemas.kinds import QUESTIONS
from schemas.topics import SESSION_DELIVERIES

START_MS = 1_790_000_000_000
LAST_OF_A_MS = (1 << 22) - 1
# Milliseconds after the start, and the rest of the id: the first id of its millisecond (generator
# 0, sequence 0) is the subject.
PLACES = [
    (0, 0),
    (1, 0),
    (1, 1),
    (1, LAST_OF_A_MS),
    (2, (GENERATORS - 1) << 10),
    (5, LAST_OF_A_MS),
    (6, 0),
    (1_000, 7 << 10),
    (86_400_000 * 11, 0),
]
IDS = [first_id_at(START_MS + ms) + rest for ms, rest in PLACES]
MOMENTS = st.sampled_from(
    [ms + step for ms, _ in PLACES for step in (-1, 0, 1)] + [-(10**12), 10**13]
).map(lambda ms: time_text(START_MS + ms)) | st.sampled_from(
    [
        "2026-09-21T14:13:20.0009Z",
        "2026-09-21T14:13:20Z",
        "1970-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
    ]
)


@pytest.fixture
def settings(settings):
    """What one user may read is no matter here."""
    return replace(settings, user_units=10**9, device_units=10**9)


@pytest.fixture
async def bob(ann):
    return await (await type(ann)(ann.backends).register("bob")).log_in()


@pytest.fixture
async def chat(ann, bob, event_targets):
    """A chat of Ann and Bob that holds IDS."""
    chat = direct_chat(UserId(int(ann.user)), UserId(int(bob.user)))
    commands = [
        event_targets.text(str(number), id=number, sender=int(ann.user), chat=chat)
        for number in IDS
    ]
    assert (
        await event_targets.post("persist", [pb.Outcome(command=command) for command in commands])
    ).status == 200
    return chat


@pytest.fixture(params=["socket", "http"])
def page(request, ann, chat, event_targets, topics):
    """A page over HTTP or from an event handler: its ids, newest first, and whether more lies
    before and after it.
    """
    codec = CODECS[JSON]

    async def over_socket(**asked):
        frame = codec.incoming(
            msgspec.json.encode(
                {"type": "history", "id": event_targets.mint() % 2**31, "chat": chat, **asked}
            )
        )
        query = query_of(
            QUESTIONS[type(frame)],
            frame,
            user=UserId(int(ann.user)),
            session="s",
            deadline_ms=4_102_444_800_000,
        )
        assert (await event_targets.post("history", [query])).status == 200
        (said,) = [
            answer for answer in await topics.items(SESSION_DELIVERIES) if answer.re == query.re
        ]
        return (
            [item.message.id for item in said.page.messages],
            said.page.more_before,
            said.page.more_after,
        )

    async def over_http(**asked):
        answer = (await ann.get(f"/v1/chats/{chat}/messages", **asked)).json()
        return (
            [int(message["message"]) for message in answer["messages"]],
            answer["more_before"],
            answer["more_after"],
        )

    return over_socket if request.param == "socket" else over_http


@given(moment=MOMENTS, limit=st.sampled_from([1, 2, 3, 256]))
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_a_moment_parts_a_chat_in_two_and_pages_walk_both_halves(page, moment, limit):
    """Nothing is left out and nothing is told twice, at every T."""
    older, more, anchor = [], True, moment
    while more:
        ids, more, _ = await page(before=anchor, limit=limit)
        older += ids
        anchor = str(older[-1]) if older else moment
    newer, more, anchor = [], True, moment
    while more:
        ids, _, more = await page(after=anchor, limit=limit)
        newer = ids + newer
        anchor = str(newer[0]) if newer else moment

    assert newer + older == IDS[::-1]
    assert (older or [0])[0] < (newer or [2**63])[-1]
    whole, _, _ = await page(around=moment, limit=256)
    assert whole == IDS[::-1]
