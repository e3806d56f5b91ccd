"""`scripts/load`: drives kn-chat as its clients do and says what it lost and how long it took.

Open loop, schedule fixed before, HdrHistogram.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from measure import checker, process, report, schedule, swarm
from measure.record import Record
from measure.target import Target, User

EXAMPLES = """examples:
  scripts/load --clients 200 --rate 300 --seconds 60       figures at a fixed rate, beside a raw relay and a bare log
  scripts/load --saturate                                  the highest rate with delivery p99 <= 100 ms
  scripts/load --crash --kills 20                          kill -9 under load, twenty times: is anything lost?
  scripts/load --http http://127.0.0.1:8080 --ws ws://127.0.0.1:8081/v1/socket    a server that already runs

It exits with 1 when any message was lost, doubled, disordered or never answered, and prints which."""

WARM_UP_S = 3.0
LIMITS_S = 4.0
SETTLE_S = 10.0
LADDER = (500, 1000, 1500, 2000, 2500, 3000, 4000, 5000, 6000, 8000)
STEP_S, LAST_STEP_S = 20.0, 60.0


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


class Run:
    """One run against one server: its users and devices, and steps of load upon them."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.server: process.Server | None = None
        self.http, self.ws = options.http, options.ws
        own_cores, self.generator_cores = process.cores()
        self.server_cores = None if options.no_pin or options.http else own_cores
        self.users: list[User] = []
        self.steps = 0
        # Lost is what is not there 10 s after the end. Above saturation a backlog takes longer, and such a step does not hold anyway.
        self.settle_s = 60.0 if options.saturate else SETTLE_S

    async def start(self) -> None:
        """Starts our own server unless one was named, and logs the users in."""
        if not self.http:
            await self.start_server()
            say(f"kn-chat dev at {self.http}, cores {self.server_cores or 'all'}; generator on {self.generator_cores}")
        if not self.options.no_pin:
            os.sched_setaffinity(0, self.generator_cores)
        self.target = Target(self.http)
        say(f"registering and logging in {self.options.clients} users")
        self.users = await self.target.users(self.options.clients, f"load-{secrets.token_hex(4)}")
        self.ws = self.ws or self.users[0].gateway

    async def start_server(self) -> None:
        """Our own `kn-chat dev`; after the first time on the same ports."""
        ports = ["0", "0"]
        if self.http:
            ports = [self.http.rpartition(":")[2], self.ws.partition("//")[2].partition("/")[0].rpartition(":")[2]]
        flags = ["--data", str(self.folder), "--no-demo", "--http-port", ports[0], "--gateway-port", ports[1]]
        self.server = await process.start(["knchat", "dev", *flags], cpus=self.server_cores)
        self.http, self.ws = self.server.ready

    async def step(self, rate: float, seconds: float, *, warm_up_s: float = WARM_UP_S, kills: int = 0) -> report.Step:
        """Holds a rate, then checks every message of it."""
        self.steps += 1
        plan = schedule.make(clients=len(self.users), rate=rate, seconds=seconds + warm_up_s, seed=self.options.seed + self.steps)
        record = Record(len(plan.senders), first=int(rate * warm_up_s))
        run, text = f"r{secrets.token_hex(4)}", "x" * max(0, self.options.bytes - 8)
        devices = [swarm.ChatDevice(self.ws, user, self.users[user.number ^ 1].user, run, record, text) for user in self.users]
        await swarm.connect_all(devices)
        idle_cpu_s = 0.0 if kills else await self._idle_cpu_s(1.0)
        progress = asyncio.create_task(self._progress(record, plan))
        crashes = asyncio.create_task(self._crash(kills, seconds, warm_up_s)) if kills else None
        meter = asyncio.create_task(self._meter(warm_up_s, seconds))
        busy = time.process_time()
        await swarm.drive(devices, plan, record)
        busy = (time.process_time() - busy) / (seconds + warm_up_s)
        if crashes is not None:
            await crashes
        used = await meter
        await swarm.settle(devices, record, self.settle_s)
        progress.cancel()
        verdict = await self._check(plan, record, devices, run)
        for device in devices:
            device.close()
        cpu = None
        if used is not None and not kills:
            cpu = (used - idle_cpu_s * seconds) * 1e6 / max(1, sum(1 for row in range(record.first, record.slots) if record.delivered[row]))
        return report.Step(rate, verdict, report.figures(record), cpu, busy, record)

    async def _check(self, plan: schedule.Schedule, record: Record, devices: list[swarm.ChatDevice], run: str) -> checker.Verdict:
        chats = [device.chat for device in devices]
        deadline = time.monotonic() + SETTLE_S
        while True:
            mine = await self.target.history(self.users[::2], chats[::2])
            stored = sum(key.startswith(f"{run}-") for messages in mine.values() for _, key in messages)
            if stored >= sum(1 for acked in record.acked if acked) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        theirs = await self.target.history(self.users[1::2], chats[1::2])
        return checker.check(record, plan, chats, run=run, mine=mine, theirs=theirs, resets=[device.resets for device in devices])

    async def _idle_cpu_s(self, seconds: float) -> float:
        if self.server is None:
            return 0.0
        before = process.cpu_s(self.server.pid)
        await asyncio.sleep(seconds)
        return (process.cpu_s(self.server.pid) - before) / seconds

    async def _meter(self, warm_up_s: float, seconds: float) -> float | None:
        if self.server is None:
            return None
        await asyncio.sleep(warm_up_s)
        before = process.cpu_s(self.server.pid)
        await asyncio.sleep(seconds)
        return process.cpu_s(self.server.pid) - before

    async def _progress(self, record: Record, plan: schedule.Schedule) -> None:
        while True:
            await asyncio.sleep(5)
            sent = sum(1 for at in record.sent if at)
            acked = sum(1 for at in record.acked if at)
            delivered = sum(1 for at in record.delivered if at)
            say(f"  {plan.rate:.0f}/s: sent {sent}/{record.slots}, acknowledged {acked}, delivered {delivered}")

    async def _crash(self, kills: int, seconds: float, warm_up_s: float) -> None:
        chooser = random.Random(self.options.seed)  # noqa: S311 - repeatable moments
        await asyncio.sleep(warm_up_s)
        for kill in range(kills):
            await asyncio.sleep(chooser.uniform(0.2, max(0.4, 2 * seconds / kills - 0.2)))
            assert self.server is not None  # noqa: S101 - --crash is refused with --http
            self.server.kill()
            await self.server.process.wait()
            await self.start_server()
            say(f"  kill {kill + 1} of {kills}")

    async def stop(self) -> None:
        """Ends what was started."""
        if hasattr(self, "target"):
            await self.target.close()
        if self.server is not None:
            await self.server.stop()


