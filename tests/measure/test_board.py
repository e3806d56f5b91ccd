"""The figures of `scripts/load --real`: floors belong to their rates, ratios to the limits of the
same run; components add up.
"""

import asyncio
import math
import os
import subprocess
import sys

import pytest

from measure import board, checker, load, process, report
from measure.product import Product
from measure.record import Record

BARE = {"ack_p99_ms": 4.0, "read_p99_ms": 5.0}


def step_of(rate, *, slots=100, cpu=None, p99_ms=20):
    """Every message acknowledged after half of that time, and delivered after all of it."""
    record = Record(slots)
    for row in range(slots):
        record.due[row] = record.sent[row] = 1 + row
        record.acked[row] = record.due[row] + p99_ms * 500_000
        record.delivered[row] = record.due[row] + p99_ms * 1_000_000
    visible = report.Latency(1, 90, 95, 99, 10)
    return report.Step(
        rate, checker.Verdict(), report.figures(record), cpu or {}, 0.1, record, visible
    )


def figures(rate, **more):
    cpu = {"gateway": 200.0, "function": 300.0, "kafka": 100.0}
    found = board.figures(
        step_of(rate, cpu=cpu, **more),
        step_of(rate, cpu={"relay": 100.0}, p99_ms=2),
        BARE,
        step_of(rate, cpu={"gateway": 400.0}),
    )
    return {(figure.name, figure.what): figure for figure in found}


def test_every_figure_is_what_its_name_says():
    """Of a run with round numbers."""
    found = {name: figure.value for (name, _), figure in figures(1000).items()}

    assert found["P1"] == 600
    assert found["P2"] == 2
    assert found["P5"] == pytest.approx(20, rel=0.01)
    assert found["P6"] == pytest.approx(20 / (2 + 2 * 5), rel=0.01)
    assert found["P7"] == pytest.approx(10 / 4, rel=0.01)
    assert found["P15"] == 90


@pytest.mark.parametrize(("rate", "with_floor"), [(1000, {"P1", "P2"}), (300, {"P5"}), (50, set())])
def test_a_floor_belongs_to_its_rate(rate, with_floor):
    """P1 and P2 at 1,000 a second, P5 at 300; elsewhere the figure stands alone and cannot be
    missed.
    """
    found = {name: figure for (name, _), figure in figures(rate).items()}

    assert {name for name in ("P1", "P2", "P5") if found[name].floor is not None} == with_floor
    assert all(figure.met for figure in found.values() if figure.floor is None)
    assert all(found[name].floor is not None for name in ("P6", "P7", "P15"))


def test_a_floor_that_is_missed_is_said():
    """In the line, beside the number."""
    (missed,) = [figure for (name, _), figure in figures(300, p99_ms=80).items() if name == "P5"]

    assert not missed.met
    assert "floor 60 MISSED" in str(missed)
    assert "met" in str(board.Figure("P1", "what", 1, 2, 1))


def test_steadiness_is_for_long_runs_alone():
    """Ten minutes: a p99.9 of fewer says nothing."""
    assert not any(name == "P8" for name, _ in figures(10, slots=1000))
    assert sum(name == "P8" for name, _ in figures(1, slots=600)) == 2


def test_the_tax_of_http_is_left_out_where_it_was_not_measured():
    """`--no-tax`."""
    step = step_of(300, cpu={"gateway": 1.0})

    assert not [
        figure
        for figure in board.figures(step, step_of(300, cpu={"relay": 1.0}), BARE, None)
        if figure.name == "P9"
    ]


