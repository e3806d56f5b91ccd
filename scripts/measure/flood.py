"""`scripts/bench flood`: what one account can take from all others, for each HTTP call and each
frame.

A fresh product where ten people write ten messages a second each; before and after each flood
another user of another address is measured in that calm: sends (until `ok`), GET /v1/me, and
log-ins. The flooder is a process of its own that ignores
every time it is told to wait. A 99th percentile moves between runs: a flood that is beyond the
bound is repeated up to `--rounds` times, and the medians of all its rounds decide. Source: the
budgets of schemas/costs.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import uvloop

from measure.flood_tasks import tasks
from measure.flooder import Http
from measure.other_user import (
    NEIGHBOURS,
    OTHER_ADDRESS,
    PASSWORD,
    Neighbour,
    OtherUser,
    User,
    Waits,
    p99,
)
from measure.product import Product

EXAMPLES = """examples:
  scripts/bench flood                      each call and frame for 20 s: about half an hour
  scripts/bench flood --only history "PUT /v1/me/password"
  scripts/bench flood --seconds 5 --calm 5 a first look

It exits with 1 when the other user's p99 grew by more than --most (and by more than --noise ms),
when a flood was told a time that was not true, or when sends, searches or questions were never told
`rate_limited`."""

PEOPLE: Final = 20_000
"""Who can be searched for; half of them by the same three letters."""
FILL: Final = 300
"""Messages in the flooder's chat, where pages and digests are asked for."""


@dataclass(frozen=True, slots=True)
class Round:
    """One flood: the other user's waits in the calm around it and during it, and what the flooder
    was told.
    """

    calm: Waits
    flooded: Waits
    told: dict[str, Any]


def medians(rounds: list[Round], what: str) -> tuple[float, float]:
    """Of the 99th percentiles of `ack` or `me`, in ms: in the calm, and while it was flooded."""
    return (
        median(p99(getattr(each.calm, what)) for each in rounds),
        median(p99(getattr(each.flooded, what)) for each in rounds),
    )


class Flood:
    """One product, and who is on it."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        """`environ`: settings that are not as they are by default."""
        self._product = Product(folder, environ=environ or {})
        self._folder = folder
        self._writing: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts it with many accounts, and the other user's session."""
        await self._product.start()
        self.address = self._product.http.removeprefix("http://")
        await asyncio.to_thread(self._populate)
        self.other = OtherUser(self.address, await self.person("other"))
        self._neighbours = [
            Neighbour(self.address, await self.person("neighbour")) for _ in range(NEIGHBOURS)
        ]
        for session in (self.other, *self._neighbours):
            await session.open()
        self._writing = [asyncio.create_task(each.write()) for each in self._neighbours]

    async def renew(self) -> None:
        """Gives all but the flooder new tokens."""
        for session in (self.other, *self._neighbours):
            await session.renew()

    async def stop(self) -> None:
        """Ends it."""
        for task in self._writing:
            task.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)
        await self._product.stop()

    def _populate(self) -> None:
        rows = [
            (10_000 + n, f"{'per' if n % 2 else 'sam'}son{n}", f"Person {n}", 1, "none")
            for n in range(PEOPLE)
        ]
        with sqlite3.connect(self._folder / "data.db", timeout=30) as database:
            database.executemany(
                "INSERT INTO accounts (user, user_name, display_name, version, password_hash) "
                "VALUES (?, ?, ?, ?, ?)",
                rows,
            )
        database.close()

    async def person(self, name: str) -> User:
        """A new user, logged in; by the address of the other user, whose limit no flood has
        touched.
        """
        http, name = Http(self.address, own=OTHER_ADDRESS), f"{name}-{secrets.token_hex(4)}"
        await http.ask("POST", "/v1/users", body={"user_name": name, "password": PASSWORD})
        status, _, content = await http.ask(
            "POST",
            "/v1/sessions",
            body={"user_name": name, "password": PASSWORD, "device": "phone"},
        )
        http.close()
        if status != 201:
            raise SystemExit(f"{name} cannot log in: {status} {content[:200]!r}")
        log_in = json.loads(content)
        return User(
            name, log_in["user"], log_in["access_token"], log_in["refresh_token"], log_in["gateway"]
        )

    async def flood(self, name: str, seconds: float) -> tuple[dict[str, Any], Waits]:
        """One flood; what the flooder was told, and the other user's waits."""
        task = tasks(await self.person("flood"))[name]
        task |= {"http": self.address, "seconds": seconds}
        if "history" in name or "digest" in name or "messages" in name:
            task["fill"] = FILL if "frame" in task else 0
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "measure.flooder",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # It has a machine of its own elsewhere; it asks as often as at 5.
            preexec_fn=lambda: os.nice(19),
        )
        told = asyncio.create_task(process.communicate(json.dumps(task).encode()))
        await asyncio.sleep(0.3)  # it starts
        flooded = await self.other.measure(seconds)
        output, _ = await told
        if process.returncode:
            raise SystemExit(f"the flooder of {name} failed")
        return json.loads(output), flooded


