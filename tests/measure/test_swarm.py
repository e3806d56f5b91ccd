"""The clients of a load run behave as good clients do: else a figure of the product is one of
theirs.
"""

import asyncio
import json
import os

import pytest
import websockets

from measure import swarm
from measure.process import ahead_of_others
from measure.record import Record
from measure.target import User

TIMEOUT_S = 5


@pytest.fixture
async def server():
    """One that does with each connection what the test has written down: (its URL, that list, the
    hellos it got).
    """
    script, hellos = [], asyncio.Queue()

    async def serve(socket):
        hellos.put_nowait(json.loads(await socket.recv()))
        for step in script.pop(0):
            if isinstance(step, int):
                await socket.close(step, "said")
            else:
                await socket.send(json.dumps(step))
        await socket.wait_closed()

    async with websockets.serve(
        serve, "127.0.0.1", 0, subprotocols=["knchat.v1.json"], compression=None
    ) as listening:
        yield f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/", script, hellos


WELCOME, LIVE = (
    {"type": "welcome", "cursor": "c1", "result": "live"},
    {"type": "live", "cursor": "c2"},
)


@pytest.fixture
async def device(request, server):
    """One device of a run of four messages; a test may give options by its parameter."""
    device = swarm.ChatDevice(
        server[0],
        User(0, "1", "ann", "token", server[0]),
        "2",
        "r1",
        Record(4),
        "text",
        **getattr(request, "param", {}),
    )
    yield device
    device.close()


async def test_told_to_come_again_or_elsewhere_it_does_so_at_once(server, device):
    """It does not sit out its time beside a closed socket."""
    url, script, hellos = server
    script += [
        [4006],
        [{"type": "moved", "url": f"{url}other"}, 4001],
        [WELCOME, 4006],
        [WELCOME, LIVE],
    ]
    async with asyncio.timeout(TIMEOUT_S):
        await device.connect()

    assert hellos.qsize() == 4
    assert device._record.disconnects == 0


async def test_a_gateway_that_is_gone_for_good_is_looked_for(server):
    """After three attempts that failed it asks where its gateway is now: what it has sent would
    count as lost else.
    """
    url, script, _ = server
    script += [[WELCOME, LIVE]]
    asked = []

    async def find(user):
        asked.append(user.name)
        return url

    device = swarm.ChatDevice(
        "ws://127.0.0.1:1/",
        User(0, "1", "ann", "token", ""),
        "2",
        "r1",
        Record(4),
        "text",
        find=find,
    )
    async with asyncio.timeout(TIMEOUT_S):
        await device.connect()
    device.close()

    assert asked == ["ann"]


async def test_a_cut_connection_is_resumed_and_unanswered_sends_are_repeated(server, device):
    """With the newest cursor, and under the same key."""
    _, script, hellos = server
    script += [[WELCOME, LIVE], [4006], [WELCOME, LIVE]]
    await device.connect()
    await hellos.get()
    device.send(3)
    device._transport.disconnect()
    async with asyncio.timeout(TIMEOUT_S):
        resumed, again = await hellos.get(), await hellos.get()
        await device._live.wait()
        while device._record.tries[3] < 2:
            await asyncio.sleep(0)

    assert (resumed["resume"], again["resume"]) == ("c2", "c2")
    assert device._record.disconnects == 1
    assert list(device.unanswered) == [3]


@pytest.mark.parametrize("device", [{"connect_timeout_s": 0.3}], indirect=True)
async def test_one_that_is_refused_says_so(server, device):
    """After its timeout; and it leaves nothing behind that goes on trying."""
    _, script, hellos = server
    script += [[4006]] * 100
    with pytest.raises(TimeoutError):
        await device.connect()
    tried = hellos.qsize()

    assert tried > 1
    assert device._reconnecting is None


def test_the_generator_is_ahead_only_while_it_sends():
    """A process that measures is as all others before and after."""
    before = os.sched_getscheduler(0)
    with ahead_of_others():
        ahead = os.sched_getscheduler(0)

    assert ahead != before or os.geteuid()
    assert os.sched_getscheduler(0) == before
