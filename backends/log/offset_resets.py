"""A consumer whose next record was dropped unread goes on at the oldest that is left: this is
counted, logged, and reported to its user.

Consumers of all adapters call it.
"""

from __future__ import annotations

import logging

from backends.log import OnOffsetReset
from backends.telemetry.metrics import count

log = logging.getLogger(__name__)


def report_offset_reset(
    topic: str, partition: int, offset: int, to: int, on_offset_reset: OnOffsetReset | None
) -> None:
    """The record at `offset` was the next, and `to` is the oldest that is left."""
    count("knchat_records_dropped_unread_total", to - offset, topic=topic)
    log.error(
        "records were dropped before they were read",
        extra={"topic": topic, "partition": partition, "from": offset, "to": to},
    )
    if on_offset_reset is not None:
        on_offset_reset(partition, to)
