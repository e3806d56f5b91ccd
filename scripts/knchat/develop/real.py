"""`kn-chat dev --real`: the product as the processes that it is in production, on real stores,
without Knative.

Each function is a uvicorn of its own, HTTP functions share one; pumps stand in for KafkaSources,
`--sink` for the KafkaSink; gateways are `python -m gateway`. With `--from-zero` functions start
with their first requests. Stores are those that the KNCHAT_ variables name. Source: design.md D15,
D22.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import socket
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from backends.settings import Settings
from knchat import exits
from knchat.develop.processes import POLL_INTERVAL_S, Child, all_ready, end_with_parent
from knchat.develop.serving import listen
from schemas.errors import Malformed, Unavailable

if TYPE_CHECKING:
    from backends.coordination import PartitionOwners
    from backends.wiring import Backends

log = logging.getLogger(__name__)

PROCESSES: Final = "processes.json"
"""In the data folder: name -> pid, port, start and readiness of each process that runs now, for
programs that measure or stop them.
"""

# What each may take to end, a little more than it allows itself; KNCHAT_DRAIN_S comes on top for
# gateways.
GATEWAY_STOP_S: Final = 15.0
PUMP_STOP_S: Final = 10.0
SINK_STOP_S: Final = 5.0
FUNCTION_STOP_S: Final = 15.0
AUDIT_NICENESS: Final = 10
# With two gateways it took up to 2 s after both were ready (measured).
SHARED_OUT_S: Final = 20.0
# Below what Linux takes ports of outgoing connections from: there the port of a function that was
# killed could be taken meanwhile by any connection, even by the pump's that tries to reach it, and
# the function could not come back.
_PORTS: Final = range(20_000, 32_000)


class Processes:
    """All processes of one product. Raises Ended when a port that was asked for is taken.

    `from_zero`: no function runs before its first request. `pump_flags`: more for each `kn-chat
    pump`.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        gateways: int,
        sink: bool,
        in_process: bool,
        from_zero: bool = False,
        pump_flags: Sequence[str] = (),
    ) -> None:
        self._settings, self._environ, self._from_zero, self._pump_flags = (
            settings,
            dict(environ),
            from_zero,
            pump_flags,
        )
        self._runs: dict[Child, asyncio.Task[None]] = {}
        self._ports: set[int] = set()
        self.functions: list[Child] = []
        self.sinks: list[Child] = []
        self.pumps: list[Child] = []
        if settings.gateway_port + gateways - 1 > 65_535:
            raise exits.Ended(
                f"there are no {gateways} ports from {settings.gateway_port} on: choose "
                "--gateway-port lower",
                exits.USAGE,
            )
        asked = {
            settings.gateway_port + number: "--gateway-port"
            for number in range(gateways)
            if settings.gateway_port
        }
        with contextlib.ExitStack() as stack:
            if settings.http_port:
                stack.enter_context(listen(settings.host, settings.http_port, option="--http-port"))
            for port, option in asked.items():
                stack.enter_context(listen(settings.host, port, option=option))
        self._ports |= {*asked, settings.http_port}
        self._make_functions(in_process=in_process)
        via: dict[str, str] = self._make_sink() if sink else {}
        self.gateways = [self._gateway(number, via) for number in range(gateways)]

    @property
    def http(self) -> str:
        """Where the HTTP functions are."""
        return self.functions[-1].url

    @property
    def url(self) -> str:
        """The whole URL of the first gateway."""
        return self.gateways[0].words[0]

    async def start_functions(self) -> None:
        """Returns when all serve, or wait for a request.

        First, so that what pumps bring finds them. Raises Ended when one cannot start.
        """
        await self._start(self.functions + self.sinks)

    async def start_gateways(self) -> None:
        """The pumps too. Last, so that what clients send is answered."""
        await self._start(self.pumps + self.gateways)

    async def shared_out(self, owners: PartitionOwners) -> None:
        """Returns when every partition is owned by one of the gateways, and every gateway owns
        some.

        A moment before, log-ins still name those of the run before; or the first one that came owns
        all, and users would be moved at once.
        """
        urls = {child.words[0] for child in self.gateways}
        partitions = range(self._settings.delivery_partitions)
        try:
            async with asyncio.timeout(SHARED_OUT_S):
                while True:
                    owning = {
                        owner.url if owner else ""
                        for owner in [await owners.owner_of(partition) for partition in partitions]
                    }
                    if owning <= urls and len(owning) == min(len(urls), len(partitions)):
                        return
                    await asyncio.sleep(POLL_INTERVAL_S)
        except (TimeoutError, Unavailable):
            log.warning("partitions are not shared out yet: some users are let in later, or moved")

    async def watch(self) -> None:
        """Never returns: what ends is started again. Raises what ended a supervisor."""
        await asyncio.gather(*self._runs.values())

    async def keep_auditing(self) -> None:
        """Never returns: runs `kn-chat audit --repair` now and then, as the CronJob does on
        Knative. It steps back behind what serves on the same cores.

        An audit that fails says why.
        """
        while True:
            await self._run_beside("audit", "--repair")
            await asyncio.sleep(self._settings.audit_every_s)

    async def keep_sweeping(self) -> None:
        """Never returns: runs `kn-chat files sweep` now and then, in the same way."""
        while True:
            await asyncio.sleep(self._settings.files_sweep_every_s)
            await self._run_beside("files", "sweep")

    async def _run_beside(self, *words: str) -> None:
        command = [sys.executable, "-m", "knchat", *words]
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self._environ,
            stdout=asyncio.subprocess.DEVNULL,
            preexec_fn=partial(_begin_audit, os.getpid()),
        )
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def stop(self) -> None:
        """Ends all in order: clients are disconnected, what they sent is brought to the functions
        or stays in the log.
        """
        gateway_s = GATEWAY_STOP_S + self._settings.drain_s
        stages = (
            (self.gateways, gateway_s),
            (self.pumps, PUMP_STOP_S),
            (self.sinks, SINK_STOP_S),
            (self.functions, FUNCTION_STOP_S),
        )
        for children, within_s in stages:
            for child in children:
                child.stop(within_s=within_s)
            await asyncio.gather(
                *(self._runs[child] for child in children if child in self._runs),
                return_exceptions=True,
            )
        for child in self.functions:
            if child.listener is not None:
                child.listener.close()
        (self._settings.data / PROCESSES).unlink(missing_ok=True)

    async def _start(self, children: list[Child]) -> None:
        self._runs |= {
            child: asyncio.create_task(child.run(self._write), name=child.name)
            for child in children
        }
        await self._or_end(all_ready([child for child in children if child.listener is None]))

    async def _or_end(self, work: Coroutine[None, None, None]) -> None:
        """Returns when the work is done. Raises what ended one of the children before."""
        working = asyncio.ensure_future(work)
        try:
            await asyncio.wait([working, *self._runs.values()], return_when=asyncio.FIRST_COMPLETED)
            for run in self._runs.values():
                if run.done():
                    run.result()
            await working
        finally:
            working.cancel()

    def _write(self) -> None:
        children = [*self.functions, *self.sinks, *self.pumps, *self.gateways]
        running = {
            child.name: {
                "pid": child.pid,
                "port": child.port,
                "began_s": child.began_s,
                "ready_s": child.ready_s,
            }
            for child in children
            if child.pid
        }
        draft = self._settings.data / f"{PROCESSES}.new"
        draft.write_text(json.dumps(running, indent=1))
        draft.replace(self._settings.data / PROCESSES)

    def _make_functions(self, *, in_process: bool) -> None:
        from functions.triggers import TRIGGERS, OnEvents, OnHttp  # noqa: PLC0415 - not for --help

        targets = (
            []
            if in_process
            else list(
                dict.fromkeys(
                    trigger.target for trigger in TRIGGERS if isinstance(trigger, OnEvents)
                )
            )
        )
        urls = {}
        for target in targets:
            child = self._function(target.replace("_", "-"), target, self._free_port())
            urls[target] = child.url
            self.functions.append(child)
        https = ",".join(trigger.target for trigger in TRIGGERS if isinstance(trigger, OnHttp))
        self.functions.append(
            self._function(
                "http",
                https,
                self._settings.http_port or self._free_port(),
                host=self._settings.host,
            )
        )
        for trigger in TRIGGERS:
            if isinstance(trigger, OnEvents):
                command = [
                    sys.executable,
                    "-m",
                    "knchat",
                    "pump",
                    "--group",
                    trigger.group,
                    *self._pump_flags,
                ]
                # By its path too: dead letters name the function that failed, and `report_failed`
                # knows its own by that.
                command += (
                    [] if in_process else ["--url", f"{urls[trigger.target]}/{trigger.target}"]
                )
                self.pumps.append(Child(f"pump-{trigger.group}", command, self._environ))

    def _function(self, name: str, target: str, port: int, host: str = "127.0.0.1") -> Child:
        listener = self._held(host, port) if self._from_zero else None
        flags = (
            ["--host", host, "--port", str(port)]
            if listener is None
            else ["--fd", str(listener.fileno())]
        )
        flags += [
            "--http",
            "functions.runtime.http_protocol:BoundedHttpProtocol",
            "--no-proxy-headers",
            "--timeout-keep-alive",
            "75",
            "--no-access-log",
            "--log-level",
            "warning",
            "--timeout-graceful-shutdown",
            "10",
        ]
        command = [sys.executable, "-m", "uvicorn", "functions.runtime.asgi:app", *flags]
        url = replace(self._settings, host=host).url("http", port)
        environ = {**self._environ, "FUNCTION_TARGET": target}
        return Child(f"function-{name}", command, environ, url=url, port=port, listener=listener)

    def _held(self, host: str, port: int) -> socket.socket:
        """A function's socket, in which requests wait while no process serves it: what the
        activator does on Knative.
        """
        listener = listen(host, port, option="--http-port")
        # Accepted connections inherit it. uvicorn takes an inherited socket for a UNIX one, and
        # sets nothing on its connections.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener

    def _gateway(self, number: int, via: Mapping[str, str]) -> Child:
        port = (
            self._settings.gateway_port + number
            if self._settings.gateway_port
            else self._free_port()
        )
        own = {
            "KNCHAT_GATEWAY_PORT": str(port),
            "KNCHAT_GATEWAY_NAME": f"gateway-{number}",
            "KNCHAT_HOST": self._settings.host,
        }
        return Child(
            f"gateway-{number}",
            [sys.executable, "-m", "gateway"],
            {**self._environ, **own, **via},
            port=port,
        )

    def _make_sink(self) -> dict[str, str]:
        """The receiver between gateways and Kafka, and what gateways must know of it."""
        port = self._free_port()
        self.sinks.append(
            Child(
                "sink",
                [sys.executable, "-m", "knchat.develop.sink", "--port", str(port)],
                self._environ,
                port=port,
            )
        )
        return {
            "KNCHAT_LOG": "knative",
            "K_SINK": f"http://127.0.0.1:{port}/chat/chat-commands",
            "KNCHAT_SINK_QUERIES": f"http://127.0.0.1:{port}/chat/chat-queries",
        }

    def _free_port(self) -> int:
        """A port that is free now.

        A program that takes it before the child does ends the start, which may be tried again.
        """
        for port in random.sample(_PORTS, len(_PORTS)):
            if port not in self._ports:
                with socket.socket() as probe, contextlib.suppress(OSError):
                    probe.bind(
                        (
                            self._settings.host if ":" not in self._settings.host else "127.0.0.1",
                            port,
                        )
                    )
                    self._ports.add(port)
                    return port
        raise exits.Ended(f"no port of {_PORTS.start} to {_PORTS.stop} is free", exits.CANNOT_START)


def _begin_audit(parent: int) -> None:
    """Runs in the child, before its program."""
    end_with_parent(parent)
    os.nice(AUDIT_NICENESS)


async def prepare(backends: Backends) -> None:
    """Tables and topics, as this version needs them, before any process starts.

    Raises Malformed where what is there does not fit.
    """
    await backends.migrate()
    await backends.topics.create()
    if problems := await backends.topics.check():
        raise Malformed("; ".join(problems))
    await backends.health.check(("appends", "reads", "accounts", "chats", "cache", "file_store"))
