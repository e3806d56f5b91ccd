"""A delivery reader alone, on the embedded log."""

import pytest

from gateway.deliveries.reader import DeliveryReader
from gateway.publishing.message_ids import MessageIds
from tests.gateway.wire import made_context


@pytest.fixture
def at():
    """The shared parts of a gateway that has no partition yet."""
    return made_context(partitions=())


@pytest.fixture
def feed(at):
    return at.feed


@pytest.fixture
async def message_ids(backends):
    made = MessageIds(backends.generators, "test", clock=backends.clock)
    await made.claim()
    return made


@pytest.fixture
def failed():
    """What the reader tells of failed commands."""
    return []


@pytest.fixture
def told():
    """What the reader tells of what gateways say to each other."""
    return []


@pytest.fixture
def reader(at, backends, message_ids, failed, told):
    """Readers of the embedded log; a test names what it changes."""

    def make_one(**changed):
        return DeliveryReader(
            backends.reads,
            at.feed,
            at.revocations,
            at.hub,
            message_ids,
            lambda user, key: failed.append((user, key)),
            lambda answer, at_ms: told.append((answer, at_ms)),
            ring_bytes=2**20,
            token_s=900,
            clock=backends.clock,
            beat=lambda: None,
            **changed,
        )

    return make_one


@pytest.fixture
def delivery(reader):
    return reader()
