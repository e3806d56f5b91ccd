"""What `faults` does to the running product: outages of stores, and kill -9 of its own processes at
random moments.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx

from measure import swarm
from measure.record import Record
from measure.run import Run, say
from servers.services import SERVERS, Services

HEAL_S = 120.0
"""After it everything that waited must have been delivered."""
# Users without a chat yet: so many of them, and so many messages a second to them, which must
# all arrive so soon after a return.
NEW_USERS, NEW_USERS_RATE, NEW_USERS_S = 20, 10, 10.0
# 45 minutes of a pump are 60 s with `kn-chat pump --pace`, so that a dispatcher's retries end
# several times.
LONG_AWAY_S, LONG_PACE = 60.0, "--pump=--pace=0.0222"
# Kills of one step follow each other so: a function needs a second or two to be back, and may be
# killed again before.
KILL_INTERVAL_S = (0.2, 1.5)


@dataclass(slots=True)
class Scene:
    """What a fault acts upon, and what it found that should not be."""

    run: Run
    services: Services
    kills: int = 0
    outage_s: float = 0.0
    began_ns: int = 0
    """When it began; `back_ns`: when the store was started again; `ended_ns`: when it served
    again.
    """
    back_ns: int = 0
    ended_ns: int = 0
    problems: list[str] = field(default_factory=list)

    async def outage(
        self, name: str, *, meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Stops a store, waits, starts it again."""
        await asyncio.to_thread(self.services.stop, name)
        say(f"  {name} is stopped for {self.outage_s:g} s")
        until = time.monotonic() + self.outage_s
        if meanwhile is not None:
            await meanwhile()
        await asyncio.sleep(until - time.monotonic())
        self.back_ns = time.monotonic_ns()
        await asyncio.to_thread(self.services.start, name)

    async def kill_one_by_one(self, kind: str) -> None:
        """Kill -9 of each process of a kind in turn, at random moments.

        One that is down is waited for: each kill kills.
        """
        chooser = random.Random(self.run.options.seed)  # noqa: S311 - repeatable moments
        product = self.run.product
        assert product is not None  # noqa: S101 - we started it
        # In the order in which a message passes them.
        names = [name for name in product.processes() if name.startswith(f"{kind}-")]
        for kill, name in zip(range(self.kills), itertools.cycle(names), strict=False):
            await asyncio.sleep(chooser.uniform(*KILL_INTERVAL_S))
            until = time.monotonic() + HEAL_S
            while not product.kill(name):
                if time.monotonic() > until:
                    self.problems.append(f"{name} was not started again within {HEAL_S:.0f} s")
                    return
                await asyncio.sleep(0.1)
            say(f"  kill {kill + 1} of {self.kills}: {name}")


class Fault(NamedTuple):
    """What is done, in words with `{away}` for how long; `lasts_s`: what the load goes on for,
    beside the outage, until all serves again.

    `goes_on`: messages are delivered as always during the outage; `p99_s`: so soon. `kept_s`:
    all are in history so soon after its return. `kills`: it lasts as long as the kills that were
    asked for. `flags`: what `dev --real` is started with.
    """

    what: str
    act: Callable[[Scene], Awaitable[None]]
    away_s: float = 0.0
    lasts_s: float = 0.0
    goes_on: bool = False
    kills: bool = False
    p99_s: float = 0.0
    kept_s: float = 0.0
    flags: tuple[str, ...] = ()


async def broker_kill(scene: Scene) -> None:
    """Kill -9 and start."""
    await asyncio.to_thread(scene.services.kill, "kafka")
    say("  kafka is killed")
    await asyncio.to_thread(scene.services.start, "kafka")


async def broker_pause(scene: Scene) -> None:
    """SIGSTOP: connections stay and nothing answers."""
    scene.services.pause("kafka")
    say(f"  kafka stands still for {scene.outage_s:g} s")
    await asyncio.sleep(scene.outage_s)
    scene.services.resume("kafka")


