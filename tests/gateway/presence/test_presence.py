"""How users are, as those are told who watch them. Source: protocol.md section 2."""

import asyncio
from dataclasses import replace

import pytest

from gateway.presence.visibility import Visibility
from schemas import frames
from schemas.codec import CODECS, MSGPACK
from schemas.ids import time_text
from schemas.kinds.presence import Presence
from tests.gateway.presence.conftest import TIMING
from tests.gateway.presence.heard import ANN, BEN, CAT, SameForAll, error, told
from tests.gateway.wire import Wire


async def test_who_watches_is_told_how_all_are(here):
    """Online, and offline; in both encodings, after `ok`."""
    here.connect(BEN)
    connection, wire = here.connect(ANN)
    wire.take()
    here.say(connection, {"type": "watch", "users": [str(BEN), str(CAT)], "id": 7})
    assert [(type(one), one.re) for one in wire.take()] == [(frames.Ok, 7)]
    packed = Wire(CODECS[MSGPACK])
    await here.watching(ANN, CAT, device="tablet", codec=MSGPACK, wire=packed)

    assert sorted(told(wire)) == [(BEN, "online"), (CAT, "offline")]


async def test_a_change_is_told(here):
    """Ben comes, and stays away; when he was last here is told then."""
    _, wire = await here.watching(ANN, BEN)
    ben, _ = here.connect(BEN)
    await here.passes(2)
    assert told(wire) == [(BEN, "online")]

    ben.on_close(1000, "")
    left_ms = here.at.clock.now_ms() + 250
    await here.passes(9)
    assert told(wire) == []
    await here.passes(3)

    (offline,) = wire.take()
    assert (offline.state, offline.last_seen) == ("offline", time_text(left_ms))


async def test_one_who_comes_back_at_once_was_never_away(here):
    """A lost connection is no news."""
    ben, _ = here.connect(BEN)
    _, wire = await here.watching(ANN, BEN)
    for _ in range(5):
        here.at.hub.remove(ben)
        await here.passes(4)
        ben, _ = here.connect(BEN)
        await here.passes(4)

    assert told(wire) == []


async def test_a_user_without_a_frame_for_five_minutes_is_away(here):
    """Pings and pongs do not count; the next frame does."""
    ben, _ = here.connect(BEN)
    _, wire = await here.watching(ANN, BEN)
    for _ in range(11):
        await here.passes(30)
        ben.on_activity()
        here.say(ben, {"type": "ping"})
    assert told(wire) == [(BEN, "away")]

    here.say(ben, {"type": "presence", "state": "online"})
    await here.passes(2)

    assert told(wire) == [(BEN, "online")]


async def test_what_a_user_declares_is_told(here):
    """The last word of any device counts, for all of them; a text is told with it."""
    phone, _ = here.connect(BEN, "phone")
    tablet, tablet_wire = here.connect(BEN, "tablet")
    tablet_wire.take()
    _, wire = await here.watching(ANN, BEN)

    here.say(phone, {"type": "presence", "state": "busy", "text": "in a meeting", "id": 3})
    here.say(tablet, {"type": "presence", "state": "away", "id": 4})
    await here.passes(2)
    assert told(wire) == [(BEN, "away")]
    assert [one.re for one in tablet_wire.take()] == [4]
    here.say(phone, {"type": "presence", "state": "busy", "text": "in a meeting"})
    await here.passes(2)

    (busy,) = wire.take()
    assert (busy.state, busy.text) == ("busy", "in a meeting")
    here.say(phone, {"type": "presence", "state": "asleep", "id": 5})
    here.say(phone, {"type": "presence", "state": "busy", "text": "x" * 129, "id": 6})


async def test_one_who_is_invisible_is_shown_as_offline(here):
    """With the time of going, not that of being there; a reconnect does not show it."""
    ben, _ = here.connect(BEN)
    _, wire = await here.watching(ANN, BEN)
    here.say(ben, {"type": "presence", "state": "invisible"})
    gone = time_text(here.at.clock.now_ms())
    await here.passes(2)
    (offline,) = wire.take()
    assert (offline.state, offline.last_seen) == ("offline", gone)

    await here.passes(60)
    here.at.hub.remove(ben)
    await here.passes(3)
    ben, _ = here.connect(BEN)
    await here.passes(3)
    here.at.hub.remove(ben)
    await here.passes(20)

    assert told(wire) == []


