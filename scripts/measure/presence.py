"""`scripts/bench presence`: what a mass reconnect costs, of sessions that watch each other.

A fresh product. Its sessions connect, and are cut and connect again within some seconds, first
without watching, then each watching some others. Meanwhile two other users talk, whose deliveries
are measured. Source: issue 13, acceptance f.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from measure.other_user import p99
from measure.process import ahead_of_others, cores
from measure.product import Product
from measure.target import Target, User
from servers.services import Services

EXAMPLES: Final = """examples:
  scripts/bench presence                                   10,000 sessions, about 2 minutes
  scripts/bench presence --sessions 1000 --within 2        a first look
  scripts/bench presence --real --gateways 2               on Kafka, Cassandra, PostgreSQL, Redis

It exits with 1 when a session was told more than once in a second, an error or a close, or when
deliveries had a p99 of more than --most times the calm one (and by more than --noise ms)."""
SEND_INTERVAL_S: Final = 0.02
SETTLED_S: Final = 15.0
"""So long after it connected all is quiet again: ten seconds for who is offline, and some."""


@dataclass(slots=True)
class Phase:
    """What one part of the run has cost."""

    name: str
    deliveries_ms: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0
    seconds: float = 0.0

    def row(self, sessions: int) -> str:
        """Its line of the table."""
        counts = self.counts
        return (
            f"{self.name:30}{self.seconds:8.1f}{self.cpu_s:8.1f}{counts['messages']:10}"
            f"{counts['presences']:11}{counts['bytes'] / 1e6:8.2f}"
            f"{counts['messages'] / sessions:8.2f}{p99(self.deliveries_ms):14.1f}"
        )


class Talk(WSListener):
    """The device of one of the two who talk."""

    def __init__(self) -> None:
        self._transport: WSTransport | None = None
        self.sent_s: dict[str, float] = {}
        self.live = asyncio.Event()
        self.deliveries_ms: list[float] = []

    async def open(self, user: User, sent_s: dict[str, float]) -> None:
        """Connects. `sent_s`: key -> when the other one sent it."""
        self.sent_s = sent_s
        self._transport, _ = await ws_connect(
            lambda: self, user.gateway, extra_headers={"Sec-WebSocket-Protocol": "knchat.v1.json"}
        )
        self.say({"type": "hello", "token": user.token, "device": f"load-{user.number}"})
        async with asyncio.timeout(10):
            await self.live.wait()

    def say(self, frame: dict[str, Any]) -> None:
        """Sends a frame."""
        assert self._transport is not None  # noqa: S101 - opened
        self._transport.send(WSMsgType.TEXT, json.dumps(frame).encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Notes how long a message was under way."""
        if frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        if frame.msg_type != WSMsgType.TEXT:
            return
        told = json.loads(frame.get_payload_as_bytes())
        for one in told if isinstance(told, list) else [told]:
            if one["type"] == "live":
                self.live.set()
            elif one["type"] == "message" and (sent_s := self.sent_s.pop(one["key"], None)):
                self.deliveries_ms.append((time.monotonic() - sent_s) * 1_000)


