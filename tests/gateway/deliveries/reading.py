"""What a test of the delivery reader asks of it."""

from schemas import chat_pb2 as pb
from schemas.topics import user_partition

PARTITIONS = range(12)


async def fill(delivery):
    while left := set(PARTITIONS) - delivery.followed:
        await delivery.open(left, lambda _: True)


def ends(feed):
    return {partition: feed.replay_buffer.end(partition)[0] for partition in PARTITIONS}


def held(feed, user):
    partition = user_partition(user, 12)
    position = feed.replay_buffer.since(partition, 0)
    return [
        pb.Delivery.FromString(raw).message.id
        for _, raw in feed.replay_buffer.missed(partition, user, position, limit=10_000)
    ]
