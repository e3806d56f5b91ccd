"""Who may see whom, by blocks and privacy."""

from __future__ import annotations

import pytest

from backends.accounts import Profile
from backends.relations import Privacy, Relation, Side
from gateway.presence.relation_visibility import VisibilityByRelations, hears, visibility_of
from gateway.presence.visibility import Visibility

HERE, BLOCKS = Side(True), Side(True, blocks=True)
OPEN, CLOSED = Side(True, last_seen="everyone"), Side(True, last_seen="none")


@pytest.mark.parametrize(
    ("relation", "visibility"),
    [
        (Relation(HERE, HERE), Visibility.STATE),
        (Relation(HERE, HERE, contact=True), Visibility.ALL),
        (Relation(HERE, OPEN), Visibility.ALL),
        (Relation(HERE, CLOSED, contact=True), Visibility.STATE),
        (Relation(CLOSED, OPEN), Visibility.ALL),
        (Relation(BLOCKS, OPEN, contact=True), Visibility.NOTHING),
        (Relation(HERE, BLOCKS, contact=True), Visibility.NOTHING),
    ],
)
def test_what_is_seen_of_another(relation, visibility):
    """A block hides both from each other; when a user was last here is for whom the user chose."""
    assert visibility_of(relation) is visibility


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


async def test_pairs_are_asked_for_in_their_order(backends):
    """And change with what users choose."""
    ann, ben, cem = 1, 2, 3
    for user in (ann, ben, cem):
        await backends.accounts.register(Profile(user, f"user-{user}", "A User", 1), "-")
    await backends.relations.block(ann, ben, now_ms=5)
    await backends.relations.change_privacy(cem, Privacy(last_seen="everyone", version=1), now_ms=6)
    rules = VisibilityByRelations(backends.relations)

    assert await rules.of([(ben, ann), (ann, cem), (cem, ann), (ann, cem)]) == [
        Visibility.NOTHING,
        Visibility.ALL,
        Visibility.STATE,
        Visibility.ALL,
    ]
    assert await rules.hear([(ben, ann), (ann, cem)]) == [False, True]
    assert await rules.changed(6) == {cem: 6}