class Run:
    """One product, the two who talk, and the process of all others."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder, self._options = folder, options
        real = ("--gateways", str(options.gateways)) if options.real else None
        self._product = Product(folder, real=real, cpus=None if options.real else cores()[0])
        self._swarm: asyncio.subprocess.Process | None = None
        self._sent_s: dict[str, float] = {}
        self._ann, self._ben = Talk(), Talk()

    async def start(self) -> None:
        """Starts all."""
        await self._product.start()
        if not self._options.real:
            os.sched_setaffinity(0, cores()[1])
        target = Target(self._product.http)
        ann, ben = await target.users(2, f"talk{secrets.token_hex(3)}")
        await self._ann.open(ann, {})
        await self._ben.open(ben, self._sent_s)
        self._to = ben.user
        self._swarm = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "measure.watchers",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        sessions = self._options.sessions
        self._tell({"folder": str(self._folder), "url": self._product.ws, "sessions": sessions})

    async def stop(self) -> None:
        """Ends all."""
        if self._swarm is not None and self._swarm.stdin is not None:
            self._swarm.stdin.close()
            await self._swarm.wait()
        await self._product.stop()

    def _tell(self, task: dict[str, Any]) -> None:
        assert self._swarm is not None  # noqa: S101 - started
        assert self._swarm.stdin is not None  # noqa: S101 - a pipe
        self._swarm.stdin.write(json.dumps(task).encode() + b"\n")

    async def _do(self, task: dict[str, Any]) -> dict[str, Any]:
        assert self._swarm is not None  # noqa: S101 - started
        assert self._swarm.stdout is not None  # noqa: S101 - a pipe
        self._tell(task)
        line = await self._swarm.stdout.readline()
        if not line:
            raise SystemExit("the process of the sessions has failed")
        return dict(json.loads(line))

    async def phase(self, name: str, task: dict[str, Any], seconds: float) -> Phase:
        """Does the task, and lets it settle for so long, while the two talk."""
        phase = Phase(name)
        self._ben.deliveries_ms.clear()
        cpu_s, began_s = sum(self._product.cpu_s().values()), time.monotonic()
        talking = asyncio.create_task(self._talk())
        counts = await self._do(task)
        await asyncio.sleep(seconds)
        later = await self._do({})
        talking.cancel()
        await asyncio.sleep(0.5)
        for told in (counts, later):
            del told["took_s"]
            phase.counts.update(told)
        phase.seconds = time.monotonic() - began_s
        phase.cpu_s = sum(self._product.cpu_s().values()) - cpu_s
        phase.deliveries_ms = [*self._ben.deliveries_ms]
        return phase

    async def _talk(self) -> None:
        while True:
            key = secrets.token_hex(8)
            self._sent_s[key] = time.monotonic()
            self._ann.say({"type": "send", "to": self._to, "key": key, "text": "hello"})
            await asyncio.sleep(SEND_INTERVAL_S)


def problems(phases: list[Phase], calm: Phase, options: argparse.Namespace) -> list[str]:
    """What should not be."""
    found = []
    for phase in phases:
        wrong = {
            what: number
            for what, number in phase.counts.items()
            if what not in {"messages", "presences", "bytes"} and number
        }
        if wrong:
            found.append(f"{phase.name}: {wrong}")
        before, after = p99(calm.deliveries_ms), p99(phase.deliveries_ms)
        if after > before * options.most and after > before + options.noise:
            found.append(f"{phase.name}: deliveries p99 {before:.1f} -> {after:.1f} ms")
    return found


async def measure(options: argparse.Namespace) -> int:
    """All phases, as a table; the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="kn-chat-presence-"))
    run = Run(folder, options)
    watching = {"watched": options.watch, "within_s": options.within}
    if options.real:
        services = Services()
        await asyncio.to_thread(services.up)
        os.environ.update(services.settings())
    try:
        await run.start()
        print(
            f"{'phase':30}{'seconds':>8}{'CPU s':>8}{'messages':>10}{'presences':>11}{'MB':>8}"
            f"{'each':>8}{'delivery p99':>14}",
            flush=True,
        )
        steps = [
            ("connect, watching none", {"watched": 0, "within_s": options.within}, 2.0),
            ("calm", {}, options.calm),
            ("reconnect, watching none", {"watched": 0, "within_s": options.within}, SETTLED_S),
            (f"reconnect, and watch {options.watch}", watching, SETTLED_S),
            (f"calm, watching {options.watch}", {}, options.calm),
            (f"reconnect, watching {options.watch}", watching, SETTLED_S),
        ]
        phases = []
        for name, task, seconds in steps:
            phases.append(await run.phase(name, task, seconds))
            print(phases[-1].row(options.sessions), flush=True)
    finally:
        await run.stop()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    found = problems(phases[2:], phases[1], options)
    for problem in found:
        print(f"  ! {problem}", flush=True)
    return int(bool(found))


def main(arguments: list[str] | None = None) -> int:
    """Entry of `scripts/bench presence`."""
    parser = argparse.ArgumentParser(
        "scripts/bench presence",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sessions", type=int, default=10_000, help="sessions (default 10,000)")
    parser.add_argument("--watch", type=int, default=20, help="users that each watches (20)")
    parser.add_argument("--within", type=float, default=10, help="seconds of a reconnect (10)")
    parser.add_argument("--real", action="store_true", help="on real parts, each a process")
    parser.add_argument("--gateways", type=int, default=1, help="with --real: how many (1)")
    parser.add_argument("--calm", type=float, default=10, help="seconds of calm (10)")
    parser.add_argument("--most", type=float, default=2, help="bound of the p99's growth (2)")
    parser.add_argument("--noise", type=float, default=20, help="ms that it may grow anyway (20)")
    with ahead_of_others(timing=True):
        return uvloop.run(measure(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
