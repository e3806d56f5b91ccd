"""The product under load: `kn-chat dev` in one process, the same on real parts, or one that runs
elsewhere.

It is started on cores of its own where it is one process, and says what each of its components has
used of the CPU.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knchat.develop.real import PROCESSES
from measure import process
from servers.services import SERVERS, Services

# The longest that `dev --real` gives all its children one after the other, and a little more.
REAL_STOP_S = 60.0


@dataclass(slots=True)
class Product:
    """`real`: the flags behind `dev --real`, None for the embedded default; `services`: the stores
    that it runs on then.

    `http` and `ws` are known after `start`.
    """

    folder: Path
    real: tuple[str, ...] | None = None
    cpus: set[int] | None = None
    http: str = ""
    ws: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    services: Services = field(default_factory=Services)
    _server: process.Server | None = None

    async def start(self) -> None:
        """Starts it; after the first time on the same ports."""
        ports = (
            [
                self.http.rpartition(":")[2],
                self.ws.partition("//")[2].partition("/")[0].rpartition(":")[2],
            ]
            if self.http
            else ["0", "0"]
        )
        flags = [
            "--data",
            str(self.folder),
            "--no-demo",
            "--http-port",
            ports[0],
            "--gateway-port",
            ports[1],
        ]
        flags += [] if self.real is None else ["--real", *self.real]
        self._server = await process.start(
            ["knchat", "dev", *flags], cpus=self.cpus, environ=self.environ
        )
        self.http, self.ws = self._server.ready

    async def crash(self) -> None:
        """Kill -9 of the embedded default, and its next start."""
        assert self._server is not None  # noqa: S101 - started
        self._server.kill()
        await self._server.process.wait()
        await self.start()

    async def stop(self) -> None:
        """Ends it gracefully."""
        if self._server is not None:
            await self._server.stop(within_s=20 if self.real is None else REAL_STOP_S)

    def last_words(self) -> str:
        """The end of its log."""
        return "" if self._server is None else b"".join(self._server.tail).decode(errors="replace")

    def processes(self) -> dict[str, int]:
        """The name and pid of each process, those of the stores included."""
        if self._server is None:
            return {}
        if self.real is None:
            return {"kn-chat": self._server.pid}
        return {name: child["pid"] for name, child in self._children().items()} | self._store_pids()

    def metrics(self) -> list[str]:
        """Where the gateways show their metrics."""
        if self.real is None:
            return [f"http://{self.ws.partition('//')[2].partition('/')[0]}/metrics"]
        return [
            f"http://127.0.0.1:{child['port']}/metrics"
            for name, child in self._children().items()
            if name.startswith("gateway-")
        ]

    def kill(self, name: str) -> bool:
        """Kill -9 of one process, which `dev --real` starts again.

        False: it does not run at this moment.
        """
        child = self._children().get(name)
        if child is None:
            return False
        try:
            os.kill(child["pid"], signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds that each component has used so far: the gateways, functions and pumps
        together, each store alone.
        """
        used: dict[str, float] = {}
        for name, pid in self.processes().items():
            component = (
                name.partition("-")[0] if name not in SERVERS and self.real is not None else name
            )
            used[component] = used.get(component, 0.0) + process.tree_cpu_s(pid)
        return used

    def starts(self) -> dict[str, tuple[float, float]]:
        """Each process of `dev --real` that runs: when it was started and when it was ready, by
        `time.monotonic()`; 0 for not yet.
        """
        return {
            name: (child["began_s"], child["ready_s"]) for name, child in self._children().items()
        }

    def _children(self) -> dict[str, Any]:
        children: dict[str, Any] = json.loads((self.folder / PROCESSES).read_text())
        return children

    def _store_pids(self) -> dict[str, int]:
        return {
            name: running.pid
            for name in SERVERS
            if (running := self.services.process(name)) is not None
        }
