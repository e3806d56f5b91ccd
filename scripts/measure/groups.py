"""`scripts/load --groups`: what a message to a group costs, how soon all have it, and what a large
group does to direct chats.

Four measurements on one product, each with its bound: CPU of a message over groups of growing size,
beside that of a direct chat; the moment when the last of the connected members has it; direct
chats' deliveries beside a group whose members are told `newer`. Source: issue 13, acceptance e.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import secrets
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from measure import report
from measure.run import IDLE_S, SETTLED_S, Run, say
from measure.target import User

SIZES: Final = (2, 10, 100, 1_000)
LARGE: Final = 5_000
CONNECTED: Final = 200
RATE, LARGE_RATE, CALM_RATE = 10.0, 20.0, 1.0
SECONDS: Final = 20.0
ONES: Final = 10
"""Messages of which each is waited for by all, one a second."""
SENDERS: Final = 10
ADDED: Final = 100
"""Members that one call may add."""
POLL_INTERVAL_S: Final = 0.2
SETTLE_S: Final = 30.0
STORED_S: Final = 10.0

MAX_TO_ALL_MS: Final = 1_000.0
MAX_CPU_RATIO: Final = 0.35
MAX_SLOPE: Final = 0.9
MAX_P99_RATIO: Final = 1.2


@dataclass(frozen=True, slots=True)
class Size:
    """What messages to groups of one size have cost."""

    members: int
    cpu_us: float
    """Of all components together, a message; nan when it is not known."""
    to_all: report.Latency

    @property
    def cpu_us_per_delivery(self) -> float:
        """A message's, divided by who gets it."""
        return self.cpu_us / self.members


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure that must not be greater than so much."""

    what: str
    value: float
    most: float

    @property
    def holds(self) -> bool:
        """What is not known (another's server, say) breaks nothing."""
        return math.isnan(self.value) or self.value <= self.most

    def __str__(self) -> str:
        mark = " " if self.holds else "!"
        return f"  {mark} {self.what:<64} {self.value:9.3f}  (at most {self.most:g})"


class MembersProcess:
    """The process of the members' sessions."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, users: Sequence[User], ws: str | None, text: str) -> MembersProcess:
        """All are connected when it returns."""
        members = cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "measure.members",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 24,
            )
        )
        known = [[user.user, user.token, ws or user.gateway] for user in users]
        await members.do({"users": known, "text": text})
        return members

    async def do(self, task: dict[str, Any]) -> dict[str, Any]:
        """What came of a task."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        self._process.stdin.write(json.dumps(task).encode() + b"\n")
        if not (line := await self._process.stdout.readline()):
            raise SystemExit("the process of the members has failed")
        return dict(json.loads(line))

    async def stop(self) -> None:
        """Ends it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()


class Groups:
    """The groups of one run, and what is said in them."""

    def __init__(self, run: Run, users: Sequence[User], members: MembersProcess) -> None:
        self._run, self._users, self._members = run, users, members
        self.problems: list[str] = []

    async def make(self, size: int) -> str:
        """A group of the first so many users; all of them are told when it returns."""
        owner, others = self._users[0], [user.user for user in self._users[1:size]]
        body = {"key": secrets.token_hex(8), "name": f"load {size}", "members": others[:ADDED]}
        target = self._run.target
        chat = str((await target.call("POST", "/v1/chats", token=owner.token, json=body))["chat"])
        for start in range(ADDED, len(others), ADDED):
            await target.call(
                "POST",
                f"/v1/chats/{chat}/members",
                token=owner.token,
                json={"members": others[start : start + ADDED]},
            )
        await asyncio.sleep(SETTLED_S)
        return chat

    async def talk(
        self, chat: str, connected: int, count: int, rate: float, *, senders: int = SENDERS
    ) -> dict[str, Any]:
        """So many messages into a chat, whose first so many members are connected."""
        told = await self._members.do(
            {
                "chat": chat,
                "members": [*range(connected)],
                "senders": [*range(min(senders, connected))],
                "count": count,
                "rate": rate,
                "wait_s": SETTLE_S,
            }
        )
        wrong = {
            name: number
            for name, number in told.items()
            if number
            and (
                name in {"missing", "two_ids", "closed"}
                or name.startswith(("error", "refused", "failed"))
            )
        }
        if wrong:
            self.problems.append(f"{connected} connected, {rate:g}/s: {wrong}")
        return told

    async def check_stored(self, chat: str, ids: Sequence[str]) -> None:
        """Each of these messages is once in history, for two who read it."""
        until_s = time.monotonic() + STORED_S
        for reader in self._users[:2]:
            while True:
                stored = (await self._run.target.history([reader], [chat]))[chat]
                kept = Counter(str(message) for message, _ in stored)
                if all(kept[one] == 1 for one in ids):
                    break
                if time.monotonic() >= until_s:
                    self.problems.append(f"{chat}: history does not hold each message once")
                    break
                await asyncio.sleep(POLL_INTERVAL_S)

    async def cost(self, size: int, seconds: float) -> Size:
        """Of messages at RATE to a group of this size."""
        chat, count = await self.make(size), int(RATE * seconds)
        began = self._used()
        await asyncio.sleep(IDLE_S)
        idle = self._used()
        told = await self.talk(chat, size, count, RATE)
        busy = self._used()
        await self.check_stored(chat, told["ids"])
        idle_part = (idle.cpu_s - began.cpu_s) / (idle.at_s - began.at_s)
        cpu_s = busy.cpu_s - idle.cpu_s - idle_part * (busy.at_s - idle.at_s)
        return Size(size, cpu_s * 1e6 / count, latency(told["to_all_ms"]))

    def _used(self) -> _Used:
        product = self._run.product
        cpu_s = sum(product.cpu_s().values()) if product else math.nan
        return _Used(time.monotonic(), cpu_s)


@dataclass(frozen=True, slots=True)
class _Used:
    at_s: float
    cpu_s: float
    """Of the product so far; nan for another's server."""


def latency(times_ms: Sequence[float | None]) -> report.Latency:
    """Of these; what never came counts as never."""
    times = sorted(math.inf if time is None else time for time in times_ms)
    p50, p99, p999 = (
        times[min(len(times) - 1, int(len(times) * part))] for part in (0.5, 0.99, 0.999)
    )
    return report.Latency(p50, p99, p999, times[-1], len(times))


def slope_of(sizes: Sequence[Size]) -> float:
    """How CPU grows with members: 1 is as much again for each, 0 not at all. By least squares over
    the logarithms.
    """
    points = [(math.log(size.members), math.log(max(size.cpu_us, 1.0))) for size in sizes]
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def bounds_of(
    sizes: Sequence[Size], ones: report.Latency, direct_us: float, p99s: tuple[float, float]
) -> list[Bound]:
    """All of them. `p99s`: direct chats' p99 without and beside the large group."""
    largest = sizes[-1]
    calm, beside = p99s
    return [
        Bound(
            f"one message to {largest.members:,} members: ms until all have it",
            ones.max,
            MAX_TO_ALL_MS,
        ),
        Bound(
            f"CPU a delivery of {largest.members:,} members / of a direct chat",
            largest.cpu_us_per_delivery / direct_us,
            MAX_CPU_RATIO,
        ),
        Bound("slope of CPU over members", slope_of(sizes), MAX_SLOPE),
        Bound("direct delivery p99 beside a large group / without", beside / calm, MAX_P99_RATIO),
    ]


async def groups(run: Run) -> tuple[list[report.Step], dict[str, Any]]:
    """All four measurements; `broken` of the result says which bounds do not hold."""
    options = run.options
    connected = max(*options.sizes, options.connected)
    named = await _users(run, max(connected, options.large), connected)
    # Direct chats are between users who are in no group.
    await run.log_in()
    say(f"connecting {connected} members")
    members = await MembersProcess.start(named[:connected], options.ws, "x" * max(1, options.bytes))
    try:
        return await _measure(run, Groups(run, named, members))
    finally:
        await members.stop()


async def _users(run: Run, count: int, connected: int) -> list[User]:
    """So many users, of whom the first are logged in."""
    say(f"registering {count} members, 20 ms of CPU each, and logging {connected} of them in")
    password, name = secrets.token_urlsafe(12), f"group-{secrets.token_hex(4)}"
    users = await run.target.register(count, name, password)
    logged_in = await asyncio.gather(
        *(run.target.log_in(user, password) for user in users[:connected])
    )
    return [*logged_in, *users[connected:]]


async def _measure(run: Run, made: Groups) -> tuple[list[report.Step], dict[str, Any]]:
    options = run.options
    calm = [await run.step(options.rate, options.seconds)]
    report.show(calm[0], title="direct chats, without groups")
    print(
        f"\nmessages to groups, {RATE:g}/s for {options.group_seconds:g} s, all members connected"
    )
    print(f"{'members':>9}{'CPU-us a message':>18}{'a delivery':>12}   until all have it")
    sizes: list[Size] = []
    for size in options.sizes:
        sizes.append(await made.cost(size, options.group_seconds))
        one = sizes[-1]
        print(
            f"{size:>9}{one.cpu_us:>18.0f}{one.cpu_us_per_delivery:>12.1f}   {one.to_all}",
            flush=True,
        )
    chat = await made.make(options.sizes[-1])
    told = await made.talk(chat, options.sizes[-1], ONES, CALM_RATE, senders=1)
    await made.check_stored(chat, told["ids"])
    ones = latency(told["to_all_ms"])
    print(f"  one a second, {options.sizes[-1]} members: {ones}")
    say(f"making a group of {options.large}")
    large = await made.make(options.large)
    warm_up_s = min(run.warm_up_s, 10.0)
    # As long as the step lasts, with what it does before and after.
    count = int(LARGE_RATE * (IDLE_S + warm_up_s + options.seconds + SETTLED_S))
    talking = asyncio.create_task(made.talk(large, options.connected, count, LARGE_RATE))
    beside = await run.step(options.rate, options.seconds, warm_up_s=warm_up_s)
    told = await talking
    await made.check_stored(large, told["ids"])
    report.show(
        beside,
        title=f"direct chats, beside {LARGE_RATE:g}/s to {options.large} members, "
        f"{options.connected} of them connected",
    )
    print(
        f"  the large group: {told['sent']} messages, told {told.get('newer', 0)}, pages "
        f"{told.get('pages', 0)}, asked again {told.get('asked_again', 0)}, all had them after "
        f"{latency(told['to_all_ms'])}"
    )
    calm.append(await run.step(options.rate, options.seconds))
    report.show(calm[1], title="direct chats, without groups, again")
    p99s = max(step.figures.delivery.p99 for step in calm), beside.figures.delivery.p99
    bounds = bounds_of(sizes, ones, calm[0].cpu_us_per_message, p99s)
    print("\nbounds")
    for bound in bounds:
        print(bound)
    for problem in made.problems:
        print(f"  ! {problem}")
    broken = [bound.what for bound in bounds if not bound.holds] + made.problems
    return [*calm, beside], {
        "bounds": {bound.what: bound.value for bound in bounds},
        "sizes": [[size.members, size.cpu_us] for size in sizes],
        "broken": broken,
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """What `--groups` takes besides."""
    parser.add_argument(
        "--sizes",
        type=lambda text: tuple(sorted(map(int, text.split(",")))),
        default=SIZES,
        metavar="N,N",
        help="with --groups: members of the groups (default 2,10,100,1000)",
    )
    parser.add_argument(
        "--large",
        type=int,
        default=LARGE,
        help=f"with --groups: members of the large group (default {LARGE})",
    )
    parser.add_argument(
        "--connected",
        type=int,
        default=CONNECTED,
        help=f"with --groups: how many of them are connected (default {CONNECTED})",
    )
    parser.add_argument(
        "--group-seconds",
        type=float,
        default=SECONDS,
        help=f"with --groups: seconds of each size (default {SECONDS:g})",
    )
