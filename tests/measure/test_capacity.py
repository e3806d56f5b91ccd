"""`scripts/capacity`: the numbers of the design's table, what must hold for any numbers, and what
it says.
"""

import json
import math
import subprocess
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from measure import capacity
from measure.capacity_inputs import AIM, COMPONENTS, MANIFESTS, Inputs, measured
from measure.capacity_plan import Plan, columns, findings, plan

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "capacity"
TABLE = Inputs(
    **AIM,
    stages=2,
    index_us=0,
    index_event_us=0,
    log_copies=1,
    delivery_records=0,
    broker_mb_s=30,
)
"""What the design's table assumes: its budget of CPU, and no index; of the log it counts the
commands alone, on modest brokers.
"""
ALONE, BATCHED = plan(TABLE, 1), plan(TABLE, 16)
COUNTS = [item.name for item in fields(Plan) if item.type == "int"]
SIZES = st.floats(1e3, 1e9)


@pytest.mark.parametrize(
    ("what", "alone", "batched"),
    [
        ("deliveries_s", 185e3, 185e3),
        ("gateway_gb", 240, 240),
        ("invocations_s", 284e3, 17.8e3),
        ("knative_vcpu", 114, 7),
        ("function_vcpu", 85, 19),
        ("partitions_if_ordered", 2150, 134),
        ("log_mb_s", 171, 150),
        ("brokers", 6, 6),
        ("row_writes_s", 427e3, 427e3),
        ("storage_tb_day", 4.3, 4.3),
        ("storage_tb", 387, 387),
        ("nodes", 72, 72),
        ("reconnects_s", 28e3, 28e3),
        ("reconnect_vcpu", 19, 19),
        ("kafka_million", 0.01, 0.01),
        ("storage_million", 0.13, 0.13),
    ],
)
def test_it_is_the_table_of_the_design(what, alone, batched):
    """10 million users at 142,000 messages a second, within the table's rounding."""
    near = {"rel": 0.13 if what.endswith("_million") else 0.035}

    assert getattr(ALONE, what) == pytest.approx(alone, **near)
    assert getattr(BATCHED, what) == pytest.approx(batched, **near)


def test_gateways_are_the_table_s():
    """Its pods hold eight processes; with four zones a third more stand by (with its three it takes
    half); memory limits.
    """
    assert math.ceil(BATCHED.gateways / 8) == 79
    four = plan(replace(TABLE, zones=4), 16)
    assert four.gateways_all_zones / 8 == pytest.approx(105, rel=0.01)
    assert four.memory_million == pytest.approx(0.004, rel=0.02)
    assert BATCHED.gateways_bound_by == "memory"


def test_a_message_an_event_fails_the_peak_on_360_ordered_partitions():
    """The table's verdict: 72,000 a second."""
    assert ALONE.ceiling_if_ordered_s == pytest.approx(72_000)
    assert "FAIL THE PEAK" in findings(TABLE, {"alone": ALONE, "batched": BATCHED})[0]
    assert BATCHED.ceiling_if_ordered_s > TABLE.messages


def test_the_budget_of_a_message_is_kept():
    """600 CPU-us at 16 messages an event, all in, but for Knative's parts and a push to more than
    one device.
    """
    assert BATCHED.cpu_us_message - BATCHED.knative_vcpu / TABLE.messages * 1e6 == pytest.approx(
        600, rel=0.05
    )


@given(users=SIZES, messages=SIZES, factor=st.floats(1, 1000), batch=st.floats(1, 256))
def test_more_never_need_less(users, messages, factor, batch):
    """More users, or more messages, never need fewer of anything."""
    inputs = Inputs(users=users, messages=messages)
    base = plan(inputs, batch)
    grown = (
        plan(replace(inputs, users=users * factor), batch),
        plan(replace(inputs, messages=messages * factor), batch),
    )

    assert [
        (name, more)
        for more in grown
        for name in COUNTS
        if getattr(more, name) < getattr(base, name)
    ] == []


