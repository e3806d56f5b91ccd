"""Metrics: declared once, counted from any thread, shown as Prometheus reads them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backends.telemetry.metrics import METRICS, count, gauge, observe, value_of
from backends.telemetry.prometheus import render


@pytest.fixture
def shown():
    """Value of each sample in the text, by name and labels."""

    def samples():
        text, content_type = render()
        assert content_type.startswith("text/plain")
        families = text_string_to_metric_families(text.decode())
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }

    return samples


def test_a_counter_adds_up_over_threads(shown):
    """No count is lost, in any thread."""
    before = value_of("knchat_policy_stale_total")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: count("knchat_policy_stale_total"), range(1000)))

    assert value_of("knchat_policy_stale_total") == before + 1000
    assert shown()["knchat_policy_stale_total", ()] == before + 1000


def test_labels_make_numbers_of_their_own(shown):
    """Each set of label values is counted apart."""
    count("knchat_events_total", 2, target="test-a", verdict="200")
    count("knchat_events_total", target="test-a", verdict="503")

    assert shown()["knchat_events_total", (("target", "test-a"), ("verdict", "200"))] == 2
    assert shown()["knchat_events_total", (("target", "test-a"), ("verdict", "503"))] == 1


def test_a_histogram_is_cumulated(shown):
    """Each bucket counts what is at most its bound; the last counts all."""
    for seconds in (0.0005, 0.001, 0.3, 60):
        observe("knchat_event_seconds", seconds, target="test-h")

    def bucket(bound):
        return shown()["knchat_event_seconds_bucket", (("le", bound), ("target", "test-h"))]

    assert [bucket("0.001"), bucket("0.25"), bucket("0.5"), bucket("10.0"), bucket("+Inf")] == [
        2,
        2,
        3,
        3,
        4,
    ]
    assert shown()["knchat_event_seconds_sum", (("target", "test-h"),)] == pytest.approx(60.3015)


def test_a_gauge_is_its_last_value(shown):
    """A gauge goes up and down."""
    name = next(
        (
            metric.name
            for metric in METRICS.values()
            if metric.kind == "gauge" and not metric.labels
        ),
        None,
    )
    assert name is not None
    gauge(name, 5)
    gauge(name, 3)

    assert shown()[name, ()] == 3


def test_the_process_is_shown_too(shown):
    """CPU and memory of the process stand beside our own numbers."""
    assert shown()["process_cpu_seconds_total", ()] > 0


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("knchat_nothing_total", {}),
        ("knchat_events_total", {}),
        ("knchat_events_total", {"target": "x", "verdicts": "200"}),
    ],
)
def test_what_is_not_declared_is_a_bug(name, labels):
    """An unknown name, and labels other than the declared ones, raise."""
    with pytest.raises(KeyError):
        count(name, **labels)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_every_metric_says_what_it_is(metric):
    """Prometheus' habits: counters end in _total, durations in _seconds; unit and meaning are
    there.
    """
    assert metric.name.startswith("knchat_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.unit
    assert metric.meaning
    assert metric.unit != "s" or "_seconds" in metric.name
