"""Runs at several rates: up to the highest that holds, and what batching saves
as the rate grows.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import httpx

from measure import report
from measure.run import Run

LADDER = (500, 1000, 1500, 2000, 2500, 3000, 4000, 5000, 6000, 8000)
BATCHING = (50, 300, 1000, 3000)


async def saturate(run: Run) -> tuple[list[report.Step], dict[str, Any]]:
    """Up the ladder until a rate does not hold, then a minute at the highest that did."""
    options = run.options
    steps: list[report.Step] = []
    best = 0.0
    for rate in LADDER:
        step = await run.step(rate, options.step_seconds)
        steps.append(step)
        report.show(
            step,
            title=f"{rate}/s for {options.step_seconds:.0f} s: "
            f"{'held' if step.held else 'not held'}",
        )
        if not step.held:
            break
        best = rate
    while best:
        last = await run.step(best, options.last_seconds)
        steps.append(last)
        report.show(
            last,
            title=f"{best}/s for {options.last_seconds:.0f} s: "
            f"{'held' if last.held else 'not held'}",
        )
        if last.held:
            break
        lower = [rate for rate in LADDER if rate < best]
        best = lower[-1] if lower else 0.0
    print(
        f"\nsaturation: {best:.0f} messages/s (delivery p99 <= {report.P99_LIMIT_MS:.0f} ms, "
        "nothing lost)"
    )
    return steps, {"saturation": best}


async def batching(run: Run) -> tuple[list[report.Step], dict[str, Any]]:
    """CPU per message and messages per event at growing rates: both must show that the cost of an
    event is shared.
    """
    steps: list[report.Step] = []
    rows: list[tuple[float, float, float]] = []
    for rate in BATCHING:
        before = await published(run)
        step = await run.step(rate, run.options.step_seconds)
        events, commands = (
            after - earlier for after, earlier in zip(await published(run), before, strict=True)
        )
        report.show(step, title=f"{rate}/s for {run.options.step_seconds:.0f} s")
        steps.append(step)
        rows.append((rate, step.cpu_us_per_message, commands / max(1, events)))
    print("\n  messages/s   CPU-us per message   messages per event")
    for at, cpu_us, batch in rows:
        print(f"  {at:10.0f}   {cpu_us:18.0f}   {batch:18.1f}")
    falling = all(later[1] < earlier[1] for earlier, later in itertools.pairwise(rows))
    print(f"  CPU per message {'falls' if falling else 'DOES NOT FALL'} as the rate grows")
    return steps, {"batching": rows}


async def published(run: Run) -> tuple[float, float]:
    """How many events all gateways together have published so far, and how many
    commands in them.
    """
    events, commands = await counted(
        run, "knchat_publishes_total", "knchat_published_commands_total"
    )
    return events, commands


async def counted(run: Run, *names: str) -> list[float]:
    """What these counters say, of all gateways together."""
    assert run.product is not None  # noqa: S101 - only servers of our own are looked into
    total = [0.0] * len(names)
    async with httpx.AsyncClient(timeout=10) as client:
        for url in run.product.metrics():
            text = (await client.get(url)).text
            for index, name in enumerate(names):
                total[index] += sum(
                    float(number) for number in re.findall(rf"^{name} (\S+)", text, re.MULTILINE)
                )
    return total
