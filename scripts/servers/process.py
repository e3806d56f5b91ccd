"""Processes that outlive us: started in a session of their own, found again by pid and start time,
and stopped or signalled by pid alone.

Linux only: what a process is stands in /proc. A process is its pid *and* the time it started, so
that a pid that the system gave to another process meanwhile is never signalled.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PR_SET_TIMERSLACK: Final = 29  # linux/prctl.h
_PRCTL: Final = ctypes.CDLL(None).prctl


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this boot of the machine."""

    pid: int
    started: int
    """In clock ticks since the machine booted, from /proc."""

    @classmethod
    def find(cls, pid: int) -> Process | None:
        """The live process with this pid, if any.

        One that has ended and was not waited for is not alive.
        """
        fields = _stat(pid)
        return None if fields is None or _over(pid, fields[0]) else cls(pid, int(fields[19]))

    @classmethod
    def read(cls, path: Path) -> Process | None:
        """The process that `write` put there, if it is still alive."""
        try:
            pid, started = map(int, path.read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        process = cls(pid, started)
        return process if process.alive() else None

    def write(self, path: Path) -> None:
        """For `read`, in this run of the script or another."""
        path.write_text(f"{self.pid} {self.started}\n")

    def alive(self) -> bool:
        """Whether it still runs; a stopped one does."""
        with suppress(ChildProcessError):  # only its parent can reap it
            os.waitpid(self.pid, os.WNOHANG)
        return Process.find(self.pid) == self

    def tree(self) -> list[Process]:
        """It and everything it started, parents first. Empty when it has ended."""
        if not self.alive():
            return []
        found = [self]
        for parent in found:
            with suppress(OSError):
                children = (
                    Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
                )
                found += [child for child in map(Process.find, map(int, children)) if child]
        return found

    def send(self, number: signal.Signals) -> None:
        """To the whole tree: a server of many processes must be signalled as one."""
        for process in self.tree():
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def kill(self) -> None:
        """The crash, kill -9; waits until all of it is gone."""
        tree = self.tree()
        self.send(signal.SIGKILL)
        for process in tree:
            process.wait(timeout_s=30)

    def stop(self, number: signal.Signals, *, timeout_s: float) -> bool:
        """Asks for an orderly end; False when it took longer and was killed."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        self.send(signal.SIGCONT)  # a paused one would not hear it
        if self.wait(timeout_s=timeout_s):
            return True
        self.kill()
        return False

    def wait(self, *, timeout_s: float) -> bool:
        """Whether it ended within this time."""
        deadline = time.monotonic() + timeout_s
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def pause(self, *, timeout_s: float = 10.0) -> None:
        """SIGSTOP to the whole tree; returns when all threads have stopped.

        The signal alone does not: on a crowded machine others answer until one has taken it. Raises
        TimeoutError.
        """
        deadline = time.monotonic() + timeout_s
        while not all(process.paused() for process in self.tree()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} goes on after SIGSTOP")
            self.send(signal.SIGSTOP)
            time.sleep(0.002)

    def paused(self) -> bool:
        """Whether all its threads were stopped by SIGSTOP."""
        try:
            threads = [int(path.name) for path in Path(f"/proc/{self.pid}/task").iterdir()]
        except (FileNotFoundError, ProcessLookupError):
            return False
        states = [fields[0] for thread in threads if (fields := _stat(thread)) is not None]
        return bool(states) and set(states) <= {"T", "Z", "X"}

    def memory_bytes(self) -> int:
        """What it and its children hold in memory; pages that they share are counted once (PSS)."""
        total = 0
        for process in self.tree():
            with suppress(OSError):
                sums = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                total += 1024 * int(sums.partition("\nPss:")[2].split()[0])
        return total


def start(
    arguments: list[str],
    *,
    log: Path,
    environ: Mapping[str, str],
    timer_slack_us: int = 0,
    niceness: int = 0,
) -> Process:
    """Starts a program in a session of its own, without standard input, and with its output behind
    the log's end.

    Signals that we ignore (a shell ignores SIGINT for what it runs in the background) are not
    ignored by it. `timer_slack_us`: by how much the kernel may stretch its sleeps, 0 for the usual
    50 us; systemd's TimerSlackNSec. `niceness`: 0 to 19, how far it steps back.
    """
    with _timer_slack(timer_slack_us):
        pid = os.posix_spawn(
            arguments[0],
            arguments,
            environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (
                    os.POSIX_SPAWN_OPEN,
                    1,
                    os.fspath(log),
                    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                    0o600,
                ),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                *((os.POSIX_SPAWN_CLOSE, number) for number in _inherited()),
            ],
            setsid=True,
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
            setsigmask=[],
        )
    if niceness:
        _step_back(pid, niceness)
    # A program that ended at once is still there as a zombie, which `find` does not count: its
    # start time does not matter then.
    return Process.find(pid) or Process(pid, 0)


def _inherited() -> list[int]:
    """What our own shell has opened for us, such as a lock: not for what outlives us."""
    numbers = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    found = []
    for number in numbers:
        with suppress(OSError):  # closed meanwhile
            if number > 2 and os.get_inheritable(number):
                found.append(number)
    return found


@contextmanager
def _timer_slack(slack_us: int) -> Iterator[None]:
    """What this thread starts inherits it, and all threads of that too.

    0 is the thread's own default.
    """
    _PRCTL(_PR_SET_TIMERSLACK, slack_us * 1_000)
    try:
        yield
    finally:
        _PRCTL(_PR_SET_TIMERSLACK, 0)


def _step_back(pid: int, niceness: int) -> None:
    """Where the kernel groups processes by session, as desktops do, only the group's niceness
    counts towards other sessions.
    """
    os.setpriority(os.PRIO_PROCESS, pid, niceness)
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


def _over(pid: int, state: str) -> bool:
    """A killed JVM's first thread is a zombie while the others still hold its ports and files."""
    try:
        return state in "ZX" and len(list(Path(f"/proc/{pid}/task").iterdir())) <= 1
    except FileNotFoundError:
        return True


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the program's name: 0 is the state, 19 the start time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
