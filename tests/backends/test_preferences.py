"""The suite of the `ChatPreferences` port, over all databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from backends.preferences import Preferences
from backends.preferences.sql import SqlChatPreferences
from schemas.ids import first_id_at, random_id

NOW_MS = 1_790_000_000_000


@pytest.fixture
async def stored(database):
    return SqlChatPreferences(database)


@pytest.fixture
def first():
    """The first version of some user's for some chat."""
    return Preferences(random_id(), f"g-{random_id()}", 5, True, 7, "draft ü", 1)


async def test_preferences_come_back_as_they_were_written(stored, first):
    """Those of the user for the chats that are asked for."""
    assert await stored.put(first)
    assert await stored.put(replace(first, chat="d-1-2"))

    assert await stored.of(first.user, [first.chat, "g-1"]) == {first.chat: first}
    assert await stored.of(random_id(), [first.chat]) == {}
    assert await stored.of(first.user, []) == {}


async def test_a_version_is_written_once(stored, first):
    """Of two at once one is first; who knows an older one is told so."""
    assert sorted(await asyncio.gather(stored.put(first), stored.put(first))) == [False, True]
    second = replace(first, pinned=False, draft="", version=2)

    assert await stored.put(second)
    assert not await stored.put(replace(second, draft="late"))
    assert (await stored.of(first.user, [first.chat]))[first.chat] == second


async def test_what_the_log_does_not_have_is_kept_for_it(stored, first):
    """As it is now; a version that came meanwhile stays."""
    await stored.put(first)
    second = replace(first, version=2)
    told = await stored.unpublished(limit=9)
    await stored.put(second)
    await stored.mark_published(told)

    assert told == [first]
    assert await stored.unpublished(limit=9) == [second]
    await stored.mark_published([second])
    assert await stored.unpublished(limit=9) == []


@pytest.mark.parametrize(
    ("archived", "muted_ms", "newest", "hidden"),
    [
        (0, 0, 5, False),
        (5, 0, 5, True),
        (5, 0, 6, False),
        (5, NOW_MS + 1, 6, True),
        (5, NOW_MS, 6, False),
        (0, NOW_MS + 1, 5, False),
    ],
)
def test_a_newer_message_brings_an_archived_chat_back(archived, muted_ms, newest, hidden):
    """Unless it is muted."""
    one = Preferences(1, "g-1", muted_until_ms=muted_ms, archived=archived)

    assert one.hides(newest, now_ms=NOW_MS) is hidden
    assert one.part.mine.archived == archived
    assert first_id_at(NOW_MS) > newest
