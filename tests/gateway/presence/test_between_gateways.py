"""Presence and typing between two gateways, through the log; without the log, and without the
cache. Source: docs/decisions/0059.
"""

import asyncio

import pytest

from backends.cache.embedded import EmbeddedCache
from gateway.presence.ephemeral_batcher import (
    MAX_NOTIFIED,
    MAX_PRESENCES,
    MAX_WATCHED,
    EphemeralBatcher,
)
from gateway.presence.last_seen import MAX_AT_ONCE
from schemas import chat_pb2 as pb
from schemas import cloudevents, frames
from schemas.errors import Unavailable
from schemas.ids import direct_chat, time_text
from schemas.kinds.presence import Presence
from schemas.topics import ANSWERS_GIVEN, MAX_RECORD_BYTES, SESSION_DELIVERIES, user_partition
from tests.gateway.presence.conftest import OFFLINE_AFTER_S
from tests.gateway.presence.heard import heard, told

WRITTEN_S = 0.3
"""So long a test waits for what gateways write after their interval."""
ANN = next(user for user in range(10, 99) if user_partition(user, 2) == 0)
BEN, CAT = [user for user in range(10, 99) if user_partition(user, 2) == 1][:2]


class Between:
    """Hands over what the log has for each of these gateways: partition -> gateway."""

    def __init__(self, backends, gateways):
        self._backends, self._gateways = backends, gateways
        self._offsets = dict.fromkeys(gateways, 0)
        self.records = 0

    async def passes(self, seconds):
        """Time passes at both, and what each writes comes to the other."""
        for _ in range(round(seconds / 2)):
            for gateway in {id(one): one for one in self._gateways.values()}.values():
                await gateway.passes(2)
            await asyncio.sleep(WRITTEN_S)
            for partition, gateway in self._gateways.items():
                records = await self._backends.reads.read(
                    SESSION_DELIVERIES, partition, self._offsets[partition], max_records=1_000
                )
                self._offsets[partition] += len(records)
                self.records += len(records)
                for record in records:
                    event = cloudevents.from_kafka(record.headers, record.value)
                    assert event.type == ANSWERS_GIVEN.type
                    for answer in cloudevents.parse(event, pb.Answers).answers:
                        gateway.presence.on_answer(answer, gateway.at.clock.now_ms())


@pytest.fixture
async def apart(gateways, backends):
    """Ann's gateway, Ben's, and what is between them."""
    ann, ben = gateways(served=frozenset({0})), gateways(served=frozenset({1}))
    for gateway in (ann, ben):
        await gateway.passes(OFFLINE_AFTER_S + 1)
    return ann, ben, Between(backends, {0: ann, 1: ben})


async def test_a_user_of_another_gateway_is_watched(apart):
    """How that user is, and each change, in a few records."""
    ann, ben, between = apart
    there, _ = ben.connect(BEN)
    connection, wire = ann.connect(ANN)
    ann.say(connection, {"type": "watch", "users": [str(BEN), str(CAT)]})
    await between.passes(8)
    assert sorted(told(wire)) == [(BEN, "online"), (CAT, "offline")]

    ben.say(there, {"type": "presence", "state": "busy"})
    await between.passes(4)
    assert told(wire) == [(BEN, "busy")]

    assert between.records == 3


async def test_typing_comes_to_another_gateway(apart):
    """Within a second, in one record."""
    ann, ben, between = apart
    connection, _ = ann.connect(ANN)
    _, wire = ben.connect(BEN)
    chat = direct_chat(ANN, BEN)
    ann.say(connection, {"type": "typing", "chat": chat})
    await between.passes(4)

    assert (heard(wire), between.records) == ([(chat, str(ANN))], 1)


async def test_typing_in_a_group_comes_to_another_gateway(apart, group):
    """For all of its users in one record; those who look at the group see it."""
    ann, ben, between = apart
    await group("g-5", ANN, BEN, CAT)
    connection, _ = ann.connect(ANN)
    there, wire = ben.connect(BEN)
    _, elsewhere = ben.connect(CAT)
    ben.presence.on_attended(there, "g-5")
    ann.say(connection, {"type": "typing", "chat": "g-5"})
    await between.passes(4)

    assert (heard(wire), heard(elsewhere)) == ([("g-5", str(ANN))], [])
    assert between.records == 1


async def test_a_gateway_that_took_over_is_asked_anew(gateways, backends):
    """The new owner of a partition knows of no watch; within a minute it does. Until its users can
    have come back it says nothing, so that none of them flaps.
    """
    ann, old, new = (gateways(served=frozenset({number})) for number in (0, 1, 1))
    for gateway in (ann, old):
        await gateway.passes(11)
    old.connect(BEN)
    connection, wire = ann.connect(ANN)
    ann.say(connection, {"type": "watch", "users": [str(BEN)]})
    await Between(backends, {0: ann, 1: old}).passes(8)
    assert told(wire) == [(BEN, "online")]

    between = Between(backends, {0: ann, 1: new})
    await between.passes(2)
    between.records = 0
    new.presence.tick(new.at.clock.now_s)
    await ann.passes(60)
    await between.passes(2)
    assert told(wire) == []
    there, _ = new.connect(BEN)
    await between.passes(4)
    assert told(wire) == []
    new.say(there, {"type": "presence", "state": "away"})
    await between.passes(4)

    assert told(wire) == [(BEN, "away")]


