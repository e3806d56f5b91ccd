"""CecoChat's own load scenario: each client logs in, then three times over reads four pages of
history, sends four messages, and reacts to the newest one that it has got.

Its authors publish 6,000 clients on 18 cores. Here each client is real: its log-in hashes a
password, its reads, sends and reactions go over its own WebSocket and through the whole stack. It
takes the reaction of a round back in the next one, so the last one alone stays; whether both
clients were told of each and history shows the last is checked. Source: the load test that CecoChat
describes, and the reactions of its clients; figure P4.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from hdrh.histogram import HdrHistogram
from picows import WSMsgType

from measure import checker, report, swarm
from measure.record import Record
from measure.run import Run, say
from measure.swarm import ChatDevice, Frame
from measure.target import User

READS, SENDS = 4, 4
EMOJI: Final = ("👍", "❤️", "😂")
"""One a round."""
ROUNDS: Final = len(EMOJI)
ARRIVALS_PER_S = 20.0
TIMEOUT_S = 30.0
REACTIONS: Final = 2 * ROUNDS - 1
"""Of a client: one a round, and the one of the round before taken back."""
OPERATIONS: Final = ROUNDS * (READS + SENDS) + REACTIONS

T = TypeVar("T")
Reaction = tuple[str, str, str]
"""Message, emoji and user."""
Timed = Callable[[str, Coroutine[Any, Any, None]], Awaitable[None]]
"""Awaits what is called so, and notes how long it took."""


class Client(ChatDevice):
    """A device that also asks for history, reacts, and waits for answers."""

    def __init__(self, user: User, peer: str, run: str, record: Record, text: str) -> None:
        super().__init__(user.gateway, user, peer, run, record, text)
        self.account = user
        self.changes: list[str] = []
        """Versions of the changes that were acknowledged."""
        self.told: set[str] = set()
        """Versions of those that were pushed."""
        self.stays: set[Reaction] = set()
        """What is to be at messages of the chat."""
        self._asked: dict[int, asyncio.Future[str]] = {}
        self._newest, self._got = 0, asyncio.Event()

    async def play(self, rows: Iterator[int], timed: Timed) -> None:
        """All rounds; the messages are those of the first rows."""
        frames = itertools.count(self._record.slots + 1)
        for emoji in EMOJI:
            for _ in range(READS):
                await timed("read", self.read(next(frames)))
            for _ in range(SENDS):
                await timed("send", self.say(next(rows)))
            if self.stays:
                await timed("react", self.unreact(next(frames)))
            message = await self.newest()
            await timed("react", self.react(next(frames), message, emoji))

    async def read(self, number: int) -> None:
        """One page of its chat's history."""
        frame = f'{{"type":"history","id":{number},"chat":"{self.chat}","limit":50}}'
        await self._ask(number, frame.encode())

    async def say(self, row: int) -> None:
        """One message."""
        self._record.due[row] = self._record.sent[row] = time.monotonic_ns()
        await self._answered(row + 1, lambda: self.send(row))

    async def newest(self) -> str:
        """The newest message that the other one has sent; waits for the first."""
        async with asyncio.timeout(TIMEOUT_S):
            await self._got.wait()
        return str(self._newest)

    async def react(self, number: int, message: str, emoji: str) -> None:
        """Puts an emoji to a message, which stays there until `unreact`."""
        await self._change("react", number, message, emoji)
        self.stays.add((message, emoji, self.user))

    async def unreact(self, number: int) -> None:
        """Takes away what stays."""
        [(message, emoji, _)] = self.stays
        await self._change("unreact", number, message, emoji)
        self.stays.clear()

    async def _change(self, op: str, number: int, message: str, emoji: str) -> None:
        frame = {"type": op, "id": number, "key": f"{self._run}-{number}", "chat": self.chat}
        version = await self._ask(
            number, msgspec.json.encode({**frame, "message": message, "emoji": emoji})
        )
        self.changes.append(version)

    async def _ask(self, number: int, frame: bytes) -> str:
        assert self._transport is not None  # noqa: S101 - connected
        transport = self._transport
        return await self._answered(number, lambda: transport.send(WSMsgType.TEXT, frame))

    async def _answered(self, number: int, ask: Callable[[], None]) -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        ask()
        async with asyncio.timeout(TIMEOUT_S):
            return await future

    def _take(self, frame: Frame, now: int) -> None:
        if frame.re <= self._record.slots:  # a push, or the answer to a message
            super()._take(frame, now)
        if frame.type == "changed":
            self.told.add(frame.version)
        future = self._asked.pop(frame.re, None) if frame.re else None
        if future is None or future.done():
            return
        if frame.type in {"ok", "page"}:
            future.set_result(frame.version)
        else:
            future.set_exception(RuntimeError(f"{frame.type} {frame.code}"))

    def _take_message(self, frame: Frame, now: int) -> None:
        super()._take_message(frame, now)
        if frame.chat == self.chat and frame.sender != self.user:
            self._newest = max(self._newest, int(frame.message))
            self._got.set()


