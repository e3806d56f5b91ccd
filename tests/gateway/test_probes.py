"""The gateway over plain HTTP: probes and metrics."""

import asyncio
import json
import time
from unittest.mock import ANY

import pytest

from tests.gateway.faults import broken
from tests.gateway.people import (
    ANN,
    http,
)


async def test_probes_and_metrics(gateway, person, settings):
    """200 while all is well; what is missing is named; unknown paths are 404."""
    await person(ANN)

    assert (await http(gateway, "/livez"))[0] == 200
    assert (await http(gateway, "/readyz"))[0] == 200
    status, headers, body = await http(gateway, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert b"knchat_hellos_total" in body
    status, _, body = await http(gateway, "/nothing")
    assert (status, json.loads(body)["code"]) == (404, "not_found")
    with broken(settings.data, "records"):
        status, headers, body = await http(gateway, "/readyz")
    assert (status, json.loads(body)["code"], json.loads(body)["message"]) == (
        503,
        "starting",
        "not ready: log (embedded)",
    )
    assert headers["Retry-After"] == "1"


async def test_a_wrong_clock_of_the_machine_is_told(gateway, backends, person):
    """Nothing depends on it, so it is ready: clients are let in and write."""
    backends.clock._wall = lambda: time.time() - 3_600

    assert await http(gateway, "/readyz") == (
        200,
        ANY,
        b"ok\nclock: this machine's is 3600 s behind what has passed since the start\n",
    )
    ann = await person(ANN)
    assert (await ann.ask({"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"}))[
        "type"
    ] == "ok"


async def test_metrics_can_be_left_out(start):
    """404 then."""
    assert (await http(await start(metrics=False), "/metrics"))[0] == 404


async def test_a_part_that_fails_is_seen(start):
    """`watch` raises what it was, and /livez says so."""
    gateway = await start()
    watching = asyncio.create_task(gateway.watch())

    async def fail():
        raise RuntimeError("bug")

    gateway._parts.start(fail())
    await asyncio.sleep(0.01)
    status, _, body = await http(gateway, "/livez")

    assert (status, json.loads(body)["code"]) == (503, "unavailable")
    watching.cancel()
    again = asyncio.create_task(gateway.watch())
    with pytest.raises(RuntimeError):
        await again
