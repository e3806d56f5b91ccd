"""What the capacity model plans with: each number with its meaning and its source, and the CPU of a
run of `scripts/load --real --json` in the place of the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Final

RUNS: Final = (
    "measured on real parts, 25 November 2026: 300/s with 3, 1,000/s with 25 messages an "
    "event; 2 busy cores"
)
TABLE: Final = "load of CecoChat's benchmark"
ASSUMED: Final = "assumed"
DESIGN: Final = "design.md section 9"
MANIFESTS: Final = "knative/base/functions/send.yaml"


def _given(default: float, meaning: str, source: str) -> Any:
    return field(default=default, metadata={"meaning": meaning, "source": source})


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All numbers that go in. `us` is microseconds of CPU; prices are dollars."""

    users: float = _given(10e6, "users connected at once", TABLE)
    messages: float = _given(142_000, "messages a second at the peak", TABLE)
    average: float = _given(0.669, "the average as a share of the peak", TABLE)
    devices: float = _given(1.3, "devices that a message is pushed to", ASSUMED)
    row_bytes: float = _given(350, "bytes of a message, in the log and as a row", DESIGN)
    envelope_bytes: float = _given(50, "bytes of a record around its messages", DESIGN)
    zones: float = _given(3, "zones; what is left when one is lost holds all users", ASSUMED)
    batch: float = _given(16, "messages an event, in the column batched", DESIGN)
    apart_ms: float = _given(
        10, "distance between micro-batches, KNCHAT_PUBLISH_APART_MS", "the setting's default"
    )
    busy: float = _given(0.5, "how busy a core may be at the peak", ASSUMED)

    connection_bytes: float = _given(
        24_000,
        "memory of a connection, with kernel and TLS",
        "14.5 KB measured without them; the rest assumed",
    )
    gateway_mb: float = _given(384, "memory for connections in a gateway process", "16,000 of them")
    gateway_connections: float = _given(
        16_000, "connections that a gateway process may hold", "20,000 files are its limit"
    )
    gateway_in_us: float = _given(109, "gateway, for a message that comes in", RUNS)
    gateway_out_us: float = _given(109, "gateway, for a push to a device", RUNS)
    gateway_event_us: float = _given(
        2_850, "gateway, for an event: publishing it and reading its deliveries", RUNS
    )
    ping_us: float = _given(10, "gateway, for a heartbeat (each connection, every 30 s)", ASSUMED)
    reconnect_s: float = _given(
        120, "seconds over which a lost zone's clients come back", "the client's jitter"
    )
    connects: float = _given(1_500, "connects a second and core, with a token", DESIGN)

    stages: float = _given(
        3, "functions that an event passes: send, persist, index", "functions.triggers"
    )
    function_us: float = _given(303, "functions but index, for a message", RUNS)
    function_event_us: float = _given(3_650, "functions but index, for an event", RUNS)
    index_us: float = _given(200, "index, for a message", "scripts/bench search")
    index_event_us: float = _given(1_500, "index, for an event", ASSUMED)
    component_us: float = _given(
        400,
        "Knative's parts, for a call: queue-proxy alone; twice to three times with an activator",
        ASSUMED,
    )
    dispatcher_us: float = _given(
        100, "Knative's dispatcher, for a call", "measured at its ceiling: 40 to 100"
    )
    dispatcher_calls: float = _given(
        8_000, "calls a second of one dispatcher, unordered", "measured with functions of 5 ms"
    )
    function_ms: float = _given(5, "time of a call", ASSUMED)
    function_vcpu: float = _given(1, "vCPU of a function's pod, queue-proxy included", MANIFESTS)
    concurrency: float = _given(8, "calls at once in a pod for which another is added", MANIFESTS)
    partitions: float = _given(360, "partitions of chat-commands", DESIGN)

    log_copies: float = _given(
        2, "times a message is written before delivery: command, outcome", "functions.triggers"
    )
    delivery_records: float = _given(
        1.8, "delivery records of a message alone in its event", "measured"
    )
    log_us: float = _given(
        0,
        "clients of the log, for a message, where not counted with their process",
        "counted with it",
    )
    replication: float = _given(3, "copies of each record and row", DESIGN)
    broker_us: float = _given(71, "Kafka, for a message", RUNS)
    broker_event_us: float = _given(1_400, "Kafka, for an event", RUNS)
    broker_mb_s: float = _given(100, "MB/s that one broker writes, copies included", ASSUMED)
    server_vcpu: float = _given(8, "vCPU of a broker and of a Cassandra node", ASSUMED)

    cassandra_us: float = _given(352, "Cassandra, for a message, all copies", RUNS)
    cassandra_event_us: float = _given(1_990, "Cassandra, for an event, all copies", RUNS)
    compression: float = _given(2, "how much smaller rows are on disk", ASSUMED)
    hot_days: float = _given(90, "days that are kept in Cassandra", ASSUMED)
    node_tb: float = _given(9, "TB of disk of a Cassandra node", "Discord's nodes")
    node_full: float = _given(0.6, "how full that may be", ASSUMED)

    vcpu_hour: float = _given(0.04, "price of a vCPU for an hour", ASSUMED)
    gb_hour: float = _given(0.0043, "price of a GB of memory for an hour", ASSUMED)
    broker_hour: float = _given(0.60, "price of a broker for an hour, disks included", ASSUMED)
    node_hour: float = _given(
        0.60, "price of a Cassandra node for an hour, disks included", ASSUMED
    )