async def postgres_stop(scene: Scene) -> None:
    """Log-in says when to come again; users who know each other talk on; first messages, ten a
    second, wait, and come soon after.
    """
    run = scene.run
    others = await run.target.users(NEW_USERS, f"new-{time.monotonic_ns()}")
    record, key = Record(int(scene.outage_s * NEW_USERS_RATE)), f"s{time.monotonic_ns()}"
    devices = [
        swarm.ChatDevice(
            run.ws or user.gateway, user, others[number ^ 1].user, key, record, "hello"
        )
        for number, user in enumerate(others)
    ]
    await swarm.connect_all(devices)

    async def meanwhile() -> None:
        began, row = time.monotonic(), 0
        login = asyncio.create_task(_log_in(scene, others[0].name))
        while row < record.slots and time.monotonic() < began + scene.outage_s - 1:
            record.sent[row] = record.due[row] = time.monotonic_ns()
            devices[row % NEW_USERS].send(row)
            row += 1
            await asyncio.sleep(max(0.0, began + row / NEW_USERS_RATE - time.monotonic()))
        await login

    await scene.outage("postgres", meanwhile=meanwhile)
    served_ns = time.monotonic_ns()
    await swarm.settle(devices, record, HEAL_S)
    rows = [row for row in range(record.slots) if record.sent[row]]
    arrived_s = (max(record.delivered[row] for row in rows) - served_ns) / 1e9
    say(
        f"  {len(rows)} first messages: the last arrived {arrived_s:.1f} s after the database's "
        "return"
    )
    if record.refused or record.outstanding:
        scene.problems.append(
            f"of {len(rows)} first messages {record.outstanding} did not arrive, refused "
            f"{record.refused}"
        )
    elif arrived_s > NEW_USERS_S:
        scene.problems.append(
            f"first messages arrived {arrived_s:.1f} s after the database's return, not "
            f"within {NEW_USERS_S:g} s"
        )
    for device in devices:
        device.close()


async def _log_in(scene: Scene, name: str) -> None:
    async with httpx.AsyncClient(timeout=30) as client:
        body = {"user_name": name, "password": "not asked for", "device": "phone"}
        answer = await client.post(f"{scene.run.http}/v1/sessions", json=body)
    if answer.status_code != 503 or "retry-after" not in answer.headers:
        scene.problems.append(
            f"log-in answered {answer.status_code} without the database instead of 503 with "
            "Retry-After"
        )


def _stop(name: str) -> Callable[[Scene], Awaitable[None]]:
    return lambda scene: scene.outage(name)


def _kill(kind: str) -> Callable[[Scene], Awaitable[None]]:
    return lambda scene: scene.kill_one_by_one(kind)


FAULTS = {
    "broker-kill": Fault("kill -9 of Kafka and its start", broker_kill, lasts_s=20),
    "broker-stop": Fault("Kafka stopped for {away}", _stop("kafka"), away_s=30, lasts_s=15),
    "broker-pause": Fault("Kafka stands still for {away} (SIGSTOP)", broker_pause, away_s=30),
    "cassandra-stop": Fault(
        "Cassandra stopped for {away}", _stop("cassandra"), away_s=60, lasts_s=20, goes_on=True
    ),
    "cassandra-long": Fault(
        "Cassandra stopped for {away}, 45 minutes by the clock of our pumps",
        _stop("cassandra"),
        away_s=LONG_AWAY_S,
        lasts_s=20,
        goes_on=True,
        kept_s=60,
        flags=(LONG_PACE,),
    ),
    "cassandra-dispatcher": Fault(
        "Cassandra stopped for {away}, 45 minutes by the clock of pumps that give up as Knative's "
        "dispatcher does",
        _stop("cassandra"),
        away_s=LONG_AWAY_S,
        lasts_s=20,
        goes_on=True,
        kept_s=60,
        flags=(LONG_PACE, "--pump=--strict"),
    ),
    "postgres-stop": Fault(
        "PostgreSQL stopped for {away}",
        postgres_stop,
        away_s=60,
        lasts_s=3,
        goes_on=True,
        p99_s=0.1,
    ),
    "redis-stop": Fault(
        "Redis stopped for {away}", _stop("redis"), away_s=30, lasts_s=1, goes_on=True
    ),
    "function-kill": Fault("kill -9 of each function in turn", _kill("function"), kills=True),
    # A killed member keeps its partitions for 10 s, and one killed again and again leaves several:
    # up to 25 s after the last (measured).
    "pump-kill": Fault("kill -9 of each pump in turn", _kill("pump"), lasts_s=20, kills=True),
    "gateway-kill": Fault("kill -9 of each gateway in turn", _kill("gateway"), kills=True),
}


def bring_back(services: Services, names: Iterable[str] = SERVERS) -> None:
    """Starts every store that does not run, resumes every one that is paused."""
    for name in names:
        running = services.process(name)
        if running is None:
            services.start(name)
        elif running.paused():
            services.resume(name)
