"""A log on Kafka with topics of the test's own."""

from __future__ import annotations

import uuid

import pytest

from backends.log.kafka.brokers import Brokers
from backends.log.kafka.log import KafkaLog
from backends.log.kafka.topics import KafkaTopics


@pytest.fixture
def brokers(kafka_settings):
    """Without topics yet."""
    return Brokers(kafka_settings["kafka"], prefix=f"test-{uuid.uuid4().hex[:8]}-")


@pytest.fixture
def topics(brokers):
    """Of these brokers."""
    return KafkaTopics(brokers, replication=1, delivery_partitions=12)


@pytest.fixture
async def open_log():
    """Makes logs, which are closed afterwards."""
    made = []

    def another(brokers, **options):
        made.append(KafkaLog(brokers, **options))
        return made[-1]

    yield another
    for log in made:
        await log.close()


@pytest.fixture
async def log(brokers, topics, open_log):
    """A log with topics."""
    await topics.create()
    return open_log(brokers)
