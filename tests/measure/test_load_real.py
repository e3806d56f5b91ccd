"""`scripts/load --real` from end to end, as shortly as it goes: what it prints and writes is there,
and nothing is lost.
"""

import contextlib
import io
import json
import os
import subprocess
import sys

import pytest
import pytest_asyncio

from measure import cecochat, from_zero, load, pages
from measure.run import running
from servers.services import Services

pytestmark = [pytest.mark.real, pytest.mark.slow]
on_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def environ():
    """The environment of a shell after `. .run/services/services.env`, in this process too, where
    nothing is traced for coverage.
    """
    services = Services()
    services.up()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("KNCHAT_", "COVERAGE_"))]:
            patch.delenv(name)
        for name, value in services.settings().items():
            patch.setenv(name, value)
        yield dict(os.environ)


def options_of(*words):
    """Of a short run."""
    return load.parse(["--real", "--clients", "4", "--bytes", "20", *words])


async def said(measured):
    """What a measurement prints, its steps, and what else it found."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        steps, more = await measured
    return out.getvalue(), steps, more


def test_one_rate_is_measured_beside_its_limits(environ, tmp_path):
    """The command itself: all figures, the tax of HTTP too, and the CPU of each component; 2,000
    messages, 200 a second.
    """
    report = tmp_path / "report.json"
    words = [
        "--rate",
        "200",
        "--warm-up",
        "2",
        "--seconds",
        "8",
        "--gateways",
        "2",
        "--json",
        str(report),
    ]
    command = [sys.executable, "-m", "measure.load", "--real", *words]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())

    (step,) = found["steps"]
    assert step["acknowledged"] == step["delivered"] == 2_000
    assert set(step["cpu_us_by_component"]) == {
        "gateway",
        "function",
        "pump",
        "kafka",
        "cassandra",
        "postgres",
        "redis",
        "s3",
    }
    assert set(found["figures"]) == {"P1", "P2", "P5", "P6", "P7", "P9", "P15"}
    assert (
        found["limits"]["bare_kafka"]["appended"] == found["limits"]["bare_kafka"]["read"] == 2_000
    )
    assert "nothing lost, doubled or disordered" in done.stdout


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def run(environ):
    """One product for all that follows, which begins without a function process; what stands above
    starts its own.
    """
    async with running(options_of("--from-zero", "--rate", "20", "--seconds", "3")) as run:
        yield run


@on_one_loop
async def test_from_zero_the_first_send_starts_the_functions(run):
    """None ran before it: the measurement refuses its own figure otherwise.

    What is sent meanwhile waits, and is delivered and stored.
    """
    await run.log_in()
    out, (step,), more = await said(from_zero.at_once(run))

    assert step.verdict.good
    assert step.verdict.acknowledged == step.verdict.delivered == 60
    assert {"function-send", "function-persist"} <= set(more["starts"])
    assert all(start["began_s"] > 0 and start["took_s"] > 0 for start in more["starts"].values())
    assert more["figures"]["P11 lost"] == 0
    assert more["figures"]["P11 p99 s"] >= more["starts"]["function-send"]["took_s"] / 2
    assert "no event function ran at the first send" in out


@on_one_loop
async def test_functions_that_run_already_are_ended_first(run):
    """What a killed run has left in Kafka does not spoil the next figure.

    One that was ended is started by the next request for it.
    """
    before = run.product.starts()["function-send"]
    out, (step,), more = await said(from_zero.at_once(run))

    assert step.verdict.good
    assert run.product.starts()["function-send"] > before
    assert more["starts"]["function-send"]["began_s"] > 0
    assert "no event function ran at the first send" in out


@on_one_loop
async def test_cecochats_scenario(run):
    """Each client does its part: 3 x (4 reads, 4 sends, a reaction), and takes all but the last
    reaction back.
    """
    out, (step,), more = await said(cecochat.scenario(run))

    assert more["good"]
    assert step.verdict.acknowledged == 4 * 3 * 4
    assert more["reactions"] == 4 * (3 + 2)
    assert "4 clients, 116 operations" in out
    assert "reactions acknowledged and not told 0   shown wrongly 0" in out


@on_one_loop
async def test_pages_at_the_tail(run):
    """More messages than fit into one batch, over more than one bucket: a message a minute."""
    run.options.messages, run.options.pages = 15_000, 200
    out, _, more = await said(pages.tail(run))

    assert more["page_p99_ms"] > 0
    assert "at the tail of 15000 messages" in out
