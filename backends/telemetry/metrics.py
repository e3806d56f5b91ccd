"""Counters, gauges and histograms of one process: declared once here, kept in plain numbers.

All packages above call `count`, `gauge` and `observe`; `prometheus.py` shows what is kept. A name
that is not in METRICS is a bug and raises KeyError. Nothing is imported for it (design.md D21).
Long, as it is one table.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, Literal

# From a local append to the timeout of an endpoint (10 s): three steps a decade are enough to read
# a p99 from.
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One declared metric.

    A counter's name ends in `_total`; the unit stands in the name where it is not a plain number.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SECONDS


METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        # functions
        Metric(
            "knchat_events_total",
            "counter",
            "events",
            "events a target answered, by verdict (200, 422, 503)",
            ("target", "verdict"),
        ),
        Metric(
            "knchat_event_seconds",
            "histogram",
            "s",
            "from an event's arrival to its verdict",
            ("target",),
        ),
        Metric(
            "knchat_commands_total",
            "counter",
            "commands",
            "what became of commands: accepted, a refusal's code, set_aside",
            ("became",),
        ),
        Metric(
            "knchat_files_total",
            "counter",
            "files",
            "what became of files: announced, complete, held, refused, removed, previewed, broken",
            ("became",),
        ),
        Metric(
            "knchat_queries_total",
            "counter",
            "queries",
            "answers given: page, chats, digest, refused, expired",
            ("answer",),
        ),
        Metric(
            "knchat_rows_set_aside_total",
            "counter",
            "outcomes",
            "outcomes that `persist` could not write and dead-lettered alone",
        ),
        Metric(
            "knchat_index_skipped_total",
            "counter",
            "outcomes",
            "outcomes that `index` could not read and passed over",
        ),
        Metric(
            "knchat_counts_left_out_total",
            "counter",
            "counts",
            "unread counts after a mark that were not made in time, and not told",
        ),
        Metric(
            "knchat_dead_letters_total",
            "counter",
            "events",
            "dead letters: retried, told, decided, old, kept, unreadable, bug",
            ("became",),
        ),
        Metric(
            "knchat_policy_stale_total",
            "counter",
            "answers",
            "who-may-write answers given from memory while SQL was down",
        ),
        Metric(
            "knchat_audited_total",
            "counter",
            "items",
            "commands, messages, changes, marks and unasked rows that an audit met: sound, "
            "repaired, missing, dead",
            ("what", "became"),
        ),
        # HTTP functions
        Metric(
            "knchat_http_requests_total",
            "counter",
            "requests",
            "HTTP calls answered, by call and status",
            ("call", "status"),
        ),
        Metric(
            "knchat_http_seconds",
            "histogram",
            "s",
            "from a request's arrival to its answer",
            ("call",),
        ),
        Metric(
            "knchat_log_ins_total",
            "counter",
            "log-ins",
            "log-ins: done, wrong, limited, suspended",
            ("became",),
        ),
        Metric(
            "knchat_devices_ended_total",
            "counter",
            "log-ins",
            "log-ins ended: log_out, removed, log_in, reuse, expired, password (once for all of a "
            "user)",
            ("why",),
        ),
        Metric(
            "knchat_account_events_dropped_total",
            "counter",
            "events",
            "account events that were logged and could not be written",
        ),
        Metric(
            "knchat_rate_limited_total",
            "counter",
            "calls",
            "calls and frames over a budget: user, device, address, log_in",
            ("whose",),
        ),
        Metric(
            "knchat_cache_skipped_total",
            "counter",
            "calls",
            "gone on without the cache: limits, revocations",
            ("use",),
        ),
        # gateway
        Metric("knchat_sessions", "gauge", "sessions", "open WebSockets"),
        Metric(
            "knchat_hellos_total",
            "counter",
            "sessions",
            "welcomes said: new, resumed, reset",
            ("result",),
        ),
        Metric(
            "knchat_closes_total",
            "counter",
            "sessions",
            "closes by the gateway, by close code",
            ("code",),
        ),
        Metric("knchat_pushes_total", "counter", "pushes", "durable pushes to sessions"),
        Metric(
            "knchat_pauses_total",
            "counter",
            "pauses",
            "sessions that were too slow for a while, and go on from the replay buffer",
        ),
        Metric(
            "knchat_read_pauses_total",
            "counter",
            "pauses",
            "sessions that said too much at once, and are read on a moment later",
        ),
        Metric(
            "knchat_watched_users",
            "gauge",
            "users",
            "users of this gateway whose presence is watched by some gateway",
        ),
        Metric(
            "knchat_presence_pushes_total",
            "counter",
            "pushes",
            "presence pushes to sessions that watch",
        ),
        Metric(
            "knchat_ephemeral_dropped_total",
            "counter",
            "drops",
            "typing and presence not told: log, cache, groups, privacy unavailable, too_many, late",
            ("why",),
        ),
        Metric(
            "knchat_turned_away_total",
            "counter",
            "requests",
            "WebSockets refused since too many are open, or wait for their hello",
        ),
        Metric(
            "knchat_publishes_total",
            "counter",
            "events",
            "micro-batches of commands that the log has confirmed",
        ),
        Metric("knchat_published_commands_total", "counter", "commands", "commands in them"),
        Metric(
            "knchat_publish_seconds",
            "histogram",
            "s",
            "from the first append of a micro-batch to the log's answer",
        ),
        Metric(
            "knchat_publish_failures_total",
            "counter",
            "tries",
            "appends that the log did not confirm; those of commands go again",
        ),
        Metric(
            "knchat_refused_commands_total",
            "counter",
            "commands",
            "commands that the log never takes, each alone; their senders were told",
        ),
        Metric(
            "knchat_batches_restarted_total",
            "counter",
            "restarts",
            "queues that stalled with nothing under way: a bug",
        ),
        Metric(
            "knchat_cache_away_total",
            "counter",
            "calls",
            "calls that the cache did not answer; it is left alone for a while",
        ),
        Metric(
            "knchat_ids_ahead_total",
            "counter",
            "ids",
            "ids over a second in the future, not followed: a clock is wrong",
            ("where",),
        ),
        Metric(
            "knchat_lease_failures_total",
            "counter",
            "tries",
            "renewals of the id generator that failed",
        ),
        Metric(
            "knchat_read_failures_total",
            "counter",
            "tries",
            "times that reading a topic failed and began again",
            ("topic",),
        ),
        Metric(
            "knchat_records_dropped_unread_total",
            "counter",
            "records",
            "records that retention dropped before they were read",
            ("topic",),
        ),
        Metric(
            "knchat_records_skipped_total",
            "counter",
            "records",
            "records that are nothing a gateway understands",
            ("topic",),
        ),
        Metric(
            "knchat_partitions",
            "gauge",
            "partitions",
            "partitions of chat-deliveries that the gateway owns and serves",
        ),
        Metric("knchat_ring_bytes", "gauge", "bytes", "deliveries held to resume from"),
        Metric(
            "knchat_clock_off_seconds",
            "gauge",
            "s",
            "how far the machine's clock is ahead of the time that this process goes by",
        ),
        Metric(
            "knchat_configuration_age_seconds",
            "gauge",
            "s",
            "since when a process knows the configuration as it is stored",
        ),
        Metric(
            "knchat_configuration_version",
            "gauge",
            "changes",
            "version of each changed section that a process goes by",
            ("section",),
        ),
        Metric(
            "knchat_configuration_refused_total",
            "counter",
            "sections",
            "stored sections that a process refused; it goes by the old values",
            ("section",),
        ),
        Metric(
            "knchat_history_lag_seconds",
            "gauge",
            "s",
            "age of the oldest outcome that history does not hold",
        ),
        Metric(
            "knchat_spans_total",
            "counter",
            "spans",
            "spans recorded, by what became of them: exported, failed, dropped",
            ("became",),
        ),
        # dispatcher
        Metric(
            "knchat_pump_tries_total",
            "counter",
            "requests",
            "events posted, by verdict: taken, again, never",
            ("group", "verdict"),
        ),
        Metric(
            "knchat_pump_dead_letters_total",
            "counter",
            "events",
            "events that the local dispatcher gave up and dead-lettered",
            ("group",),
        ),
    )
}


Key = tuple[str, tuple[str, ...]]
"""A metric's name, and the values of its labels in their order."""


