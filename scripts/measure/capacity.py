"""`scripts/capacity`: how many pods, partitions, brokers and nodes so many users need, and what a
million messages costs.

A model on paper: each number is an input, from flags, from a run of `scripts/load --real --json`,
or from the defaults, which say where they come from. It knows averages at the peak; what it cannot
show is printed with every answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Final

from measure.capacity_inputs import AIM, Inputs, measured
from measure.capacity_plan import Plan, columns, findings

EXAMPLES = """examples:
  scripts/capacity                                    10 million connected users, at measured costs
  scripts/capacity --users 100000 --messages 2000     a smaller town
  scripts/capacity --design                           at the costs that the design aims at
  scripts/load --real --batching --json run.json      measure on this machine ...
  scripts/capacity --measured run.json                ... and plan with that
  scripts/capacity --vcpu-hour 0.06 --node-hour 1.10  your prices

How to read it: three columns, the same users. "alone": one message an event, as functions are fed
without micro-batches. "as set": what KNCHAT_PUBLISH_APART_MS makes of it, by each gateway's own
rate. "batched": --batch messages an event. "bound by" names what decides a count. CPU of each part
is `us` for a message, and `event-us` for an event, shared by its messages; --measured fits both to
the steps of a run."""

NOT_SHOWN: Final = (
    "latency: there are no queues in it, only averages at the peak second",
    "network: egress, traffic between zones, load balancers, and what they cost",
    "noisy neighbours, garbage collection of large heaps, compaction and repair",
    "cold starts, rebalances, rolling upgrades, and skew: a hot chat or a busy partition",
    "whether costs measured on two cores stay the same on large clusters",
    "log-in, history reads, push, media, backups, logs and metrics",
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "scripts/capacity",
        usage="%(prog)s [--design | --measured FILE] [--json] [inputs]",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", action="store_true", help="print inputs, plans and findings as JSON"
    )
    parser.add_argument(
        "--design",
        action="store_true",
        help="CPU as the design aims at it, instead of what was measured",
    )
    parser.add_argument(
        "--measured",
        type=Path,
        metavar="FILE",
        help="CPU from a report of scripts/load --real --json FILE",
    )
    parser.add_argument(
        "--measured-batch",
        type=_number,
        metavar="N",
        help="messages an event in that run, if the report does not say",
    )
    group = parser.add_argument_group("inputs")
    for item in fields(Inputs):
        said = (
            f"{item.metadata['meaning']} (default {item.default:,.8g}: {item.metadata['source']})"
        ).replace("%", "%%")
        group.add_argument(f"--{item.name.replace('_', '-')}", type=_number, metavar="N", help=said)
    options = parser.parse_args(arguments)
    given = {
        item.name: value
        for item in fields(Inputs)
        if (value := getattr(options, item.name)) is not None
    }
    inputs = Inputs(**AIM) if options.design else Inputs()
    if options.measured is not None:
        try:
            inputs = measured(
                json.loads(options.measured.read_text()), inputs, batch=options.measured_batch
            )
        except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
            parser.error(f"--measured {options.measured}: {error}")
    options.inputs = replace(inputs, **given)
    for item in fields(Inputs):
        if not (
            getattr(options.inputs, item.name) or item.name.endswith(("_us", "_hour", "_records"))
        ):
            parser.error(f"--{item.name.replace('_', '-')} must be above 0")
    if options.inputs.batch < 1 or options.inputs.zones % 1:
        parser.error("--batch is at least 1, --zones a whole number")
    return options


def _number(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e18:
        raise argparse.ArgumentTypeError("must not be below 0")
    return number


def text(inputs: Inputs, plans: Mapping[str, Plan]) -> str:
    """The table, what limits, and what is not in it."""
    lines = [
        (
            f"{inputs.users:,.0f} users connected, {inputs.messages:,.0f} messages a second at the "
            f"peak, {inputs.zones:g} zones"
        ),
        "",
    ]
    lines.append(" " * 54 + "".join(f"{name:>14}" for name in plans))
    for item in fields(Plan):
        cells = (
            format(getattr(found, item.name), item.metadata["form"]) for found in plans.values()
        )
        lines.append(f"{item.metadata['label']:<54}" + "".join(f"{cell:>14}" for cell in cells))
    lines += [
        "",
        *findings(inputs, plans),
        "",
        "It cannot show:",
        *(f"  {what}" for what in NOT_SHOWN),
    ]
    return "\n".join(lines)


def main() -> None:
    """Entry of `scripts/capacity`."""
    options = parse()
    plans = columns(options.inputs)
    if options.json:
        found = {
            "inputs": asdict(options.inputs),
            "plans": {name: asdict(one) for name, one in plans.items()},
        }
        print(
            json.dumps(
                {**found, "findings": findings(options.inputs, plans), "not_shown": NOT_SHOWN},
                indent=1,
            )
        )
    else:
        print(text(options.inputs, plans))
    sys.exit(0)


if __name__ == "__main__":
    main()
