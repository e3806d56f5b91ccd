"""What `test` runs for its tests: pytest processes side by side, and at the end, alone, what
measures times.

Each job is one pytest process; its output is printed whole when it ends. At the very end come the
slowest tests of all jobs.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).resolve().parent.parent

PRODUCTS: Final = "products"
PRODUCTS_ON_REAL_PARTS: Final = "products on the real parts"
JOBS: Final = {
    "deploy": ("tests/deploy",),
    "backends": ("tests/backends",),
    "gateway": ("tests/gateway",),
    # These start products; those of them that do on the real servers are a job of their own. The
    # users of the secure Kafka join its groups.
    PRODUCTS: (
        "tests/journeys",
        "tests/knchat",
        "tests/measure",
        "tests/servers",
        "tests/deploy/test_kafka_users.py",
    ),
    "model": ("tests/model",),
    "Terraform and images": (
        "tests/deploy/test_images.py",
        "tests/deploy/test_terraform.py",
        "tests/deploy/test_terraform_waits.py",
        "tests/deploy/test_terraform_cluster.py",
    ),
}
"""Job -> its paths, in the order of their start: long ones first, and what waits beside what works.
"""
THE_OTHERS: Final = "the others"
"""A job of what is named by none; it starts first."""
ON_REAL_PARTS: Final = {
    "journeys on the real parts": ("tests/journeys", "--real"),
    "journeys on the real parts, through a sink": ("tests/journeys", "--real", "--sink"),
}
"""Jobs that run tests of another once more."""
UNMEASURED: Final = {"deploy", "Terraform and images", PRODUCTS_ON_REAL_PARTS, *ON_REAL_PARTS}
"""Jobs without coverage: they run what other jobs cover, in many processes that would each pay for
it.
"""
TIMED: Final = "pytest.mark.timed"
SIDE_BY_SIDE: Final = 3
SLOWEST: Final = 40
_REPORT_INTERVAL_S: Final = 60.0
_POLL_INTERVAL_S: Final = 0.2
# pytest ends its fixtures: a cluster, servers that tests have started.
_END_S: Final = 90.0

_NO_TESTS: Final = 5
_DURATION: Final = re.compile(r"^ *(\d+\.\d\d)s (?:setup|call|teardown) +\S.*\n", re.MULTILINE)
# tests/conftest.py writes them.
_FAILURE: Final = re.compile(r"^(?:AGAIN|FAILED|ERROR) .*::.*\n", re.MULTILINE)
_DURATIONS_FRAME: Final = re.compile(
    r"^(=+ slowest .*durations =+|\(\d+ durations < .* hidden\..*\))\n", re.MULTILINE
)


@dataclass(slots=True)
class Job:
    """One pytest process."""

    name: str
    arguments: Sequence[str]
    starts_products: bool = False
    """One product at a time runs on the real servers: knchat locks them."""
    process: subprocess.Popen[bytes] = field(init=False)
    began_s: float = field(init=False)
    _output: IO[bytes] = field(init=False)

    def start(self) -> None:
        """In a group of its own, so that Ctrl-C reaches it through us, once."""
        self.began_s = time.monotonic()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - read until the end of the run
        measured = () if self.name in UNMEASURED else ("-m", "coverage", "run")
        command = [
            sys.executable,
            *measured,
            "-m",
            "pytest",
            f"--durations={SLOWEST}",
            "--durations-min=1",
            *self.arguments,
        ]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )

    @property
    def failed(self) -> bool:
        """Whether it has ended, and not well. That marks leave nothing of a job is well."""
        return self.process.poll() not in {None, 0, _NO_TESTS}

    def so_far(self) -> str:
        """What it has printed."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    def progress(self) -> str:
        """How far it is, in words."""
        done = re.findall(r"\[ *(\d+)%\]$", self.so_far(), re.MULTILINE)
        return (
            f"{self.name} {done[-1] if done else 0} % after {time.monotonic() - self.began_s:.0f} s"
        )

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)


