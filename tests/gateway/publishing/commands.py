"""Commands for a publisher, and what became of them."""

import asyncio

from backends.telemetry.metrics import value_of
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.topics import COMMANDS

ANN = 11


def command(key="k", text="hi", *, user=ANN):
    return pb.Command(user=user, device="phone", key=key, chat="d-11-22", send=pb.Send(text=text))


def submit(publisher, asked):
    """The outcome, in time."""
    outcome = asyncio.get_running_loop().create_future()
    publisher.submit(asked, outcome.set_result)
    return outcome


async def published(backends):
    """All events of commands in the log, each as its commands."""
    bounds = await backends.reads.bounds(COMMANDS, range(12))
    events = []
    for partition in bounds:
        records = await backends.reads.read(COMMANDS, partition, 0, max_records=1_000)
        events += [
            (record.at_ms, record.offset, cloudevents.from_kafka(record.headers, record.value))
            for record in records
        ]
    return [
        cloudevents.parse(event, pb.Commands).commands
        for *_, event in sorted(events, key=lambda entry: entry[2].id)
    ]


async def commands(backends):
    return [each for batch in await published(backends) for each in batch]


def publishing(publisher):
    """Whether its reservation is done and its append has failed at least once."""
    return (
        publisher._batcher.under_way
        and value_of("knchat_publish_failures_total") > publisher.failures
    )
