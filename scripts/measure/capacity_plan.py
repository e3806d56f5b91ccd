"""The capacity model itself: what so many users and messages need, for one size of micro-batches or
several beside each other, and which resource limits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.publishing.micro_batcher import WIDER_ABOVE, WIDEST
from measure.capacity_inputs import Inputs


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
    function_vcpu = _vcpu(
        peak * (i.function_us + i.index_us) + events * (i.function_event_us + i.index_event_us)
    )
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