@dataclass(slots=True)
class Histogram:
    """How many values fell into each bucket, the last one of all above; and their sum."""

    counts: list[int]
    sum: float = 0.0


@dataclass(slots=True)
class _Values:
    numbers: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, Histogram] = field(default_factory=dict)


_values = _Values()
_lock = Lock()  # the log's and the stores' threads count too


def _key(name: str, labels: dict[str, str]) -> Key:
    declared = METRICS[name].labels
    if len(labels) != len(declared):
        raise KeyError(f"{name} has the labels {declared}, not {tuple(labels)}")
    return name, tuple([labels[label] for label in declared])


def count(name: str, n: int = 1, **labels: str) -> None:
    """Adds to a counter. Any thread."""
    key = _key(name, labels)
    with _lock:
        _values.numbers[key] = _values.numbers.get(key, 0) + n


def gauge(name: str, value: float, **labels: str) -> None:
    """Sets a gauge. Any thread."""
    _values.numbers[_key(name, labels)] = value


def observe(name: str, value: float, **labels: str) -> None:
    """Puts one value into a histogram. Any thread."""
    key = _key(name, labels)
    with _lock:
        histogram = _values.histograms.get(key)
        if histogram is None:
            histogram = _values.histograms[key] = Histogram([0] * (len(METRICS[name].buckets) + 1))
        histogram.counts[bisect_left(METRICS[name].buckets, value)] += 1
        histogram.sum += value


def value_of(name: str, **labels: str) -> float:
    """A counter's or gauge's number now; 0 when nothing was counted yet."""
    return _values.numbers.get(_key(name, labels), 0)


def snapshot() -> tuple[dict[Key, float], dict[Key, Histogram]]:
    """All numbers and all histograms, as they are now."""
    with _lock:
        return dict(_values.numbers), {
            key: Histogram(list(histogram.counts), histogram.sum)
            for key, histogram in _values.histograms.items()
        }
