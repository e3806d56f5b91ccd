"""The machine's clock is set, or the machine suspended, while people write: they write on, in
order, and no call is refused.
"""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import time
from pathlib import Path

import pytest

from knchat_client import Client, Disconnected, Reload, frames
from tests.journeys.conftest import PASSWORD, Dev, real_dev
from tests.journeys.shim import Shim

log = logging.getLogger(__name__)

PAIRS = 8
PAUSE_S = 0.03
"""Between a message and its reply: with it about 150 messages a second."""
MAX_GAP_S = 5.0
"""Each person writes something new within so long after each step."""
STEPS_S = (-3_600, 0, -10, 0, 10, 0, 300, 0, 3_600, 0, 90_000, 0)
SUSPENDED_S = 1_200


@pytest.fixture
def shim(tmp_path):
    return Shim(tmp_path)


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def stepped(request, tmp_path, shim):
    """The product on clocks that the test sets; the stores of the real one keep the true time."""
    folder = tmp_path / "data"
    if request.param == "embedded":
        server = Dev(folder, environ=shim.environ)
    else:
        shim.set_wall(-3_600)  # wrong from the start: only the stores know better
        server = real_dev(folder, sink=False, environ=shim.environ)
    yield server.start()
    assert server.stop() == 0


class RecordingClient:
    """One client, what it was pushed, and how its sessions ended."""

    def __init__(self, http: str) -> None:
        self.client = Client(http, device="phone", timeout_s=20)
        self.there: dict[str, asyncio.Event] = {}
        self.reload = asyncio.Event()
        self.codes: list[int | None] = []

    async def come(self, name: str) -> None:
        name = f"{name}-{secrets.token_hex(4)}"
        await self.client.register(name, PASSWORD, display_name=name)
        await self.client.log_in(name, PASSWORD)
        await self.client.connect()

    async def listen(self) -> None:
        async for event in self.client.events():
            if isinstance(event, frames.Message):
                self.there.setdefault(event.message, asyncio.Event()).set()
            elif isinstance(event, Reload):
                self.reload.set()
            elif isinstance(event, Disconnected):
                self.codes.append(event.code)
            else:
                assert not isinstance(event, frames.Refused | frames.Failed), event

    async def has(self, message: str, chat: str) -> None:
        """It was pushed, or is read where the server has said that more was missed than it holds:
        after 20 minutes it holds nothing.
        """
        pushed = self.there.setdefault(message, asyncio.Event())
        while not pushed.is_set():
            if self.reload.is_set() and message in {
                one.message for one in (await self.client.history(chat)).messages
            }:
                return
            # `wait_for` loses a cancellation that comes with the push (Python 3.11).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await pushed.wait()


class Chat:
    """Two people who answer each other: each message is written by one who has
    seen the one before.
    """

    def __init__(self, http: str) -> None:
        self.people = RecordingClient(http), RecordingClient(http)
        self.sent: list[tuple[float, float, int]] = []
        """Begun, acknowledged, id."""
        self.doing = ""

    async def talk(self) -> None:
        one, other = self.people
        while True:
            self.doing, begun = "sends", time.monotonic()
            sent = await one.client.send("hello", to=other.client.login.user, timeout_s=20)
            self.sent.append((begun, time.monotonic(), int(sent.message)))
            self.doing = f"waits for the push of {sent.message}"
            async with asyncio.timeout(20):
                await other.has(sent.message, sent.chat)
            await asyncio.sleep(PAUSE_S)
            one, other = other, one

    def again_s(self, since: float) -> float | None:
        """How long after that moment both had written something new."""
        new = [acked for begun, acked, _ in self.sent if begun >= since]
        return new[1] - since if len(new) > 1 else None


def pids(server: Dev) -> list[int]:
    """Of the product's processes, not of the one that looks after them."""
    listed = Path(server.folder) / "processes.json"
    if not listed.exists():
        return [server.process.pid]
    return [child["pid"] for child in json.loads(listed.read_text()).values()]


