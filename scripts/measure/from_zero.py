"""From no function process to the full rate at once, without a warm-up: figure P11, which
`scripts/load --real --from-zero` prints.

The functions' sockets are held by `dev --real --from-zero`, as by Knative's activator: a process
starts with the first request for it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from measure import board, report
from measure.product import Product
from measure.run import Run, say

RATE, SECONDS = 1000.0, 20.0
FIRST_S = 10.0
# What a run that was killed has left in Kafka starts functions when the next one begins. A function
# is there within 3 s, also under load (measured), and what it makes of that starts the next one.
LEFT_S = 6.0
BACK_S = 1.0
# Log-ins and history reads start these, long before the load.
HTTP = "function-http"


async def at_once(run: Run) -> tuple[list[report.Step], dict[str, Any]]:
    """The whole rate from the first moment on.

    SystemExit when an event function ran just before: then nothing was measured.
    """
    options, product = run.options, run.product
    assert product is not None  # noqa: S101 - it is refused without --real
    await _to_zero(product)
    step = await run.step(options.rate, options.seconds, warm_up_s=0)
    first_send_s = step.record.sent[0] / 1e9
    starts = _event_functions(product)
    _refuse({name for name, (began_s, _) in starts.items() if began_s < first_send_s})
    report.show(step, title=f"{board.title(options)}, from zero")
    print("\nno event function ran at the first send")
    for name, (began_s, ready_s) in sorted(starts.items(), key=lambda item: item[1]):
        answered = (
            f"answered first {ready_s - began_s:.2f} s after that"
            if ready_s
            else "has not answered yet"
        )
        print(f"  {name:<20} was started {began_s - first_send_s:6.3f} s after it, {answered}")
    first = report.figures(step.record, range(min(step.record.slots, int(options.rate * FIRST_S))))
    found = [
        board.Figure("P11", "from zero: lost", step.verdict.lost, 0, 0),
        board.Figure(
            "P11",
            f"from zero: delivery p99 of the first {FIRST_S:g} s",
            first.delivery.p99 / 1000,
            4 if options.rate == RATE else None,
            1.5,
            "s",
        ),
    ]
    print(f"\nfigures at {options.rate:g}/s")
    for figure in found:
        print(figure)
    started = {
        name: {"began_s": began_s - first_send_s, "took_s": ready_s - began_s}
        for name, (began_s, ready_s) in starts.items()
    }
    return [step], {
        "figures": {"P11 lost": found[0].value, "P11 p99 s": found[1].value},
        "first_10_s": first.as_dict(),
        "starts": started,
    }


async def _to_zero(product: Product) -> None:
    """Ends the event functions that run, when they have done what another run has left."""
    if running := set(_event_functions(product)):
        say(f"from zero: {', '.join(sorted(running))} ran already, and will be ended")
        await asyncio.sleep(LEFT_S)
        for name in _event_functions(product):
            product.kill(name)
        await asyncio.sleep(BACK_S)
    _refuse(set(_event_functions(product)))


def _event_functions(product: Product) -> dict[str, tuple[float, float]]:
    return {
        name: times
        for name, times in product.starts().items()
        if name.startswith("function-") and name != HTTP
    }


def _refuse(early: set[str]) -> None:
    if early:
        raise SystemExit(
            f"not from zero: {', '.join(sorted(early))} ran before the first send, for what "
            "another run has left in Kafka"
        )
