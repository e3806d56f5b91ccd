"""The topics: which there are, how long each keeps its records, and which partition a key falls
into.

`partition_of` computes what Java producers, and so Knative's KafkaSink, compute; the log's adapters
and the gateways rely on it. Source: design.md D7 and section 4; the partitioner of Kafka's Java
client (murmur2, seed 0x9747b28c).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

COMMANDS: Final = "chat-commands"
RETRIES: Final = "chat-retries"
MESSAGES: Final = "chat-messages"
HISTORY_RETRIES: Final = "chat-history-retries"
DELIVERIES: Final = "chat-deliveries"
SESSION_DELIVERIES: Final = "session-deliveries"
QUERIES: Final = "chat-queries"
UPLOADS: Final = "chat-uploads"
DEAD_LETTERS: Final = "chat-dead-letters"

HISTORY_GROUPS: Final = {MESSAGES: "persist", HISTORY_RETRIES: "persist-retries"}
"""The consumer groups that write history, each on its topic: what they have committed can be read
there.
"""

INDEX_GROUPS: Final = {MESSAGES: "index", HISTORY_RETRIES: "index-retries"}
"""The consumer groups that write the index of messages, each on its topic."""

_HOUR_S: Final = 3_600
_DAY_S: Final = 24 * _HOUR_S

MAX_RECORD_BYTES: Final = 512 * 1024
"""No record's data exceeds this (design.md D6): `send` splits. Knative's sink refuses 1 MiB."""
MAX_BATCH_BYTES: Final = 256 * 1024
MAX_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: default partition count, and how long its records are kept.

    `before_s`: how old an event may already be when it is written here, since it has the time of
    its cause.
    """

    name: str
    partitions: int
    kept_s: int
    before_s: int = 0

    @property
    def oldest_s(self) -> int:
        """The greatest age that an event in this topic can have, by its time."""
        return self.kept_s + self.before_s


TOPICS: Final[dict[str, Topic]] = {
    topic.name: topic
    for topic in (
        Topic(COMMANDS, 12, _DAY_S),
        Topic(RETRIES, 3, _DAY_S, before_s=_DAY_S),
        Topic(MESSAGES, 24, 7 * _DAY_S, before_s=2 * _DAY_S),
        Topic(HISTORY_RETRIES, 3, 7 * _DAY_S),
        Topic(DELIVERIES, 12, _DAY_S, before_s=9 * _DAY_S),
        Topic(SESSION_DELIVERIES, 12, _HOUR_S),
        Topic(QUERIES, 12, _HOUR_S),
        Topic(UPLOADS, 3, _DAY_S),
        Topic(DEAD_LETTERS, 3, 14 * _DAY_S, before_s=9 * _DAY_S),
    )
}


INBOXES: Final = (
    COMMANDS,
    RETRIES,
    MESSAGES,
    HISTORY_RETRIES,
    QUERIES,
    UPLOADS,
    DEAD_LETTERS,
)
"""The topics that functions are called for; gateways read the others."""


@dataclass(frozen=True, slots=True)
class EventType:
    """A CloudEvent type of ours and the protobuf message its data holds.

    A new meaning is a new type version.
    """

    type: str
    message: str

    @property
    def dataschema(self) -> str:
        """The `dataschema` attribute: file, message, version."""
        return f"urn:knchat:schema:chat.proto:{self.message}:1"


COMMANDS_ISSUED: Final = EventType("knchat.commands.issued.v1", "Commands")
OUTCOMES_DECIDED: Final = EventType("knchat.outcomes.decided.v1", "Outcomes")
DELIVERIES_MADE: Final = EventType("knchat.deliveries.made.v1", "Deliveries")
QUERIES_ASKED: Final = EventType("knchat.queries.asked.v1", "Queries")
ANSWERS_GIVEN: Final = EventType("knchat.answers.given.v1", "Answers")
UPLOADS_COMPLETED: Final = EventType("knchat.uploads.completed.v1", "Uploads")
EVENT_TYPES: Final[dict[str, EventType]] = {
    event_type.message: event_type
    for event_type in (
        COMMANDS_ISSUED,
        OUTCOMES_DECIDED,
        DELIVERIES_MADE,
        QUERIES_ASKED,
        ANSWERS_GIVEN,
        UPLOADS_COMPLETED,
    )
}
"""Our event types by the name of their protobuf message."""


def murmur2(key: bytes) -> int:
    """Kafka's hash of a record key, as an unsigned 32-bit number."""
    length = len(key)
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ length) & mask
    words = length >> 2
    for k in struct.unpack_from(f"<{words}I", key):
        mixed = k * multiplier & mask
        h = (h * multiplier & mask) ^ ((mixed ^ mixed >> 24) * multiplier & mask)
    tail = key[words << 2 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * multiplier & mask
    h = (h ^ h >> 13) * multiplier & mask
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a record with this key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=65_536)
def user_partition(user: int, partitions: int) -> int:
    """The partition of a user's deliveries: the key is the decimal user id.

    1.2 us computed, 0.1 us remembered.
    """
    return partition_of(str(user).encode(), partitions)
