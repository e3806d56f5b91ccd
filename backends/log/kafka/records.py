"""Records out of Kafka as ours, and the limits of reading that consumers and single reads share."""

from __future__ import annotations

from typing import Any, Final

from backends.log import ConsumerRecord

# How long a fetch waits at the broker for news. An idle consumer costs 7 ms of CPU a second
# (measured).
POLL_TIMEOUT_MS: Final = 250
MAX_POLL_RECORDS: Final = 500
MAX_BATCH_BYTES: Final = 2**20
# Of members of groups. A killed one holds its partitions so long.
SESSION_TIMEOUT_MS: Final = 10_000
# A joining member waits as long for partitions to be given up (0.58 s, measured).
HEARTBEAT_INTERVAL_MS: Final = 500
# A group waits up to a session for a member that has died before it lets another in. What is out of
# it for longer has lost its way.
JOIN_TIMEOUT_S: Final = 20.0


def consumer_record_of(topic: str, record: Any) -> ConsumerRecord:
    """A record of aiokafka or kafka-python as ours; `topic` without the prefix."""
    headers = [(name, b"" if value is None else value) for name, value in record.headers]
    return ConsumerRecord(
        topic, record.partition, record.offset, record.timestamp, record.key, headers, record.value
    )


def bytes_of(stored: ConsumerRecord) -> int:
    """What a record counts against limits in bytes."""
    return (
        len(stored.key or b"")
        + len(stored.value or b"")
        + sum(len(name) + len(value) for name, value in stored.headers)
    )
