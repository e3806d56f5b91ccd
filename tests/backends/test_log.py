"""The log's suite over every adapter. A new adapter is one line in ADAPTERS."""

from __future__ import annotations

import pytest

from backends.log.embedded import EmbeddedLog
from tests.backends.suite_log import EVENT_KEY, LogSuite, Ports


def embedded(folder):
    """Both ports are one object."""
    log = EmbeddedLog(folder / "log.db", event_keys=[EVENT_KEY])
    return Ports(log, log)


ADAPTERS = {"embedded": embedded}


@pytest.fixture(params=ADAPTERS)
async def connect(request, tmp_path):
    """Makes one more pair of ports on the same log. All are closed afterwards."""
    made = []

    def another():
        made.append(ADAPTERS[request.param](tmp_path))
        return made[-1]

    yield another
    for ports in made:
        await ports.appends.close()
        await ports.reads.close()


@pytest.fixture
def log(connect):
    """A pair of ports."""
    return connect()


class TestLog(LogSuite):
    """Runs the suite."""
