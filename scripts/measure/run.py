"""One run of load on one product: users and devices, and steps of load upon them, each checked and
measured.

`load` makes steps of it. Open loop: the schedule is fixed before the step.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path

from hdrh.histogram import HdrHistogram

from measure import checker, process, report, schedule, swarm
from measure.product import Product
from measure.record import Record
from measure.target import Target, User

WARM_UP_S = 3.0
# The stores' JVMs compile what is used while it is used: what the first seconds cost is theirs.
REAL_WARM_UP_S = 120.0
NEXT_WARM_UP_S = 10.0
SETTLE_S = 10.0
SETTLED_S = 3.0
IDLE_S = 3.0
# Each look at history is work for the product too.
SAMPLE_S, POLL_INTERVAL_S = 1.0, 0.02
COUNTED = 4_096


Trouble = Callable[[], Awaitable[None]]


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


# A run's users are few for what they do, and all of one address: budgets are measured by `flood`,
# not here.
UNLIMITED = {
    "KNCHAT_USER_UNITS": "1000000",
    "KNCHAT_USER_UNITS_PER_S": "100000",
    "KNCHAT_DEVICE_UNITS": "1000000",
    "KNCHAT_LOGINS_PER_MINUTE": "1000000",
}


def _unlimited() -> dict[str, str]:
    return {name: os.environ.get(name, value) for name, value in UNLIMITED.items()}


@contextlib.asynccontextmanager
async def running(options: argparse.Namespace, *flags: str) -> AsyncIterator[Run]:
    """A run whose server has started, in a folder of its own; both are gone afterwards.

    `flags`: more for `dev --real`. When it fails, the end of the server's log is said.
    """
    folder = Path(tempfile.mkdtemp(prefix="kn-chat-load-"))
    run = Run(options, folder, *flags)
    try:
        await run.start()
        yield run
    except Exception:
        run.say_last_words()
        raise
    finally:
        await run.stop()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


class Run:
    """One run against one server: its users and devices, and steps of load upon them.

    `flags`: more for `dev --real`.
    """

    def __init__(self, options: argparse.Namespace, folder: Path, *flags: str) -> None:
        self.options = options
        own_cores, self.generator_cores = process.cores()
        # The stores of the real parts take what cores they find: only all of it in one process can
        # be given a core of its own.
        self.pinned = not (options.no_pin or options.http or options.real)
        self.server_cores = own_cores if self.pinned else None
        chosen = [
            flag
            for flag, wanted in (("--sink", options.sink), ("--from-zero", options.from_zero))
            if wanted
        ]
        real = ("--gateways", str(options.gateways), *chosen, *flags) if options.real else None
        self.product = (
            None
            if options.http
            else Product(folder, real=real, cpus=self.server_cores, environ=_unlimited())
        )
        self.http, self.ws = options.http, options.ws
        self.warm_up_s = (
            options.warm_up
            if options.warm_up is not None
            else REAL_WARM_UP_S
            if options.real
            else WARM_UP_S
        )
        self.users: list[User] = []
        self.steps = 0
        self.kept_ns = 0
        """When history was first seen to hold all that the last step had acknowledged, or the wait
        for it ended (`time.monotonic_ns()`).
        """
        # Lost is what is not there 10 s after the end. Above saturation a backlog takes longer, and
        # such a step does not hold anyway.
        self.settle_s = 60.0 if options.saturate or options.real else SETTLE_S

    async def start(self) -> None:
        """Starts our own server unless one was named."""
        if self.product is not None:
            await self.product.start()
            self.http = self.product.http
            say(
                f"kn-chat dev at {self.http}, cores {self.server_cores or 'all'}; generator on "
                f"{self.generator_cores}"
            )
        if self.pinned:
            os.sched_setaffinity(0, self.generator_cores)
        self.target = Target(self.http)

    async def log_in(self) -> None:
        """Registers the users of the run and logs them in."""
        say(f"registering and logging in {self.options.clients} users")
        self.users = await self.target.users(self.options.clients, f"load-{secrets.token_hex(4)}")

    async def step(
        self,
        rate: float,
        seconds: float,
        *,
        warm_up_s: float | None = None,
        trouble: Trouble | None = None,
        sample_history: bool = False,
    ) -> report.Step:
        """Holds a rate, then checks every message of it.

        The first step of a run has the whole warm-up, a later one 10 s of it. `trouble` is made
        while the load runs, after the warm-up; the CPU is not counted then. `sample_history`:
        measures, too, how soon history shows what was acknowledged.
        """
        if warm_up_s is None:
            warm_up_s = min(self.warm_up_s, NEXT_WARM_UP_S) if self.steps else self.warm_up_s
        self.steps += 1
        plan = schedule.make(
            clients=len(self.users),
            rate=rate,
            seconds=seconds + warm_up_s,
            seed=self.options.seed + self.steps,
        )
        record = Record(len(plan.senders), first=int(rate * warm_up_s))
        run, text = f"r{secrets.token_hex(4)}", "x" * max(0, self.options.bytes - 8)
        find = None if self.ws else self.target.gateway
        devices = [
            swarm.ChatDevice(
                self.ws or user.gateway,
                user,
                self.users[user.number ^ 1].user,
                run,
                record,
                text,
                find=find,
            )
            for user in self.users
        ]
        await swarm.connect_all(devices)
        idle_cpu_s = {} if trouble else await self._cpu_s(IDLE_S)
        visible = HdrHistogram(1, 600_000_000, 3)
        async with contextlib.AsyncExitStack() as beside:
            beside.push_async_callback(_end, asyncio.create_task(self._progress(record, plan)))
            if sample_history:
                beside.push_async_callback(
                    _end,
                    asyncio.create_task(self._sample_history(plan, record, devices, run, visible)),
                )
            meter = asyncio.create_task(self._cpu_s(seconds, after_s=warm_up_s))
            beside.push_async_callback(_end, meter)
            troubling = asyncio.create_task(_after(warm_up_s, trouble or _nothing))
            beside.push_async_callback(_end, troubling)
            busy = time.process_time()
            await swarm.drive(devices, plan, record)
            busy = (time.process_time() - busy) / (seconds + warm_up_s)
            await troubling
            used = await meter
            await swarm.settle(devices, record, self.settle_s)
        verdict = await self._check(plan, record, devices, run)
        if not trouble:
            # Before, JVMs may be busy with their start, and now with what the load has left to
            # compact: the lower one is idle.
            after_cpu_s = await self._cpu_s(IDLE_S, after_s=SETTLED_S)
            idle_cpu_s = {
                name: min(idle_cpu_s.get(name, 0), now) for name, now in after_cpu_s.items()
            }
        for device in devices:
            device.close()
        cpu = {}
        if not trouble:
            delivered = max(
                1, sum(1 for row in range(record.first, record.slots) if record.delivered[row])
            )
            cpu = {
                name: (used[name] - idle_cpu_s.get(name, 0) * seconds / IDLE_S) * 1e6 / delivered
                for name in used
            }
        return report.Step(
            rate, verdict, report.figures(record), cpu, busy, record, report.latency(visible)
        )

    async def _check(
        self, plan: schedule.Schedule, record: Record, devices: list[swarm.ChatDevice], run: str
    ) -> checker.Verdict:
        chats = [device.chat for device in devices]
        owed = Counter(chats[plan.senders[row]] for row in range(record.slots) if record.acked[row])
        user_of = dict(zip(chats[::2], self.users[::2], strict=True))
        deadline = time.monotonic() + self.settle_s

        async def read(some: Collection[str]) -> checker.History:
            return await self.target.history([user_of[chat] for chat in some], [*some])

        def lacking(found: checker.History) -> list[str]:
            return [
                chat
                for chat in found
                if len({key for _, key in found[chat] if key.startswith(f"{run}-")}) < owed[chat]
            ]

        mine = await read(user_of)
        left = lacking(mine)
        was_whole = not left
        while left and time.monotonic() <= deadline:
            await asyncio.sleep(1)
            left = lacking(await read(left))
        self.kept_ns = time.monotonic_ns()
        if not was_whole:
            mine = await read(user_of)  # as late as `theirs`
        theirs = await self.target.history(self.users[1::2], chats[1::2])
        return checker.check(
            record,
            plan,
            chats,
            run=run,
            mine=mine,
            theirs=theirs,
            resets=[device.resets for device in devices],
        )

    async def _cpu_s(self, seconds: float, *, after_s: float = 0.0) -> dict[str, float]:
        """CPU seconds that each component uses in so many seconds; nothing for another's server."""
        if self.product is None:
            return {}
        await asyncio.sleep(after_s)
        before = self.product.cpu_s()
        await asyncio.sleep(seconds)
        after = self.product.cpu_s()
        return {name: after[name] - before.get(name, 0) for name in after}

    async def _sample_history(
        self,
        plan: schedule.Schedule,
        record: Record,
        devices: list[swarm.ChatDevice],
        run: str,
        visible: HdrHistogram,
    ) -> None:
        """Once a second: how long after its acknowledgement a message is in
        history's newest page.
        """
        row = record.first
        while True:
            await asyncio.sleep(SAMPLE_S)
            while row < record.slots and record.sent[row]:
                row += 1
            while row < record.slots and not record.acked[row]:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.001)
            if row >= record.slots:
                return
            sender = plan.senders[row]
            while True:
                keys = await self.target.newest_keys(self.users[sender], devices[sender].chat)
                if f"{run}-{row}" in keys:
                    break
                await asyncio.sleep(POLL_INTERVAL_S)
            visible.record_value((time.monotonic_ns() - record.acked[row]) // 1000)

    async def _progress(self, record: Record, plan: schedule.Schedule) -> None:
        while True:
            await asyncio.sleep(5)
            sent, acked, delivered = [
                await _filled(column) for column in (record.sent, record.acked, record.delivered)
            ]
            say(
                f"  {plan.rate:.0f}/s: sent {sent}/{record.slots}, acknowledged {acked}, delivered "
                f"{delivered}"
            )

    async def crash(self, kills: int, seconds: float) -> None:
        """Kill -9 of the embedded default at random moments of so many seconds."""
        chooser = random.Random(self.options.seed)  # noqa: S311 - repeatable moments
        for kill in range(kills):
            await asyncio.sleep(chooser.uniform(0.2, max(0.4, 2 * seconds / kills - 0.2)))
            assert self.product is not None  # noqa: S101 - --crash is refused with --http
            await self.product.crash()
            say(f"  kill {kill + 1} of {kills}")

    def say_last_words(self) -> None:
        """The end of the product's log, which tells why the run went wrong."""
        if self.product is not None and (words := self.product.last_words()):
            say(f"the end of the product's log:\n{words}")

    async def stop(self) -> None:
        """Ends what was started."""
        if hasattr(self, "target"):
            await self.target.close()
        if self.product is not None:
            await self.product.stop()


async def _end(task: asyncio.Task[None] | asyncio.Task[dict[str, float]]) -> None:
    """Also when the step was interrupted: nothing goes on behind its back, and trouble mends what
    it has broken.
    """
    task.cancel()
    await asyncio.wait([task])


async def _filled(column: array[int]) -> int:
    """How many rows have a value.

    Little by little: the sends of a second are not to wait for that.
    """
    filled = 0
    for start in range(0, len(column), COUNTED):
        part = column[start : start + COUNTED]
        filled += len(part) - part.count(0)
        await asyncio.sleep(0)
    return filled


async def _nothing() -> None:
    pass


async def _after(seconds: float, trouble: Trouble) -> None:
    await asyncio.sleep(seconds)
    await trouble()