AIM: Final = {
    "gateway_in_us": 60,
    "gateway_out_us": 60,
    "gateway_event_us": 0,
    "function_us": 100,
    "function_event_us": 500,
    "dispatcher_us": 0,
    "log_us": 40,
    "broker_us": 40,
    "broker_event_us": 0,
    "cassandra_us": 250,
    "cassandra_event_us": 0,
}
"""What the design aims at, for the flag `--design`."""

COMPONENTS: Final = {
    "gateway": ("gateway_in_us", "gateway_out_us", "gateway_event_us"),
    "function": ("function_us", "function_event_us"),
    "kafka": ("broker_us", "broker_event_us"),
    "cassandra": ("cassandra_us", "cassandra_event_us"),
}
"""Component of a run's report -> the inputs that it decides: the last for an event, the others for
a message.

Knative has no pump.
"""


def measured(report: Mapping[str, Any], inputs: Inputs, *, batch: float | None = None) -> Inputs:
    """The inputs with the CPU of a run's report (`scripts/load --real --json`): `us + event_us /
    batch` fitted to its steps.

    One step cannot tell the two apart: then both are scaled. `batch`: messages an event of all
    steps, for a report that does not say. Raises ValueError when the report does not hold what is
    needed.
    """
    steps = report.get("steps") or []
    batches = (
        [batch] * len(steps)
        if batch is not None
        else [row[2] for row in report.get("batching") or []]
    )
    if not steps or len(batches) != len(steps):
        raise ValueError("it does not say how many messages an event held: give --measured-batch")
    if any(step.get("lost") for step in steps):
        raise ValueError("messages were lost in that run, so its figures count for nothing")
    changes: dict[str, float] = {}
    for component, names in COMPONENTS.items():
        split = [step.get("cpu_us_by_component", {}).get(component) for step in steps]
        points = [
            (1 / max(1.0, held), float(us))
            for held, us in zip(batches, split, strict=True)
            if us is not None and math.isfinite(us)
        ]
        if not points:
            raise ValueError(f"it has no CPU of {component}: was it a run with --real?")
        *message_names, event_name = names
        us, event_us = _fit(
            points,
            sum(getattr(inputs, name) for name in message_names),
            getattr(inputs, event_name),
        )
        changes |= {name: us / len(message_names) for name in message_names} | {
            event_name: event_us
        }
    # A run's functions are all of them.
    return replace(inputs, **changes, index_us=0, index_event_us=0)


def _fit(points: Sequence[tuple[float, float]], us: float, event_us: float) -> tuple[float, float]:
    """Least squares of y = us + event_us * x, neither below 0; the given two, scaled, when all x
    are the same.
    """
    x, y = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = sum((at - x) ** 2 for at, _ in points)
    if spread < 1e-9:
        scale = y / (us + event_us * x)
        return us * scale, event_us * scale
    slope = sum((at - x) * (took - y) for at, took in points) / spread
    if slope < 0:
        return y, 0.0
    return (y - slope * x, slope) if y >= slope * x else (0.0, y / x)
