"""Processes that outlive us, as they are started and paused."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from servers import process


@pytest.fixture
def started(tmp_path):
    """Starts a program that sleeps, with these wishes, and ends it."""
    running = []

    def start(**wishes):
        running.append(
            process.start(["/bin/sleep", "60"], log=tmp_path / "log", environ={}, **wishes)
        )
        return running[-1]

    yield start
    for one in running:
        one.stop(signal.SIGKILL, timeout_s=5)


def slack_ns(pid):
    return int(Path(f"/proc/{pid}/timerslack_ns").read_text())


def test_one_that_steps_back(started):
    """It has the sleeps and the priority it was given; ours stay as they are, and what is started
    next has the usual ones.
    """
    before = (slack_ns("self"), os.getpriority(os.PRIO_PROCESS, 0))
    behind, usual = started(timer_slack_us=2_000, niceness=5), started()

    assert (slack_ns(behind.pid), os.getpriority(os.PRIO_PROCESS, behind.pid)) == (2_000_000, 5)
    assert (slack_ns(usual.pid), os.getpriority(os.PRIO_PROCESS, usual.pid)) == before
    assert (slack_ns("self"), os.getpriority(os.PRIO_PROCESS, 0)) == before
    group = Path(f"/proc/{behind.pid}/autogroup")
    if group.exists():
        assert group.read_text().endswith("nice 5\n")


def test_one_that_holds_nothing_of_ours(started, tmp_path):
    """A lock that a shell has opened for us would be held as long as it runs."""
    with (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        one = started()
        held = {path.readlink() for path in Path(f"/proc/{one.pid}/fd").iterdir()}

    assert Path(lock.name) not in held
    assert tmp_path / "log" in held


BUSY = """
import os, threading, time
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
def works():
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        pass
for _ in range({}):
    threading.Thread(target=works).start()
"""


def test_a_paused_one_does_nothing_any_more(tmp_path):
    """Also on a crowded machine, where SIGSTOP alone is taken later."""
    one = process.start(
        [sys.executable, "-c", BUSY.format(4)], log=tmp_path / "log", environ={}, niceness=19
    )
    crowd = []
    try:
        crowd += [subprocess.Popen([sys.executable, "-c", BUSY.format(1)]) for _ in range(3)]
        tasks = Path(f"/proc/{one.pid}/task")
        while len(threads := [*tasks.iterdir()]) < 5:
            time.sleep(0.01)
        one.pause()

        stats = [(thread / "stat").read_text().rpartition(")")[2].split() for thread in threads]
        assert [stat[0] for stat in stats] == ["T"] * 5
        assert one.paused()
    finally:
        for busy in crowd:
            busy.kill()
            busy.wait()
        one.kill()
