"""Publishers on the embedded log, and a clock that a test moves."""

import pytest

from backends.telemetry.metrics import value_of
from gateway.publishing.message_ids import MessageIds
from gateway.publishing.publisher import Publisher
from tests.support.clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def message_ids(backends):
    made = MessageIds(backends.generators, "test", clock=backends.clock)
    await made.claim()
    return made


@pytest.fixture
async def publishers(backends, message_ids, clock):
    """Makes publishers on the same log, as gateways that come and go: `publishers()`."""
    made = []

    def another(on=backends):
        made.append(Publisher(on.appends, on.cache, message_ids, in_flight=2, clock=clock))
        made[-1].failures = value_of("knchat_publish_failures_total")
        return made[-1]

    yield another
    for publisher in made:
        await publisher.close()


@pytest.fixture
def publisher(publishers):
    return publishers()
