"""Who may see whom, by blocks and privacy."""

from __future__ import annotations

import pytest

from backends.accounts import Profile
from backends.relations import Privacy, Relation, Side
from gateway.presence.sights import SightsByRelations, hears, sight_of
from gateway.presence.visibility import Sight

HERE, BLOCKS = Side(True), Side(True, blocks=True)
OPEN, CLOSED = Side(True, last_seen="everyone"), Side(True, last_seen="none")


@pytest.mark.parametrize(
    ("relation", "sight"),
    [
        (Relation(HERE, HERE), Sight.STATE),
        (Relation(HERE, HERE, contact=True), Sight.ALL),
        (Relation(HERE, OPEN), Sight.ALL),
        (Relation(HERE, CLOSED, contact=True), Sight.STATE),
        (Relation(CLOSED, OPEN), Sight.ALL),
        (Relation(BLOCKS, OPEN, contact=True), Sight.NOTHING),
        (Relation(HERE, BLOCKS, contact=True), Sight.NOTHING),
    ],
)
def test_what_is_seen_of_another(relation, sight):
    """A block hides both from each other; when a user was last here is for whom the user chose."""
    assert sight_of(relation) is sight


SHUT = Side(True, who_may_write="contacts")


@pytest.mark.parametrize(
    ("relation", "heard"),
    [
        (Relation(HERE, HERE), True),
        (Relation(SHUT, HERE), False),
        (Relation(SHUT, HERE, contact=True), True),
        (Relation(HERE, SHUT), True),
        (Relation(BLOCKS, HERE, contact=True), False),
        (Relation(HERE, BLOCKS, contact=True), False),
    ],
)
def test_who_may_write_is_heard_typing(relation, heard):
    """No one else: the first user hears, the second types."""
    assert hears(relation) is heard


async def test_sights_are_asked_for_in_their_order(backends):
    """And change with what users choose."""
    ann, ben, cem = 1, 2, 3
    for user in (ann, ben, cem):
        await backends.accounts.register(Profile(user, f"user-{user}", "A User", 1), "-")
    await backends.relations.block(ann, ben, now_ms=5)
    await backends.relations.change_privacy(cem, Privacy(last_seen="everyone", version=1), now_ms=6)
    sights = SightsByRelations(backends.relations)

    assert await sights.of([(ben, ann), (ann, cem), (cem, ann), (ann, cem)]) == [
        Sight.NOTHING,
        Sight.ALL,
        Sight.STATE,
        Sight.ALL,
    ]
    assert await sights.hear([(ben, ann), (ann, cem)]) == [False, True]
    assert await sights.changed(6) == {cem: 6}