def main() -> int:
    """The exit code: 0 when all has passed, 1, or 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="scripts/run_tests.py", description=__doc__.partition("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--quick", action="store_true", help="without slow tests and real servers")
    parser.add_argument("options", nargs="*", metavar="...", help="behind --: more for each pytest")
    asked = parser.parse_args()
    # A shell that runs us in the background has SIGINT ignored, and the jobs would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    fast = " and not slow and not real" if asked.quick else ""
    jobs = [
        Job(
            name,
            [
                *paths,
                "-m",
                f"not timed{fast}{' and not real' if name == PRODUCTS else ''}",
                *asked.options,
            ],
        )
        for name, paths in paths_of_jobs()
    ]
    if not asked.quick:
        real = [*dict(paths_of_jobs())[PRODUCTS], "-m", "not timed and real", *asked.options]
        jobs.insert(0, Job(PRODUCTS_ON_REAL_PARTS, real, starts_products=True))
        jobs += [
            Job(name, [*words, *asked.options], starts_products=True)
            for name, words in ON_REAL_PARTS.items()
        ]
    timed = Job("what measures times", [*timed_files(), "-m", f"timed{fast}", *asked.options])
    try:
        run(jobs, at_once=SIDE_BY_SIDE)
        run([timed], at_once=1)
    except KeyboardInterrupt:
        return 130
    show_slowest(*jobs, timed)
    show_failures(*jobs, timed)
    failed = [job.name for job in (*jobs, timed) if job.failed]
    if failed:
        print(f"FAILED: {', '.join(failed)}", flush=True)
    return 1 if failed else 0


def paths_of_jobs() -> Iterator[tuple[str, list[str]]]:
    """Job -> arguments of pytest that lead to its tests.

    A path is of the job that names it most exactly; each test is of one.
    """
    named = [path for paths in JOBS.values() for path in paths]
    yield THE_OTHERS, ["tests", *(f"--ignore={path}" for path in named)]
    for name, paths in JOBS.items():
        others = [
            path
            for path in named
            if path not in paths and path.startswith(tuple(f"{own}/" for own in paths))
        ]
        yield name, [*paths, *(f"--ignore={path}" for path in others)]


def timed_files() -> list[str]:
    """The files with tests that measure times: to import all the others takes ten seconds."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path) for path in files if TIMED in path.read_text()] or ["tests"]


def run(jobs: Sequence[Job], *, at_once: int) -> None:
    """All of them, so many at a time, in order.

    Each one's output is printed when it ends. Ctrl-C ends those that run, and is raised.
    """
    waiting, running, said_s = list(jobs), list[Job](), time.monotonic()
    try:
        while waiting or running:
            while len(running) < at_once and (job := _next(waiting, running)):
                waiting.remove(job)
                running.append(job)
                job.start()
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                show(job)
            if running and time.monotonic() - said_s > _REPORT_INTERVAL_S:
                said_s = time.monotonic()
                print("   ", "; ".join(job.progress() for job in running), flush=True)
            time.sleep(_POLL_INTERVAL_S)
    except KeyboardInterrupt:
        end(running)
        raise


def _next(waiting: Sequence[Job], running: Sequence[Job]) -> Job | None:
    """The first that may start."""
    is_taken = any(job.starts_products for job in running)
    return next((job for job in waiting if not (is_taken and job.starts_products)), None)


def end(jobs: Sequence[Job]) -> None:
    """Interrupts them, waits until their fixtures are gone, and shows what they say."""
    for job in jobs:
        job.interrupt()
    deadline = time.monotonic() + _END_S
    for job in jobs:
        try:
            job.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()
        show(job)


def show(job: Job) -> None:
    """Its output, without durations: they come at the end, of all jobs."""
    text = _DURATIONS_FRAME.sub("", _DURATION.sub("", job.so_far()))
    print(f"\n-- {job.name}, {time.monotonic() - job.began_s:.0f} s\n{text}", flush=True)


def show_slowest(*jobs: Job) -> None:
    """The slowest tests, and how long each took to be made ready, to run and to be cleaned up
    after.
    """
    found: list[tuple[float, str]] = [
        (float(line[1]), line[0]) for job in jobs for line in _DURATION.finditer(job.so_far())
    ]
    print(f"\nthe slowest {SLOWEST}")
    print("".join(line for _, line in sorted(found, reverse=True)[:SLOWEST]), flush=True)


def show_failures(*jobs: Job) -> None:
    """What failed, and why, and what was tried again, a line each: last, where one looks first."""
    print("".join(line for job in jobs for line in _FAILURE.findall(job.so_far())), flush=True)


if __name__ == "__main__":
    sys.exit(main())
