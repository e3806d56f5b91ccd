"""`send` between users who block each other, hear contacts alone, or hide receipts."""

from __future__ import annotations

from collections import Counter

import pytest

from backends.relations import Privacy
from functions.runtime.context import current_context
from schemas.topics import DELIVERIES, MESSAGES
from tests.functions.conftest import ALICE, BOB, NOW_MS


@pytest.fixture
def post(people, event_targets, topics):
    """Posts commands; how each was decided, and who was told of it."""

    async def deliveries():
        items = await topics.items(DELIVERIES)
        return Counter((one.WhichOneof("body"), user) for one in items for user in one.users)

    async def posted(*commands):
        before = await deliveries()
        assert (await event_targets.post("send", list(commands))).status == 200
        outcomes = {one.command.id: one.refused for one in await topics.items(MESSAGES)}
        told = {}
        for body, user in await deliveries() - before:
            told.setdefault(body, set()).add(user)
        return [outcomes[command.id] for command in commands], told

    return posted


async def test_a_block_stops_messages_both_ways(post, backends, event_targets):
    """Who blocks is told so, the other one nothing but that it is not allowed."""
    await backends.relations.block(BOB, ALICE, now_ms=NOW_MS)
    refused, told = await post(
        event_targets.text(sender=ALICE, key="a"), event_targets.text(sender=BOB, key="b")
    )

    assert refused == ["forbidden", "blocked"]
    assert told == {"refused": {ALICE, BOB}}


async def test_a_block_counts_for_those_who_talk(post, backends, event_targets):
    """At the next look, which comes every 2 s; so does its end, at once."""
    before, _ = await post(event_targets.text())
    await backends.relations.block(BOB, ALICE, now_ms=backends.clock.now_ms())
    await current_context().policy.look()
    blocked, _ = await post(event_targets.text())
    await backends.relations.unblock(BOB, ALICE, now_ms=backends.clock.now_ms())
    after, _ = await post(event_targets.text())

    assert (before, blocked, after) == ([""], ["forbidden"], [""])


@pytest.mark.parametrize("blocker", [ALICE, BOB])
async def test_marks_between_blocked_people_are_taken_and_not_told(
    post, backends, event_targets, blocker
):
    """The user's own devices hear of them, and history keeps them."""
    other = ALICE if blocker == BOB else BOB
    await backends.relations.block(blocker, other, now_ms=NOW_MS)
    refused, told = await post(event_targets.mark(user=ALICE, read=5))

    assert (refused, told) == ([""], {"receipt": {ALICE}})


@pytest.mark.parametrize("hiding", [ALICE, BOB])
async def test_who_hides_receipts_sees_none(post, backends, event_targets, hiding):
    """Neither tells the other one; messages pass."""
    await backends.relations.change_privacy(
        hiding, Privacy(receipts=False, version=1), now_ms=NOW_MS
    )
    refused, told = await post(event_targets.mark(user=ALICE, read=5), event_targets.text())

    assert refused == ["", ""]
    assert told == {"receipt": {ALICE}, "message": {ALICE, BOB}}


async def test_who_hears_contacts_alone_gets_messages_of_contacts(post, backends, event_targets):
    """A stranger is refused as a blocked user is; an accepted invitation lets messages through at
    once.
    """
    relations = backends.relations
    await relations.change_privacy(BOB, Privacy("contacts", version=1), now_ms=NOW_MS)
    refused, told = await post(event_targets.text(), event_targets.mark(user=ALICE, read=5))
    await relations.change_contact(ALICE, BOB, "invite", version=0, now_ms=NOW_MS)
    await relations.change_contact(BOB, ALICE, "accept", version=1, now_ms=NOW_MS)
    after, _ = await post(event_targets.text())

    assert refused == ["forbidden", ""]
    assert told == {"refused": {ALICE}, "receipt": {ALICE, BOB}}
    assert after == [""]
