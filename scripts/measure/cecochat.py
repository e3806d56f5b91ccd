"""CecoChat's own load scenario: each client logs in, then three times over reads four pages of
history and sends four messages.

Its authors publish 6,000 clients on 18 cores. Here each client is real: its log-in hashes a
password, its reads and sends go over its own WebSocket and through the whole stack. Source: the
load test that CecoChat describes; figure P4.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from typing import Any

from hdrh.histogram import HdrHistogram
from picows import WSMsgType

from measure import checker, report, swarm
from measure.record import Record
from measure.run import Run, say
from measure.swarm import ChatDevice, Frame

ROUNDS, READS, SENDS = 3, 4, 4
ARRIVALS_PER_S = 20.0
TIMEOUT_S = 30.0
_OPERATIONS = ROUNDS * (READS + SENDS)


class _Client(ChatDevice):
    """A device that also asks for history and waits for answers."""

    asked: dict[int, asyncio.Future[None]]

    async def read(self, number: int) -> None:
        """One page of its chat's history."""
        frame = f'{{"type":"history","id":{number},"chat":"{self.chat}","limit":50}}'
        assert self._transport is not None  # noqa: S101 - connected
        await self._answered(number, lambda: self._transport.send(WSMsgType.TEXT, frame.encode()))

    async def say(self, row: int) -> None:
        """One message."""
        self._record.due[row] = self._record.sent[row] = time.monotonic_ns()
        await self._answered(row + 1, lambda: self.send(row))

    async def _answered(self, number: int, ask: Any) -> None:
        future = self.asked[number] = asyncio.get_running_loop().create_future()
        ask()
        async with asyncio.timeout(TIMEOUT_S):
            await future

    def _take(self, frame: Frame, now: int) -> None:
        super()._take(frame, now)
        future = self.asked.pop(frame.re, None) if frame.re else None
        if future is None or future.done():
            return
        if frame.type in {"ok", "page"}:
            future.set_result(None)
        else:
            future.set_exception(RuntimeError(f"{frame.type} {frame.code}"))


async def scenario(run: Run) -> tuple[list[report.Step], dict[str, Any]]:
    """All clients of the run, one after the other at ARRIVALS_PER_S, until the last has done its
    part.
    """
    count = run.options.clients
    assert run.product is not None  # noqa: S101 - the scenario is for servers of our own
    run.users = []
    password = secrets.token_urlsafe(12)
    say(f"registering {count} users")
    named = await run.target.register(count, f"ceco-{secrets.token_hex(4)}", password)
    record, key = Record(count * ROUNDS * SENDS), f"r{secrets.token_hex(4)}"
    log_ins, reads, sends = (HdrHistogram(1, 600_000_000, 3) for _ in range(3))
    errors: list[str] = []
    devices: list[_Client] = []
    began, cpu = time.monotonic(), run.product.cpu_s()

    async def client(number: int) -> None:
        await asyncio.sleep(number / ARRIVALS_PER_S)
        try:
            at = time.monotonic_ns()
            user = await run.target.log_in(named[number], password)
            log_ins.record_value((time.monotonic_ns() - at) // 1000)
            device = _Client(
                user.gateway, user, named[number ^ 1].user, key, record, "x" * run.options.bytes
            )
            device.asked = {}
            devices.append(device)
            await device.connect()
            for step in range(ROUNDS):
                for one in range(READS):
                    at = time.monotonic_ns()
                    await device.read(record.slots + step * READS + one + 1)
                    reads.record_value((time.monotonic_ns() - at) // 1000)
                for one in range(SENDS):
                    row = (number * ROUNDS + step) * SENDS + one
                    at = time.monotonic_ns()
                    await device.say(row)
                    sends.record_value((time.monotonic_ns() - at) // 1000)
        except (RuntimeError, TimeoutError, OSError, SystemExit) as error:
            errors.append(f"client {number}: {type(error).__name__} {error}")

    progress = asyncio.create_task(_progress(record, began))
    await asyncio.gather(*(client(number) for number in range(count)))
    seconds = time.monotonic() - began
    progress.cancel()
    await swarm.settle(devices, record, run.settle_s)
    undelivered = sum(
        1 for row in range(record.slots) if record.acked[row] and not record.delivered[row]
    )
    used = {name: now - cpu.get(name, 0) for name, now in run.product.cpu_s().items()}
    for device in devices:
        device.close()
    print(
        f"\nCecoChat's scenario: {count} clients, {count * _OPERATIONS} operations in "
        f"{seconds:.1f} s, {os.cpu_count()} cores"
    )
    print(
        f"  log-in    {report.latency(log_ins)}\n  read      {report.latency(reads)}\n  send      "
        f"{report.latency(sends)}"
    )
    print(f"  acknowledged and not delivered {undelivered}   failed clients {len(errors)}")
    print(
        "  CPU-s "
        + "   ".join(
            f"{name} {seconds_:.1f}"
            for name, seconds_ in sorted(used.items(), key=lambda item: -item[1])
        )
    )
    for error in errors[:10]:
        print(f"  ! {error}")
    good = not errors and not undelivered
    print(
        f"  P4   {count} clients {'done, floor 1500' if good else 'NOT done, floor 1500'}, "
        "moonshot 6000"
    )
    verdict = checker.Verdict(
        acknowledged=sends.get_total_count(), lost=undelivered, unresolved=len(errors)
    )
    step = report.Step(0, verdict, report.figures(record), {}, 0.0, record)
    return [step], {"clients": count, "seconds": seconds, "good": good}


async def _progress(record: Record, began: float) -> None:
    while True:
        await asyncio.sleep(10)
        say(
            f"  {time.monotonic() - began:.0f} s: {sum(1 for at in record.acked if at)} of "
            f"{record.slots} messages acknowledged"
        )
