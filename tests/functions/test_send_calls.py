"""What `send` asks of stores: of people who talk nothing, however much they say."""

from __future__ import annotations

from collections import Counter

import pytest

from backends.sql.database import Database
from functions.runtime.context import Timing, use_backends
from schemas.ids import direct_chat

CALLS = ("read", "write", "search")


@pytest.fixture
async def calls(people, backends, monkeypatch):
    """Counts the calls of the database, and those of them that `send` makes about users; what the
    first mark of a process asks, the configuration, was asked before.
    """
    await backends.configuration.known()
    counted = Counter()

    def count(place, name):
        was = getattr(place, name)

        async def call(*args, **fields):
            counted[name] += 1
            return await was(*args, **fields)

        monkeypatch.setattr(place, name, call)

    for name in CALLS:
        count(Database, name)
    for name in ("between", "changed"):
        count(backends.relations, name)
    use_backends(backends, Timing(follow_interval_s=0.05))
    return counted


async def test_a_message_of_people_who_talk_asks_no_store(calls, event_targets):
    """One question for the pair, and looks at what has changed: so many a second, not a message."""
    alice, bob = event_targets.ALICE, event_targets.BOB
    for number in range(100):
        for sender in (alice, bob):
            answer = await event_targets.post("send", [event_targets.text(sender=sender)])
            assert answer.status == 200
        assert calls["between"] == 1, f"asked again at message {number}"
    await event_targets.post("send", [event_targets.mark(user=bob, read=5)])

    assert calls["between"] == 1
    assert sum(calls[name] for name in CALLS) == 1 + calls["changed"]


async def test_an_event_of_strangers_is_one_question(calls, event_targets):
    """However many they are."""
    alice = event_targets.ALICE
    chats = [direct_chat(alice, other) for other in range(2_000, 2_100)]
    await event_targets.post("send", [event_targets.text(chat=chat) for chat in chats])

    assert calls["between"] == 1
    assert sum(calls[name] for name in CALLS) == 1 + calls["changed"]
