"""The servers of one folder: starts, stops, wipes and breaks them, and knows which run.

Fault tests import this. Everything is found again in the folder: another process of the same user
sees the same servers, with the same ports.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from servers import packages, process
from servers.cassandra import CASSANDRA
from servers.kafka import KAFKA
from servers.opensearch import OPENSEARCH
from servers.place import HOST, Failed, Place, write_whole
from servers.postgres import POSTGRES
from servers.process import Process
from servers.redis import REDIS
from servers.s3 import S3
from servers.server import NotReady, Server

SERVERS: Mapping[str, Server] = {
    server.name: server for server in (KAFKA, CASSANDRA, POSTGRES, REDIS, S3)
}
"""What an installation needs."""
OPTIONAL: Mapping[str, Server] = {server.name: server for server in (OPENSEARCH,)}
"""What some have besides: started where they are named."""
_ALL: Mapping[str, Server] = {**SERVERS, **OPTIONAL}

# Cassandra's start takes 11 s, and took 25 s while twelve other programs wanted the two cores; a
# crashed one reads its commit log first.
_READY_TIMEOUT_S = 180

# Idle ones end within 3 s each; Cassandra writes out what it holds first.
_STOP_TIMEOUT_S = 30

_PROBES = 20

RUN = Path(__file__).parents[2] / ".run"
"""What this checkout's servers keep."""


@dataclass(frozen=True, slots=True)
class Status:
    """One server at this moment."""

    name: str
    port: int | None
    """None: never started here."""
    process: Process | None
    """None: does not run."""
    ready: bool


