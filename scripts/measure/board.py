"""The figures of the real parts, by the numbers of the design's targets, each beside its floor:
what `scripts/load --real` prints.

A floor belongs to one rate; at other rates the figure is printed alone. Ratios are to limits
measured in the same run.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from measure import report
from measure.beside import bare_kafka, relay_step
from measure.ladders import counted, published
from measure.run import Run, running, say

TAX_S = 15.0
STEADY_S = 600


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `floor` None: none at this rate."""

    name: str
    what: str
    value: float
    floor: float | None
    moonshot: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the floor holds; without one it does."""
        return self.floor is None or self.value <= self.floor

    def __str__(self) -> str:
        said = (
            ""
            if self.floor is None
            else f"floor {self.floor:g} {'met' if self.met else 'MISSED'}, "
        )
        return (
            f"  {self.name:<4} {self.what:<62} {self.value:9.2f} {self.unit:<3} ({said}moonshot "
            f"{self.moonshot:g})"
        )


async def at_rate(run: Run) -> tuple[list[report.Step], dict[str, Any]]:
    """One rate on the real parts: the step, its limits, and what HTTP between pumps and functions
    costs.
    """
    options = run.options
    before = await published(run)
    step = await run.step(options.rate, options.seconds, sample_history=True)
    events, commands = (
        after - earlier for after, earlier in zip(await published(run), before, strict=True)
    )
    batching = [(options.rate, step.cpu_us_per_message, commands / max(1, events))]
    report.show(step, title=title(options))
    [away] = await counted(run, "knchat_cache_away_total")
    if away:
        # A Redis that is full, say. The product goes on without it, and looks cheaper than it is.
        print(f"  ! the cache did not answer {away:.0f} times: these figures are without it")
    relay = await relay_step(run, options.rate)
    bare = await bare_kafka(options)
    untaxed = None if options.no_tax else await _without_http(run)
    print("\nlimits, same run, same schedule")
    print(
        f"  raw relay delivery  {relay.figures.delivery}   CPU-us per message "
        f"{relay.cpu_us_per_message:.0f}"
    )
    print(
        f"  bare Kafka  ack p50 {bare['ack_p50_ms']:.2f} p99 {bare['ack_p99_ms']:.2f}   "
        f"produce->consume p50 {bare['read_p50_ms']:.2f}"
        f" p99 {bare['read_p99_ms']:.2f} ms   CPU-us per record {bare['cpu_us']:.0f}"
    )
    if untaxed is not None:
        print(
            f"  without HTTP delivery  {untaxed.figures.delivery}   CPU-us per message "
            f"{untaxed.cpu_us_per_message:.0f}"
        )
    found = figures(step, relay, bare, untaxed)
    print(f"\nfigures at {options.rate:g}/s")
    for figure in found:
        print(figure)
    limits = {"relay": relay.as_dict(), "bare_kafka": bare}
    return [step], {
        "limits": limits,
        "figures": {one.name: one.value for one in found},
        "batching": batching,
    }


def title(options: argparse.Namespace) -> str:
    """What was measured, in words."""
    parts = f"{options.gateways} gateway(s){', through the sink' if options.sink else ''}"
    return (
        f"kn-chat on real parts, {parts}, {options.rate:g}/s for {options.seconds:g} s, "
        f"{options.clients} clients, {options.bytes} bytes"
    )


def figures(
    step: report.Step, relay: report.Step, bare: dict[str, float], untaxed: report.Step | None
) -> list[Figure]:
    """The figures of one rate."""
    at_1000, at_300 = step.rate == 1000, step.rate == 300
    delivery, ack = step.figures.delivery, step.figures.ack
    hops = relay.figures.delivery.p99 + 2 * bare["read_p99_ms"]
    found = [
        Figure(
            "P1",
            "CPU-us per delivered message, everything included",
            step.cpu_us_per_message,
            1000 if at_1000 else None,
            400,
            "us",
        ),
        Figure(
            "P2",
            "gateway CPU per message / raw relay's",
            _ratio(step.cpu_us["gateway"], relay.cpu_us_per_message),
            3 if at_1000 else None,
            1.5,
        ),
        Figure("P5", "delivery p99", delivery.p99, 60 if at_300 else None, 30, "ms"),
        Figure(
            "P6",
            "delivery p99 / (relay p99 + two bare produce->consume p99)",
            delivery.p99 / hops,
            2.5,
            1.3,
        ),
        Figure(
            "P7", "ack p99 / bare acks=all producer's p99", ack.p99 / bare["ack_p99_ms"], 2.0, 1.3
        ),
        Figure("P15", "ack -> visible in history, p99", step.visible.p99, 500, 100, "ms"),
    ]
    if step.record.slots >= STEADY_S * step.rate:
        found.append(
            Figure("P8", "steadiness: delivery p99.9 / p99", delivery.p999 / delivery.p99, 5, 2.5)
        )
        found.append(
            Figure("P8", "steadiness: delivery max / p99", delivery.max / delivery.p99, 30, 10)
        )
    if untaxed is not None:
        found.append(
            Figure(
                "P9",
                "CPU with HTTP / without",
                step.cpu_us_per_message / untaxed.cpu_us_per_message,
                2,
                1.25,
            )
        )
        found.append(
            Figure(
                "P9",
                "delivery p50 with HTTP - without",
                delivery.p50 - untaxed.figures.delivery.p50,
                10,
                3,
                "ms",
            )
        )
    return found


def _ratio(figure: float, limit: float) -> float:
    """How often the limit fits into it; nan where that was too small to be measured, as the relay's
    CPU at a few messages a second.
    """
    return figure / limit if limit else float("nan")


async def _without_http(run: Run) -> report.Step:
    """The same rate with the functions inside their pumps."""
    say("the same without HTTP between pumps and functions")
    await run.stop()
    async with running(run.options, "--in-process") as other:
        await other.log_in()  # other keys sign its tokens
        return await other.step(run.options.rate, TAX_S)