async def test_one_who_says_so_at_once_is_never_shown(here):
    """`presence` right behind `hello`."""
    _, wire = await here.watching(ANN, BEN)
    ben, _ = here.connect(BEN)
    await here.passes(0.5)
    here.say(ben, {"type": "presence", "state": "invisible"})
    await here.passes(20)

    assert {state for _, state in told(wire)} <= {"offline"}


async def test_when_one_who_is_never_shown_was_here_last_does_not_change(here):
    """It would tell that the user is here: not when such a user comes, nor after."""
    ben, _ = here.connect(BEN)
    await here.passes(5)
    here.at.hub.remove(ben)
    left = time_text(here.at.clock.now_ms() + 250)
    await here.passes(400)
    here.presence.forget(here.at.clock.now_s)
    connection, wire = here.connect(ANN)
    here.say(connection, {"type": "watch", "users": [str(BEN)]})
    await here.passes(2)
    assert [one.last_seen for one in wire.take() if isinstance(one, Presence)] == [left]

    ben, _ = here.connect(BEN)
    here.say(ben, {"type": "presence", "state": "invisible"})
    await here.passes(60)
    here.at.hub.remove(ben)
    await here.passes(60)
    assert told(wire) == []
    here.say(connection, {"type": "watch", "users": [str(BEN)]})
    await here.passes(2)

    assert [one.last_seen for one in wire.take() if isinstance(one, Presence)] == [left]


async def test_a_device_that_comes_again_and_again_holds_up_no_other(here):
    """Each time in the place of its session: the user came once, and others after that."""
    _, wire = await here.watching(ANN, BEN, CAT)
    here.connect(BEN)
    here.connect(CAT)
    for _ in range(4):
        await here.passes(0.5)
        here.connect(BEN)

    assert sorted(told(wire)) == [(BEN, "online"), (CAT, "online")]


async def test_what_a_session_in_the_background_declares_ends(here):
    """Five minutes later, as that of a user who has left."""
    _, wire = await here.watching(ANN, BEN)
    background, _ = here.connect(BEN, background=True)
    here.say(background, {"type": "presence", "state": "busy"})
    await here.passes(301)
    here.presence.forget(here.at.clock.now_s)
    here.connect(BEN, "tablet")
    await here.passes(3)

    assert told(wire) == [(BEN, "online")]


async def test_sessions_in_the_background_neither_count_nor_are_told(here):
    """They wake up for messages, without their user."""
    here.connect(BEN, background=True)
    connection, wire = here.connect(ANN, background=True)
    wire.take()
    here.say(connection, {"type": "watch", "users": [str(BEN)], "id": 1})
    _, desk = await here.watching(CAT, BEN)
    here.connect(BEN, "tablet")
    await here.passes(3)

    assert told(desk) == [(BEN, "online")]
    assert [type(one) for one in wire.take()] == [frames.Ok]


async def test_the_101st_is_too_many(here):
    """Nothing has changed then; one that is watched already is none more."""
    connection, wire = here.connect(ANN)
    here.say(connection, {"type": "watch", "users": [str(user) for user in range(1, 100)]})
    here.say(connection, {"type": "watch", "users": ["99", "100"]})
    wire.take()

    here.say(connection, {"type": "watch", "users": ["5", "101"], "id": 8})
    assert error(wire) == ("too_many", 8)
    here.say(connection, {"type": "watch", "users": [str(user) for user in range(1, 102)]})
    assert error(wire)[0] == "too_many"
    here.say(connection, {"type": "unwatch", "users": ["1", "7777"], "id": 9})
    here.say(connection, {"type": "watch", "users": ["101"], "id": 10})
    assert [one.re for one in wire.take()] == [9, 10]
    here.say(connection, {"type": "watch", "users": ["zero"], "id": 11})
    assert error(wire) == ("malformed", 11)


async def test_who_no_longer_watches_is_told_nothing(here):
    """By `unwatch`, or since the session has ended; the owner's lease ends by itself."""
    ben, _ = here.connect(BEN)
    connection, wire = await here.watching(ANN, BEN, CAT)
    other, _ = await here.watching(44, BEN)
    assert len(here.presence._subjects) == 2
    here.say(connection, {"type": "unwatch", "users": [str(BEN)]})
    here.at.hub.remove(other)
    here.at.hub.remove(ben)
    await here.passes(20)
    assert told(wire) == []

    here.at.hub.remove(connection)
    await here.passes(330)

    assert len(here.presence._subjects) == 0


