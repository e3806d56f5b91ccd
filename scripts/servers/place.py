"""Where one server lives: its folder, ports, passwords and certificates, chosen once and kept, so
that it comes back the same.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from servers.certificates import Certificates

HOST = "127.0.0.1"
USER = "knchat"
"""The one user of all servers that have users, and the database."""

# Below the range that Linux takes ports of outgoing connections from (32768 and up): there the port
# of a server that is down could be taken meanwhile by any connection, even by our own
# client's that tries to reach it.
_PORTS = range(20_000, 32_000)


class Failed(Exception):
    """A server cannot be had; the text says why and what to do."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Place:
    """One server's part of a folder of services."""

    services: Path
    name: str
    secure: bool
    """Whether everything asks for TLS and passwords."""
    brief: bool = False
    """Whether it lives for some tests, so that a JVM's start is most of its work."""

    @property
    def folder(self) -> Path:
        """Everything that it keeps: data, configuration, passwords, ports, log."""
        return self.services / self.name

    @property
    def log(self) -> Path:
        """What the server wrote to its outputs since it was last started."""
        return self.folder / "server.log"

    @property
    def certificates(self) -> Certificates:
        """Those of all servers of this folder."""
        return Certificates(self.services / "certificates")

    def choose_ports(self, names: Iterable[str]) -> None:
        """Free ones that no other server of these services has chosen, unless this one has before.

        One at a time of these services: a port that was chosen a moment ago is still free to bind.
        """
        path = self.folder / "ports.json"
        if not path.exists():
            taken = {
                port
                for other in self.services.glob("*/ports.json")
                for port in json.loads(other.read_text()).values()
            }
            free = (port for port in _free_ports() if port not in taken)
            write_whole(path, json.dumps(dict(zip(names, free, strict=False))))

    def port(self, name: str = "client") -> int:
        """A chosen port; KeyError and FileNotFoundError mean that none was."""
        return int(json.loads((self.folder / "ports.json").read_text())[name])

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"{HOST}:{self.port()}"

    def write(self, name: str, text: str) -> Path:
        """Writes a file of its configuration, which only we can read."""
        path = self.folder / name
        write_whole(path, text)
        return path

    def hosts(self) -> Path:
        """A file of host names for Java (`jdk.net.hosts.file`): Cassandra ends at once where the
        machine's own name does not resolve.
        """
        return self.write("hosts", f"{HOST} localhost {socket.gethostname()}\n")

    def jvm_options(self) -> list[str]:
        """How a JVM compiles: a third of the CPU of a start goes into code that is faster later."""
        return ["-XX:TieredStopAtLevel=1"] if self.brief else []

    def password_file(self, user: str = USER) -> Path:
        """A file that only we can read, with a random password; made at the first call."""
        path = self.folder / f"{user}.password"
        if not path.exists():
            write_whole(path, secrets.token_urlsafe(24))
        return path

    def password(self, user: str = USER) -> str:
        """What stands in the file."""
        return self.password_file(user).read_text()


def write_whole(path: Path, text: str) -> None:
    """Readers see all of it or the old one; only we can read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


def _free_ports() -> Iterable[int]:
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        yield port