def untold(clients: Sequence[Client]) -> int:
    """How many changes were acknowledged that a client of their chat was not told of."""
    of_chat: dict[str, set[str]] = {}
    for client in clients:
        of_chat.setdefault(client.chat, set()).update(client.changes)
    return sum(len(of_chat[client.chat] - client.told) for client in clients)


def misshown(clients: Sequence[Client], shown: Mapping[str, Collection[Reaction]]) -> int:
    """How many reactions history lacks, or shows though they were taken back or never made.

    `shown`: what it shows of each chat.
    """
    stays: dict[str, set[Reaction]] = {chat: set() for chat in shown}
    for client in clients:
        stays.setdefault(client.chat, set()).update(client.stays)
    return sum(len(each ^ set(shown.get(chat, ()))) for chat, each in stays.items())


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
    latencies = {
        name: HdrHistogram(1, 600_000_000, 3) for name in ("log-in", "read", "send", "react")
    }
    errors: list[str] = []
    clients: list[Client] = []
    began, cpu = time.monotonic(), run.product.cpu_s()

    async def timed(name: str, work: Coroutine[Any, Any, T]) -> T:
        at = time.monotonic_ns()
        result = await work
        latencies[name].record_value((time.monotonic_ns() - at) // 1000)
        return result

    async def client(number: int) -> None:
        await asyncio.sleep(number / ARRIVALS_PER_S)
        try:
            user = await timed("log-in", run.target.log_in(named[number], password))
            device = Client(user, named[number ^ 1].user, key, record, "x" * run.options.bytes)
            clients.append(device)
            await device.connect()
            await device.play(iter(range(number * ROUNDS * SENDS, record.slots)), timed)
        except (RuntimeError, TimeoutError, OSError, SystemExit) as error:
            errors.append(f"client {number}: {type(error).__name__} {error}")

    progress = asyncio.create_task(_progress(record, began))
    await asyncio.gather(*(client(number) for number in range(count)))
    seconds = time.monotonic() - began
    progress.cancel()
    await swarm.settle(clients, record, run.settle_s)
    undelivered = sum(
        1 for row in range(record.slots) if record.acked[row] and not record.delivered[row]
    )
    unheard, wrong = await _reactions(run, clients)
    used = {name: now - cpu.get(name, 0) for name, now in run.product.cpu_s().items()}
    for device in clients:
        device.close()
    print(
        f"\nCecoChat's scenario: {count} clients, {count * OPERATIONS} operations in "
        f"{seconds:.1f} s, {os.cpu_count()} cores"
    )
    for name, histogram in latencies.items():
        print(f"  {name:<9} {report.latency(histogram)}")
    print(f"  acknowledged and not delivered {undelivered}   failed clients {len(errors)}")
    print(f"  reactions acknowledged and not told {unheard}   shown wrongly {wrong}")
    print(
        "  CPU-s "
        + "   ".join(
            f"{name} {seconds_:.1f}"
            for name, seconds_ in sorted(used.items(), key=lambda item: -item[1])
        )
    )
    for error in errors[:10]:
        print(f"  ! {error}")
    good = not errors and not undelivered and not unheard and not wrong
    print(
        f"  P4   {count} clients {'done, floor 1500' if good else 'NOT done, floor 1500'}, "
        "moonshot 6000"
    )
    verdict = checker.Verdict(
        acknowledged=latencies["send"].get_total_count(),
        lost=undelivered + unheard + wrong,
        unresolved=len(errors),
    )
    step = report.Step(0, verdict, report.figures(record), {}, 0.0, record)
    reactions = latencies["react"].get_total_count()
    return [step], {"clients": count, "seconds": seconds, "good": good, "reactions": reactions}


async def _reactions(run: Run, clients: Sequence[Client]) -> tuple[int, int]:
    """What `untold` and `misshown` count, as soon as it is nothing, at the latest after the run's
    time to settle.
    """
    readers = {client.chat: client.account for client in clients}
    deadline = time.monotonic() + run.settle_s
    while True:
        pages = await asyncio.gather(
            *(run.target.reactions(user, chat) for chat, user in readers.items())
        )
        found = untold(clients), misshown(clients, dict(zip(readers, pages, strict=True)))
        if found == (0, 0) or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(0.5)


async def _progress(record: Record, began: float) -> None:
    while True:
        await asyncio.sleep(10)
        say(
            f"  {time.monotonic() - began:.0f} s: {sum(1 for at in record.acked if at)} of "
            f"{record.slots} messages acknowledged"
        )
