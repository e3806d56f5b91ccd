"""`scripts/capacity`: how many pods, partitions, brokers and nodes so many users need, and what a
million messages costs.

A model on paper: each number is an input, from flags, from a run of `scripts/load --real --json`,
or from the defaults, which say where they come from. It knows averages at the peak; what it cannot
show is printed with every answer.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from gateway.publishing.micro_batcher import WIDER_ABOVE, WIDEST

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

    stages: float = _given(2, "functions that an event passes: send, persist", "functions.triggers")
    function_us: float = _given(303, "functions, for a message, all stages", RUNS)
    function_event_us: float = _given(3_650, "functions, for an event, all stages", RUNS)
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


def _shown(label: str, form: str = ",.0f") -> Any:
    return field(metadata={"label": label, "form": form})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What so many messages an event need at the peak."""

    batch: float = _shown("messages an event", ",.1f")
    deliveries_s: float = _shown("pushes a second")
    gateways: int = _shown("gateways (StatefulSet replicas)")
    gateways_all_zones: int = _shown("  so that a zone may be lost")
    gateways_bound_by: str = _shown("  bound by", "")
    gateway_gb: float = _shown("  memory of all connections, GB")
    gateway_vcpu: float = _shown("  busy vCPU", ",.1f")
    invocations_s: float = _shown("function calls a second")
    function_vcpu: float = _shown("  busy vCPU of functions", ",.1f")
    knative_vcpu: float = _shown("  busy vCPU of Knative's parts", ",.1f")
    function_pods: int = _shown("  function pods")
    function_pods_bound_by: str = _shown("  bound by", "")
    dispatchers: int = _shown("  dispatcher replicas, unordered")
    partitions_if_ordered: int = _shown("partitions of commands, were sources ordered")
    ceiling_if_ordered_s: float = _shown("  messages a second on those that there are")
    delivery_partitions: int = _shown("partitions of deliveries, 4 a gateway")
    log_mb_s: float = _shown("Kafka writes, MB/s, copies included")
    broker_vcpu: float = _shown("  busy vCPU", ",.1f")
    brokers: int = _shown("  brokers")
    brokers_bound_by: str = _shown("  bound by", "")
    row_writes_s: float = _shown("Cassandra writes a second, copies included")
    storage_tb_day: float = _shown("  TB a day", ",.1f")
    storage_tb: float = _shown("  TB kept")
    cassandra_vcpu: float = _shown("  busy vCPU", ",.1f")
    nodes: int = _shown("  nodes")
    nodes_bound_by: str = _shown("  bound by", "")
    reconnects_s: float = _shown("a zone is lost: connects a second")
    reconnect_vcpu: float = _shown("  busy vCPU for them", ",.1f")
    cpu_us_message: float = _shown("CPU-us per message, everything")
    compute_million: float = _shown("$ per million messages: gateways, functions, Knative", ".4f")
    memory_million: float = _shown("  memory of gateways", ".4f")
    kafka_million: float = _shown("  Kafka", ".4f")
    storage_million: float = _shown("  Cassandra", ".4f")
    million: float = _shown("  all", ".4f")
    dearest: str = _shown("  most of it", "")


