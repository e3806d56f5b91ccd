"""Child processes of `kn-chat dev --real`: started, waited for until they serve, started again when
they end, and ended in order.

It knows commands and environments, not what they run. A child that was never ready ends the start;
one that served is started again. One with a listener is started by the first request, as on
Knative; requests wait in the kernel meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import httpx

from backends.concurrency import Backoff
from knchat import exits

log = logging.getLogger(__name__)

# From the end of a child to its next start. One that has lived SETTLED_S is no child that cannot
# live, and begins again with the first.
RESTART: Final = Backoff(first_s=0.2, max_s=5.0)
SETTLED_S: Final = 10.0
READY_TIMEOUT_S: Final = 60.0
POLL_INTERVAL_S: Final = 0.1
_PR_SET_PDEATHSIG: Final = 1
# Found before any fork: a child of a process with threads must not load libraries.
_PRCTL: Final = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


@dataclass(eq=False)
class Child:
    """One process.

    `url`: asked for `/readyz` until it answers 200; empty: the child says `ready ...` on its
    standard output. What else it says, on either output, is passed on to ours behind its name.
    `port`: what it listens on, the same after each start. `listener`: inherited under the same
    number; whenever the child does not run, it is started by the next connection.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    url: str = ""
    port: int = 0
    listener: socket.socket | None = None
    restart: Backoff = RESTART
    settled_s: float = SETTLED_S
    pid: int = 0
    """0: it does not run."""
    began_s: float = 0.0
    """When it was last started, by `time.monotonic()`; `ready_s`: when it was ready, 0 for not yet.
    """
    ready_s: float = 0.0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    words: list[str] = field(default_factory=list)
    """What stood behind `ready`."""
    _changed: Callable[[], None] = lambda: None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _stop_within_s: float = 0.0

    async def run(self, changed: Callable[[], None]) -> None:
        """Keeps the child running until `stop`; `changed` is called whenever its pid has, and when
        it is ready.

        Raises Ended when it ends before it was ever ready, unless it has a listener: then that was
        not the start's doing.
        """
        self._changed = changed
        served, failures = self.listener is not None, 0
        while True:
            await self._asked_for()
            if self._stopping.is_set():
                return
            self.began_s, self.ready_s = time.monotonic(), 0.0
            process = await asyncio.create_subprocess_exec(
                *self.command,
                env=self.environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours: the children end in order
                preexec_fn=partial(end_with_parent, os.getpid()),
                pass_fds=[] if self.listener is None else [self.listener.fileno()],
            )
            self.pid = process.pid
            changed()
            code = await self._until_it_ends(process)
            served = served or self.ready.is_set()
            self.ready.clear()
            self.pid = 0
            changed()
            if self._stopping.is_set():
                return
            if not served:
                raise exits.Ended(
                    f"{self.name} cannot start (exit code {code}); its own words stand above",
                    exits.CANNOT_START,
                )
            failures = 0 if time.monotonic() - self.began_s >= self.settled_s else failures + 1
            wait_s = self.restart.delay_s(failures)
            log.warning(
                "a process has ended, it is started again",
                extra={"child": self.name, "code": code, "in_s": round(wait_s, 2)},
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()

    def stop(self, *, within_s: float) -> None:
        """Lets `run` end it and return: by SIGTERM, and by SIGKILL if it has not ended after so
        many seconds.
        """
        self._stop_within_s = within_s
        self._stopping.set()

    async def _asked_for(self) -> None:
        """Returns when a connection waits in the listener, at once where there is none; and at
        `stop`.
        """
        if self.listener is None:
            return
        asked = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.listener, asked.set)
        waiting = [asyncio.create_task(event.wait()) for event in (asked, self._stopping)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asyncio.get_running_loop().remove_reader(self.listener)
            for wait in waiting:
                wait.cancel()

    async def _until_it_ends(self, process: asyncio.subprocess.Process) -> int:
        ended, stopping = (
            asyncio.create_task(process.wait()),
            asyncio.create_task(self._stopping.wait()),
        )
        hearing = asyncio.create_task(self._hear(process))
        asking = asyncio.create_task(self._ask_until_ready())
        try:
            await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                process.terminate()
                await asyncio.wait([ended], timeout=self._stop_within_s)
            if not ended.done():
                log.warning("a process does not end, it is killed", extra={"child": self.name})
                process.kill()
            code = await ended
            await hearing  # its last words
            return code
        finally:
            for task in (ended, stopping, hearing, asking):
                task.cancel()

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - asked for
        while True:
            try:
                line = (await process.stdout.readline()).decode(errors="replace")
            except ValueError:  # longer than asyncio's 64 KiB
                continue
            if not line:
                return
            first, *rest = line.split() or [""]
            if first == "ready" and not self.url:
                self.words = rest
                self._serves()
            else:
                print(f"{self.name}: {line.rstrip()}", file=sys.stderr, flush=True)

    async def _ask_until_ready(self) -> None:
        if not self.url:
            return
        # Plain HTTP: reading authorities would take 40 ms for each child.
        async with httpx.AsyncClient(timeout=5, verify=False) as client:  # noqa: S501
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"{self.url}/readyz")).status_code == 200:
                        self._serves()
                        return
                await asyncio.sleep(POLL_INTERVAL_S)

    def _serves(self) -> None:
        self.ready_s = time.monotonic()
        self.ready.set()
        self._changed()


async def all_ready(children: Sequence[Child], *, within_s: float = READY_TIMEOUT_S) -> None:
    """Returns when all serve. Raises Ended, and names those that do not, after so many seconds."""
    try:
        async with asyncio.timeout(within_s):
            await asyncio.gather(*(child.ready.wait() for child in children))
    except TimeoutError:
        late = ", ".join(child.name for child in children if not child.ready.is_set())
        raise exits.Ended(
            f"not ready after {within_s:g} s: {late}; the log above says what they wait for",
            exits.CANNOT_START,
        ) from None


def end_with_parent(parent: int) -> None:
    """Asks the kernel (Linux) to kill this child when its parent is gone, however it went.

    Runs in the child, before its program.
    """
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
