"""Commands through Knative's sinks on their bad days: `ok` still means in the log, and a command still has one id."""

import asyncio
import time

import pytest

from backends.log import knative
from backends.log.knative import KnativeAppends
from gateway.minting import Minting
from gateway.publisher import Publisher
from schemas import chat_pb2 as pb
from schemas import wire
from schemas.topics import COMMANDS
from tests.clock import Clock
from tests.sink import Moods, Receiver, serving

ANN = 11
ROUNDS, AT_ONCE = 12, 5
SHORT_S = 0.3
MOODS = {
    "stored, answered 503": Moods(every=3, status=503),
    "stored, never answered": Moods(every=4, silent=True),
    "stored after we gave up": Moods(every=4, hang_s=2 * SHORT_S),
    "stored twice, in any order": Moods(copies=True),
}


def command(key):
    return pb.Command(user=ANN, device="phone", key=key, chat="d-11-22", send=pb.Send(text=key))


@pytest.mark.parametrize("moods", MOODS.values(), ids=MOODS)
async def test_what_was_accepted_is_in_the_log_under_its_one_id(moods, backends, monkeypatch):
    """Copies there are, as everywhere behind a sink; a key has the same id in all of them, and it is the one that was told."""
    monkeypatch.setattr(knative, "DEADLINE_S", SHORT_S)
    minting = Minting(backends.generators, "test", clock=time.time)
    await minting.claim()
    told = {}
    async with serving(Receiver(backends.appends, moods)) as url:
        appends = KnativeAppends({COMMANDS: f"{url}/chat/{COMMANDS}"})
        publisher = Publisher(appends, backends.cache, minting, in_flight=2, clock=Clock())
        for number in range(ROUNDS):
            outcomes = {}
            for part in range(AT_ONCE):
                outcomes[f"{number}-{part}"] = outcome = asyncio.get_running_loop().create_future()
                publisher.submit(command(f"{number}-{part}"), outcome.set_result)
            async with asyncio.timeout(30):
                told |= {key: (await outcome).id for key, outcome in outcomes.items()}
        await publisher.finish()
        await publisher.close()
        await appends.close()

    found = {}
    for partition in range(await backends.reads.partitions(COMMANDS)):
        for record in await backends.reads.read(COMMANDS, partition, 0, max_records=1_000):
            for each in wire.parse(wire.from_kafka(record.headers, record.value), pb.Commands).commands:
                found.setdefault(each.key, []).append(each.id)
    assert {key: set(ids) for key, ids in found.items()} == {key: {told_id} for key, told_id in told.items()}
    assert len(told) == ROUNDS * AT_ONCE
    assert sum(map(len, found.values())) > len(told)
