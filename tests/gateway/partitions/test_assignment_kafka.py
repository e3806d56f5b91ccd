"""Gateways as processes that share the partitions on a real Kafka: a crash, a pause, a planned
stop, recreated topics.
"""

import asyncio
import logging
import os
import signal
import sys
import time
import uuid
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import pytest

from backends.log.kafka.brokers import Brokers
from backends.wiring import Backends
from gateway.app import Gateway
from gateway.timing import Timing
from schemas.ids import direct_chat
from schemas.topics import DELIVERIES, user_partition
from tests.gateway.people import Person, deliver, id_now, message

TIMEOUT_S = 60  # other tests share the machine
USERS = {user_partition(user, 12): user for user in range(1, 400)}
SENDER = 1_000
SCRIPT = Path(__file__).with_name("gateway_with_prefix.py")

log = logging.getLogger(__name__)

pytestmark = pytest.mark.slow


class Prefixed(Backends):
    """Its Kafka topics and groups are this test's."""

    @cached_property
    def _brokers(self):
        return Brokers(self.settings.kafka, prefix=self.prefix)


@pytest.fixture
async def backends(settings, kafka_settings):
    """The log on Kafka, everything else in the test's folder."""
    opened = Prefixed(replace(settings, log="kafka", drain_s=10, **kafka_settings))
    opened.prefix = f"test-{uuid.uuid4().hex[:8]}-"
    await opened.topics.create()
    yield opened
    await opened.close()


@pytest.fixture
async def start(backends, redis_settings):
    """Gateways as processes, by name; who still runs is ended."""
    running = []

    async def start_one(name):
        own = {
            "KNCHAT_DATA": str(backends.settings.data),
            "KNCHAT_GATEWAY_PORT": "0",
            "KNCHAT_GATEWAY_NAME": name,
            "KNCHAT_LOG": "kafka",
            "KNCHAT_KAFKA": ",".join(backends.settings.kafka),
            "KNCHAT_DRAIN_S": "10",
            "KNCHAT_REDIS": redis_settings["redis"],
        }
        started = await asyncio.create_subprocess_exec(
            sys.executable,
            SCRIPT,
            backends.prefix,
            env={**os.environ, **own},
            stdout=asyncio.subprocess.PIPE,
        )
        running.append(started)
        async with asyncio.timeout(TIMEOUT_S):
            word, started.url = (await started.stdout.readline()).decode().split()
        assert word == "ready"
        return started

    yield start_one
    for started in running:
        if started.returncode is None:
            started.kill()
        await started.communicate()


@pytest.fixture
async def connect(backends):
    """People who have said hello, wherever they were sent."""
    people = []

    async def connect_one(user, at, **hello):
        """Comes back like a client: where it is sent, and again after a while."""
        url = at.url
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                people.append(made := Person(user, "phone", SimpleNamespace(url=url), backends))
                try:
                    await made.connect(**hello)
                except OSError:
                    url = at.url
                else:
                    if made.welcome is not None and made.welcome["type"] == "welcome":
                        made.url = url
                        return made
                    url = at.url if made.welcome is None else made.welcome["url"]
                await asyncio.sleep(0.1)

    yield connect_one
    for made in people:
        await made.leave()


async def owners(backends):
    return {
        partition: owner.url
        for partition in range(12)
        if (owner := await backends.owners.owner_of(partition)) is not None
    }


