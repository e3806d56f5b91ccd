"""`python -m gateway` as a process of its own: its ready line, its end, and what keeps it from
starting.
"""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from schemas.topics import COMMANDS
from tests.gateway.people import Person, deliver, id_now, message

ANN, BEN = 11, 22
TIMEOUT_S = 20


@asynccontextmanager
async def process(settings, **environ):
    """A gateway on the data folder; ended with the test."""
    own = {
        "KNCHAT_DATA": str(settings.data),
        "KNCHAT_GATEWAY_PORT": "0",
        "KNCHAT_DRAIN_S": "1",
        **environ,
    }
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        env={**os.environ, **own},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def ready(started):
    """Its URL."""
    async with asyncio.timeout(TIMEOUT_S):
        word, url = (await started.stdout.readline()).decode().split()
    assert word == "ready"
    return url


async def ended(started):
    """Exit code and stderr."""
    async with asyncio.timeout(TIMEOUT_S):
        _, errors = await started.communicate()
    return started.returncode, errors.decode()


async def test_it_serves_and_drains_at_sigterm(settings, backends):
    """Tokens are checked with the data folder's key; at the end `drain`, then 1012, and exit code
    0.
    """
    async with process(settings) as started:
        ann = Person(ANN, "phone", SimpleNamespace(url=await ready(started)), backends)
        await ann.connect()
        ok = await ann.ask({"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"})
        number = id_now()
        await deliver(backends, message(number, BEN, ANN))
        assert (await ann.hear("message"))["message"] == str(number)

        started.send_signal(signal.SIGTERM)
        assert (await ann.hear("drain"))["reconnect_after_ms"] <= 1_000
        assert await ann.ended() == 1012
        assert (await ended(started))[0] == 0

    assert ok["type"] == "ok"
    assert (
        sum(each.end for each in (await backends.reads.bounds(COMMANDS, range(12))).values()) == 1
    )


@pytest.mark.parametrize(
    "wrong", [{"KNCHAT_HOST": "192.0.2.1"}, {"KNCHAT_PING_S": "soon"}, {"KNCHAT_NONSENSE": "1"}]
)
async def test_what_keeps_it_from_starting_is_said_in_one_line(settings, wrong):
    """A host that is not ours, a wrong setting, an unknown one: exit code 1."""
    async with process(settings, **wrong) as started:
        code, errors = await ended(started)

    said = [line for line in errors.splitlines() if line.startswith("gateway: ")]
    assert (code, len(said)) == (1, 1)
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "log", [{"KNCHAT_LOG": "kafka"}, {"KNCHAT_LOG": "knative", "K_SINK": "http://127.0.0.1:1"}]
)
async def test_a_gateway_among_others_needs_a_cache_that_they_share(settings, log):
    """Else a key holds at one gateway, and a repeat at another, where its user is by then, is a
    second message.
    """
    async with process(settings, KNCHAT_KAFKA="127.0.0.1:1", **log) as started:
        code, errors = await ended(started)

    assert code == 1
    assert "gateway: KNCHAT_REDIS is missing" in errors


async def test_a_second_gateway_on_the_folder_is_refused_in_one_line(settings, backends):
    """Two would not see each other's keys, and would take each other's partitions."""
    async with process(settings) as first:
        await ready(first)
        async with process(settings) as second:
            code, errors = await ended(second)

    assert code == 1
    assert "gateway: " in errors
