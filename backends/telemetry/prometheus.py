"""Metrics as Prometheus text, for `/metrics` of gateways and functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from backends.telemetry.metrics import METRICS, snapshot

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


def render() -> tuple[bytes, str]:
    """All metrics and the process's CPU and memory: the text and its content type.

    Loads prometheus_client (51 ms) at the first call.
    """
    # Only needed here.
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest  # noqa: PLC0415

    return generate_latest(_registry()), CONTENT_TYPE_LATEST


class _Collector:
    """Our numbers in prometheus_client's terms."""

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import (  # noqa: PLC0415 - see render
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        families: dict[str, Any] = {}
        made = {
            "counter": CounterMetricFamily,
            "gauge": GaugeMetricFamily,
            "histogram": HistogramMetricFamily,
        }
        for metric in METRICS.values():
            families[metric.name] = made[metric.kind](
                metric.name, f"{metric.meaning} ({metric.unit})", labels=metric.labels
            )
        numbers, histograms = snapshot()
        for (name, labels), number in numbers.items():
            families[name].add_metric(labels, number)
        for (name, labels), histogram in histograms.items():
            families[name].add_metric(
                labels,
                _cumulated(METRICS[name].buckets, histogram.counts),
                sum_value=histogram.sum,
            )
        yield from families.values()


def _cumulated(buckets: tuple[float, ...], counts: list[int]) -> list[tuple[str, int]]:
    total, rows = 0, []
    for bound, number in zip((*map(str, buckets), "+Inf"), counts, strict=True):
        total += number
        rows.append((bound, total))
    return rows


def _registry() -> CollectorRegistry:
    from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415 - see render

    registry = CollectorRegistry()
    registry.register(_Collector())
    ProcessCollector(registry=registry)
    return registry
