"""`typing` in direct chats: to the other user's sessions, at once and now only. Source: protocol.md
section 2.
"""

import asyncio
from dataclasses import replace

import pytest

from gateway.presence.visibility import Visibility
from schemas import frames
from schemas.kinds.is_typing import IsTyping
from tests.gateway.presence.conftest import TIMING
from tests.gateway.presence.heard import ANN, BEN, CAT, SameForAll, error, heard

CHAT = f"d-{ANN}-{BEN}"
OTHER_CHAT = f"d-{ANN}-{CAT}"
TYPING = {"type": "typing", "chat": CHAT}


async def test_the_other_users_sessions_are_told(here):
    """All of them, and none of one's own; there is no reply, with an id neither."""
    ann, mine = here.connect(ANN)
    wires = [here.connect(ANN, "desk")[1], *(here.connect(BEN, name)[1] for name in ("a", "b"))]
    mine.take()
    here.say(ann, {**TYPING, "id": 1})
    await here.passes(1)

    assert [heard(wire) for wire in wires] == [[], [(CHAT, str(ANN))], [(CHAT, str(ANN))]]
    assert mine.take() == []


async def test_it_is_told_every_two_seconds_at_most(here):
    """A client that says it with each key tells the others no more than one that does not."""
    ann, _ = here.connect(ANN)
    _, wire = here.connect(BEN)
    for _ in range(40):
        here.say(ann, TYPING)
        await here.passes(0.25)

    assert len(heard(wire)) == 5


async def test_it_is_dropped_where_it_would_wait(here):
    """For a slow session, and for one in the background."""
    ann, _ = here.connect(ANN)
    _, slow = here.connect(BEN)
    _, background = here.connect(BEN, "tablet", background=True)
    slow.buffered_bytes = 1
    here.say(ann, TYPING)
    await here.passes(1)
    slow.buffered_bytes = 0
    await here.passes(3)

    assert (heard(slow), heard(background)) == ([], [])


async def test_one_who_is_blocked_types_unseen(gateways):
    """The pair is asked once a minute."""
    rules = SameForAll(Visibility.NOTHING)
    here = gateways(rules=rules)
    ann, _ = here.connect(ANN)
    _, wire = here.connect(BEN)
    for _ in range(4):
        here.say(ann, TYPING)
        await here.passes(5)

    assert heard(wire) == []
    assert rules.asked == [(BEN, ANN)]


@pytest.mark.parametrize(
    ("chat", "code"), [(f"d-{BEN}-{CAT}", "unknown_chat"), ("nonsense", "malformed")]
)
async def test_a_chat_that_is_not_mine_is_an_error(here, chat, code):
    """As for a message."""
    ann, wire = here.connect(ANN)
    wire.take()
    here.say(ann, {"type": "typing", "chat": chat, "id": 4})

    assert error(wire) == (code, 4)


async def test_alone_it_tells_no_one(here):
    """In the chat with oneself; that is no error."""
    ann, wire = here.connect(ANN)
    wire.take()
    here.say(ann, {"type": "typing", "chat": f"d-{ANN}-{ANN}"})
    await here.passes(1)

    assert [one for one in wire.take() if isinstance(one, frames.Error | IsTyping)] == []


async def test_one_who_is_invisible_types_unseen(here):
    """Who is shown as offline cannot be typing."""
    ann, _ = here.connect(ANN)
    _, wire = here.connect(BEN)
    here.say(ann, {"type": "presence", "state": "invisible"})
    here.say(ann, TYPING)
    await here.passes(3)
    assert heard(wire) == []

    here.say(ann, {"type": "presence", "state": "online"})
    here.say(ann, TYPING)
    await here.passes(1)

    assert heard(wire) == [(CHAT, str(ANN))]


@pytest.mark.parametrize("who", [ANN, BEN])
async def test_a_block_counts_while_it_is_asked(gateways, who):
    """An answer from before it, which comes after it, is forgotten; that of others stays."""
    rules = SameForAll(Visibility.ALL)
    here = gateways(rules=rules, timing=replace(TIMING, visibility_interval_s=0.01))
    ann, _ = here.connect(ANN)
    wires = [here.connect(user)[1] for user in (BEN, CAT)]
    rules.known.clear()
    for chat in (CHAT, OTHER_CHAT):
        here.say(ann, {"type": "typing", "chat": chat})
    await here.passes(1)
    rules.changes = {who: 7}
    await asyncio.sleep(0.1)
    rules.known.set()
    await here.passes(1)
    rules.visibility = Visibility.NOTHING
    for chat in (CHAT, OTHER_CHAT):
        await here.passes(3)
        here.say(ann, {"type": "typing", "chat": chat})
    await here.passes(1)

    again = [(BEN, ANN), (CAT, ANN)][: 1 if who == BEN else 2]
    assert sorted(rules.asked) == sorted([(BEN, ANN), (CAT, ANN), *again])
    heard_cat = [(OTHER_CHAT, str(ANN))] * (2 if who == BEN else 1)
    assert [heard(wire) for wire in wires] == [[(CHAT, str(ANN))], heard_cat]


async def test_what_waited_too_long_is_not_told(gateways):
    """It is over after six seconds."""
    rules = SameForAll(Visibility.ALL)
    here = gateways(rules=rules)
    ann, _ = here.connect(ANN)
    _, wire = here.connect(BEN)
    rules.known.clear()
    here.say(ann, TYPING)
    await here.passes(7)
    rules.known.set()
    await here.passes(1)

    assert heard(wire) == []