@given(messages=SIZES, batch=st.floats(1, 256), factor=st.floats(1, 16))
def test_larger_batches_never_cost_more(messages, batch, factor):
    """An event's cost is shared by its messages."""
    inputs = Inputs(messages=messages)
    base, larger = plan(inputs, batch), plan(inputs, batch * factor)

    assert larger.cpu_us_message <= base.cpu_us_message * (1 + 1e-9)
    assert larger.million <= base.million * (1 + 1e-9)
    assert larger.log_mb_s <= base.log_mb_s * (1 + 1e-9)


@given(users=SIZES, messages=SIZES, zones=st.integers(2, 9), batch=st.floats(1, 256))
def test_a_zone_may_be_lost(users, messages, zones, batch):
    """What is left holds all users; stores stand in every zone alike."""
    found = plan(Inputs(users=users, messages=messages, zones=zones), batch)

    assert found.gateways_all_zones / zones * (zones - 1) >= found.gateways
    assert [count % zones for count in (found.gateways_all_zones, found.brokers, found.nodes)] == [
        0,
        0,
        0,
    ]


@given(users=SIZES, messages=SIZES)
def test_batches_as_they_are_set_are_of_one_message_at_least(users, messages):
    """However many gateways share the messages."""
    assert columns(Inputs(users=users, messages=messages))["as set"].batch >= 1


@pytest.mark.parametrize(("rate", "batch"), [(300, 6), (1_000, 40), (2_000, 80)])
def test_batches_as_they_are_set_grow_with_the_rate_of_a_gateway(rate, batch):
    """As a run of `scripts/load --real` counts them: 40.25 at 1,000 a second and 20 ms."""
    inputs = Inputs(
        users=1_000,
        messages=rate,
        zones=1,
        apart_ms=20,
        gateway_in_us=0,
        gateway_out_us=0,
        gateway_event_us=0,
    )
    found = columns(inputs)["as set"]

    assert found.gateways_all_zones == 1
    assert found.batch == pytest.approx(batch, abs=0.1)


@pytest.mark.parametrize(
    ("change", "what", "limit"),
    [
        ({"gateway_mb": 100}, "gateways_bound_by", "memory"),
        ({"gateway_connections": 1_000}, "gateways_bound_by", "connections"),
        ({"gateway_in_us": 5_000}, "gateways_bound_by", "CPU"),
        ({"function_ms": 2_000}, "function_pods_bound_by", "concurrency"),
        ({"function_us": 5_000}, "function_pods_bound_by", "CPU"),
        ({"broker_us": 5_000}, "brokers_bound_by", "CPU"),
        ({"broker_mb_s": 1}, "brokers_bound_by", "writes"),
        ({"users": 10, "messages": 1}, "brokers_bound_by", "copies"),
        ({"cassandra_us": 50_000}, "nodes_bound_by", "CPU"),
        ({"hot_days": 3_650}, "nodes_bound_by", "storage"),
    ],
)
def test_what_limits_is_named(change, what, limit):
    """Whatever is short decides the count, and is said."""
    assert getattr(plan(Inputs(**change), 16), what) == limit


def test_functions_are_as_they_are_deployed():
    """What the manifests say of a pod is what is planned with."""
    said = (ROOT / MANIFESTS).read_text()

    assert f'autoscaling.knative.dev/target: "{Inputs().concurrency:g}"' in said
    assert f'limits: {{cpu: "{Inputs().function_vcpu:g}"' in said


def run_of(*steps):
    """A report of `scripts/load --real --json`: (messages an event, CPU of a message by component)
    a step.
    """
    return {
        "steps": [{"rate": 1, "cpu_us_by_component": {**cpu, "pump": 9.0}} for _, cpu in steps],
        "batching": [[1, 1.0, batch] for batch, _ in steps],
    }


def cpu_at(batch, us=100.0, event_us=1000.0):
    return dict.fromkeys(COMPONENTS, us + event_us / batch)


