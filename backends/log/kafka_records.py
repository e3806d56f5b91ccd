"""Records out of Kafka as ours, and the limits of reading that followers, members and single reads share."""

from __future__ import annotations

from typing import Any, Final

from backends.log import Stored

# How long a fetch waits at the broker for news. An idle follower costs 7 ms of CPU a second (measured).
POLL_MS: Final = 250
POLL_RECORDS: Final = 500
BATCH_BYTES: Final = 2**20
# Of members of groups. A killed one holds its partitions so long.
SESSION_MS: Final = 10_000
# A joining member waits as long for partitions to be given up (0.58 s, measured).
HEARTBEAT_MS: Final = 500
# A group waits up to a session for a member that has died before it lets another in. What is out of it for longer has lost its way.
JOIN_S: Final = 20.0


def stored_of(topic: str, record: Any) -> Stored:
    """A record of aiokafka or kafka-python as ours; `topic` without the prefix."""
    headers = [(name, b"" if value is None else value) for name, value in record.headers]
    return Stored(topic, record.partition, record.offset, record.timestamp, record.key, headers, record.value)


def bytes_of(stored: Stored) -> int:
    """What a record counts against limits in bytes."""
    return len(stored.key or b"") + len(stored.value or b"") + sum(len(name) + len(value) for name, value in stored.headers)