async def test_all_changes_of_a_second_are_one_message(here, monkeypatch):
    """However many there are: the newest of each, at most 64."""
    users = range(1_000, 1_100)
    connection, wire = here.connect(ANN)
    messages = []
    monkeypatch.setattr(wire, "send", lambda payload, text: messages.append(payload))
    here.say(connection, {"type": "watch", "users": [str(user) for user in users]})
    await here.passes(15)
    messages.clear()

    for user in users:
        here.connect(user)
    sessions = [here.connect(user, "tablet")[0] for user in users]
    for state in ("busy", "away", "busy"):
        for session in sessions:
            here.say(session, {"type": "presence", "state": state})
    for _ in range(4):
        count = len(messages)
        await here.passes(1)
        assert len(messages) - count <= 1

    counts = [len(wire.codec.split(message)) for message in messages]
    assert max(counts) == 64
    assert sum(counts) == 100


async def test_a_slow_session_is_told_the_newest_later(here):
    """It waits for nothing else, and nothing is piled up for it."""
    ben, _ = here.connect(BEN)
    _, wire = await here.watching(ANN, BEN)
    wire.buffered_bytes = 1
    for state in ("busy", "away"):
        here.say(ben, {"type": "presence", "state": state})
        await here.passes(3)
    assert told(wire) == []

    wire.buffered_bytes = 0
    await here.passes(2)

    assert told(wire) == [(BEN, "away")]


@pytest.mark.parametrize(
    ("visibility", "state", "seen"),
    [
        (Visibility.NOTHING, "offline", False),
        (Visibility.STATE, "online", False),
        (Visibility.ALL, "online", True),
    ],
)
async def test_what_may_not_be_seen_is_not_told(gateways, visibility, state, seen):
    """A block hides everything, that there was a change too; the privacy setting when a user was
    last here.
    """
    here = gateways(rules=SameForAll(visibility))
    await here.passes(11)
    connection, wire = here.connect(ANN)
    ben, _ = here.connect(BEN)
    here.say(connection, {"type": "watch", "users": [str(BEN)]})
    await here.passes(3)
    assert told(wire) == [(BEN, state)]
    here.say(ben, {"type": "presence", "state": "busy"})
    await here.passes(2)
    assert told(wire) == ([] if visibility is Visibility.NOTHING else [(BEN, "busy")])
    here.at.hub.remove(ben)
    await here.passes(12)

    offline = [one for one in wire.take() if isinstance(one, Presence)]
    assert [one.state for one in offline] == (
        [] if visibility is Visibility.NOTHING else ["offline"]
    )
    assert any(one.last_seen is not frames.UNSET for one in offline) is seen


async def test_nothing_is_told_before_it_is_known_who_may_see(gateways):
    """The answer is waited for."""
    rules = SameForAll(Visibility.ALL)
    rules.known.clear()
    here = gateways(rules=rules)
    here.connect(BEN)
    _, wire = await here.watching(ANN, BEN)
    assert told(wire) == []

    rules.known.set()
    await here.passes(2)

    assert told(wire) == [(BEN, "online")]


async def test_a_device_that_comes_back_is_not_asked_for_again(gateways):
    """What it could see is remembered for a minute; all that reconnect are no question."""
    rules = SameForAll(Visibility.ALL)
    here = gateways(rules=rules)
    await here.passes(61)
    here.connect(BEN)
    ann, wire = await here.watching(ANN, BEN)
    for seconds in (5, 70):
        here.at.hub.remove(ann)
        await here.passes(seconds)
        ann, wire = here.connect(ANN, "desk")
        here.say(ann, {"type": "watch", "users": [str(BEN)]})
        await here.passes(2)
        assert told(wire) == [(BEN, "online")]

    assert rules.asked == [(ANN, BEN)] * 2


@pytest.mark.parametrize("who", [ANN, BEN])
async def test_a_block_hides_at_once(gateways, who):
    """Whichever side has changed something is asked for again, also if it came back meanwhile."""
    rules = SameForAll(Visibility.ALL)
    here = gateways(rules=rules, timing=replace(TIMING, visibility_interval_s=0.01))
    await here.passes(61)
    here.connect(BEN)
    ann, wire = await here.watching(ANN, BEN)

    rules.visibility, rules.changes = Visibility.NOTHING, {who: 7}
    await asyncio.sleep(0.1)
    await here.passes(2)
    assert told(wire) == [(BEN, "offline")]
    here.at.hub.remove(ann)
    rules.visibility = Visibility.ALL
    await here.passes(1)
    ann, wire = here.connect(ANN, "desk")
    here.say(ann, {"type": "watch", "users": [str(BEN)]})
    await here.passes(2)

    assert told(wire) == [(BEN, "online")]
    assert len(rules.asked) == 3
