"""Commands through Knative's sinks on their bad days: `ok` still means in the log, and a command
still has one id.
"""

import asyncio
from functools import partial

import pytest

from backends.dispatcher.sink import Faults, Receiver
from backends.log.knative import KnativeLogProducer, Timing
from backends.telemetry.metrics import value_of
from gateway.publishing.message_ids import MessageIds
from gateway.publishing.publisher import Publisher
from gateway.publishing.queries import Queries
from knchat.develop.sink import serving
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.errors import Malformed
from schemas.topics import COMMANDS, QUERIES
from tests.support.clock import Clock

ANN = 11
ROUNDS, AT_ONCE = 12, 5
SHORT_S = 0.3
FAULTS = {
    "stored, answered 503": Faults(every=3, status=503),
    "stored, never answered": Faults(every=4, silent=True),
    "stored after we gave up": Faults(every=4, hang_s=2 * SHORT_S),
    "stored twice, in any order": Faults(copies=True),
}


def command(key):
    return pb.Command(user=ANN, device="phone", key=key, chat="d-11-22", send=pb.Send(text=key))


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
async def test_what_was_accepted_is_in_the_log_under_its_one_id(faults, backends):
    """Copies there are, as everywhere behind a sink; a key has the same id in all of them, and it
    is the one that was told.
    """
    message_ids = MessageIds(backends.generators, "test", clock=backends.clock)
    await message_ids.claim()
    told = {}
    async with serving(Receiver(backends.appends, faults)) as url:
        appends = KnativeLogProducer(
            {COMMANDS: f"{url}/chat/{COMMANDS}"}, timing=Timing(timeout_s=SHORT_S)
        )
        publisher = Publisher(appends, backends.cache, message_ids, in_flight=2, clock=Clock())
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
            for each in cloudevents.parse(
                cloudevents.from_kafka(record.headers, record.value), pb.Commands
            ).commands:
                found.setdefault(each.key, []).append(each.id)
    assert {key: set(ids) for key, ids in found.items()} == {
        key: {told_id} for key, told_id in told.items()
    }
    assert len(told) == ROUNDS * AT_ONCE
    assert sum(map(len, found.values())) > len(told)


async def test_what_is_too_large_for_a_sink_goes_in_smaller_parts(backends):
    """A proxy that takes 20 KB: a batch of 64 KB passes in parts, in order and once, but for the
    one text above it, whose sender is told.

    That one may come again when the proxy takes it. Two such batches blocked a gateway for good.
    """
    message_ids = MessageIds(backends.generators, "test", clock=backends.clock)
    await message_ids.claim()
    receiver = Receiver(backends.appends, Faults(max_bytes=20_000))
    async with serving(receiver) as url:
        appends = KnativeLogProducer({COMMANDS: f"{url}/chat/{COMMANDS}"})
        publisher = Publisher(appends, backends.cache, message_ids, in_flight=2, clock=Clock())

        def submit(key, size):
            outcome = asyncio.get_running_loop().create_future()
            asked = command(key)
            asked.send.text = "x" * size
            publisher.submit(asked, outcome.set_result)
            return outcome

        before = value_of("knchat_refused_commands_total")
        outcomes = [
            submit(f"{number:02}", 25_000 if number == 7 else 2_000) for number in range(20)
        ]
        async with asyncio.timeout(30):
            told = await asyncio.gather(*outcomes)
            refused = told.pop(7)
            receiver.faults = Faults()
            again = await submit("07", 25_000)
        await publisher.finish()
        await publisher.close()
        await appends.close()

    assert (type(refused), refused.code, refused.temporary) == (Malformed, "too_large", False)
    assert value_of("knchat_refused_commands_total") == before + 1
    assert not any(outcome.duplicate for outcome in told)
    found = [
        (each.id, each.key)
        for partition in range(await backends.reads.partitions(COMMANDS))
        for record in await backends.reads.read(COMMANDS, partition, 0, max_records=1_000)
        for each in cloudevents.parse(
            cloudevents.from_kafka(record.headers, record.value), pb.Commands
        ).commands
    ]
    keys = [f"{number:02}" for number in range(20) if number != 7]
    assert sorted(found) == sorted(
        [*zip([outcome.id for outcome in told], keys, strict=True), (again.id, "07")]
    )


async def test_a_question_that_is_too_large_fails_alone(backends):
    """Those that came with it are asked."""
    message_ids = MessageIds(backends.generators, "test", clock=backends.clock)
    await message_ids.claim()
    failed = {}
    async with serving(Receiver(backends.appends, Faults(max_bytes=2_000))) as url:
        appends = KnativeLogProducer({QUERIES: f"{url}/chat/{QUERIES}"})
        queries = Queries(appends, message_ids, in_flight=2, clock=Clock())
        for number in range(8):
            query = pb.Query(re=number, session="s" * (3_000 if number == 2 else 100))
            queries.ask(query, partial(failed.__setitem__, number))
        async with asyncio.timeout(30):
            await queries._batcher.flush()
        await queries.close()
        await appends.close()

    assert {number: error.code for number, error in failed.items()} == {2: "too_large"}
    asked = [
        each.re
        for partition in range(await backends.reads.partitions(QUERIES))
        for record in await backends.reads.read(QUERIES, partition, 0, max_records=1_000)
        for each in cloudevents.parse(
            cloudevents.from_kafka(record.headers, record.value), pb.Queries
        ).queries
    ]
    assert sorted(asked) == [0, 1, 3, 4, 5, 6, 7]
