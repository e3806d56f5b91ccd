"""The suite of the `Relations` port, over all databases."""

from __future__ import annotations

import asyncio

import pytest

from backends.accounts import Profile
from backends.accounts.sql import SqlAccounts
from backends.relations import Contact, HiddenReceipts, Privacy, Relation, Side
from backends.relations.sql import SqlRelations
from schemas.errors import Malformed, Refused
from schemas.ids import LATEST

ANN, BEN, CEM, NONE = 1_001, 1_002, 1_003, 4_711
NOW_MS = 1_800_000_000_000


@pytest.fixture
async def relations(database):
    """Of three users."""
    accounts = SqlAccounts(database)
    for user in (ANN, BEN, CEM):
        await accounts.register(Profile(user, f"user-{user}", "A User", 1), "-")
    return SqlRelations(database)


async def act(relations, user, other, action, version=0, now_ms=NOW_MS):
    """The user's view after it: state and version."""
    contact = await relations.change_contact(user, other, action, version=version, now_ms=now_ms)
    assert (contact.user, contact.other) == (user, other)
    return contact.state, contact.version


async def view(relations, user, other):
    """The user's view as it is listed."""
    listed, more = await relations.contacts(user, after=other - 1, limit=1)
    assert not more or listed
    return next(((one.state, one.version) for one in listed if one.other == other), None)


async def refusal(call):
    with pytest.raises((Refused, Malformed)) as error:
        await call
    return error.value.code


async def test_an_invitation_is_seen_on_both_sides_and_accepted(relations):
    """Each side has its own view, with its own version."""
    assert await act(relations, ANN, BEN, "invite") == ("invited", 1)
    assert await view(relations, BEN, ANN) == ("invited_me", 1)
    assert await act(relations, BEN, ANN, "accept", 1) == ("contact", 2)
    assert await view(relations, ANN, BEN) == ("contact", 2)


@pytest.mark.parametrize(
    ("by", "action", "after"), [(ANN, "cancel", "invite"), (BEN, "decline", "invite"),
                                (ANN, "remove", "accept"), (BEN, "remove", "accept")],
)  # fmt: skip
async def test_what_ends_a_contact_ends_it_on_both_sides(relations, by, action, after):
    """It is listed no longer, and its version goes on; who knows of none may begin again."""
    await act(relations, ANN, BEN, "invite")
    version = 1
    if after == "accept":
        await act(relations, BEN, ANN, "accept", 1)
        version = 2
    other = BEN if by == ANN else ANN

    assert await act(relations, by, other, action, version) == ("none", version + 1)
    assert (await view(relations, ANN, BEN), await view(relations, BEN, ANN)) == (None, None)
    assert await refusal(act(relations, ANN, BEN, "invite", version)) == "stale"
    assert await act(relations, BEN, ANN, "invite", version + 1) == ("invited", version + 2)
    assert await act(relations, ANN, BEN, "decline", version + 2) == ("none", version + 3)
    assert await act(relations, ANN, BEN, "invite") == ("invited", version + 4)


async def test_crossing_invitations_become_a_contact(relations):
    """Who invites back has not seen the invitation, or has; at the same time too."""
    await act(relations, ANN, BEN, "invite")
    assert await act(relations, BEN, ANN, "invite") == ("contact", 2)
    await act(relations, ANN, CEM, "invite")
    assert await act(relations, CEM, ANN, "invite", 1) == ("contact", 2)
    made = await asyncio.gather(
        act(relations, BEN, CEM, "invite"), act(relations, CEM, BEN, "invite")
    )

    assert sorted(made) == [("contact", 2), ("invited", 1)]
    assert await view(relations, BEN, CEM) == await view(relations, CEM, BEN) == ("contact", 2)


async def test_who_knows_an_older_view_is_told(relations):
    """Nothing is changed then; a version that does not exist yet is none either."""
    await act(relations, ANN, BEN, "invite")
    for user, action, version in ((ANN, "invite", 0), (ANN, "cancel", 0), (BEN, "accept", 2)):
        assert await refusal(act(relations, user, ANN + BEN - user, action, version)) == "stale"

    assert await view(relations, ANN, BEN) == ("invited", 1)


@pytest.mark.parametrize("action", ["accept", "cancel", "decline", "remove"])
async def test_an_action_that_does_not_fit_the_state_is_malformed(relations, action):
    """There is nothing to end or accept."""
    assert await refusal(act(relations, ANN, BEN, action)) == "malformed"
    await act(relations, ANN, BEN, "invite")
    if action != "cancel":
        assert await refusal(act(relations, ANN, BEN, action, 1)) == "malformed"
    assert await refusal(act(relations, ANN, BEN, "invite", 1)) == "malformed"