async def test_a_user_of_whom_nothing_is_heard_is_offline_at_last(apart):
    """Presence is a lease: its gateway has gone, or the log."""
    ann, ben, between = apart
    ben.connect(BEN)
    connection, wire = ann.connect(ANN)
    ann.say(connection, {"type": "watch", "users": [str(BEN)]})
    await between.passes(8)
    assert told(wire) == [(BEN, "online")]

    await ann.passes(280)
    assert told(wire) == []
    await ann.passes(90)

    assert told(wire) == [(BEN, "offline")]


class Away:
    """A log, or a cache, that does not answer."""

    calls = 0

    async def append(self, _records):
        await self.get("")

    async def get(self, _name):
        self.calls += 1
        raise Unavailable("away")

    async def put(self, _name, _value, *, ttl_s):
        await self.get(str(ttl_s))


async def test_without_the_log_nothing_is_said_and_nothing_fails(gateways):
    """What is for users of the same gateway works on."""
    log = Away()
    here = gateways(served=frozenset({0}), appends=log)
    await here.passes(11)
    near = next(user for user in range(ANN + 1, 999) if user_partition(user, 2) == 0)
    here.connect(near)
    connection, wire = here.connect(ANN)
    wire.take()
    frame = {"type": "watch", "users": [str(near), str(BEN)], "id": 1}
    here.say(connection, frame)
    here.say(connection, {"type": "typing", "chat": direct_chat(ANN, BEN)})
    await here.passes(3)
    await asyncio.sleep(WRITTEN_S)
    await here.passes(3)

    heard = wire.take()
    assert [type(one) for one in heard] == [frames.Ok, Presence]
    assert heard[1].user == str(near)
    assert log.calls == 1


async def test_without_the_cache_only_the_last_time_is_missing(gateways):
    """It is asked for some, and then left alone for a while."""
    cache = Away()
    here = gateways(cache=cache)
    await here.passes(11)
    ben, _ = here.connect(BEN)
    _, wire = await here.watching(ANN, BEN, *range(1_000, 1_050))
    here.at.hub.remove(ben)
    await here.passes(12)

    (offline,) = wire.take()
    assert (offline.user, offline.state) == (str(BEN), "offline")
    assert offline.last_seen is not frames.UNSET
    assert cache.calls <= 5 * MAX_AT_ONCE


async def test_when_a_user_was_last_here_outlives_the_gateway(gateways, backends):
    """In the cache, by the one word of the gateway that saw the user leave."""
    first = gateways()
    ben, _ = first.connect(BEN)
    await first.passes(11)
    left_ms = first.at.clock.now_ms() + 250
    first.at.hub.remove(ben)
    await first.passes(12)
    assert isinstance(backends.cache, EmbeddedCache)

    second = gateways()
    await second.passes(11)
    connection, wire = second.connect(ANN)
    wire.take()
    second.say(connection, {"type": "watch", "users": [str(BEN), str(CAT)]})
    await second.passes(3)

    seen = {int(one.user): one.last_seen for one in wire.take()}
    assert seen == {BEN: time_text(left_ms), CAT: frames.UNSET}


async def test_much_is_said_in_records_that_the_log_takes(here, backends):
    """However many are watched, and however long their texts are."""
    kept = []

    class Log:
        async def append(self, records):
            kept.extend(records)

    batcher = EphemeralBatcher(
        Log(),
        kept.append,
        lambda: frozenset({0}),
        gateway="g",
        clock=here.at.clock,
        interval_s=0.05,
    )
    for user in range(1, 2 * MAX_WATCHED):
        batcher.watch(1, [user])
    for user in range(1, 4 * MAX_PRESENCES):
        presence = pb.Presence(user=user, state="offline", text="\U0001f44b" * 128, seen_ms=user)
        batcher.answer(1, "other", presence)
        batcher.answer(1, "other", presence)
    for user in range(1, MAX_NOTIFIED):
        typing = pb.Typing(users=range(user % 999), chat=f"g-{user}", user=user)
        batcher.notify(1, pb.Answer(typing=typing), user % 999)
    running = asyncio.create_task(batcher.run())
    await asyncio.sleep(WRITTEN_S)
    running.cancel()

    answers = [
        answer for record in kept for answer in cloudevents.parse(record.event, pb.Answers).answers
    ]
    assert max(len(record.event.data) for record in kept) <= MAX_RECORD_BYTES
    assert sum(len(answer.watching.users) for answer in answers) == 2 * MAX_WATCHED - 1
    assert sum(len(one.presences.presences) for one in answers) == 4 * MAX_PRESENCES - 1
    typing = [one.typing for one in answers if one.HasField("typing")]
    notified = sum(len(one.users) for one in typing) + 8 * len(typing)
    assert MAX_NOTIFIED * 0.9 < notified <= MAX_NOTIFIED