def test_two_steps_tell_a_message_s_cost_from_an_event_s():
    """Fitted over all steps; the gateway's is for what comes in and what goes out."""
    found = measured(run_of((2, cpu_at(2)), (10, cpu_at(10)), (40, cpu_at(40))), Inputs())

    assert [found.function_us, found.broker_us, found.cassandra_us] == pytest.approx(
        [100, 100, 100]
    )
    assert [
        found.function_event_us,
        found.broker_event_us,
        found.gateway_event_us,
    ] == pytest.approx([1000, 1000, 1000])
    assert [found.gateway_in_us, found.gateway_out_us] == pytest.approx([50, 50])


def test_one_step_scales_what_was_known():
    """At its own number of messages an event the model says what was measured."""
    found = measured(run_of((4, cpu_at(4))), Inputs())

    assert found.function_us + found.function_event_us / 4 == pytest.approx(350)
    assert found.function_us / found.function_event_us == pytest.approx(
        Inputs().function_us / Inputs().function_event_us
    )


@pytest.mark.parametrize(
    "costs",
    [(10.0, 50.0), (100.0, 4.0)],
    ids=["dearer in larger events", "an event is all there is"],
)
def test_noise_makes_no_negative_costs(costs):
    """A fit below zero is cut off at zero."""
    found = measured(
        run_of(*((batch, cpu_at(batch, us, 0)) for batch, us in zip((2, 20), costs, strict=True))),
        Inputs(),
    )

    assert min(found.function_us, found.function_event_us) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "report", [{}, {"steps": []}, {"steps": [{"rate": 1}]}, run_of((4, {"kn-chat": 900.0}))]
)
def test_a_report_that_does_not_say_enough_is_refused(report):
    """Of an embedded run, or of one without messages an event."""
    with pytest.raises(ValueError, match=r"--measured-batch|--real"):
        measured(report, Inputs())


def test_a_run_that_lost_something_is_refused():
    """A run that drops half is cheap."""
    report = run_of((4, cpu_at(4)))
    report["steps"][0]["lost"] = 3
    with pytest.raises(ValueError, match="lost"):
        measured(report, Inputs())


def test_the_script_plans_with_a_run(tmp_path):
    """From the report of a run to JSON, as a person would do it; flags win over
    what was measured.
    """
    (tmp_path / "run.json").write_text(json.dumps(run_of((2, cpu_at(2)), (10, cpu_at(10)))))
    command = [
        SCRIPT,
        "--json",
        "--measured",
        tmp_path / "run.json",
        "--users",
        "1e6",
        "--broker-us",
        "7",
    ]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert found["inputs"] == pytest.approx(
        {**found["inputs"], "users": 1e6, "broker_us": 7, "function_us": 100}
    )
    assert set(found["plans"]) == {"alone", "as set", "batched"}
    assert found["plans"]["batched"]["gateways"] >= 63
    assert found["not_shown"]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--users", "0"),
        ("--users", "many"),
        ("--users", "nan"),
        ("--batch", "0.5"),
        ("--zones", "2.5"),
        ("--measured", "/no/such/file"),
    ],
)
def test_wrong_input_is_refused_in_one_line(wrong, capsys):
    """With the flag that is wrong."""
    with pytest.raises(SystemExit) as ended:
        capacity.parse(wrong)

    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err.splitlines()[-1]


def test_help_names_every_input_and_its_source(capsys):
    """A number without a source is a guess."""
    with pytest.raises(SystemExit):
        capacity.parse(["--help"])
    said = " ".join(capsys.readouterr().out.split())

    for item in fields(Inputs):
        assert f"--{item.name.replace('_', '-')}" in said
        assert item.metadata["source"] in said or "-" in item.metadata["source"]


def test_the_answer_says_what_it_cannot_show():
    """Every time."""
    said = capacity.text(Inputs(), columns(Inputs()))

    assert all(what in said for what in capacity.NOT_SHOWN)
    assert "KNCHAT_PUBLISH_APART_MS" in said
