"""A change of the configuration reaches every process within 5 s, under load, and nothing is lost
by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from pathlib import Path

import httpx
import pytest

from tests.journeys.conftest import TIMEOUT_S, new_user
from tests.journeys.test_gateways import users_apart

SEEN_S = 5.0
ALICE = {"user_name": "alice", "password": "alice-demo-password", "device": "of-a-test"}
PAUSE_S = 0.01


class Administrator:
    """Alice of the demonstration."""

    def __init__(self, http):
        login = httpx.post(f"{http}/v1/sessions", json=ALICE, timeout=TIMEOUT_S).json()
        headers = {"authorization": f"Bearer {login['access_token']}"}
        self._client = httpx.AsyncClient(base_url=http, headers=headers, timeout=TIMEOUT_S)

    async def set(self, section, **values):
        """The new version of the section."""
        path = f"/v1/config/{section}"
        version = (await self._client.get(path)).json()["version"]
        answer = await self._client.put(path, json={"version": version, "values": values})
        assert answer.status_code == 200, answer.text
        return int(answer.json()["version"])

    async def close(self):
        await self._client.aclose()


@pytest.fixture
async def alice(dev, http):
    """On a server of ours; what the test has set is taken back."""
    if dev is None:
        pytest.skip("needs a server of our own")
    administrator = Administrator(http)
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
        for place in places(dev).values():  # a function that did not run yet starts now
            assert (await client.get(f"{place}/metrics")).status_code == 200
    yield administrator
    version = await administrator.set("messages")
    # Journeys that come next send long texts.
    await asyncio.gather(*(seen(place, version) for place in places(dev).values()))
    await administrator.close()


def places(dev):
    """Where each process of the server tells its metrics, by its name."""
    listed = Path(dev.folder) / "processes.json"
    if not listed.exists():
        return {"dev": dev.http}
    children = json.loads(listed.read_text())
    return {
        name: f"http://127.0.0.1:{child['port']}"
        for name, child in children.items()
        if child["port"] and not name.startswith("sink")
    }


async def seen(place, version):
    """After how many seconds this process goes by that version."""
    began_s = time.monotonic()
    line = re.compile(
        rf'^knchat_configuration_version{{section="messages"}} {version}(\.0)?$', re.MULTILINE
    )
    async with httpx.AsyncClient(base_url=place, timeout=TIMEOUT_S) as client:
        while not line.search((await client.get("/metrics")).text):
            assert time.monotonic() - began_s < 3 * SEEN_S, (place, "does not follow")
            await asyncio.sleep(0.1)
    return time.monotonic() - began_s


async def talk(device, other, sent):
    """Says one message after the other, until cancelled; each is acknowledged."""
    while True:
        text = f"{device.user.name} {len(sent)}"
        ok = await device.send(other.user, text)
        assert ok["type"] == "ok", ok
        sent.append(text)
        await asyncio.sleep(PAUSE_S)


async def until_said(sent, count):
    """Both have said so much: one process alone follows at once."""
    async with asyncio.timeout(TIMEOUT_S):
        while min(map(len, sent)) < count:
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_every_process_follows_under_load(dev, http, alice, open_device):
    """Both gateways and all functions; what is sent meanwhile is acknowledged and delivered."""
    ann, ben = users_apart(http) or (new_user(http, "ann"), new_user(http, "ben"))
    phones = [await open_device(user, "phone") for user in (ann, ben)]
    desks = [await open_device(user, "desk") for user in (ann, ben)]
    sent = [], []
    talking = [
        asyncio.create_task(talk(phones[0], phones[1], sent[0])),
        asyncio.create_task(talk(phones[1], phones[0], sent[1])),
    ]
    try:
        for text_bytes in (100, 120, 110):
            version = await alice.set("messages", text_bytes=text_bytes)
            waited = await asyncio.gather(*(seen(at, version) for at in places(dev).values()))
            assert max(waited) <= SEEN_S, dict(zip(places(dev), waited, strict=True))
            for desk, other in zip(desks, (ben, ann), strict=True):
                refused = await desk.send(other, "x" * (text_bytes + 1))
                assert refused["code"] == "too_large", refused
                assert (await desk.send(other, "x" * text_bytes))["type"] == "ok"
            await until_said(sent, min(map(len, sent)) + 40)
    finally:
        for task in talking:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*talking)

    assert min(map(len, sent)) > 100
    for desk, texts in zip(desks, reversed(sent), strict=True):
        for text in texts:
            assert (await desk.hear("message", text=text))["text"] == text