def test_components_are_printed_from_the_costliest_down(capsys):
    """And all of them together."""
    report.show(
        step_of(10, cpu={"kafka": 100.0, "gateway": 200.0, "function": 300.0}), title="a step"
    )

    assert (
        "CPU-us per message 600 (function 300   gateway 200   kafka 100)" in capsys.readouterr().out
    )
    assert math.isnan(step_of(10).cpu_us_per_message)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tail"], "--tail and --from-zero belong to --real"),
        (["--from-zero"], "--tail and --from-zero belong to --real"),
        (["--real", "--from-zero", "--warm-up", "3"], "has no --warm-up"),
        (["--cecochat", "--http", "http://127.0.0.1:1"], "leave --http out"),
        (["--batching", "--http", "http://127.0.0.1:1"], "leave --http out"),
        (["--real", "--crash"], "scripts/faults"),
        (["--real", "--http", "http://127.0.0.1:1"], "scripts/faults"),
        (["--cecochat", "--clients", "3"], "even"),
        (["--cecochat", "--tail", "--real"], "not allowed with"),
        (["--gateways", "2"], "belong to --real"),
        (["--sink"], "belong to --real"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(words, said, capsys):
    """Exit code 2, before anything starts."""
    with pytest.raises(SystemExit) as end:
        load.parse(words)

    assert end.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ([], load.fixed),
        (["--real"], board.at_rate),
        (["--real", "--cecochat"], load.cecochat.scenario),
        (["--cecochat"], load.cecochat.scenario),
        (["--real", "--tail", "--messages", "1000"], load.pages.tail),
        (["--real", "--saturate"], load.ladders.saturate),
        (["--real", "--from-zero"], load.from_zero.at_once),
        (["--batching"], load.ladders.batching),
    ],
)
def test_arguments_choose_what_is_run(words, mode):
    """Each mode on the product that it can be run on."""
    assert load._mode(load.parse(words)) == mode


def test_from_zero_has_its_own_rate():
    """That of its figure, unless another one is asked for."""
    asked = [
        load.parse(words)
        for words in (
            [],
            ["--real", "--from-zero"],
            ["--real", "--from-zero", "--rate", "50", "--seconds", "3"],
        )
    ]

    assert [(options.rate, options.seconds) for options in asked] == [
        (300, 60),
        (1000, 20),
        (50, 3),
    ]


def test_the_cpu_of_a_tree_holds_its_children_the_dead_ones_too():
    """PostgreSQL is a process a connection, and connections end."""
    burn = "import time\nwhile time.process_time() < 0.4: pass\n"
    then_live = f"{burn}print(1, flush=True)\ntime.sleep(60)"
    program = f"""
import subprocess, sys
subprocess.run([sys.executable, '-c', {burn!r}], check=True)
living = subprocess.Popen([sys.executable, '-c', {then_live!r}], stdout=subprocess.PIPE)
living.stdout.readline()
print('burnt', flush=True)
sys.stdin.readline()
living.kill()
living.wait()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout.readline() == "burnt\n"
        of_tree, of_one = process.tree_cpu_s(parent.pid), process.cpu_s(parent.pid)
        parent.stdin.write("\n")

    assert of_tree >= 0.6
    assert of_one < of_tree - 0.5
    assert process.tree_cpu_s(parent.pid) == 0


async def test_the_cpu_of_the_embedded_default_is_one_component(tmp_path):
    """A whole product started, measured and stopped."""
    product = Product(tmp_path)
    assert product.processes() == {}
    await product.start()
    try:
        used = product.cpu_s()
        assert list(used) == ["kn-chat"]
        assert used["kn-chat"] > 0
        assert product.metrics()[0].startswith("http://127.0.0.1:")
    finally:
        await product.stop()
    assert product.cpu_s() == {"kn-chat": 0}


async def test_what_is_measured_does_not_outlive_us(tmp_path):
    """Nor does Ctrl-C on a terminal reach it before we have asked it to end."""
    server = await process.start(
        ["knchat", "dev", "--memory", "--http-port", "0", "--gateway-port", "0"], cpus=None
    )
    try:
        assert os.getsid(server.pid) == server.pid
    finally:
        await asyncio.wait_for(server.stop(), 30)
    assert server.process.returncode == 0
