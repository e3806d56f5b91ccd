"""Partitions are computed as Kafka's Java client does, and the table of topics is the design's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.topics import (
    MAX_BATCH_BYTES,
    MAX_RECORD_BYTES,
    TOPICS,
    EventType,
    murmur2,
    partition_of,
    user_partition,
)

# The vectors of Kafka's own UtilsTest, which are signed 32-bit numbers.
JAVA = [
    (b"21", -973932308),
    (b"foobar", -790332482),
    (b"a-little-bit-long-string", -985981536),
    (b"a-little-bit-longer-string", -1486304829),
    (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    (b"abc", 479470107),
]


@pytest.mark.parametrize(("key", "signed"), JAVA)
def test_murmur2_is_javas(key, signed):
    """Other writers, the Knative sink first of all, put a key where we look for it."""
    assert murmur2(key) == signed & 0xFFFFFFFF


def test_the_partition_the_real_sink_chose():
    """Captured from the data plane: key user-42 in 12 partitions lay in number 4."""
    assert partition_of(b"user-42", 12) == 4


@given(st.binary(max_size=64), st.integers(1, 1000))
def test_every_key_has_a_partition(key, partitions):
    """Keys of any length fall into the range."""
    assert 0 <= partition_of(key, partitions) < partitions


@given(st.integers(1, 2**62))
def test_a_user_is_keyed_by_the_decimal_id(user):
    """The same partition whether computed here or by a producer that writes the id as text."""
    assert user_partition(user, 12) == partition_of(str(user).encode(), 12)


def test_the_topics_of_the_design():
    """Nine inboxes; the two that gateways read have as many partitions as each other; each is kept
    as long as its readers need.
    """
    assert {name: (topic.partitions, topic.kept_s // 3_600) for name, topic in TOPICS.items()} == {
        "chat-commands": (12, 24),
        "chat-retries": (3, 24),
        "chat-messages": (24, 168),
        "chat-history-retries": (3, 168),
        "chat-deliveries": (12, 24),
        "session-deliveries": (12, 1),
        "chat-queries": (12, 1),
        "chat-uploads": (3, 24),
        "chat-dead-letters": (3, 336),
    }
    assert MAX_BATCH_BYTES < MAX_RECORD_BYTES < 2**20


def test_a_dataschema_names_file_message_and_version():
    """Plug-ins find the message to decode with from the attribute alone."""
    assert EventType("knchat.x.made.v1", "Xs").dataschema == "urn:knchat:schema:chat.proto:Xs:1"
