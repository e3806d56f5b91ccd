"""Processes that are measured: our own `kn-chat dev`, and the limits it is compared with.

CPU is read from the kernel, cores are given by pinning.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from knchat.develop.processes import end_with_parent

TAIL_LINES = 100
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def cores() -> tuple[set[int], set[int]]:
    """(the server's cores, the generator's): one each, or the same single one."""
    available = sorted(os.sched_getaffinity(0))
    return ({available[0]}, {available[-1]})


@contextlib.contextmanager
def ahead_of_others(*, timing: bool = False) -> Iterator[None]:
    """This thread runs when its time has come, as clients do who have machines of their own.

    `timing`: also ahead of those who only make load; of two who are equal one waits until the other
    has nothing to do, or for 100 ms. Without the right to that: as always.
    """
    priority = os.sched_param(2 if timing else 1)
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, priority)
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and all its threads have used so far; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def tree_cpu_s(pid: int) -> float:
    """The same of a process and all that descend from it, those that have ended included:
    PostgreSQL is a process a connection.
    """
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            # Its own, and of children it has waited for.
            used[int(entry.name)] = sum(int(field) for field in fields[11:15]) / CLOCK_TICKS
    found, total = [pid], 0.0
    while found:
        one = found.pop()
        total += used.get(one, 0.0)
        found += children.get(one, ())
    return total


@dataclass(slots=True)
class Server:
    """One child process that said `ready ...` on its standard output."""

    process: asyncio.subprocess.Process
    ready: list[str]
    """The words behind `ready`."""
    tail: list[bytes]
    """The newest lines of its standard error."""

    @property
    def pid(self) -> int:
        """The process to read CPU from and to kill."""
        return self.process.pid

    def kill(self) -> None:
        """The crash: kill -9."""
        self.process.send_signal(signal.SIGKILL)

    async def stop(self, *, within_s: float = 20) -> None:
        """SIGTERM, and after so many seconds without an end SIGKILL."""
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), within_s)
            except TimeoutError:
                self.kill()
        await self.process.wait()


async def start(
    arguments: Sequence[str],
    *,
    cpus: set[int] | None,
    environ: Mapping[str, str] | None = None,
    timeout_s: float = 120,
) -> Server:
    """Starts `python -m ...` on these cores and waits for its ready line.

    SystemExit with the child's last words if it ends before. Ctrl-C does not reach it, and it does
    not outlive us.
    """
    parent = os.getpid()

    def pin() -> None:
        end_with_parent(parent)
        if cpus is not None:
            os.sched_setaffinity(0, cpus)

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environ or {})},
        start_new_session=True,
        preexec_fn=pin,  # nothing else runs in the child before it is replaced
    )
    assert process.stdout is not None  # noqa: S101 - asked for above
    assert process.stderr is not None  # noqa: S101 - asked for above
    tail: list[bytes] = []
    reader = asyncio.create_task(_keep_tail(process.stderr, tail))
    try:
        line = await asyncio.wait_for(process.stdout.readline(), timeout_s)
    except TimeoutError:
        line = b""
    except asyncio.CancelledError:
        process.terminate()  # gracefully, if it can; it ends with us
        await process.wait()
        raise
    words = line.decode().split()
    if not words or words[0] != "ready":
        if process.returncode is None:
            process.kill()
        await reader
        raise SystemExit(
            f"{' '.join(arguments)} did not become "
            f"ready:\n{b''.join(tail).decode(errors='replace')}"
        )
    _BACKGROUND.add(reader)
    reader.add_done_callback(_BACKGROUND.discard)
    return Server(process, words[1:], tail)


_BACKGROUND: set[asyncio.Task[None]] = set()


async def _keep_tail(stream: asyncio.StreamReader, tail: list[bytes]) -> None:
    async for line in stream:
        tail.append(line)
        del tail[:-TAIL_LINES]