class Services:
    """The servers that live in one folder."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        secure: bool = False,
        brief: bool = False,
        servers: Mapping[str, Server] = _ALL,
        script: str = "scripts/services",
    ) -> None:
        """Without a folder: the checkout's own, `.run/services` or, with TLS and passwords,
        `.run/services-secure`.

        `brief`: they live for some tests. `servers` can be others than the stores, of another
        `script`, which errors name.
        """
        self.folder = (folder or RUN / ("services-secure" if secure else "services")).absolute()
        self.secure = secure
        self.brief = brief
        self.servers = servers
        self.script = script
        self._interrupted = threading.Event()

    def up(self, names: Iterable[str] | None = None) -> None:
        """Starts those that do not run, waits until all are ready, and writes `services.env`.

        Without names: all but OPTIONAL.

        Failed when one cannot be had, with what it said last; the others are started all the same.
        """
        wanted = (
            [name for name in self.servers if name not in OPTIONAL] if names is None else [*names]
        )
        packages.install(self._packages(wanted))
        self._interrupted.clear()
        with ThreadPoolExecutor(len(self.servers)) as threads:
            starts = [threads.submit(self.start, name) for name in wanted]
            try:
                wait(starts)
            except BaseException:
                self._interrupted.set()
                raise
        failures = [failure for start in starts if (failure := start.exception())]
        for failure in failures[1:]:
            packages.say(str(failure))
        if failures:
            raise failures[0]

    def start(self, name: str) -> Process:
        """The process of a server that is ready, started unless it runs."""
        server, place = self.servers[name], self.place(name)
        before = time.monotonic()
        with self._locked(name):
            running = self.process(name)
            if running is None:
                packages.install(self._packages([name]))
                running = self._start(server, place)
                self._wait_until_ready(server, place, running)
                packages.say(
                    f"{name}: ready on port {place.port()} after {time.monotonic() - before:.1f} s"
                )
            else:
                self._wait_until_ready(server, place, running)
                packages.say(f"{name}: runs already on port {place.port()}")
            self._write_environment()
        return running

    def stop(self, name: str) -> None:
        """Asks a server to end, and kills it if it does not; its data and ports stay."""
        with self._locked(name):
            running = self.process(name)
            if running is not None and not running.stop(
                self.servers[name].stops_by, timeout_s=_STOP_TIMEOUT_S
            ):
                packages.say(f"{name}: did not end within {_STOP_TIMEOUT_S} s and was killed")

    def kill(self, name: str) -> None:
        """The crash, kill -9, all of it; `start` brings it back on its port and its data."""
        self._running(name).kill()

    def pause(self, name: str) -> None:
        """SIGSTOP: connections stay open and nothing answers, until `resume`."""
        self._running(name).pause()

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._running(name).send(signal.SIGCONT)

    def wipe(self, name: str) -> None:
        """Stops a server and deletes all that it kept, its port too."""
        self.stop(name)
        with self._locked(name):
            folder = self.place(name).folder
            with suppress(FileNotFoundError):  # PostgreSQL's data may be elsewhere, and a link here
                shutil.rmtree((folder / "data").resolve(strict=True))
            shutil.rmtree(folder, ignore_errors=True)
            self._write_environment()

    def place(self, name: str) -> Place:
        """Where it lives."""
        return Place(self.folder, self.servers[name].name, self.secure, self.brief)

    def process(self, name: str) -> Process | None:
        """The process of a server that runs, ready or not."""
        return Process.read(self.place(name).folder / "pid")

    def ready(self, name: str) -> bool:
        """Whether it answers a client at this moment."""
        server, place = self.servers[name], self.place(name)
        try:
            _connect(place)
            server.check(place)
        except (NotReady, OSError):
            return False
        return True

    def status(self, name: str) -> Status:
        """What is to be known of it; takes seconds for one that hangs."""
        running = self.process(name)
        try:
            port = self.place(name).port()
        except FileNotFoundError:
            port = None
        ready = running is not None and not running.paused() and self.ready(name)
        return Status(name, port, running, ready)

    def settings(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """The variables that lead clients there, for those of them that were ever started here."""
        there = [
            self.servers[name]
            for name in (self.servers if names is None else names)
            if (self.place(name).folder / "ports.json").exists()
        ]
        return {
            name: value
            for server in there
            for name, value in server.settings(self.place(server.name)).items()
        }

    def last_lines(self, name: str, count: int = 20) -> str:
        """The end of its log."""
        with suppress(FileNotFoundError):
            return "\n".join(self.place(name).log.read_text(errors="replace").splitlines()[-count:])
        return ""

    def _locked(self, name: str) -> packages.Lock:
        return packages.locked(self.folder / f"{name}.lock")

    def _packages(self, names: Iterable[str]) -> list[packages.Package]:
        """Nothing is needed for what runs already."""
        return [
            package
            for name in names
            if self.process(name) is None
            for package in self.servers[name].packages()
        ]

    def _running(self, name: str) -> Process:
        running = self.process(name)
        if running is None:
            raise Failed(f"{name} does not run; {self.script} up {name}")
        return running

    def _start(self, server: Server, place: Place) -> Process:
        place.folder.mkdir(parents=True, exist_ok=True)
        with packages.locked(self.folder / "ports.lock"):
            place.choose_ports(server.ports)
        for port in map(place.port, server.ports):
            _check_free(server.name, port, self.script)
        if self.secure:
            with packages.locked(self.folder / "certificates.lock"):
                place.certificates.make()
        arguments = server.prepare(place)
        if place.log.exists():
            place.log.replace(place.log.with_suffix(".log.before"))
        packages.say(f"{server.name}: starting")
        # Its own few variables: what the shell has set for other JVMs or PostgreSQL clients must
        # not change it.
        environ = {
            name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ
        } | {"LC_ALL": "C.UTF-8"}
        running = process.start(
            arguments,
            log=place.log,
            environ=environ,
            timer_slack_us=server.timer_slack_us,
            niceness=server.niceness,
        )
        running.write(place.folder / "pid")
        return running

    def _wait_until_ready(self, server: Server, place: Place, running: Process) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            try:
                _connect(place)
                server.check(place)
            except (NotReady, OSError) as error:
                if not running.alive():
                    why = "ended before it was ready"
                elif running.paused():
                    why = f"is paused: kill -CONT {running.pid}"
                elif time.monotonic() > deadline:
                    why = f"is not ready after {_READY_TIMEOUT_S} s: {error}"
                else:
                    if self._interrupted.wait(0.1):
                        raise Failed(f"{server.name}: interrupted; it goes on starting") from error
                    continue
                raise Failed(
                    f"{server.name} {why}; the end of {place.log}:\n{self.last_lines(server.name)}"
                ) from error
            return

    def _write_environment(self) -> None:
        with packages.locked(self.folder / "services.lock"):
            lines = [f"{name}={shlex.quote(value)}\n" for name, value in self.settings().items()]
            write_whole(self.folder / "services.env", "".join(lines))


def _connect(place: Place) -> None:
    socket.create_connection((HOST, place.port()), timeout=3).close()


def _check_free(name: str, port: int, script: str) -> None:
    """Waits a moment: a program that is being started by another thread holds what was open here
    until it runs, our probe of a port too.
    """
    for attempt in range(_PROBES):
        with socket.socket() as probe:
            # Connections of its last run may still be closing.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                if attempt == _PROBES - 1:
                    text = (
                        f"{name}: port {port} was taken by another program meanwhile; {script} "
                        f"wipe {name} chooses another"
                    )
                    raise Failed(text, 4) from error
            else:
                return
        time.sleep(0.1)
