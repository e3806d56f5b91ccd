"""Turns a run's record into figures: HdrHistograms of ack and delivery, and the lines that are
printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from hdrh.histogram import HdrHistogram

from measure.checker import Verdict
from measure.record import Record

PERCENTILES = (50.0, 99.0, 99.9)
P99_LIMIT_MS = 100.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the intended moment; nan when nothing was measured."""

    p50: float
    p99: float
    p999: float
    max: float
    count: int

    def __str__(self) -> str:
        return (
            f"p50 {self.p50:7.2f}   p99 {self.p99:7.2f}   p99.9 {self.p999:7.2f}   max "
            f"{self.max:8.2f} ms   ({self.count})"
        )


def latency(histogram: HdrHistogram) -> Latency:
    """Of a histogram in microseconds."""
    count = histogram.get_total_count()
    if not count:
        nothing = float("nan")
        return Latency(nothing, nothing, nothing, nothing, 0)
    p50, p99, p999 = (
        histogram.get_value_at_percentile(percentile) / 1000 for percentile in PERCENTILES
    )
    return Latency(p50, p99, p999, histogram.get_max_value() / 1000, count)


@dataclass(frozen=True, slots=True)
class Figures:
    """One step's figures."""

    ack: Latency
    delivery: Latency
    late_half_p99: float
    """Delivery p99 of the second half: a growing backlog shows here first."""
    send_lag_p99: float
    """How late the generator itself was; over 1 ms at these rates the point is void."""

    def as_dict(self) -> dict[str, object]:
        """For the JSON report."""
        return asdict(self)


def figures(record: Record, rows: range | None = None) -> Figures:
    """Over these rows, else the timed ones (the warm-up is left out)."""
    rows = range(record.first, record.slots) if rows is None else rows
    ack, delivery, late, lag = (HdrHistogram(1, 600_000_000, 3) for _ in range(4))
    middle = (rows.start + rows.stop) // 2
    for row in rows:
        due = record.due[row]
        if record.sent[row]:
            lag.record_value(max(1, (record.sent[row] - due) // 1000))
        if record.acked[row]:
            ack.record_value(max(1, (record.acked[row] - due) // 1000))
        if record.delivered[row]:
            microseconds = max(1, (record.delivered[row] - due) // 1000)
            delivery.record_value(microseconds)
            if row >= middle:
                late.record_value(microseconds)
    return Figures(latency(ack), latency(delivery), latency(late).p99, latency(lag).p99)


@dataclass(slots=True)
class Step:
    """One rate held for a while, checked and measured."""

    rate: float
    verdict: Verdict
    figures: Figures
    cpu_us: Mapping[str, float]
    """Microseconds of CPU per delivered message, idle work taken off, by component; empty for
    another's server.
    """
    generator_busy: float
    record: Record = field(repr=False)
    visible: Latency = field(default_factory=lambda: latency(HdrHistogram(1, 2, 1)))
    """From an acknowledgement to the message's place in history, where it was sampled."""

    @property
    def cpu_us_per_message(self) -> float:
        """Of all components together; nan when it is not known."""
        return sum(self.cpu_us.values()) if self.cpu_us else float("nan")

    @property
    def held(self) -> bool:
        """Nothing lost, delivery p99 within the limit, and the second half no slower than that
        either.
        """
        return (
            self.verdict.good
            and self.figures.delivery.p99 <= P99_LIMIT_MS
            and self.figures.late_half_p99 <= P99_LIMIT_MS
        )

    def as_dict(self) -> dict[str, object]:
        """For the JSON report."""
        return {
            "rate": self.rate,
            "held": self.held,
            "cpu_us": self.cpu_us_per_message,
            "cpu_us_by_component": dict(self.cpu_us),
            **self.figures.as_dict(),
            **asdict(self.verdict),
        }


def show(step: Step, *, title: str) -> None:
    """The lines of one step, on standard output."""
    record, verdict, figures = step.record, step.verdict, step.figures
    print(f"\n{title}")
    print(
        f"  sent {sum(1 for at in record.sent if at)}   acknowledged {verdict.acknowledged}   "
        f"delivered {verdict.delivered}"
        f"   refused {verdict.refused}"
        f"   lost {verdict.lost}   duplicated {verdict.doubled}   order violations "
        f"{verdict.disordered}   phantoms {verdict.phantoms}"
        f"   unanswered {verdict.unresolved}"
    )
    print(f"  ack       {figures.ack}")
    print(f"  delivery  {figures.delivery}")
    if step.visible.count:
        print(f"  history   {step.visible}")
    split = "   ".join(
        f"{name} {used:.0f}"
        for name, used in sorted(step.cpu_us.items(), key=lambda item: -item[1])
    )
    split = f" ({split})" if len(step.cpu_us) > 1 else ""
    cpu = f"{step.cpu_us_per_message:.0f}{split}" if step.cpu_us else "unknown (another's server)"
    print(
        f"  CPU-us per message {cpu}\n  generator {step.generator_busy:.0%} busy, its own lag p99 "
        f"{figures.send_lag_p99:.2f} ms"
    )
    again = sum(1 for tries in record.tries if tries > 1)
    if record.raw_duplicates or record.disconnects or again or record.temporary_errors:
        print(
            f"  seen again on the wire {record.raw_duplicates}   disconnects {record.disconnects}  "
            f" sends repeated {again}"
            f"   temporary errors {record.temporary_errors}   jumps {record.jumps}"
        )
    for example in verdict.examples:
        print(f"  ! {example}")
