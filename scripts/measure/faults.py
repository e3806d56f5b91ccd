"""`scripts/faults`: takes parts of the running product away while clients talk, and counts from the
clients' side what was lost.

Every fault is a step of load on one product that keeps running, so each also shows that the one
before left nothing broken.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import uvloop

from measure import report
from measure.outages import FAULTS, HEAL_S, KILL_INTERVAL_S, Fault, Scene, bring_back
from measure.record import Record
from measure.run import Run, running, say
from servers.place import Failed
from servers.services import Services

BEFORE_S, AFTER_S = 5.0, 20.0
SLOW_S = 1.0
# What a part of the product that goes on may take while a store is unavailable, and at the end of
# every step. Most of it is a busy machine's.
MAX_WAIT_S = 5.0
# Where a client notices the beginning of an outage: what is under way then may wait for a timeout.
SHARE_SLOW = 0.05
NORMAL_S = 3.0

EXAMPLES = """examples:
  scripts/faults                                      every fault, one after the other: 18 minutes
  scripts/faults broker-kill cassandra-stop           these two
  scripts/faults redis-stop --outage 5                unavailable for 5 s only
  scripts/faults function-kill pump-kill --kills 50   kill -9, fifty times each, at random moments

Stores are those of scripts/services, which it starts: do not let anything else use them meanwhile,
or give it a --folder of its own.

