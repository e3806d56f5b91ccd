"""Which partitions of chat-deliveries this gateway serves, and telling it to those who send clients here.

The embedded log has one owner of everything. Source: design.md D7, D8.
"""

from __future__ import annotations

from backends.accounts import Owner, Owners
from backends.log import Reads
from schemas.errors import Malformed
from schemas.topics import DELIVERIES, SESSION_DELIVERIES, TOPICS


async def check_partitions(reads: Reads) -> range:
    """The partitions there are.

    Raises Malformed when the log's topics have other counts than everybody computes with: deliveries would be lost without a word.
    Raises Unavailable when the log does not answer.
    """
    expected = TOPICS[DELIVERIES].partitions
    for topic in (DELIVERIES, SESSION_DELIVERIES):
        if (found := await reads.partitions(topic)) != expected:
            raise Malformed(f"{topic} has {found} partitions instead of {expected}: make a new topic, see design.md D7", field=topic)
    return range(expected)


async def own_all(owners: Owners, partitions: range, *, url: str, now_ms: int) -> None:
    """Writes down that this gateway serves all of them from now on. Raises Unavailable."""
    await owners.own([Owner(partition, url, now_ms) for partition in partitions])
