"""A reader whose next record was dropped unread goes on at the oldest that is left, and says so: counted, logged, and told to who reads.

Followers and members of all adapters call it.
"""

from __future__ import annotations

import logging

from backends.log import Jumped
from backends.telemetry import count

log = logging.getLogger(__name__)


def jump(topic: str, partition: int, offset: int, to: int, jumped: Jumped | None) -> None:
    """The record at `offset` was the next, and `to` is the oldest that is left."""
    count("knchat_records_dropped_unread_total", to - offset, topic=topic)
    log.error("records were dropped before they were read", extra={"topic": topic, "partition": partition, "from": offset, "to": to})
    if jumped is not None:
        jumped(partition, to)
