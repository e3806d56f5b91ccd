"""What strangers and floods cost a gateway: measured on a process of its own, from outside.

Acceptance of issue 11, g.
"""

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from tests.gateway.people import Person, http
from tests.gateway.raw_socket import (
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawSocket,
    frame,
    request,
)
from tests.gateway.test_alone import process, ready

pytestmark = pytest.mark.timed

CROWD = 300
KIB_EACH = 12
SETTLED_S = 1.0
ANN = 11
PING_FRAME = {"type": "ping", "id": 1, "padding": "x" * 65_000}


@pytest.fixture
async def alone(settings):
    """The gateway's process, and where it listens."""
    async with process(
        settings, KNCHAT_PING_S="300", KNCHAT_CONNECTIONS_WAITING="350", KNCHAT_CONNECTIONS="400"
    ) as started:
        url = await ready(started)
        yield SimpleNamespace(url=url, port=urlsplit(url).port, pid=started.pid)


def memory_kib(pid):
    """What the process itself has written to: heap and stacks."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


async def crowd(at, said):
    """So many WebSockets that have each said this, and nothing else."""
    peers = [await RawSocket.connect(at.port, "/v1/socket") for _ in range(CROWD)]
    for peer in peers:
        peer.send(said)
    return peers


async def gone(peers):
    for peer in peers:
        peer.reset()
    await asyncio.gather(*(peer.hang_up() for peer in peers))


HALVES = {
    "a half of what fits": frame(TEXT, b"x" * 8_000)[:4_000],
    "nearly all that fits": frame(TEXT, b"x" * 60_000)[:8_000],
    "far too much": frame(TEXT, b"x" * 60_000)[:30_000],
}


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
async def test_half_a_frame_before_hello_costs_at_most_12_kib(alone, half):
    """300 of them; before, each kept up to 67 KiB for as long as it liked."""
    await gone(await crowd(alone, b""))  # the first ones load what all share
    before = memory_kib(alone.pid)
    peers = await crowd(alone, half)
    await asyncio.sleep(SETTLED_S)
    cost = (memory_kib(alone.pid) - before) / CROWD
    await gone(peers)

    assert cost <= KIB_EACH


async def test_what_a_large_frame_took_is_given_back_within_a_second(alone, backends):
    """300 sessions that once said 65,000 bytes at a time, half of each when all had said the other
    half.
    """
    people = [Person(user, "phone", alone, backends) for user in range(1, CROWD + 1)]
    before = memory_kib(alone.pid)
    for person in people:
        await person.connect()
    large = frame(TEXT, json.dumps(PING_FRAME).encode())
    raw = [person.socket.transport for person in people]
    for part in (large[:40_000], large[40_000:]):
        for transport in raw:
            transport.write(part)
        await asyncio.sleep(0.1)
    for person in people:
        assert (await person.hear("pong"))["re"] == 1
    await asyncio.sleep(SETTLED_S)
    cost = (memory_kib(alone.pid) - before) / CROWD
    for person in people:
        await person.leave()

    assert cost <= KIB_EACH


@pytest.mark.parametrize(
    "flood",
    [frame(PING), frame(PONG), frame(TEXT, fin=False) + 999 * frame(CONTINUATION, fin=False)],
)
@pytest.mark.parametrize("hello", [True, False])
async def test_a_million_frames_that_say_nothing_close_4005(alone, token, flood, hello):
    """Before and after `welcome`; the code arrives, and another session is served meanwhile."""
    peer = await RawSocket.connect(alone.port, "/v1/socket")
    if hello:
        said = {"type": "hello", "token": token(ANN), "device": "phone"}
        peer.send(frame(TEXT, json.dumps(said).encode()))
        while b'"live"' not in (await peer.frame())[1]:
            pass
    began_s = time.monotonic()
    peer.send(flood * (1_000_000 // (len(flood) // 6)))
    opcode, payload = await peer.frame()
    while opcode != CLOSE:
        opcode, payload = await peer.frame()
    took_s = time.monotonic() - began_s
    peer.reset()
    await peer.hang_up()

    assert int.from_bytes(payload[:2]) == 4005
    assert took_s < 2


async def test_too_many_connections_are_told_so(alone, token):
    """503 with Retry-After at the handshake, for those that only wait first, then for all; those
    inside stay.
    """
    waiting = [await RawSocket.connect(alone.port, "/v1/socket") for _ in range(350)]
    assert await turned_away(alone) == (503, True)
    await gone(waiting[50:])
    peer = waiting[0]
    peer.send(
        frame(TEXT, json.dumps({"type": "hello", "token": token(ANN), "device": "phone"}).encode())
    )

    assert b'"welcome"' in (await peer.frame())[1]
    assert (await http(alone, "/livez"))[0] == 200
    _, _, metrics = await http(alone, "/metrics")
    assert b"knchat_turned_away_total 1.0" in metrics
    await gone(waiting[:50])


async def turned_away(at):
    """Status of a handshake, and whether it says when to come back."""
    peer = await RawSocket.dial(at.port)
    peer.send(request("/v1/socket"))
    status, headers = await peer.response_head()
    await peer.hang_up()
    return status, int(headers["retry-after"]) >= 1


async def test_a_queue_of_2000_sends_is_taken_within_seconds(person, gateway):
    """As an app has after a day without a network: nothing is lost, and nothing is closed."""
    ann = await person(ANN)
    began_s = time.monotonic()
    await ann.say(
        *(
            {"type": "send", "id": number, "to": "22", "key": f"k{number}", "text": "hi"}
            for number in range(1, 2_001)
        )
    )
    answered = {(await ann.hear("ok"))["re"] for _ in range(2_000)}
    took_s = time.monotonic() - began_s

    assert answered == set(range(1, 2_001))
    assert took_s < 10
    assert ann.welcome["limits"]["frames_per_second"] == 250
