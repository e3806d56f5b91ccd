"""The receiver before an embedded log, and the adapter that posts to it."""

import pytest

from backends.dispatcher.sink import Receiver
from backends.log.embedded.log import EmbeddedLog
from backends.log.knative import KnativeLogProducer, Timing
from knchat.develop.sink import serving
from tests.backends.log_knative.stored import SHORT_S, sinks


@pytest.fixture
async def behind(tmp_path):
    """The log behind the receiver."""
    log = EmbeddedLog(tmp_path / "log.db")
    yield log
    await log.close()


@pytest.fixture
def receiver(behind):
    return Receiver(behind)


@pytest.fixture
async def url(receiver):
    async with serving(receiver) as url:
        yield url


@pytest.fixture
async def make():
    """Makes the adapter; all are closed afterwards."""
    made = []

    def another(*args, **kwargs):
        made.append(KnativeLogProducer(*args, **kwargs))
        return made[-1]

    yield another
    for each in made:
        await each.close()


@pytest.fixture
def appends(make, url):
    return make(sinks(url))


@pytest.fixture
def hurried(make, url):
    """An adapter that gives up soon."""
    return make(sinks(url), timing=Timing(timeout_s=SHORT_S))
