"""`scripts/faults`: takes parts of the running product away while clients talk, and counts from the clients' side what was lost.

Every fault is a step of load on one product that keeps running, so each also shows that the one before left nothing broken.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx
import uvloop

from measure import report, swarm
from measure.record import Record
from measure.run import Run, say
from servers.services import Services

BEFORE_S, AFTER_S = 5.0, 20.0
HEAL_S = 120.0
SLOW_NS = 1_000_000_000

EXAMPLES = """examples:
  scripts/faults                                      every fault there is, one after the other
  scripts/faults broker-kill cassandra-stop           these two
  scripts/faults function-kill pump-kill --kills 50   kill -9, fifty times each, at random moments

It exits with 1 when anything acknowledged was lost, doubled or disordered, when a send was refused or never answered, or when the product
did not recover by itself; the lines marked with ! say what."""


@dataclass(slots=True)
class Scene:
    """What a fault acts upon, and what it found that should not be."""

    run: Run
    kills: int
    services: Services = field(default_factory=Services)
    began_ns: int = 0
    ended_ns: int = 0
    problems: list[str] = field(default_factory=list)

    async def outage(self, name: str, seconds: float, *, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        """Stops a store, waits, starts it again."""
        await asyncio.to_thread(self.services.stop, name)
        say(f"  {name} is stopped for {seconds:.0f} s")
        until = time.monotonic() + seconds
        if meanwhile is not None:
            await meanwhile()
        await asyncio.sleep(until - time.monotonic())
        await asyncio.to_thread(self.services.start, name)
        say(f"  {name} serves again")

    async def kill_one_by_one(self, kind: str) -> None:
        """Kill -9 of each process of a kind in turn, at random moments."""
        chooser = random.Random(self.run.options.seed)  # noqa: S311 - repeatable moments
        assert self.run.product is not None  # noqa: S101 - we started it
        names = sorted(name for name in self.run.product.processes() if name.startswith(f"{kind}-"))
        for kill, name in zip(range(self.kills), itertools.cycle(names), strict=False):
            await asyncio.sleep(chooser.uniform(0.2, 1.5))
            try:
                self.run.product.kill(name)
            except ProcessLookupError:
                say(f"  {name} was down already")
            else:
                say(f"  kill {kill + 1} of {self.kills}: {name}")


class Fault(NamedTuple):
    """`lasts_s`: how long the load must go on for it, beside what comes before and after."""

    what: str
    act: Callable[[Scene], Awaitable[None]]
    lasts_s: Callable[[int], float]


async def broker_kill(scene: Scene) -> None:
    """Kill -9 and start."""
    await asyncio.to_thread(scene.services.kill, "kafka")
    say("  kafka is killed")
    await asyncio.to_thread(scene.services.start, "kafka")
    say("  kafka serves again")


async def broker_pause(scene: Scene) -> None:
    """SIGSTOP: connections stay and nothing answers."""
    scene.services.pause("kafka")
    say("  kafka stands still for 30 s")
    await asyncio.sleep(30)
    scene.services.resume("kafka")


async def postgres_stop(scene: Scene) -> None:
    """Log-in says when to come again, pairs that never talked wait; all others talk on."""
    run = scene.run
    strangers = await run.target.users(2, f"stranger-{time.monotonic_ns()}")
    record = Record(1)
    devices = [
        swarm.ChatDevice(run.ws or user.gateway, user, strangers[1 - number].user, f"s{time.monotonic_ns()}", record, "hello")
        for number, user in enumerate(strangers)
    ]
    await swarm.connect_all(devices)

    async def meanwhile() -> None:
        await asyncio.sleep(1)
        record.sent[0] = record.due[0] = time.monotonic_ns()
        devices[0].send(0)
        async with httpx.AsyncClient(timeout=30) as client:
            body = {"user_name": strangers[0].name, "password": "not asked for", "device": "phone"}
            answer = await client.post(f"{run.http}/v1/sessions", json=body)
        if answer.status_code != 503 or "retry-after" not in answer.headers:
            scene.problems.append(f"log-in answered {answer.status_code} without the database instead of 503 with Retry-After")

    await scene.outage("postgres", 60, meanwhile=meanwhile)
    await swarm.settle(devices, record, HEAL_S)
    if record.refused or not (record.acked[0] and record.delivered[0]):
        scene.problems.append(f"the first message of a pair was not kept for later: acked {record.acked[0]}, refused {record.refused}")
    for device in devices:
        device.close()


FAULTS = {
    "broker-kill": Fault("kill -9 of Kafka and its start", broker_kill, lambda _: 30),
    "broker-stop": Fault("Kafka stopped for 30 s", lambda scene: scene.outage("kafka", 30), lambda _: 45),
    "broker-pause": Fault("Kafka stands still for 30 s (SIGSTOP)", broker_pause, lambda _: 30),
    "cassandra-stop": Fault("Cassandra stopped for 60 s", lambda scene: scene.outage("cassandra", 60), lambda _: 80),
    "postgres-stop": Fault("PostgreSQL stopped for 60 s", postgres_stop, lambda _: 62),
    "redis-stop": Fault("Redis stopped for 30 s", lambda scene: scene.outage("redis", 30), lambda _: 31),
    "function-kill": Fault("kill -9 of each function in turn", lambda scene: scene.kill_one_by_one("function"), lambda kills: kills * 0.9),
    "pump-kill": Fault("kill -9 of each pump in turn", lambda scene: scene.kill_one_by_one("pump"), lambda kills: kills * 0.9),
}


async def one(run: Run, name: str, kills: int) -> bool:
    """One fault under load; whether it passed."""
    fault, scene = FAULTS[name], Scene(run, kills)
    say(f"{name}: {fault.what}")

    async def act() -> None:
        scene.began_ns = time.monotonic_ns()
        await fault.act(scene)
        scene.ended_ns = time.monotonic_ns()

    seconds = BEFORE_S + fault.lasts_s(kills) + AFTER_S
    step = await run.step(run.options.rate, seconds, warm_up_s=BEFORE_S, trouble=act)
    report.show(step, title=f"{name}: {fault.what}, {run.options.rate:g}/s for {seconds:.0f} s, {run.options.clients} clients")
    _show_recovery(step.record, scene)
    for problem in scene.problems:
        print(f"  ! {problem}")
    if step.verdict.refused:
        print(f"  ! {step.verdict.refused} sends were refused: {sorted(set(step.record.refused.values()))}")
    passed = step.verdict.good and not step.verdict.refused and not scene.problems
    print(f"  {'passed' if passed else 'FAILED'}", flush=True)
    return passed


def _show_recovery(record: Record, scene: Scene) -> None:
    inside = [row for row in range(record.slots) if scene.began_ns <= record.due[row] <= scene.ended_ns]
    acked = sum(1 for row in inside if record.acked[row] and record.acked[row] - record.due[row] < SLOW_NS)
    behind_ns = max((record.delivered[row] for row in inside), default=scene.ended_ns) - scene.ended_ns
    slow = [row for row in range(record.slots) if record.due[row] > scene.ended_ns and record.delivered[row] - record.due[row] > SLOW_NS]
    normal_ns = max((record.due[row] for row in slow), default=scene.ended_ns) - scene.ended_ns
    lasted_s, caught_up_s, normal_s = ((scene.ended_ns - scene.began_ns) / 1e9, max(0, behind_ns) / 1e9, normal_ns / 1e9)
    print(f"  lasted {lasted_s:.1f} s: of {len(inside)} sends in it {acked} were acknowledged within a second")
    print(f"  all of them delivered {caught_up_s:.1f} s after its end; every delivery within a second again after {normal_s:.1f} s")
    sent = sum(1 for at in record.acked if at)
    print(f"  acknowledged {sent}: of those fewer than 1 in {max(1, sent // 3)} are lost, at 95 %")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    names = "\n".join(f"  {name:<16} {fault.what}" for name, fault in FAULTS.items())
    parser = argparse.ArgumentParser(
        "scripts/faults",
        description=__doc__,
        epilog=f"faults:\n{names}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="which; all of them when none is named")
    parser.add_argument("--rate", type=float, default=200, help="messages a second (default 200)")
    parser.add_argument("--clients", type=int, default=60, help="connected users, in pairs (default 60)")
    parser.add_argument("--kills", type=int, default=50, help="with function-kill and pump-kill: how often (default 50)")
    parser.add_argument("--gateways", type=int, default=1, help="how many (default 1)")
    parser.add_argument("--sink", action="store_true", help="gateways post to a receiver, as on Knative")
    parser.add_argument("--bytes", type=int, default=256, help="length of a message's text (default 256)")
    parser.add_argument("--seed", type=int, default=1, help="of the schedule and of the kills")
    options = parser.parse_args(arguments, argparse.Namespace(real=True, http=None, ws=None, no_pin=True, saturate=False))
    if unknown := [name for name in options.faults if name not in FAULTS]:
        parser.error(f"unknown fault {unknown[0]!r}; there are {', '.join(FAULTS)}")
    return options


async def measure(options: argparse.Namespace) -> int:
    """All faults that were asked for; the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="kn-chat-faults-"))
    run = Run(options, folder)
    run.settle_s = HEAL_S
    try:
        await run.start()
        await run.log_in()
        passed = {name: await one(run, name, options.kills) for name in options.faults or FAULTS}
    finally:
        await run.stop()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    failed = [name for name, good in passed.items() if not good]
    print(f"\n{len(passed)} faults, {'all passed' if not failed else 'FAILED: ' + ', '.join(failed)}")
    return 1 if failed else 0


def main() -> None:
    """Entry of `scripts/faults`."""
    sys.exit(uvloop.run(measure(parse())))


if __name__ == "__main__":
    main()