async def test_unknown_users_are_neither_invited_nor_blocked(relations):
    """They do not exist."""
    assert await refusal(act(relations, ANN, NONE, "invite")) == "unknown_user"
    assert await refusal(relations.block(ANN, NONE, now_ms=NOW_MS)) == "unknown_user"
    await relations.unblock(ANN, NONE, now_ms=NOW_MS)


async def test_a_block_stops_invitations_both_ways_and_changes_no_contact(relations):
    """Who blocks is told so; the other one is told nothing but that it is not allowed."""
    await act(relations, ANN, BEN, "invite")
    await relations.block(BEN, ANN, now_ms=NOW_MS)
    await relations.block(BEN, CEM, now_ms=NOW_MS)

    assert await refusal(act(relations, CEM, BEN, "invite")) == "forbidden"
    assert await refusal(act(relations, BEN, CEM, "invite")) == "blocked"
    assert await refusal(act(relations, BEN, ANN, "accept", 1)) == "blocked"
    assert await act(relations, ANN, BEN, "cancel", 1) == ("none", 2)
    await relations.unblock(BEN, CEM, now_ms=NOW_MS)
    assert await act(relations, CEM, BEN, "invite") == ("invited", 1)


async def test_blocks_are_listed_and_repeats_change_nothing(relations):
    """By id, in parts."""
    for other in (CEM, BEN, CEM):
        await relations.block(ANN, other, now_ms=NOW_MS)

    assert await relations.blocks(ANN, after=0, limit=1) == ([BEN], True)
    assert await relations.blocks(ANN, after=BEN, limit=1) == ([CEM], False)
    assert await relations.blocks(BEN, after=0, limit=9) == ([], False)
    for _ in range(2):
        await relations.unblock(ANN, BEN, now_ms=NOW_MS)
    assert await relations.blocks(ANN, after=0, limit=9) == ([CEM], False)


async def test_contacts_are_listed_in_parts(relations):
    """By id; no user sees those of others."""
    for other in (CEM, BEN):
        await act(relations, ANN, other, "invite")

    first, more = await relations.contacts(ANN, after=0, limit=1)
    rest, end = await relations.contacts(ANN, after=first[0].other, limit=1)
    assert (first, more) == ([Contact(ANN, BEN, "invited", 1)], True)
    assert (rest, end) == ([Contact(ANN, CEM, "invited", 1)], False)
    assert await relations.contacts(ANN, after=LATEST, limit=9) == ([], False)


async def test_privacy_is_as_given_until_it_is_changed(relations):
    """A change needs the newest version; of two at once one is done."""
    assert await relations.privacy(ANN) == Privacy("everyone", True, "contacts", 0)
    changed = Privacy("contacts", receipts=False, last_seen="none", version=1)
    done = await asyncio.gather(
        *(relations.change_privacy(ANN, changed, now_ms=NOW_MS) for _ in range(2))
    )

    assert sorted(done) == [False, True]
    assert await relations.privacy(ANN) == changed
    assert not await relations.change_privacy(BEN, Privacy(version=2), now_ms=NOW_MS)


async def test_pairs_are_seen_from_their_first_user(relations):
    """All that decides who may write to whom, in one question."""
    await relations.block(ANN, BEN, now_ms=NOW_MS)
    await relations.change_privacy(CEM, Privacy("contacts", False, "none", 1), now_ms=NOW_MS)
    await act(relations, ANN, CEM, "invite")
    await act(relations, CEM, ANN, "accept", 1)
    blocking, private = Side(True, blocks=True), Side(True, False, "contacts", False, "none")

    assert await relations.between([(ANN, BEN), (BEN, ANN), (ANN, CEM), (CEM, BEN)]) == {
        (ANN, BEN): Relation(blocking, Side(True)),
        (BEN, ANN): Relation(Side(True), blocking),
        (ANN, CEM): Relation(Side(True), private, contact=True, met=True),
        (CEM, BEN): Relation(private, Side(True)),
    }
    assert await relations.between([(ANN, NONE)]) == {
        (ANN, NONE): Relation(Side(True), Side(exists=False))
    }
    assert await relations.between([]) == {}


async def test_who_was_a_contact_is_no_stranger(relations):
    """Whatever comes after it; an invitation alone makes none."""
    await act(relations, ANN, BEN, "invite")
    invited = await relations.between([(ANN, BEN), (BEN, ANN)])
    await act(relations, BEN, ANN, "accept", 1)
    await act(relations, ANN, BEN, "remove", 2)
    await act(relations, BEN, ANN, "invite")

    stranger, known = (Relation(Side(True), Side(True), met=met) for met in (False, True))
    assert invited == {(ANN, BEN): stranger, (BEN, ANN): stranger}
    assert await relations.between([(ANN, BEN), (BEN, ANN)]) == {
        (ANN, BEN): known,
        (BEN, ANN): known,
    }


