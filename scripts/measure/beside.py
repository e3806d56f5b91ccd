"""The limits that a run is compared with, measured in it: on the same cores, with the same
schedule, each in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence

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
        plan = schedule.make(
            clients=run.options.clients, rate=rate, seconds=LIMITS_S, seed=run.options.seed
        )
        record = Record(len(plan.senders), first=int(rate))
        devices = [
            swarm.Relayed(server.ready[0], number, record, "x" * run.options.bytes)
            for number in range(run.options.clients)
        ]
        await swarm.connect_all(devices)
        cpu = process.cpu_s(server.pid)
        await swarm.drive(devices, plan, record)
        await swarm.settle(devices, record, 2)
        used = process.cpu_s(server.pid) - cpu
        for device in devices:
            device.close()
        return report.Step(
            rate,
            checker.Verdict(),
            report.figures(record),
            {"relay": used * 1e6 / record.slots},
            0.0,
            record,
        )
    finally:
        await server.stop()


async def log_limit(run: Run, rate: float) -> tuple[float, float, float]:
    """(p50 ms, p99 ms, CPU-us per record) of the bare embedded log at this rate."""
    arguments = ["measure.limits", "log", str(rate), str(LIMITS_S), str(run.options.bytes)]
    words = (await _line_of(arguments, cpus=run.server_cores, within_s=LIMITS_S + 20)).split()
    return float(words[1]) / 1000, float(words[2]) / 1000, float(words[3])


async def bare_kafka(options: argparse.Namespace) -> dict[str, float]:
    """kafka-python alone at the same rate."""
    say(f"bare Kafka at {options.rate:g}/s")
    arguments = [
        "measure.bare_kafka",
        os.environ["KNCHAT_KAFKA"],
        str(options.rate),
        str(KAFKA_S),
        str(options.bytes),
    ]
    found: dict[str, float] = json.loads(
        await _line_of(arguments, cpus=None, within_s=KAFKA_S + 60)
    )
    return found


async def _line_of(arguments: Sequence[str], *, cpus: set[int] | None, within_s: float) -> bytes:
    """What a process says that is ready, measures, and ends."""
    server = await process.start(arguments, cpus=cpus)
    assert server.process.stdout is not None  # noqa: S101 - started with a pipe
    line = await asyncio.wait_for(server.process.stdout.readline(), within_s)
    await server.process.wait()
    return line