It exits with 1 when anything acknowledged was lost, doubled or disordered, when a send was refused
or never answered, or when the product did not recover by itself; the lines marked with ! say what.
2 is wrong usage, 130 Ctrl-C. However it ends, the stores run again."""


async def one(run: Run, services: Services, name: str) -> bool:
    """One fault under load; whether it passed."""
    fault, options = FAULTS[name], run.options
    away_s = fault.away_s if options.outage is None or not fault.away_s else options.outage
    lasts_s = away_s + fault.lasts_s
    if fault.kills:
        lasts_s += options.kills * sum(KILL_INTERVAL_S) / 2
    scene = Scene(run, services, options.kills, away_s)
    what = fault.what.format(away=f"{away_s:g} s")
    say(f"{name}: {what}")

    async def act() -> None:
        scene.began_ns = time.monotonic_ns()
        try:
            await fault.act(scene)
        finally:
            scene.ended_ns = time.monotonic_ns()
            await asyncio.shield(asyncio.to_thread(bring_back, services))

    seconds = lasts_s + AFTER_S
    step = await run.step(options.rate, seconds, warm_up_s=BEFORE_S, trouble=act)
    report.show(
        step,
        title=f"{name}: {what}, {options.rate:g}/s for {BEFORE_S + seconds:.0f} s, "
        f"{options.clients} clients",
    )
    _show_recovery(step.record, scene)
    if step.verdict.acknowledged and not step.verdict.lost:
        acknowledged = step.verdict.acknowledged
        print(
            f"  of {acknowledged} acknowledged none lost means: fewer than 1 in "
            f"{max(1, acknowledged // 3)}, at 95 %"
        )
    if fault.kept_s:
        after_s = (run.kept_ns - scene.ended_ns) / 1e9
        print(f"  history held everything {after_s:.0f} s after the return")
    found = problems(fault, step, scene, kept_ns=run.kept_ns)
    for problem in found:
        print(f"  ! {problem}")
    print(f"  {'FAILED' if found or not step.verdict.good else 'passed'}", flush=True)
    return step.verdict.good and not found


def problems(fault: Fault, step: report.Step, scene: Scene, *, kept_ns: int = 0) -> list[str]:
    """What should not be, beside what the checker found.

    `kept_ns`: when history was seen to hold everything.
    """
    record, found = step.record, list(scene.problems)
    if step.verdict.refused:
        found.append(
            f"{step.verdict.refused} sends were refused: {sorted(set(record.refused.values()))}"
        )
    if fault.goes_on:
        inside = [
            row for row in range(record.slots) if scene.began_ns <= record.due[row] <= scene.back_ns
        ]
        if (slow := _slow(record, inside)) > SHARE_SLOW * len(inside):
            found.append(
                f"{slow} of {len(inside)} messages took longer than {MAX_WAIT_S:g} s while it was "
                "unavailable, and all should go on"
            )
        if fault.p99_s and (p99_s := _p99_s(record, inside)) > fault.p99_s:
            found.append(
                f"p99 of deliveries was {p99_s * 1e3:.0f} ms during the outage, not "
                f"{fault.p99_s * 1e3:.0f}"
            )
    if fault.kept_s and kept_ns > scene.ended_ns + fault.kept_s * 1e9:
        found.append(
            f"history held everything {(kept_ns - scene.ended_ns) / 1e9:.0f} s after the return, "
            f"not within {fault.kept_s:g} s"
        )
    last_ns = record.due[record.slots - 1]
    if scene.ended_ns < last_ns - NORMAL_S * 1e9:
        last = [row for row in range(record.slots) if record.due[row] >= last_ns - NORMAL_S * 1e9]
        if (slow := _slow(record, last)) > SHARE_SLOW * len(last):
            found.append(
                f"{slow} of the last {len(last)} messages took longer than {MAX_WAIT_S:g} s: it "
                "has not recovered"
            )
    return found


def _slow(record: Record, rows: list[int]) -> int:
    """How many were not delivered soon."""
    return sum(
        1 for row in rows if not 0 < record.delivered[row] <= record.due[row] + MAX_WAIT_S * 1e9
    )


def _p99_s(record: Record, rows: list[int]) -> float:
    """Of the time from when they were due to their delivery."""
    took = sorted(
        record.delivered[row] - record.due[row] if record.delivered[row] else sys.maxsize
        for row in rows
    )
    return took[int(len(took) * 0.99)] / 1e9 if took else 0.0


def _show_recovery(record: Record, scene: Scene) -> None:
    inside = [
        row for row in range(record.slots) if scene.began_ns <= record.due[row] <= scene.ended_ns
    ]
    soon_ns = int(SLOW_S * 1e9)
    acked = sum(
        1 for row in inside if record.acked[row] and record.acked[row] - record.due[row] < soon_ns
    )
    behind_ns = (
        max((record.delivered[row] for row in inside), default=scene.ended_ns) - scene.ended_ns
    )
    slow = [
        row
        for row in range(record.slots)
        if record.due[row] > scene.ended_ns and record.delivered[row] - record.due[row] > soon_ns
    ]
    normal_ns = max((record.due[row] for row in slow), default=scene.ended_ns) - scene.ended_ns
    lasted_s, caught_up_s, normal_s = (
        (scene.ended_ns - scene.began_ns) / 1e9,
        max(0, behind_ns) / 1e9,
        normal_ns / 1e9,
    )
    print(f"  delivery p99 while it lasted {_p99_s(record, inside) * 1e3:.0f} ms")
    print(
        f"  lasted {lasted_s:.1f} s: of {len(inside)} sends in it {acked} were acknowledged within "
        "a second"
    )
    print(
        f"  the last of them was delivered {caught_up_s:.1f} s after its end; every delivery "
        f"within a second again after {normal_s:.1f} s"
    )
    if scene.ended_ns > record.due[record.slots - 1]:
        print("  (the load ended before it did: how the product goes on was not seen)")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    names = "\n".join(
        f"  {name:<16} {fault.what.format(away=f'{fault.away_s:g} s')}"
        for name, fault in FAULTS.items()
    )
    parser = argparse.ArgumentParser(
        "scripts/faults",
        description=__doc__,
        epilog=f"faults:\n{names}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "faults", nargs="*", metavar="FAULT", help="which; all of them when none is named"
    )
    parser.add_argument(
        "--rate", type=_positive, default=200, metavar="N", help="messages a second (default 200)"
    )
    parser.add_argument(
        "--clients",
        type=_positive,
        default=60,
        metavar="N",
        help="connected users, in pairs (default 60)",
    )
    parser.add_argument(
        "--outage",
        type=_positive,
        metavar="S",
        help="how long stores are unavailable, instead of the time named below",
    )
    parser.add_argument(
        "--kills",
        type=_positive,
        default=50,
        metavar="N",
        help="with function-, pump-, gateway-kill: how often (default 50)",
    )
    parser.add_argument(
        "--gateways", type=_positive, default=1, metavar="N", help="how many (default 1)"
    )
    parser.add_argument(
        "--sink", action="store_true", help="gateways post to a receiver, as on Knative"
    )
    parser.add_argument(
        "--bytes",
        type=_positive,
        default=256,
        metavar="N",
        help="length of a message's text (default 256)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the schedule and of the kills")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="the stores: a set of scripts/services --folder (default .run/services)",
    )
    options = parser.parse_args(
        arguments,
        argparse.Namespace(
            real=True,
            http=None,
            ws=None,
            no_pin=True,
            saturate=False,
            from_zero=False,
            warm_up=None,
        ),
    )
    if unknown := [name for name in options.faults if name not in FAULTS]:
        parser.error(f"unknown fault {unknown[0]!r}; there are {', '.join(FAULTS)}")
    if options.clients % 2:
        parser.error("--clients must be even: client i writes to client i ^ 1")
    return options


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError("a number from 1 on")
    return int(text)


async def measure(options: argparse.Namespace, services: Services) -> int:
    """All faults that were asked for; the exit code."""
    names, passed = list(options.faults or FAULTS), dict[str, bool]()
    for flags in dict.fromkeys(FAULTS[name].flags for name in names):
        async with running(options, *flags) as run:
            assert run.product is not None  # noqa: S101 - there is no --http
            run.product.services, run.settle_s = services, HEAL_S
            for name in [name for name in names if FAULTS[name].flags == flags]:
                await run.log_in()  # again: access tokens live 15 minutes
                passed[name] = await one(run, services, name)
    failed = [name for name, good in passed.items() if not good]
    print(
        f"\n{len(passed)} faults, {'all passed' if not failed else 'FAILED: ' + ', '.join(failed)}"
    )
    return 1 if failed else 0


def main() -> None:
    """Entry of `scripts/faults`."""
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    services = Services(options.folder)
    try:
        services.up()
        # What it hurts is what the product uses, whatever the shell has named.
        for name in [
            name
            for name in os.environ
            if name.startswith(
                ("KNCHAT_KAFKA", "KNCHAT_CASSANDRA", "KNCHAT_DATABASE", "KNCHAT_REDIS")
            )
        ]:
            del os.environ[name]
        os.environ.update(services.settings())
        sys.exit(uvloop.run(measure(options, services)))
    except Failed as failed:
        sys.exit(f"faults: {failed}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
