"""The fixtures of `tests/support/real.py` lead to servers that answer; their tests are marked."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("server", ["kafka", "cassandra", "postgres", "redis"])
def test_the_settings_of_a_server_are_fields_of_settings(request, server):
    """What an adapter is wired with."""
    settings = request.getfixturevalue(f"{server}_settings")

    assert {"kafka": "kafka", "cassandra": "cassandra", "postgres": "database", "redis": "redis"}[
        server
    ] in settings
    assert request.node.get_closest_marker("real")


@pytest.mark.parametrize(
    ("expression", "adapter", "other"),
    [("real", "redis", "embedded"), ("not real", "embedded", "redis")],
)
def test_a_suite_on_a_server_is_marked_by_its_adapters_name(expression, adapter, other):
    """`scripts/test --quick` leaves out what needs a server, and nothing else of the suite."""
    arguments = ["-m", expression, "--collect-only", "tests/backends/test_cache.py"]
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert f"[{adapter}]" in collected
    assert f"[{other}]" not in collected
