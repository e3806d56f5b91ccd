"""The log's suite over every adapter. A new adapter is one line in ADAPTERS."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from kafka.structs import TopicPartition

from backends.log.embedded.file import OFFSET_BITS
from backends.log.embedded.log import EmbeddedLog
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.log import KafkaLog
from backends.log.kafka.topics import KafkaTopics
from schemas.topics import DEAD_LETTERS
from tests.backends.log_ports import EVENT_KEY, Ports
from tests.backends.suite_log_followers import FollowersSuite
from tests.backends.suite_log_groups import GroupsSuite
from tests.backends.suite_log_records import RecordsSuite
from tests.support.real import NEEDS, topic_prefix


def embedded(folder, _):
    """Both ports are one object."""
    log = EmbeddedLog(folder / "log.db", event_keys=[EVENT_KEY])
    return Ports(log, log)


def kafka(_, brokers):
    """The same."""
    log = KafkaLog(brokers, event_keys=[EVENT_KEY])
    return Ports(log, log)


ADAPTERS = {"embedded": embedded, "kafka": kafka}


PREFIX = topic_prefix()
"""Of the topics of this run: the suite does not mind what lies in them."""


@pytest.fixture(params=ADAPTERS)
async def connect(request, tmp_path):
    """Makes one more pair of ports on the same log. All are closed afterwards."""
    brokers = None
    if request.param in NEEDS:
        brokers = Brokers(request.getfixturevalue(NEEDS[request.param])["kafka"], prefix=PREFIX)
        await KafkaTopics(brokers, replication=1, delivery_partitions=12).create()
    made = []

    def another():
        made.append(ADAPTERS[request.param](tmp_path, brokers))
        return made[-1]

    yield another
    for ports in made:
        await ports.appends.close()
        await ports.reads.close()


@pytest.fixture
def log(connect):
    """A pair of ports."""
    return connect()


@pytest.fixture
def group():
    """A consumer group that was not used before."""
    return f"suite-{uuid.uuid4()}"


@pytest.fixture
def drop(request):
    """What retention does: drops what a partition of dead letters holds before an offset."""

    async def embedded_(ports, partition, before):
        slot = (await ports.reads._place(DEAD_LETTERS)).slot(partition)

        def step(connection):
            connection.execute(
                "DELETE FROM records WHERE id >= ? AND id < ?",
                (slot << OFFSET_BITS, slot << OFFSET_BITS | before),
            )
            connection.execute("UPDATE slots SET begin = ? WHERE slot = ?", (before, slot))

        await ports.reads.run(step, durable=False)

    async def kafka_(ports, partition, before):
        brokers = ports.reads._brokers
        admin = brokers.admin()
        await asyncio.to_thread(
            admin.delete_records, {TopicPartition(brokers.topic(DEAD_LETTERS), partition): before}
        )
        admin.close()

    return {"embedded": embedded_, "kafka": kafka_}[request.node.callspec.params["connect"]]


class TestLog(RecordsSuite, FollowersSuite, GroupsSuite):
    """Runs the suite.

    `log` is a fresh pair of ports; `connect` makes another pair on the same log, as another process
    would.
    """
