"""`scripts/load --real` from end to end, as shortly as it goes: what it prints and writes is there, and nothing is lost."""

import json
import os
import subprocess
import sys

import pytest

from servers.services import Services

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def environ():
    """The environment of a shell after `. .run/services/services.env`."""
    services = Services()
    services.up()
    return {name: value for name, value in os.environ.items() if not name.startswith("KNCHAT_")} | services.settings()


@pytest.fixture
def load(environ, tmp_path):
    """Runs it; what it printed, and what it wrote."""

    def run(*words):
        report = tmp_path / "report.json"
        command = [sys.executable, "-m", "measure.load", "--real", "--clients", "4", "--json", str(report), *words]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, json.loads(report.read_text())

    return run


def test_one_rate_is_measured_beside_its_limits(load):
    """All figures, the tax of HTTP too, and the CPU of each component."""
    out, report = load("--rate", "20", "--seconds", "4", "--gateways", "2")

    (step,) = report["steps"]
    assert step["acknowledged"] == step["delivered"] == 480
    assert set(step["cpu_us_by_component"]) == {"gateway", "function", "pump", "kafka", "cassandra", "postgres", "redis"}
    assert set(report["figures"]) == {"P1", "P2", "P5", "P6", "P7", "P9", "P15"}
    assert report["limits"]["bare_kafka"]["appended"] == report["limits"]["bare_kafka"]["read"] == 200
    assert "nothing lost, doubled or disordered" in out


def test_from_zero_the_first_send_starts_the_functions(load):
    """None ran before it: the command refuses its own figure otherwise. What is sent meanwhile waits, and is delivered and stored."""
    out, report = load("--from-zero", "--rate", "20", "--seconds", "3")

    (step,) = report["steps"]
    assert step["acknowledged"] == step["delivered"] == 60
    assert {"function-send", "function-persist"} <= set(report["starts"])
    assert all(start["began_s"] > 0 and start["took_s"] > 0 for start in report["starts"].values())
    assert report["figures"]["P11 lost"] == 0
    assert report["figures"]["P11 p99 s"] >= report["starts"]["function-send"]["took_s"] / 2
    assert "no event function ran at the first send" in out
    assert "nothing lost, doubled or disordered" in out


def test_cecochats_scenario(load):
    """Each client does its part: 4 x 3 x (4 reads, 4 sends)."""
    out, report = load("--cecochat")

    assert report["good"]
    assert report["steps"][0]["acknowledged"] == 4 * 3 * 4
    assert "4 clients, 96 operations" in out


def test_pages_at_the_tail(load):
    """More messages than fit into one batch, over more than one bucket: a message a minute."""
    out, report = load("--tail", "--messages", "15000", "--bytes", "20")

    assert report["page_p99_ms"] > 0
    assert "at the tail of 15000 messages" in out
