"""What the sinks are, and what lies behind them."""

from schemas.cloudevents import from_kafka
from schemas.topics import COMMANDS, QUERIES

SHORT_S = 0.2


def sinks(url):
    return {topic: f"{url}/chat/{topic}" for topic in (COMMANDS, QUERIES)}


async def stored(behind, topic=COMMANDS):
    """All events of the topic."""
    partitions = range(await behind.partitions(topic))
    found = [
        record
        for partition in partitions
        for record in await behind.read(topic, partition, 0, max_records=99)
    ]
    return [from_kafka(record.headers, record.value) for record in found]
