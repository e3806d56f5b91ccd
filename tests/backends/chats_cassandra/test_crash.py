"""Chats on a Cassandra that dies, or stands still, under load.

It is a server of this test's own.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from backends.chats import Watermark
from backends.chats.cassandra import CassandraChats
from backends.chats.cassandra_nodes import Nodes
from backends.settings import Settings
from schemas.errors import Unavailable
from schemas.ids import LATEST
from tests.backends.chat_pairs import NOW, Pair
from tests.backends.chats_cassandra.answered import RECOVERY_S, until_answered

pytestmark = [pytest.mark.slow, pytest.mark.real]

TIMEOUT_S = 2.0
SIDES = 8  # as many events of `persist` side by side


@pytest.fixture
async def chats(fragile):
    """An adapter on it."""
    fragile.start("cassandra")
    settings = Settings.from_env(fragile.settings(["cassandra"]))
    chats = CassandraChats(Nodes(places=settings.cassandra, replication=1, timeout_s=TIMEOUT_S))
    await chats.migrate()
    yield chats
    await chats.close()


class Writers:
    """Put batches of 16 and marks, side by side, and again whatever did not return.

    They note what did.
    """

    def __init__(self, chats):
        self.pairs = [Pair() for _ in range(SIDES)]
        self.kept = [0] * SIDES
        self.unavailable = 0
        self.stopping = False
        self._chats = chats

    async def write(self, number):
        """Until `stopping`."""
        pair = self.pairs[number]
        while not self.stopping:
            start = NOW + self.kept[number]
            try:
                await self._chats.put(pair.messages(range(start, start + 16)))
                await self._chats.mark([Watermark(pair.ben, pair.chat, start, start)])
            except Unavailable:
                self.unavailable += 1
                await asyncio.sleep(0.05)
            else:
                self.kept[number] += 16

    async def more(self, count=160):
        """Waits until each has written so many more."""
        aims = [kept + count for kept in self.kept]
        async with asyncio.timeout(60):
            while any(kept < aim for kept, aim in zip(self.kept, aims, strict=True)):
                await asyncio.sleep(0.01)

    async def check(self):
        """All that had returned is there, with its pointers."""
        for pair, kept in zip(self.pairs, self.kept, strict=True):
            found, more = [], True
            while more:
                anchor = found[-1].id if found else NOW + kept
                page = await self._chats.page(
                    pair.chat, direction="before", anchor=anchor, limit=256
                )
                found, more = [*found, *page.messages], page.more_before
            [state] = await self._chats.unread(pair.ben, [pair.chat])
            assert [message.id for message in found] == list(range(NOW + kept - 1, NOW - 1, -1))
            assert state.newest >= NOW + kept - 1
            assert state.read >= NOW + kept - 16


async def interrupt(chats, stop, restart):
    """Writes, lets `stop` happen, then `restart`; checks that nothing that returned is gone.

    Seconds from `restart` to the first answer.
    """
    writers = Writers(chats)
    async with asyncio.TaskGroup() as tasks:
        for number in range(SIDES):
            tasks.create_task(writers.write(number))
        await writers.more()
        await asyncio.to_thread(stop)
        before = writers.unavailable
        while writers.unavailable == before:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(restart)
        began = time.monotonic()
        await until_answered(
            lambda: chats.page(writers.pairs[0].chat, direction="before", anchor=LATEST, limit=1),
            within_s=30,
        )
        recovered_s = time.monotonic() - began
        await writers.more()
        writers.stopping = True
    await writers.check()
    return recovered_s


async def test_what_had_returned_survives_kill_9(chats, fragile):
    """What a node has synced is there when it is restarted."""
    recovered_s = await interrupt(
        chats, lambda: fragile.kill("cassandra"), lambda: fragile.up(["cassandra"])
    )

    assert recovered_s < RECOVERY_S + TIMEOUT_S


async def test_a_server_that_is_paused_and_resumed(chats, fragile):
    """No connection breaks: only our deadlines notice.

    Long enough that the driver gives the node up.
    """

    def restart():
        time.sleep(15)
        fragile.resume("cassandra")

    recovered_s = await interrupt(chats, lambda: fragile.pause("cassandra"), restart)

    assert recovered_s < RECOVERY_S + TIMEOUT_S
