"""A client of `history`, and a chat to ask about."""

from __future__ import annotations

import pytest

from schemas import chat_pb2 as pb
from schemas.topics import SESSION_DELIVERIES
from tests.functions.history.asked import FAR_FUTURE_MS


@pytest.fixture
def ask(event_targets, topics):
    """Posts one query and gives the newest answer to it."""

    async def answer_to(user=event_targets.ALICE, **body) -> pb.Answer:
        number = event_targets.mint()
        query = pb.Query(user=user, session="s-1", re=number, deadline_ms=FAR_FUTURE_MS, **body)
        answer = await event_targets.post("history", [query])
        assert answer.status == 200
        (found,) = [item for item in await topics.items(SESSION_DELIVERIES) if item.re == number]
        assert found.session == "s-1"
        return found

    return answer_to


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


@pytest.fixture
async def long_ones(event_targets, backends):
    """The ids of 40 messages of 4 KiB, oldest first: 11 fill a page."""
    commands = [event_targets.text("ü" * 2048) for _ in range(40)]
    for start in range(0, 40, 10):
        await event_targets.post(
            "persist", [pb.Outcome(command=command) for command in commands[start : start + 10]]
        )
    return [command.id for command in commands]
