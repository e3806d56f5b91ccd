"""Which gateway has which partition."""

import asyncio

from schemas.topics import user_partition

TIMEOUT_S = 10
ALL = range(12)
USERS = {user_partition(user, 12): user for user in range(1, 400)}
"""A user of each partition."""


def mine(gateway):
    """The partitions that it owns and serves."""
    return {partition for partition in ALL if gateway._context.assignment.is_served(partition)}


def settled(*gateways):
    """Whether these serve all partitions among them."""
    return sorted(partition for gateway in gateways for partition in mine(gateway)) == list(ALL)


async def owned(backends, *gateways):
    """When all the world knows who owns what."""
    async with asyncio.timeout(TIMEOUT_S):
        for gateway in gateways:
            for partition in mine(gateway):
                while (
                    owner := await backends.owners.owner_of(partition)
                ) is None or owner.url != gateway.url:
                    await asyncio.sleep(0.005)
