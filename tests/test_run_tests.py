"""What `scripts/test` runs its tests with: every test in one job, a failure of any job is one of
the run, and Ctrl-C ends all.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import run_tests

ROOT = Path(__file__).parents[1]
OPTIONS = (
    "def pytest_addoption(parser):\n    for name in ('--real', '--sink'):\n        "
    "parser.addoption(name, action='store_true')\n"
)
GOOD = "def test_good():\n    pass\n"
BAD = "def test_bad():\n    assert 'planted' == {}\n"
REAL = "import pytest\n@pytest.mark.real\ndef test_real():\n    assert False\n"
TIMED = "import pytest\n@pytest.mark.timed\ndef test_timed():\n    {}\n"


@pytest.fixture
def start(tmp_path):
    """Runs the script in a checkout with these tests; its process."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/run_tests.py", tmp_path / "scripts")
    (tmp_path / "conftest.py").write_text(OPTIONS)
    markers = 'markers = ["timed: x", "slow: x", "real: x"]\ntestpaths = ["tests"]'
    (tmp_path / "pyproject.toml").write_text(
        f'[tool.pytest.ini_options]\naddopts = "-q -p no:cacheprovider"\n{markers}\n'
    )

    def begin(**texts):
        for path in (
            "tests/schemas",
            *(path for paths in run_tests.JOBS.values() for path in paths),
        ):
            file = tmp_path / (
                path if path.endswith(".py") else f"{path}/test_{Path(path).name}.py"
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(texts.get(Path(path).name, GOOD))
        return subprocess.Popen(
            [sys.executable, "scripts/run_tests.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # most of a start
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


def test_each_test_is_of_one_job():
    """A new folder of tests too."""
    of = {}
    for name, arguments in run_tests.paths_of_jobs():
        paths = [ROOT / path for path in arguments if not path.startswith("--ignore=")]
        ignored = [
            ROOT / path.removeprefix("--ignore=")
            for path in arguments
            if path.startswith("--ignore=")
        ]
        for found in (ROOT / "tests").rglob("test_*.py"):
            above = {found, *found.parents}
            if above & set(paths) and not above & set(ignored):
                of.setdefault(found, []).append(name)

    assert {
        path for path in (ROOT / "tests").rglob("test_*.py") if len(of.get(path, ())) != 1
    } == set()
    assert all((ROOT / path).exists() for paths in run_tests.JOBS.values() for path in paths)


def test_what_measures_times_is_found_by_its_file():
    """The marker stands in files of tests, which alone are looked at; no helper gives it."""
    says = {path for path in (ROOT / "tests").rglob("*.py") if run_tests.TIMED in path.read_text()}

    assert {path.name for path in says if not path.name.startswith("test_")} == set()
    assert {*map(Path, run_tests.timed_files())} == says


def test_a_failure_of_any_job_is_one_of_the_run(start):
    """The others go on, the output of each is shown whole, and what measures times comes after
    them, alone.
    """
    running = start(
        deploy=BAD.format("'d'"),
        schemas=BAD.format("'s'"),
        backends=TIMED.format("assert False"),
        servers=REAL,
    )
    out, _ = running.communicate(timeout=120)

    assert running.returncode == 1
    assert "FAILED: products on the real parts, the others, deploy, what measures times\n" in out
    assert "assert 'planted' == 'd'" in out
    assert "assert 'planted' == 's'" in out
    assert out.index("\n-- the others") < out.index("\n-- what measures times")
    after = out[out.index("the slowest 40") :]
    assert "FAILED tests/deploy/test_deploy.py::test_bad" in after
    assert "FAILED tests/schemas/test_schemas.py::test_bad" in after


def test_all_that_passes_is_0(start):
    """Jobs of which marks leave nothing too."""
    running = start()
    out, _ = running.communicate(timeout=120)

    assert running.returncode == 0, out
    # Of each job, of the tests that are in none, and of the two on real parts.
    assert out.count(" passed in ") == len(run_tests.JOBS) + 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_all_jobs(start, tmp_path, number):
    """Their fixtures are ended, and what they have said is shown; also when a shell in the
    background has SIGINT ignored.
    """
    waits = (
        "import pathlib, pytest, time\n"
        "@pytest.fixture\ndef held():\n"
        "    pathlib.Path(__file__).with_suffix('.began').touch()\n    yield\n    "
        "pathlib.Path(__file__).with_suffix('.ended').touch()\n"
        "def test_waits(held):\n    time.sleep(60)\n"
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        running = start(deploy=waits, journeys=waits)
    finally:
        signal.signal(signal.SIGINT, before)
    while len(list((tmp_path / "tests").glob("*/*.began"))) < 2:
        assert running.poll() is None
    running.send_signal(number)
    out, _ = running.communicate(timeout=60)

    assert running.returncode == 130
    assert len(list((tmp_path / "tests").glob("*/*.ended"))) == 2
    assert "\n-- deploy" in out
    assert "\n-- products" in out
    assert "journeys on the real parts" not in out
