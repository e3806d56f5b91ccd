"""Programs and files that come from Go modules: built or downloaded once, kept in the user's cache
folder by their version.

`go/` has one module a group of programs, with its go.sum, so that the same bytes are built
everywhere and no checksum database is asked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from servers.packages import MISSING, cache, locked, program, say
from servers.place import Failed

_GO: Final = Path(__file__).parent / "go"

# kube-apiserver took 217 s on 2 cores, kn 100 s; a machine with a slower network and one core needs
# several times that.
_BUILD_TIMEOUT_S: Final = 1800
_REPORT_INTERVAL_S: Final = 30


@dataclass(frozen=True, slots=True)
class Built:
    """A program that is built from a module of `go/`."""

    module: str
    """The folder below `go/`."""
    package: str
    """What is built."""
    required: str
    """The module whose version is the program's."""
    lasts: str
    """How long it took, for people who wait."""
    flags: str = "-s -w"
    """The linker's; `{version}` stands for the version."""

    @property
    def name(self) -> str:
        """The program's."""
        return self.package.rpartition("/")[2]

    @property
    def version(self) -> str:
        """As go.mod requires it, with its v."""
        lines = (_GO / self.module / "go.mod").read_text().splitlines()
        return next(
            line.split()[-1]
            for line in lines
            if line.removeprefix("require ").split()[:1] == [self.required]
        )

    @property
    def file(self) -> Path:
        """Where it lies once it is built, for all checkouts of this user."""
        return cache() / "programs" / f"{self.name}-{self.version}" / self.name

    def path(self) -> Path:
        """The program; built at the first call.

        Two calls at once: the second waits and finds it done. Failed when Go is missing (exit code
        3), or its modules are not served, with Go's last lines.
        """
        if self.file.exists():
            return self.file
        with locked(cache() / "go.lock"):  # one alone wants all cores and gigabytes of memory
            if not self.file.exists():
                say(
                    f"{self.name} {self.version}: building from its Go modules (once, about "
                    f"{self.lasts})"
                )
                self._build()
        return self.file

    def _build(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.file.parent) as part:
            made = Path(part) / self.name
            flags = self.flags.replace("{version}", self.version)
            words = [
                "build",
                "-trimpath",
                "-mod=readonly",
                "-buildvcs=false",
                "-ldflags",
                flags,
                "-o",
                str(made),
                self.package,
            ]
            _go(words, _GO / self.module, what=self.name)
            made.replace(self.file)


def module_folder(module: str) -> Path:
    """The files of a module that `go/definitions` requires, downloaded at the first call."""
    answer: dict[str, Any] = json.loads(
        _go(["mod", "download", "-json", module], _GO / "definitions", what=module)
    )
    return Path(answer["Dir"])


def _go(words: list[str], folder: Path, *, what: str) -> str:
    """What `go` prints; a line now and then as long as it says nothing."""
    go = program("go")
    if go is None:
        raise Failed(
            f"{what} is built by Go, which is missing: https://go.dev/dl has it (1.24 or newer)",
            MISSING,
        )
    environ = {
        name: value for name, value in os.environ.items() if name not in {"GOFLAGS", "GOWORK"}
    } | {"CGO_ENABLED": "0"}
    nice = [found] if (found := shutil.which("nice")) else []
    with tempfile.TemporaryFile("w+") as said:
        running = subprocess.Popen(
            [*nice, str(go), *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=environ,
        )
        try:
            out = _wait(running, what)
        finally:
            if running.poll() is None:
                running.terminate()
                running.wait()
        if running.returncode != 0:
            said.seek(0)
            raise Failed(
                f"{what} cannot be had; go says:\n"
                + "\n".join((out + said.read()).splitlines()[-15:])
            )
    return out


def _wait(running: subprocess.Popen[str], what: str) -> str:
    started = time.monotonic()
    while (passed := time.monotonic() - started) < _BUILD_TIMEOUT_S:
        try:
            return running.communicate(timeout=_REPORT_INTERVAL_S)[0]
        except subprocess.TimeoutExpired:
            say(f"{what}: goes on, {passed + _REPORT_INTERVAL_S:.0f} s")
    raise Failed(f"{what} was not there after {_BUILD_TIMEOUT_S} s")
