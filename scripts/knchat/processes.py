"""Child processes of `kn-chat dev --real`: started, waited for until they serve, started again when they end, and ended in order.

It knows commands and environments, not what they run. A child that was never ready ends the start; one that served is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx

from knchat import exits

log = logging.getLogger(__name__)

# From the end of a child to its next start: doubled from the first to the last, each times 0.5 to 1. One that has lived this long is no
# child that cannot live, and begins again with the first.
BACK_OFF_S: Final = (0.2, 5.0)
SETTLED_S: Final = 10.0
READY_S: Final = 60.0
ASK_EVERY_S: Final = 0.1
_PR_SET_PDEATHSIG: Final = 1


@dataclass(eq=False)
class Child:
    """One process. `url`: asked for `/readyz` until it answers 200; empty: the child says `ready ...` on its standard output.

    `port`: what it listens on, the same after each start; 0: nothing.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    url: str = ""
    port: int = 0
    pid: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    words: list[str] = field(default_factory=list)
    """What stood behind `ready`."""
    _process: asyncio.subprocess.Process | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, changed: Callable[[], None]) -> None:
        """Keeps the child running until `stop`; `changed` is called whenever its pid has. Raises Ended when it ends before it was ready."""
        served, failures = False, 0
        while not self._stopping.is_set():
            began = time.monotonic()
            self._process = process = await asyncio.create_subprocess_exec(
                *self.command,
                env=self.environ,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is ours: the children end in order
                preexec_fn=_end_with_parent,
            )
            self.pid = process.pid
            changed()
            becoming = asyncio.create_task(self._become_ready(process))
            code = await process.wait()
            served = served or self.ready.is_set()
            becoming.cancel()
            self.ready.clear()
            if self._stopping.is_set():
                return
            if not served:
                raise exits.Ended(f"{self.name} cannot start (exit code {code}); its own words stand above", exits.CANNOT_START)
            failures = 0 if time.monotonic() - began >= SETTLED_S else failures + 1
            first, last = BACK_OFF_S
            wait_s = min(last, first * 2**failures) * random.uniform(0.5, 1)  # noqa: S311 - jitter
            log.warning("a process has ended, it is started again", extra={"child": self.name, "code": code, "in_s": round(wait_s, 2)})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)

    async def stop(self, *, within_s: float) -> None:
        """SIGTERM, and SIGKILL for one that has not ended after so many seconds."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), within_s)
        except TimeoutError:
            log.warning("a process does not end, it is killed", extra={"child": self.name})
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _become_ready(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - asked for
        if self.url:
            await _answers(f"{self.url}/readyz")
            self.ready.set()
        async for line in process.stdout:
            first, *rest = line.decode(errors="replace").split() or [""]
            if first == "ready" and not self.url:
                self.words = rest
                self.ready.set()
            else:
                print(f"{self.name}: {line.decode(errors='replace').rstrip()}", file=sys.stderr, flush=True)


async def _answers(url: str) -> None:
    async with httpx.AsyncClient(timeout=5) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(url)).status_code == 200:
                    return
            await asyncio.sleep(ASK_EVERY_S)


async def all_ready(children: Sequence[Child]) -> None:
    """Returns when all serve. Raises Ended, and names those that do not, after READY_S."""
    try:
        async with asyncio.timeout(READY_S):
            await asyncio.gather(*(child.ready.wait() for child in children))
    except TimeoutError:
        late = ", ".join(child.name for child in children if not child.ready.is_set())
        raise exits.Ended(f"not ready after {READY_S:.0f} s: {late}; the log above says what they wait for", exits.CANNOT_START) from None


def _end_with_parent() -> None:
    """Asks the kernel (Linux) to end this child when its parent is gone, however it went. Runs in the child, before its program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == 1:
            os._exit(1)
