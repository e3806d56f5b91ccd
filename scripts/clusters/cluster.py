"""The cluster of a folder: its control plane up with all definitions, or down. Tests import this.

It stands on `servers/services.py`: processes are found again by pid, and come back on their ports
with their data.
"""

from __future__ import annotations

from pathlib import Path

from clusters import definitions
from clusters.api import Api
from clusters.control_plane import API_SERVER, CONTROL_PLANE, CONTROLLERS
from servers.packages import locked
from servers.place import write_whole
from servers.services import RUN, Services, Status


class Cluster:
    """One control plane; any number of processes may call its methods at once."""

    def __init__(self, folder: Path | None = None) -> None:
        """Without a folder: the checkout's own, `.run/cluster`."""
        self._services = Services(
            folder or RUN / "cluster", servers=CONTROL_PLANE, script="scripts/cluster"
        )
        self.folder = self._services.folder

    @property
    def kubeconfig(self) -> Path:
        """Leads there, with every right."""
        return self.folder / "kubeconfig"

    def build(self) -> None:
        """All that `up` needs and that takes minutes the first time."""
        for program in (API_SERVER, CONTROLLERS):
            program.path()

    def up(self) -> None:
        """Starts what does not run, in order, and brings the definitions there.

        Failed when something cannot be had.
        """
        wanted = definitions.texts()
        self.build()
        for name in CONTROL_PLANE:
            self._services.start(name)
        with locked(self.folder / "definitions.lock"):
            # Beside etcd's data: what is wiped with it.
            there, digest = (
                self._services.place("etcd").folder / "definitions",
                definitions.digest(wanted),
            )
            if not there.exists() or there.read_text() != digest:
                definitions.install(Api(self.kubeconfig), wanted)
                write_whole(there, digest)

    def down(self) -> None:
        """Ends it, in order; its objects and ports stay."""
        for name in reversed(CONTROL_PLANE):
            self._services.stop(name)

    def wipe(self) -> None:
        """Ends it and deletes all that it kept."""
        self.down()
        for name in CONTROL_PLANE:
            self._services.wipe(name)
        self.kubeconfig.unlink(missing_ok=True)

    def status(self) -> list[Status]:
        """Of each server."""
        return [self._services.status(name) for name in CONTROL_PLANE]

    def last_lines(self, count: int) -> str:
        """The ends of all logs."""
        return "\n".join(
            f"== {self._services.place(name).log}\n{self._services.last_lines(name, count)}"
            for name in CONTROL_PLANE
        )
