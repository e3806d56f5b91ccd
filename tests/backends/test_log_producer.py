"""What gateways rely on when they append, over every adapter that they may have: Knative's sinks
before Kafka among them.
"""

from __future__ import annotations

import contextlib

import pytest

from backends.dispatcher.sink import Receiver
from backends.log.embedded.log import EmbeddedLog
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.log import KafkaLog
from backends.log.kafka.topics import KafkaTopics
from backends.log.knative import KnativeLogProducer
from knchat.develop.sink import serving
from schemas.topics import COMMANDS, QUERIES
from tests.backends.log_ports import EVENT_KEY, Ports
from tests.backends.suite_log_producer import AppendsSuite
from tests.support.real import NEEDS, topic_prefix

PREFIX = topic_prefix()


def embedded(folder, _brokers, _sink):
    """Both ports are one object."""
    log = EmbeddedLog(folder / "log.db", event_keys=[EVENT_KEY])
    return Ports(log, log)


def kafka(_folder, brokers, _sink):
    """The same."""
    log = KafkaLog(brokers, event_keys=[EVENT_KEY])
    return Ports(log, log)


def knative(_folder, brokers, sink):
    """Appends by POST to a receiver that writes to Kafka, reads from Kafka."""
    sinks = {topic: f"{sink}/chat/{topic}" for topic in (COMMANDS, QUERIES)}
    return Ports(KnativeLogProducer(sinks, event_keys=[EVENT_KEY]), KafkaLog(brokers))


ADAPTERS = {"embedded": embedded, "kafka": kafka, "knative": knative}


@pytest.fixture(params=ADAPTERS)
async def connect(request, tmp_path):
    """Makes one more pair of ports on the same log. All are closed afterwards."""
    async with contextlib.AsyncExitStack() as stack:
        brokers = sink = None
        if request.param in NEEDS:
            brokers = Brokers(request.getfixturevalue(NEEDS[request.param])["kafka"], prefix=PREFIX)
            await KafkaTopics(brokers, replication=1, delivery_partitions=12).create()
        if request.param == "knative":
            behind = KafkaLog(brokers)
            stack.push_async_callback(behind.close)
            sink = await stack.enter_async_context(serving(Receiver(behind)))

        def another():
            made = ADAPTERS[request.param](tmp_path, brokers, sink)
            stack.push_async_callback(made.reads.close)
            stack.push_async_callback(made.appends.close)
            return made

        yield another


@pytest.fixture
def log(connect):
    """A pair of ports."""
    return connect()


class TestAppends(AppendsSuite):
    """Runs the suite."""