def slower(rounds: list[Round], options: argparse.Namespace) -> list[str]:
    """What of the other user was slower than it may be, by the medians."""
    found = []
    for what in ("ack", "me"):
        before, after = medians(rounds, what)
        if after > before * options.most and after > before + options.noise:
            found.append(f"{what} p99 {before:.1f} -> {after:.1f} ms")
    return found


def problems(name: str, rounds: list[Round], options: argparse.Namespace) -> list[str]:
    """What should not be."""
    found = slower(rounds, options)
    if any(each.told["true"] is False for each in rounds):
        found.append("the time it was told was not true")
    asked = sum(rounds[-1].told["told"].values())
    if (
        name in MUST_BE_LIMITED
        and not any(each.told["limited"] for each in rounds)
        and options.seconds >= 20
    ):
        found.append(f"{asked} times, and never rate_limited")
    return found


MUST_BE_LIMITED: Final = (
    "send",
    "history",
    "digest",
    "GET /v1/users",
    "PUT /v1/me/password",
    "GET /v1/me",
    "POST /v1/tokens",
)


def row(name: str, rounds: list[Round], options: argparse.Namespace) -> str:
    """The flood's line of the table."""
    told = rounds[-1].told
    asked = sum(told["told"].values()) / options.seconds
    true = {True: "yes", False: "NO", None: "-"}[told["true"]]
    ack, me = ("{:.1f} -> {:.1f}".format(*medians(rounds, what)) for what in ("ack", "me"))
    log_in = "{:.0f} -> {:.0f}".format(
        *(
            max(wait for waits in side for wait in waits.log_in)
            for side in ([each.calm for each in rounds], [each.flooded for each in rounds])
        )
    )
    return (
        f"{name:42}{len(rounds):7}{asked:8.0f}{told['limited']:9}{true:>6}{ack:>18}{me:>18}"
        f"{log_in:>20}"
    )


async def measure(options: argparse.Namespace) -> int:
    """All floods that were asked for, as a table; the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="kn-chat-flood-"))
    flood, bad = Flood(folder), 0
    try:
        await flood.start()
        names = options.only or list(tasks(User("", "1", "", "", "")))
        print(
            f"{'flood':42}{'rounds':>7}{'asked/s':>8}{'limited':>9}{'true':>6}"
            f"{'ack p99 ms':>18}{'me p99 ms':>18}{'log-in worst ms':>20}",
            flush=True,
        )
        await flood.other.measure(3)
        calm = await flood.other.measure(options.calm)
        for name in names:
            await flood.renew()
            rounds: list[Round] = []
            while not rounds or (len(rounds) < options.rounds and slower(rounds, options)):
                told, flooded = await flood.flood(name, options.seconds)
                await asyncio.sleep(1)
                after = await flood.other.measure(options.calm)
                rounds.append(Round(calm + after, flooded, told))
                calm = after
            print(row(name, rounds, options), flush=True)
            found = problems(name, rounds, options)
            for problem in found:
                print(f"  ! {problem}", flush=True)
            bad += bool(found)
    finally:
        await flood.stop()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return int(bool(bad))


def main(arguments: list[str] | None = None) -> int:
    """Entry of `scripts/bench flood`."""
    parser = argparse.ArgumentParser(
        "scripts/bench flood",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help='these: a type of frame, or a call like "GET /v1/users"',
    )
    parser.add_argument("--seconds", type=float, default=20, help="of each flood (default 20)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="how often a flood beyond the bound is made, whose medians decide (default 5)",
    )
    parser.add_argument(
        "--calm", type=float, default=10, help="of calm before and after it (default 10)"
    )
    parser.add_argument(
        "--most",
        type=float,
        default=1.3,
        help="how many times the calm p99 the other user's may be (default 1.3)",
    )
    parser.add_argument(
        "--noise", type=float, default=5, help="ms more that are no matter (default 5)"
    )
    options = parser.parse_args(arguments)
    known = list(tasks(User("", "1", "", "", "")))
    if unknown := [name for name in options.only or () if name not in known]:
        parser.error(f"there is no {unknown[0]!r}; there are {', '.join(known)}")
    return uvloop.run(measure(options))


if __name__ == "__main__":
    sys.exit(main())
