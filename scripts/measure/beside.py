"""The limits that a run is compared with, measured in it: on the same cores, with the same schedule, each in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import os

from measure import checker, process, report, schedule, swarm
from measure.record import Record
from measure.run import Run, say

LIMITS_S = 4.0
# kafka-python and the broker need a while to be as fast as they get.
KAFKA_S = 10.0


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
        return report.Step(rate, checker.Verdict(), report.figures(record), {"relay": used * 1e6 / record.slots}, 0.0, record)
    finally:
        await server.stop()


async def log_limit(run: Run, rate: float) -> tuple[float, float, float]:
    """(p50 ms, p99 ms, CPU-us per record) of the bare embedded log at this rate."""
    server = await process.start(["measure.limits", "log", str(rate), str(LIMITS_S), str(run.options.bytes)], cpus=run.server_cores)
    assert server.process.stdout is not None  # noqa: S101 - started with a pipe
    words = (await asyncio.wait_for(server.process.stdout.readline(), LIMITS_S + 20)).split()
    await server.process.wait()
    return float(words[1]) / 1000, float(words[2]) / 1000, float(words[3])


async def bare_kafka(options: argparse.Namespace) -> dict[str, float]:
    """kafka-python alone at the same rate."""
    say(f"bare Kafka at {options.rate:g}/s")
    arguments = [os.environ["KNCHAT_KAFKA"], str(options.rate), str(KAFKA_S), str(options.bytes)]
    server = await process.start(["measure.bare_kafka", *arguments], cpus=None)
    assert server.process.stdout is not None  # noqa: S101 - started with a pipe
    line = await asyncio.wait_for(server.process.stdout.readline(), KAFKA_S + 60)
    await server.process.wait()
    found: dict[str, float] = json.loads(line)
    return found
