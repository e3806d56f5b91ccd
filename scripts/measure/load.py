"""`scripts/load`: drives kn-chat as its clients do and says what it lost and how long it took.

Open loop, schedule fixed before, HdrHistogram.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from measure import board, cecochat, from_zero, groups, ladders, pages, report
from measure.beside import log_limit, relay_step
from measure.run import Run, running

EXAMPLES = """examples:
  scripts/load --clients 200 --rate 300 --seconds 60
                                      figures at a fixed rate, beside a raw relay and a bare log
  scripts/load --saturate             the highest rate with delivery p99 <= 100 ms
  scripts/load --crash --kills 20     kill -9 under load, twenty times: is anything lost?
  scripts/load --real --rate 1000     on Kafka, Cassandra, PostgreSQL and Redis: figures P1 to P15
  scripts/load --real --from-zero     from no function running to 1,000 a second at once: figure P11
  scripts/load --real --gateways 2 --groups
                                      groups of 2 to 1,000, and one of 5,000 beside direct chats
  scripts/load --http http://127.0.0.1:8080 --ws ws://127.0.0.1:8081/v1/socket
                                      a server that already runs

It exits with 1 when a message was lost, doubled, disordered or never answered, or a bound of
--groups does not hold, and prints which."""

RATE, SECONDS = 300.0, 60.0
STEP_S, LAST_STEP_S = 20.0, 60.0


async def fixed(run: Run) -> tuple[list[report.Step], dict[str, Any]]:
    """One rate, with the limits beside it."""
    options = run.options
    trouble = partial(run.crash, options.kills, options.seconds) if options.crash else None
    step = await run.step(options.rate, options.seconds, trouble=trouble)
    server = "embedded default" if run.product is not None else f"the server at {run.http}"
    report.show(
        step,
        title=f"kn-chat, {server}, {options.rate}/s for {options.seconds} s, {options.clients} "
        f"clients, {options.bytes} bytes",
    )
    if options.crash:
        again = sum(1 for tries in step.record.tries if tries > 2)
        print(
            f"  kill -9: {options.kills} times; sends resolved by one repeat "
            f"{sum(1 for tries in step.record.tries if tries == 2)}"
            f"   interrupted again by the next kill {again}"
        )
        return [step], {}
    if run.product is None:
        return [step], {}
    relay = await relay_step(run, options.rate)
    log_p50, log_p99, log_cpu = await log_limit(run, options.rate)
    relay_p99 = relay.figures.delivery.p99
    print("\nlimits, same run, same cores, same schedule")
    print(
        f"  raw relay delivery  {relay.figures.delivery}   CPU-us per message "
        f"{relay.cpu_us_per_message:.0f}"
    )
    print(
        f"  bare log append     p50 {log_p50:7.2f}   p99 {log_p99:7.2f} ms   CPU-us per record "
        f"{log_cpu:.0f}"
    )
    ratio = step.figures.delivery.p99 / (relay_p99 + 2 * log_p99)
    print(
        f"  delivery p99 / (relay p99 + two appends' p99): {ratio:.2f}   ack p99 / append p99: "
        f"{step.figures.ack.p99 / log_p99:.2f}"
    )
    limits = {
        "relay": relay.figures.as_dict(),
        "relay_cpu_us": relay.cpu_us_per_message,
        "log_p50_ms": log_p50,
        "log_p99_ms": log_p99,
        "log_cpu_us": log_cpu,
    }
    return [step], limits


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "scripts/load",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--clients", type=int, default=200, help="connected users, in pairs (default 200)"
    )
    parser.add_argument(
        "--rate",
        type=float,
        help="messages a second, all together (default 300, with --from-zero 1,000)",
    )
    parser.add_argument(
        "--seconds", type=float, help="measured seconds (default 60, with --from-zero 20)"
    )
    parser.add_argument(
        "--warm-up",
        type=float,
        metavar="S",
        help="seconds of load before them (default 3, with --real 120), before later steps at most "
        "10",
    )
    parser.add_argument(
        "--bytes", type=int, default=256, help="length of a message's text (default 256)"
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--saturate", action="store_true", help="find the highest rate that holds")
    modes.add_argument(
        "--batching",
        action="store_true",
        help="CPU and messages per event at 50, 300, 1,000 and 3,000 messages a second",
    )
    modes.add_argument(
        "--cecochat",
        action="store_true",
        help="CecoChat's scenario with --clients: log-in, 3 x (4 reads, 4 sends, a reaction) each",
    )
    modes.add_argument(
        "--tail", action="store_true", help="with --real: pages at the tail of a chat of --messages"
    )
    modes.add_argument(
        "--groups",
        action="store_true",
        help="what messages to groups cost, how soon all have them, and direct chats beside them",
    )
    modes.add_argument(
        "--from-zero",
        action="store_true",
        help="with --real: no function runs when the load begins, all of it at once",
    )
    modes.add_argument(
        "--crash", action="store_true", help="kill -9 the whole server at random moments"
    )
    groups.add_options(parser)
    parser.add_argument(
        "--step-seconds",
        type=float,
        default=STEP_S,
        help="with --saturate and --batching: seconds a step (default 20)",
    )
    parser.add_argument(
        "--last-seconds",
        type=float,
        default=LAST_STEP_S,
        help="with --saturate: seconds of the last one (default 60)",
    )
    parser.add_argument(
        "--messages", type=int, default=1_000_000, help="with --tail: how many (default 1,000,000)"
    )
    parser.add_argument(
        "--pages", type=int, default=2_000, help="with --tail: how many are read (default 2,000)"
    )
    parser.add_argument(
        "--kills", type=int, default=20, help="with --crash: how often (default 20)"
    )
    parser.add_argument(
        "--real",
        action="store_true",
        help="on real Kafka, Cassandra, PostgreSQL and Redis, each part a process",
    )
    parser.add_argument("--gateways", type=int, default=1, help="with --real: how many (default 1)")
    parser.add_argument(
        "--sink",
        action="store_true",
        help="with --real: gateways post to a receiver, as on Knative",
    )
    parser.add_argument(
        "--no-tax",
        action="store_true",
        help="with --real: do not run again without HTTP between pumps and functions",
    )
    parser.add_argument(
        "--http", help="HTTP URL of a server that runs; else one of our own is started and stopped"
    )
    parser.add_argument("--ws", help="its WebSocket URL (default: what log-in says)")
    parser.add_argument(
        "--no-pin",
        action="store_true",
        help="server and generator share all cores (default: one core each)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the schedule and of the kills")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args(arguments)
    rate, seconds = (from_zero.RATE, from_zero.SECONDS) if options.from_zero else (RATE, SECONDS)
    options.rate = rate if options.rate is None else options.rate
    options.seconds = seconds if options.seconds is None else options.seconds
    if options.clients < 2 or options.clients % 2:
        parser.error("--clients must be even: client i writes to client i ^ 1")
    if options.crash and options.http:
        parser.error("--crash kills the server, so it must be our own: leave --http out")
    if options.http and (options.batching or options.cecochat or options.tail):
        parser.error(
            "--batching, --cecochat and --tail look into the server, so it must be our own: leave "
            "--http out"
        )
    if (options.tail or options.from_zero) and not options.real:
        parser.error("--tail and --from-zero belong to --real")
    if options.from_zero and options.warm_up is not None:
        parser.error("--from-zero has no --warm-up: what it measures is the first seconds")
    if not options.real and (options.gateways > 1 or options.sink):
        parser.error("--gateways and --sink belong to --real")
    if options.real and (options.crash or options.http):
        parser.error(
            "--real starts its own processes; what happens when they are killed: scripts/faults"
        )
    return options


def _mode(
    options: argparse.Namespace,
) -> Callable[[Run], Awaitable[tuple[list[report.Step], dict[str, Any]]]]:
    if options.saturate:
        return ladders.saturate
    if options.batching:
        return ladders.batching
    if options.cecochat:
        return cecochat.scenario
    if options.tail:
        return pages.tail
    if options.groups:
        return groups.groups
    if options.from_zero:
        return from_zero.at_once
    return board.at_rate if options.real else fixed


async def measure(options: argparse.Namespace) -> int:
    """The whole run; its exit code."""
    async with running(options) as run:
        if not (options.cecochat or options.tail or options.groups):
            await run.log_in()
        steps, more = await _mode(options)(run)
    if options.json:
        options.json.write_text(
            json.dumps({"steps": [step.as_dict() for step in steps], **more}, indent=1)
        )
    good = all(step.verdict.good for step in steps if step.held or not options.saturate)
    good = good and not any(
        step.verdict.lost or step.verdict.doubled or step.verdict.disordered for step in steps
    )
    good = good and not more.get("broken")
    verdict = (
        "nothing lost, doubled or disordered" if good else "FAILED: see the lines marked with !"
    )
    print(f"\n{verdict}")
    return 0 if good else 1


def main() -> None:
    """Entry of `scripts/load`."""
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(uvloop.run(measure(parse())))


if __name__ == "__main__":
    main()