async def relay_step(run: Run, rate: float) -> report.Step:
    """The same schedule through the raw relay."""
    server = await process.start(["measure.limits", "relay"], cpus=run.server_cores)
    try:
        plan = schedule.make(clients=run.options.clients, rate=rate, seconds=LIMITS_S, seed=run.options.seed)
        record = Record(len(plan.senders), first=int(rate))
        devices = [swarm.Relayed(server.ready[0], number, record, "x" * run.options.bytes) for number in range(run.options.clients)]
        await swarm.connect_all(devices)
        cpu = process.cpu_s(server.pid)
        await swarm.drive(devices, plan, record)
        await swarm.settle(devices, record, 2)
        used = process.cpu_s(server.pid) - cpu
        for device in devices:
            device.close()
        return report.Step(rate, checker.Verdict(), report.figures(record), used * 1e6 / record.slots, 0.0, record)
    finally:
        await server.stop()


async def log_limit(run: Run, rate: float) -> tuple[float, float, float]:
    """(p50 ms, p99 ms, CPU-us per record) of the bare embedded log at this rate."""
    server = await process.start(["measure.limits", "log", str(rate), str(LIMITS_S), str(run.options.bytes)], cpus=run.server_cores)
    assert server.process.stdout is not None  # noqa: S101 - started with a pipe
    words = (await asyncio.wait_for(server.process.stdout.readline(), LIMITS_S + 20)).split()
    await server.process.wait()
    return float(words[1]) / 1000, float(words[2]) / 1000, float(words[3])


