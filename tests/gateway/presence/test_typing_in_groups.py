"""`typing` in groups: to members who look at the group, as far as they may see who types. Source:
protocol.md section 2.
"""

import pytest

from gateway.presence.notifications import ATTENDED_S, INTERVAL_S, MAX_NOTIFYING
from gateway.presence.visibility import Visibility
from schemas.errors import Unavailable
from schemas.kinds.newer import MAX_WITH_BODY
from tests.gateway.presence.heard import ANN, BEN, CAT, SameForAll, heard

CHAT = "g-5"
TYPING = {"type": "typing", "chat": CHAT}
TOLD = [(CHAT, str(ANN))]


@pytest.fixture
async def walks(group):
    """A group of three; the change of a user."""
    return await group(CHAT, ANN, BEN, CAT)


async def looking(gateway, *users):
    """A session of each, which looks at the group by typing there; what it was told is taken."""
    sessions = [gateway.connect(user) for user in users]
    for connection, _ in sessions:
        gateway.say(connection, TYPING)
    await gateway.passes(INTERVAL_S + 0.5)
    for _, wire in sessions:
        wire.take()
    return sessions


async def test_members_who_look_at_the_group_are_told(here, walks):
    """On all devices; others are not, nor the user's own devices, nor who is no member."""
    (ann, mine), (_, bens), (_, strangers) = await looking(here, ANN, BEN, 99)
    _, desk = here.connect(BEN, "desk")
    _, elsewhere = here.connect(CAT)
    _, own = here.connect(ANN, "desk")
    here.say(ann, {**TYPING, "id": 1})
    await here.passes(1)

    wires = (bens, desk, strangers, elsewhere, own)
    assert [heard(wire) for wire in wires] == [TOLD, TOLD, [], [], []]
    assert mine.take() == []


async def test_who_looked_at_it_five_minutes_ago_is_not_told(here, walks):
    """Until the user does so again, in whichever way."""
    (ann, _), (ben, wire) = await looking(here, ANN, BEN)
    await here.passes(ATTENDED_S - INTERVAL_S - 2)
    here.say(ann, TYPING)
    await here.passes(INTERVAL_S)
    assert heard(wire) == TOLD
    here.say(ann, TYPING)
    await here.passes(INTERVAL_S)
    assert heard(wire) == []

    here.presence.on_attended(ben, CHAT)
    here.say(ann, TYPING)
    await here.passes(1)

    assert heard(wire) == TOLD


async def test_a_session_in_the_background_looks_at_nothing(here, walks):
    """Such a one marks what it was woken up for, without its user."""
    (ann, _) = (await looking(here, ANN))[0]
    _, wire = here.connect(BEN)
    background, _ = here.connect(BEN, "tablet", background=True)
    here.presence.on_attended(background, CHAT)
    here.say(ann, TYPING)
    await here.passes(1)

    assert heard(wire) == []


async def test_a_member_who_was_removed_is_told_no_more(here, backends, walks):
    """Within five seconds, and types unseen."""
    (ann, anns), (ben, bens) = await looking(here, ANN, BEN)
    await backends.groups.remove(CHAT, BEN, walks(ANN))
    await here.passes(4)
    here.say(ann, TYPING)
    here.say(ben, TYPING)
    await here.passes(1)

    assert (heard(anns), heard(bens)) == ([], [])


async def test_who_may_not_write_types_unseen(here, backends, walks):
    """A reader, and who is no member; a reader is told."""
    (ann, anns), (ben, bens), (stranger, _) = await looking(here, ANN, BEN, 99)
    await backends.groups.set_role(CHAT, BEN, "reader", walks(ANN))
    await here.passes(5)
    for connection in (ben, stranger, ann):
        here.say(connection, TYPING)
    await here.passes(1)

    assert (heard(anns), heard(bens)) == ([], TOLD)


async def test_there_is_no_such_group(here):
    """It is not told, and no error: whether a group exists is known to its members alone."""
    (ann, wire), _ = await looking(here, ANN, BEN)
    here.say(ann, {**TYPING, "id": 4})
    await here.passes(1)

    assert wire.take() == []


async def test_members_who_have_blocked_each_other_type_unseen(gateways, walks):
    """As in a direct chat; the receiver's gateway asks, for those who look."""
    rules = SameForAll(Visibility.NOTHING)
    here = gateways(rules=rules)
    (ann, _), (_, wire) = await looking(here, ANN, BEN)
    here.say(ann, TYPING)
    await here.passes(1)

    assert heard(wire) == []
    assert sorted(rules.asked) == [(ANN, BEN), (BEN, ANN)]


@pytest.mark.parametrize(("members", "told"), [(MAX_WITH_BODY, TOLD), (MAX_WITH_BODY + 1, [])])
async def test_in_a_group_that_is_too_large_it_is_not_told(here, group, members, told):
    """Where members get `newer` instead of messages."""
    await group(CHAT, ANN, *range(1_000, 999 + members))
    (ann, _), (_, wire) = await looking(here, ANN, 1_000)
    here.say(ann, TYPING)
    await here.passes(1)

    assert heard(wire) == told


async def test_of_a_busy_group_some_are_told(here, group):
    """Clients show that several are typing: more would fill the log."""
    users = range(100, 130)
    await group(CHAT, ANN, *users)
    (_, wire), *others = await looking(here, ANN, *users)
    for connection, _ in others:
        here.say(connection, TYPING)
    await here.passes(1)

    assert len(heard(wire)) == MAX_NOTIFYING


class Unanswered:
    """Groups whose database does not answer."""

    async def rosters(self, _known):
        raise Unavailable("away")


async def test_without_the_database_it_is_not_told(gateways):
    """Who is in the group is not known; direct chats go on."""
    here = gateways(groups=Unanswered())
    (ann, _), (_, wire) = await looking(here, ANN, BEN)
    here.say(ann, TYPING)
    here.say(ann, {"type": "typing", "chat": f"d-{ANN}-{BEN}"})
    await here.passes(1)

    assert heard(wire) == [(f"d-{ANN}-{BEN}", str(ANN))]