async def written_again(chats: list[Chat], what: str, dwell_s: float) -> float:
    """Waits until all have written since now; the seconds that it took the slowest."""
    since = time.monotonic()
    while any(chat.again_s(since) is None for chat in chats) or time.monotonic() < since + dwell_s:
        late = [chat.doing for chat in chats if chat.again_s(since) is None]
        assert time.monotonic() < since + max(dwell_s, 4 * MAX_GAP_S), (
            f"{what}: some write no more: {late}"
        )
        await asyncio.sleep(0.05)
    slowest_s = max(chat.again_s(since) for chat in chats)
    log.info("%s: all have written again after %.2f s", what, slowest_s)
    return slowest_s


async def suspend(server: Dev, shim: Shim) -> None:
    stopped = pids(server)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    shim.suspend(SUSPENDED_S)
    await asyncio.sleep(0.5)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
async def test_people_write_on_when_the_clock_is_set(stepped, shim, request):
    """By an hour back to a day ahead and back again, and after a suspend of 20
    minutes, under load.
    """
    dwell_s = request.config.getoption("--dwell")
    chats = [Chat(stepped.http) for _ in range(PAIRS)]
    people = [person for chat in chats for person in chat.people]
    for person in people:
        await person.come("ann")
    working = [asyncio.create_task(person.listen()) for person in people] + [
        asyncio.create_task(chat.talk()) for chat in chats
    ]
    try:
        slowest = {"at first": await written_again(chats, "at first", dwell_s)}
        for ahead_s in STEPS_S:
            shim.set_wall(ahead_s)
            what = f"clock {ahead_s:+} s" if ahead_s else "clock right again"
            slowest[what] = max(slowest.get(what, 0.0), await written_again(chats, what, dwell_s))
        await suspend(stepped, shim)
        slowest["suspended"] = await written_again(chats, "suspended", dwell_s)
        slowest["after that"] = await written_again(chats, "after that", dwell_s)
        assert not [task for task in working if task.done()], [
            task.exception() for task in working if task.done()
        ]
    finally:
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)

    assert {what: seconds for what, seconds in slowest.items() if seconds > MAX_GAP_S} == {}
    ids = [number for chat in chats for *_, number in chat.sent]
    assert len(set(ids)) == len(ids)
    for chat in chats:
        numbers = [number for *_, number in chat.sent]
        assert numbers == sorted(numbers)
        assert await history(chat) >= set(numbers)
    codes = [code for person in people for code in person.codes]
    assert [code for code in codes if code is not None and code >= 4_400] == []
    log.info("%d messages; sessions that ended: %s", len(ids), codes)
    await asyncio.gather(*(person.client.close() for person in people))


@pytest.mark.slow
async def test_a_machine_that_was_ahead_before_its_restart_writes_on(tmp_path, shim):
    """Without a database its log and its log-ins say what time it was, so that ids go on rising,
    and those who were logged in write on.
    """
    shim.set_wall(3_600)
    server = Dev(tmp_path / "data", environ=shim.environ).start()
    chat = Chat(server.http)
    try:
        for person in chat.people:
            await person.come("ann")
        one, other = (person.client for person in chat.people)
        before = await one.send("before", to=other.login.user)
        server.stop()
        shim.set_wall(0)
        server.start()
        since = time.monotonic()
        after = await other.send("after", to=one.login.user)

        assert time.monotonic() - since < MAX_GAP_S
        assert int(after.message) > int(before.message)
        async with asyncio.timeout(30):  # history is written behind
            while len(page := (await one.history(before.chat)).messages) < 2:
                await asyncio.sleep(0.1)
        assert [message.message for message in page] == [after.message, before.message]
        for client in (one, other):
            await client.close()
    finally:
        assert server.stop() == 0


async def history(chat: Chat) -> set[int]:
    """What can be read of it, page by page, once all is there."""
    one, other = chat.people
    name = one.client.chat_with(other.client.login.user)
    until = time.monotonic() + 20
    while True:
        found: set[int] = set()
        before = None
        while page := (await one.client.history(name, before=before, limit=256)).messages:
            found |= {int(message.message) for message in page}
            before = page[-1].message
        if found >= {number for *_, number in chat.sent} or time.monotonic() > until:
            return found
        await asyncio.sleep(0.5)
