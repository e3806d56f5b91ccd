"""Two versions side by side: what is called worse, and what noise is."""

import pytest

from measure import compare
from servers.services import RUN


def step(cpu_us, latency=10.0):
    return {
        "rate": 300.0,
        "cpu_us": cpu_us,
        "ack": {"p50": latency, "p99": latency},
        "delivery": {"p50": latency, "p99": latency},
    }


@pytest.mark.parametrize(
    ("ratios", "worse"),
    [
        ([1.0] * 8, False),
        ([1.02, 1.03, 1.01, 1.03, 1.02, 1.0, 1.03, 1.02], False),
        ([1.06, 1.07, 1.05, 1.06, 1.08, 1.06, 1.05, 1.07], True),
        ([0.9, 1.2, 1.3, 0.8, 1.1, 1.05, 0.95, 1.2], False),
    ],
    ids=["same", "a little", "worse", "noise"],
)
def test_worse_is_what_noise_does_not_explain(ratios, worse):
    """A median above the limit counts when the limit lies outside its interval."""
    assert compare.got_worse(ratios) is worse


def test_a_figure_that_got_worse_is_marked(capsys):
    """The others beside it are shown with their interval."""
    assert compare.show([(step(100.0), step(120.0 + number)) for number in range(8)])

    said = capsys.readouterr().out
    assert "CPU-us a message" in said
    assert said.count("WORSE") == 1


def test_figures_that_are_the_same_are_not(capsys):
    """Nor is one that could not be measured, as the CPU of another's server."""
    assert not compare.show([(step(float("nan")), step(float("nan")))] * 8)
    assert "CPU-us" not in capsys.readouterr().out


def test_cold_starts_are_read_from_the_table(tmp_path):
    """One step for each function; the bare app beside them is no function."""
    table = (
        "program            median ms  worst ms  x bare  floor\n"
        "bare ASGI hello          134       140    1.00  \n"
        "send                     320       333    2.39  <= 3.0x, <= 700 ms: met\n"
        "report_failed            350       352    2.61  \n"
    )
    bench = tmp_path / "scripts/bench"
    bench.parent.mkdir()
    bench.write_text(f"#!/bin/sh\ncat <<'END'\n{table}END\n")
    bench.chmod(0o755)

    assert compare.started(tmp_path) == [
        {"title": "send", "cold_start_ms": 320.0},
        {"title": "report_failed", "cold_start_ms": 350.0},
    ]


def test_a_slower_cold_start_is_marked(capsys):
    """What a step does not have is left out."""
    slow = [
        ({"title": "send", "cold_start_ms": 300.0 + n}, {"title": "send", "cold_start_ms": 360.0})
        for n in range(8)
    ]
    assert compare.show(slow)

    said = capsys.readouterr().out
    assert said.startswith("send ")
    assert "ack" not in said


def test_stores_are_shared_unless_the_other_has_its_own(tmp_path):
    """A second comparison finds the link of the first."""
    for _ in range(2):
        compare.share_stores(tmp_path)
        assert (tmp_path / ".run/services").readlink() == RUN / "services"

    (tmp_path / ".run/services").unlink()
    (tmp_path / ".run/services").mkdir()
    with pytest.raises(SystemExit, match="stores of its own"):
        compare.share_stores(tmp_path)