def plan(inputs: Inputs, batch: float) -> Plan:
    """The plan for so many messages an event (at least 1)."""
    i, peak, deliveries = inputs, inputs.messages, inputs.messages * inputs.devices
    gateway_vcpu = _vcpu(
        peak * (i.gateway_in_us + i.gateway_event_us / batch)
        + deliveries * i.gateway_out_us
        + i.users / 30 * i.ping_us
        + peak * i.log_us
    )
    gateways, gateways_bound_by = _most(
        {
            "memory": i.users * i.connection_bytes / (i.gateway_mb * 1e6),
            "connections": i.users / i.gateway_connections,
            "CPU": gateway_vcpu / i.busy,  # a process uses one core
        }
    )
    gateways_all_zones = _over_zones(gateways, i.zones)

    events = peak / batch
    invocations = events * i.stages
    function_vcpu = _vcpu(peak * i.function_us + events * i.function_event_us)
    sidecar_vcpu = _vcpu(invocations * i.component_us)
    knative_vcpu = sidecar_vcpu + _vcpu(invocations * i.dispatcher_us)
    function_pods, function_pods_bound_by = _most(
        {
            "CPU": (function_vcpu + sidecar_vcpu) / (i.function_vcpu * i.busy),
            "concurrency": invocations * i.function_ms / 1000 / i.concurrency,
        }
    )

    delivery_partitions = 4 * gateways_all_zones
    records = (
        i.log_copies / batch
        + _delivery_records(i.delivery_records * batch, delivery_partitions) / batch
    )
    log_mb_s = (
        peak
        * i.replication
        * ((i.log_copies + i.delivery_records) * i.row_bytes + records * i.envelope_bytes)
        / 1e6
    )
    broker_vcpu = _vcpu(peak * i.broker_us + events * i.broker_event_us)
    brokers, brokers_bound_by = _most(
        {
            "writes": log_mb_s / i.broker_mb_s,
            "CPU": broker_vcpu / (i.server_vcpu * i.busy),
            "copies": i.replication,
        },
        step=i.zones,
    )

    storage_tb_day = peak * i.average * 86_400 * i.row_bytes * i.replication / i.compression / 1e12
    cassandra_vcpu = _vcpu(peak * i.cassandra_us + events * i.cassandra_event_us)
    nodes, nodes_bound_by = _most(
        {
            "storage": storage_tb_day * i.hot_days / (i.node_tb * i.node_full),
            "CPU": cassandra_vcpu / (i.server_vcpu * i.busy),
            "copies": i.replication,
        },
        step=i.zones,
    )

    millions_hour = peak * i.average * 3600 / 1e6
    cost = {
        "compute": (gateway_vcpu + function_vcpu + knative_vcpu)
        / i.busy
        * i.vcpu_hour
        / millions_hour,
        "memory": gateways_all_zones * i.gateway_mb / 1000 * i.gb_hour / millions_hour,
        "Kafka": brokers * i.broker_hour / millions_hour,
        "Cassandra": nodes * i.node_hour / millions_hour,
    }
    return Plan(
        batch=batch,
        deliveries_s=deliveries,
        gateways=gateways,
        gateways_all_zones=gateways_all_zones,
        gateways_bound_by=gateways_bound_by,
        gateway_gb=i.users * i.connection_bytes / 1e9,
        gateway_vcpu=gateway_vcpu,
        invocations_s=invocations,
        function_vcpu=function_vcpu,
        knative_vcpu=knative_vcpu,
        function_pods=function_pods,
        function_pods_bound_by=function_pods_bound_by,
        dispatchers=math.ceil(invocations / (i.dispatcher_calls * i.busy)),
        # A third of the ceiling, so that a backlog drains.
        partitions_if_ordered=math.ceil(peak * i.function_ms / 1000 / (0.33 * batch)),
        ceiling_if_ordered_s=i.partitions * batch / (i.function_ms / 1000),
        delivery_partitions=delivery_partitions,
        log_mb_s=log_mb_s,
        broker_vcpu=broker_vcpu,
        brokers=brokers,
        brokers_bound_by=brokers_bound_by,
        row_writes_s=peak * i.replication,
        storage_tb_day=storage_tb_day,
        storage_tb=storage_tb_day * i.hot_days,
        cassandra_vcpu=cassandra_vcpu,
        nodes=nodes,
        nodes_bound_by=nodes_bound_by,
        reconnects_s=i.users / i.zones / i.reconnect_s,
        reconnect_vcpu=i.users / i.zones / i.reconnect_s / i.connects,
        cpu_us_message=(gateway_vcpu + function_vcpu + knative_vcpu + broker_vcpu + cassandra_vcpu)
        / peak
        * 1e6,
        compute_million=cost["compute"],
        memory_million=cost["memory"],
        kafka_million=cost["Kafka"],
        storage_million=cost["Cassandra"],
        million=sum(cost.values()),
        dearest=max(cost, key=lambda part: cost[part]),
    )


def _vcpu(us_a_second: float) -> float:
    return us_a_second / 1e6


def _most(needed: Mapping[str, float], *, step: float = 1) -> tuple[int, str]:
    """The count that is enough for all, a multiple of `step`, and which of them decides."""
    decides = max(needed, key=lambda name: needed[name])
    return math.ceil(max(1, math.ceil(round(needed[decides], 9))) / step) * int(step), decides


def _over_zones(needed: int, zones: float) -> int:
    """So many, spread evenly, that what is left without one zone is enough.

    With one zone there is nothing to lose.
    """
    return needed if zones <= 1 else math.ceil(needed / (zones - 1)) * int(zones)


def _delivery_records(deliveries: float, partitions: int) -> float:
    """Into how many records an event's deliveries fall: one for each partition that is hit, by
    users at random.
    """
    return (
        partitions * -math.expm1(deliveries * math.log1p(-1 / partitions))
        if partitions > 1
        else min(1.0, deliveries)
    )


def columns(inputs: Inputs) -> dict[str, Plan]:
    """The plans beside each other: a message an event, what the distance between micro-batches
    gives, and the batch that was asked for.
    """
    alone = plan(inputs, 1)
    apart = inputs.messages / alone.gateways_all_zones * inputs.apart_ms / 1000
    # What comes while the distance lasts, at random; or, when nothing did, the next one alone. It
    # grows as gateway.publishing.micro_batcher.distance_s does.
    as_set = apart * min(max(apart / WIDER_ABOVE, 1), WIDEST) + math.exp(-apart)
    return {"alone": alone, "as set": plan(inputs, as_set), "batched": plan(inputs, inputs.batch)}


def findings(inputs: Inputs, plans: Mapping[str, Plan]) -> list[str]:
    """What limits, in words."""
    said = []
    for name, found in plans.items():
        verdict = (
            "carry the peak" if found.ceiling_if_ordered_s >= inputs.messages else "FAIL THE PEAK"
        )
        said.append(
            f"{name}: ordered sources on {inputs.partitions:,.0f} partitions would {verdict} "
            f"({found.ceiling_if_ordered_s:,.0f}/s);"
            f" ours are unordered and need {found.dispatchers} dispatcher(s)"
        )
    gateways = plans["batched"].gateways_all_zones
    distance_ms = inputs.batch * gateways / inputs.messages * 1000
    said.append(
        f"{inputs.batch:g} messages an event need {distance_ms:,.0f} ms between micro-batches, "
        f"because {gateways:,} gateways share the"
        f" messages; KNCHAT_PUBLISH_APART_MS is {inputs.apart_ms:g}"
    )
    batched = plans["batched"]
    said.append(
        f"limits: gateways by {batched.gateways_bound_by}, functions by "
        f"{batched.function_pods_bound_by}, brokers by"
        f" {batched.brokers_bound_by}, nodes by {batched.nodes_bound_by}; most of the cost: "
        f"{batched.dearest}"
    )
    return said


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
    return replace(inputs, **changes)


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