async def fixed(run: Run) -> tuple[list[report.Step], dict[str, Any]]:
    """One rate, with the limits beside it."""
    options = run.options
    step = await run.step(options.rate, options.seconds, kills=options.kills if options.crash else 0)
    report.show(
        step, title=f"kn-chat, embedded default, {options.rate}/s for {options.seconds} s, {options.clients} clients, {options.bytes} bytes"
    )
    if options.crash:
        again = sum(1 for tries in step.record.tries if tries > 2)
        print(
            f"  kill -9: {options.kills} times; sends resolved by one repeat {sum(1 for tries in step.record.tries if tries == 2)}"
            f"   interrupted again by the next kill {again}"
        )
        return [step], {}
    if run.server is None:
        return [step], {}
    relay = await relay_step(run, options.rate)
    log_p50, log_p99, log_cpu = await log_limit(run, options.rate)
    relay_p99 = relay.figures.delivery.p99
    print("\nlimits, same run, same cores, same schedule")
    print(f"  raw relay delivery  {relay.figures.delivery}   CPU-us per message {relay.cpu_us_per_message:.0f}")
    print(f"  bare log append     p50 {log_p50:7.2f}   p99 {log_p99:7.2f} ms   CPU-us per record {log_cpu:.0f}")
    ratio = step.figures.delivery.p99 / (relay_p99 + 2 * log_p99)
    print(f"  delivery p99 / (relay p99 + two appends' p99): {ratio:.2f}   ack p99 / append p99: {step.figures.ack.p99 / log_p99:.2f}")
    limits = {
        "relay": relay.figures.as_dict(),
        "relay_cpu_us": relay.cpu_us_per_message,
        "log_p50_ms": log_p50,
        "log_p99_ms": log_p99,
        "log_cpu_us": log_cpu,
    }
    return [step], limits


async def saturate(run: Run) -> tuple[list[report.Step], dict[str, Any]]:
    """Up the ladder until a rate does not hold, then a minute at the highest that did."""
    steps: list[report.Step] = []
    best = 0.0
    for rate in LADDER:
        step = await run.step(rate, run.options.step_seconds)
        steps.append(step)
        report.show(step, title=f"{rate}/s for {run.options.step_seconds:.0f} s: {'held' if step.held else 'not held'}")
        if not step.held:
            break
        best = rate
    while best:
        last = await run.step(best, run.options.last_seconds)
        steps.append(last)
        report.show(last, title=f"{best}/s for {run.options.last_seconds:.0f} s: {'held' if last.held else 'not held'}")
        if last.held:
            break
        lower = [rate for rate in LADDER if rate < best]
        best = lower[-1] if lower else 0.0
    print(f"\nsaturation: {best:.0f} messages/s (delivery p99 <= {report.P99_LIMIT_MS:.0f} ms, nothing lost)")
    return steps, {"saturation": best}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "scripts/load", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=200, help="connected users, in pairs (default 200)")
    parser.add_argument("--rate", type=float, default=300, help="messages a second, all together (default 300)")
    parser.add_argument("--seconds", type=float, default=60, help="measured seconds after a warm-up of 3 s (default 60)")
    parser.add_argument("--bytes", type=int, default=256, help="length of a message's text (default 256)")
    parser.add_argument("--saturate", action="store_true", help="find the highest rate that holds")
    parser.add_argument("--step-seconds", type=float, default=STEP_S, help="with --saturate: seconds a step (default 20)")
    parser.add_argument("--last-seconds", type=float, default=LAST_STEP_S, help="with --saturate: seconds of the last one (default 60)")
    parser.add_argument("--crash", action="store_true", help="kill -9 the whole server at random moments")
    parser.add_argument("--kills", type=int, default=20, help="with --crash: how often (default 20)")
    parser.add_argument("--http", help="HTTP URL of a server that runs; else one of our own is started and stopped")
    parser.add_argument("--ws", help="its WebSocket URL (default: what log-in says)")
    parser.add_argument("--no-pin", action="store_true", help="server and generator share all cores (default: one core each)")
    parser.add_argument("--seed", type=int, default=1, help="of the schedule and of the kills")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args(arguments)
    if options.clients < 2 or options.clients % 2:
        parser.error("--clients must be even: client i writes to client i ^ 1")
    if options.crash and options.http:
        parser.error("--crash kills the server, so it must be our own: leave --http out")
    return options


async def measure(options: argparse.Namespace) -> int:
    """The whole run; its exit code."""
    folder = Path(tempfile.mkdtemp(prefix="kn-chat-load-"))
    run = Run(options, folder)
    try:
        await run.start()
        steps, more = await (saturate(run) if options.saturate else fixed(run))
    finally:
        await run.stop()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps({"steps": [step.as_dict() for step in steps], **more}, indent=1))
    good = all(step.verdict.good for step in steps if step.held or not options.saturate)
    good = good and not any(step.verdict.lost or step.verdict.doubled or step.verdict.disordered for step in steps)
    print(f"\n{'nothing lost, doubled or disordered' if good else 'FAILED: see the lines marked with !'}")
    return 0 if good else 1


def main() -> None:
    """Entry of `scripts/load`."""
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(uvloop.run(measure(parse())))


if __name__ == "__main__":
    main()