def test_a_relation_has_two_sides():
    """A block counts for both; who may write is what the other one has chosen."""
    shut, here = Side(True, who_may_write="contacts"), Side(True)

    assert Relation(here, shut).seen_by_other == Relation(shut, here)
    assert (Relation(here, shut).hears_me, Relation(shut, here).hears_me) == (False, True)
    assert Relation(here, shut, contact=True).hears_me
    assert not Relation(here, shut, met=True).hears_me
    for one in (Relation(here, Side(True, blocks=True)), Relation(Side(True, blocks=True), here)):
        assert one.has_block
    assert not Relation(here, here).has_block


async def test_changes_are_found_by_their_time(relations):
    """Of both sides of a contact, and of who blocks, unblocks or changes privacy."""
    await act(relations, ANN, BEN, "invite", now_ms=NOW_MS)
    await relations.block(CEM, ANN, now_ms=NOW_MS + 1)

    assert await relations.changed(NOW_MS) == {ANN: NOW_MS, BEN: NOW_MS, CEM: NOW_MS + 1}
    assert await relations.changed(NOW_MS + 1) == {CEM: NOW_MS + 1}
    await relations.unblock(CEM, ANN, now_ms=NOW_MS + 2)
    await relations.change_privacy(ANN, Privacy(version=1), now_ms=NOW_MS + 3)
    await relations.block(ANN, BEN, now_ms=NOW_MS)  # its clock is behind
    assert await relations.changed(NOW_MS + 2) == {ANN: NOW_MS + 4, CEM: NOW_MS + 2}
    await relations.unblock(ANN, BEN, now_ms=NOW_MS + 4)  # in the same millisecond
    assert await relations.changed(NOW_MS + 3) == {ANN: NOW_MS + 5}


async def test_what_both_sides_have_to_hear_waits_until_the_log_has_it(relations):
    """As it is now; what has changed meanwhile waits again."""
    await act(relations, ANN, BEN, "invite")
    waiting = await relations.unpublished(limit=9)
    assert waiting == [Contact(ANN, BEN, "invited", 1), Contact(BEN, ANN, "invited_me", 1)]
    await relations.mark_published(waiting[:1])
    await act(relations, BEN, ANN, "accept", 1)
    await relations.mark_published(waiting)

    waiting = await relations.unpublished(limit=9)
    assert waiting == [Contact(ANN, BEN, "contact", 2), Contact(BEN, ANN, "contact", 2)]
    delivery = waiting[0].delivery
    assert (delivery.users, delivery.contact.user) == ([ANN], BEN)
    assert (delivery.contact.state, delivery.contact.version) == ("contact", 2)
    await relations.mark_published(waiting)
    assert await relations.unpublished(limit=9) == []
    await relations.mark_published([])


async def test_changes_and_their_publishing_do_not_wait_for_each_other(relations):
    """Both touch the two rows of a pair, in one order; else a database would end one of them after
    a second.
    """
    for version in range(25):
        waiting = await relations.unpublished(limit=9)
        action = "cancel" if version % 2 else "invite"
        await asyncio.gather(
            act(relations, BEN, ANN, action, version),
            *(relations.mark_published(waiting) for _ in range(3)),
        )

    assert await view(relations, BEN, ANN) == ("invited", 25)


async def test_hidden_receipts_are_those_of_privacy_and_blocks(relations):
    """Among the users who are asked for; each is hidden from both sides."""
    await relations.block(ANN, BEN, now_ms=NOW_MS)
    await relations.block(BEN, CEM, now_ms=NOW_MS)
    await relations.change_privacy(CEM, Privacy(receipts=False, version=1), now_ms=NOW_MS)
    await relations.change_privacy(BEN, Privacy("contacts", version=1), now_ms=NOW_MS)
    hidden = await relations.hidden_receipts([ANN, BEN, CEM, NONE])

    assert hidden == HiddenReceipts(frozenset({CEM}), frozenset({(ANN, BEN), (BEN, CEM)}))
    pairs = ((ANN, BEN), (BEN, ANN), (CEM, NONE), (BEN, CEM))
    assert all(hidden.between(*pair) for pair in pairs)
    assert not hidden.between(ANN, NONE)
    assert hidden.among({ANN, CEM}) == HiddenReceipts(frozenset({CEM}), frozenset())
    nothing = HiddenReceipts(frozenset(), frozenset())
    assert await relations.hidden_receipts([]) == nothing
    assert await relations.hidden_receipts([ANN, NONE]) == nothing