async def shared(backends, *urls):
    """When each of these owns its part."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            found = list((await owners(backends)).values())
            if sorted(found.count(url) for url in urls) == [12 // len(urls)] * len(urls):
                return
            await asyncio.sleep(0.05)


async def texts(person, count):
    """The next messages."""
    return [(await person.hear("message"))["text"] for _ in range(count)]


async def tell(backends, user, *words):
    for word in words:
        await deliver(backends, message(id_now(), SENDER, user, word))


@asynccontextmanager
async def timed(what):
    """Notes how long it takes; `pytest -o log_cli=1 --log-level=INFO` shows it."""
    began_s = time.monotonic()
    yield
    log.info("%s: %.2f s", what, time.monotonic() - began_s)


async def test_a_crash_a_return_and_a_planned_stop(start, backends, connect):
    """Through all of it a device hears every message once, at whichever gateway it is sent to."""
    first = await start("gateway-0")
    second = await start("gateway-1")
    await shared(backends, first.url, second.url)
    user = next(
        USERS[partition] for partition, url in (await owners(backends)).items() if url == second.url
    )
    ann = await connect(user, first)
    assert ann.url == second.url
    await ann.until_live()
    await tell(backends, user, "one")
    assert await texts(ann, 1) == ["one"]

    second.kill()
    assert await ann.ended() == 1006
    await tell(backends, user, "two", "three")
    async with timed("taken over after kill -9"):
        ann = await connect(user, first, resume=ann.last_cursor)
    assert (ann.url, ann.welcome["result"]) == (first.url, "resumed")
    assert await texts(ann, 2) == ["two", "three"]

    async with timed("started again"):
        second = await start("gateway-1")
    moved = await ann.hear("moved")
    assert moved["url"] == second.url
    assert await ann.ended() == 4001
    await tell(backends, user, "four")
    ann = await connect(user, second, resume=ann.last_cursor)
    assert (ann.url, ann.welcome["result"]) == (second.url, "resumed")
    assert await texts(ann, 1) == ["four"]

    second.send_signal(signal.SIGTERM)
    assert (await ann.hear("drain"))["type"] == "drain"
    await tell(backends, user, "five")
    assert await texts(ann, 1) == ["five"]
    async with timed("moved at a planned stop"):
        assert (await ann.hear("moved"))["url"] == first.url
        assert await ann.ended() == 4001
    ann = await connect(user, first, resume=ann.last_cursor)
    await tell(backends, user, "six")
    assert await texts(ann, 1) == ["six"]
    async with asyncio.timeout(TIMEOUT_S):
        assert await second.wait() == 0


async def test_a_gateway_that_stands_still(start, backends, connect):
    """The other has taken over meanwhile; it ends its sessions before it pushes anything, and
    shares again.
    """
    first = await start("gateway-0")
    second = await start("gateway-1")
    await shared(backends, first.url, second.url)
    user = next(
        USERS[partition] for partition, url in (await owners(backends)).items() if url == second.url
    )
    ann = await connect(user, second)
    await ann.until_live()

    second.send_signal(signal.SIGSTOP)
    await shared(backends, first.url)
    await tell(backends, user, "one")
    elsewhere = await connect(user, first, resume=ann.last_cursor)
    assert await texts(elsewhere, 1) == ["one"]
    second.send_signal(signal.SIGCONT)

    assert await ann.hear() is None
    assert ann.socket.close_code == 1012
    await shared(backends, first.url, second.url)


async def test_a_second_process_of_the_name_ends_the_first(start, backends):
    """Exit code 1, and the one that came last serves."""
    first = await start("gateway-0")
    second = await start("gateway-0")

    async with asyncio.timeout(TIMEOUT_S):
        assert await first.wait() == 1
    await shared(backends, second.url)


async def test_presence_and_typing_go_through_the_log(start, connect, backends):
    """Between two processes: what is watched, what changes, and who types."""
    gateways = await start("gateway-0"), await start("gateway-1")
    await shared(backends, *(gateway.url for gateway in gateways))
    owned = {url: partition for partition, url in (await owners(backends)).items()}
    ann, ben = (USERS[owned[gateway.url]] for gateway in gateways)
    anns, bens = await connect(ann, gateways[0]), await connect(ben, gateways[1])
    assert (await anns.ask({"type": "watch", "id": 1, "users": [str(ben)]}))["type"] == "ok"
    assert (await anns.hear("presence"))["state"] == "online"

    await bens.say({"type": "presence", "state": "busy"})
    assert (await anns.hear("presence"))["state"] == "busy"
    chat = direct_chat(ann, ben)
    await bens.say({"type": "typing", "chat": chat})

    assert await anns.hear("typing") == {"type": "typing", "chat": chat, "user": str(ben)}


async def test_recreated_topics(backends, connect):
    """Every session ends with 1012; its cursor then leads to `reset`; what comes is pushed from the
    first record on.
    """
    gateway = Gateway(backends, backends.settings, Timing(epoch_interval_s=0.2))
    await gateway.start()
    user = USERS[3]
    ann = await connect(user, gateway)
    await ann.until_live()
    await tell(backends, user, "one", "two")
    assert await texts(ann, 2) == ["one", "two"]
    brokers = Brokers(backends.settings.kafka, prefix=backends.prefix)
    admin = brokers.admin()
    await asyncio.to_thread(admin.delete_topics, [brokers.topic(DELIVERIES)])
    admin.close()
    async with asyncio.timeout(TIMEOUT_S):
        while not await backends.topics.create():
            await asyncio.sleep(0.1)

    assert await ann.ended() == 1012
    again = await connect(user, gateway, resume=ann.last_cursor)
    await tell(backends, user, "three")
    assert again.welcome["result"] == "reset"
    assert await texts(again, 1) == ["three"]
    gateway._settings = replace(gateway._settings, drain_s=0)
    await gateway.drain_and_stop()
