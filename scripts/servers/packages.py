"""Where the servers' programs come from: Debian packages, and jars by Maven, kept in the user's
cache folder.

Missing Debian packages are installed as root; other users get the one line to run. Jars are
downloaded once for all checkouts.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from servers.place import Failed

Lock = AbstractContextManager[None]
"""Held inside `with`."""

MISSING = 3
"""The exit code for a system package that is missing, as everywhere in scripts/."""

# Cassandra 5.0 runs on Java 11 and 17, Kafka 4 on 17 and newer.
_JAVA = 17

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>knchat</groupId><artifactId>jars</artifactId><version>1</version>
  <packaging>pom</packaging>
  <dependencies>{}</dependencies>
</project>
"""
_DEPENDENCY = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"kn-chat: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Package:
    """One Debian package, and how to see that what we want of it is here, from wherever it came."""

    name: str
    find: Callable[[], Path | None]

    def path(self) -> Path:
        """What `find` found; Failed when it is missing."""
        found = self.find()
        if found is None:
            raise _missing([self])
        return found


def _find_java() -> Path | None:
    candidates = [*sorted(Path("/usr/lib/jvm").glob(f"java-{_JAVA}-*/bin/java")), program("java")]
    return next((path for path in candidates if path and _version_of_java(path) == _JAVA), None)


def _find_postgres() -> Path | None:
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -int(folder.parent.name)
    )
    return next(
        (
            folder
            for folder in folders
            if (folder / "postgres").exists() and (folder / "initdb").exists()
        ),
        None,
    )


JAVA: Final = Package(f"openjdk-{_JAVA}-jre-headless", _find_java)
"""The program."""
MAVEN: Final = Package("maven", lambda: program("mvn"))
"""The program; needed until the jars are downloaded."""
POSTGRES: Final = Package("postgresql", _find_postgres)
"""The folder with its programs, of the newest version that is installed.

The package brings the extension pg_trgm too.
"""
ETCD: Final = Package("etcd-server", lambda: program("etcd"))
"""The program. Needed by `scripts/cluster` only."""
REDIS: Final = Package("redis-server", lambda: program("redis-server"))
"""The server's program."""
COMPILER: Final = Package("gcc", lambda: program("cc"))
"""The C compiler. Needed by the tests that set a program's clock."""
C_HEADERS: Final = Package("libc6-dev", lambda: _file("/usr/include/stdlib.h"))
"""What it needs besides."""
SETPRIV: Final = Package("util-linux", lambda: program("setpriv"))
"""A program that becomes another user and then the program that it was asked to run; always there,
but for very small images.
"""


def install(packages: Iterable[Package]) -> None:
    """Installs those that are missing, as root; Failed with the one line to run when that cannot be
    done.
    """
    wanted = list(dict.fromkeys(packages))
    if all(package.find() for package in wanted):
        return
    with locked(cache() / "apt.lock"):  # two at once would refuse each other
        missing = [package for package in wanted if not package.find()]
        apt = program("apt-get")
        if missing and apt and os.geteuid() == 0:
            say(f"installing {' '.join(package.name for package in missing)} with apt-get")
            environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            names = [package.name for package in missing]
            for arguments in (
                ["update", "-qq"],
                [
                    "install",
                    "-qq",
                    "-y",
                    "--no-install-recommends",
                    "-o",
                    "DPkg::Lock::Timeout=120",
                    *names,
                ],
            ):
                subprocess.run(
                    [apt, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=sys.stderr,
                    check=False,
                    env=environ,
                )
        missing = [package for package in missing if not package.find()]
    if missing:
        raise _missing(missing)


def _missing(packages: Sequence[Package]) -> Failed:
    names = " ".join(package.name for package in packages)
    return Failed(
        f"{names} {'is' if len(packages) == 1 else 'are'} missing; on Debian or Ubuntu: apt-get "
        f"install {names}",
        MISSING,
    )


@dataclass(frozen=True, slots=True)
class Jars:
    """A program of the JVM and all that it needs, by Maven."""

    name: str
    coordinates: tuple[str, ...]
    """`group:artifact:version`; the first gives the folder its version."""

    @property
    def folder(self) -> Path:
        """Where they lie, for all checkouts of this user."""
        return cache() / f"{self.name}-{self.coordinates[0].rpartition(':')[2]}"

    @property
    def packages(self) -> tuple[Package, ...]:
        """What is needed to run them, and to have them."""
        return (JAVA,) if self.folder.exists() else (JAVA, MAVEN)

    def path(self) -> Path:
        """The folder; downloaded at the first call.

        Two calls at once: the second waits and finds it done. Failed when the download fails, with
        Maven's last lines.
        """
        if self.folder.exists():
            return self.folder
        # For all: its own repository does not bear two at once.
        with locked(cache() / "maven.lock"):
            if not self.folder.exists():
                say(f"{self.name}: downloading by Maven (once, about 15 s)")
                self._download()
        return self.folder

    def _download(self) -> None:
        with tempfile.TemporaryDirectory(dir=cache(), prefix=f".{self.name}-") as part:
            pom = Path(part) / "pom.xml"
            pom.write_text(
                _POM.format(
                    "".join(_DEPENDENCY.format(*one.split(":")) for one in self.coordinates)
                )
            )
            arguments = ["--batch-mode", "--quiet", "--strict-checksums", "--file", str(pom)]
            done = subprocess.run(
                [
                    MAVEN.path(),
                    *arguments,
                    "dependency:copy-dependencies",
                    f"-DoutputDirectory={part}/jars",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                env={**os.environ, "JAVA_HOME": str(JAVA.path().resolve().parents[1])},
            )
            if done.returncode != 0:
                raise Failed(
                    f"{self.name} cannot be downloaded; Maven says:\n"
                    + "\n".join(done.stdout.splitlines()[-15:])
                )
            (Path(part) / "jars").rename(self.folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock among all processes of this machine; it ends with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cache() -> Path:
    """What all checkouts of this user share."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kn-chat"


def program(name: str) -> Path | None:
    """A program on PATH."""
    path = shutil.which(name)
    return Path(path) if path else None


def _file(path: str) -> Path | None:
    return Path(path) if Path(path).exists() else None


@functools.cache
def _version_of_java(path: Path) -> int | None:
    """17 for `openjdk version "17.0.15" ...`."""
    try:
        text = subprocess.run(
            [path, "-version"], capture_output=True, text=True, check=False
        ).stderr
    except OSError:
        return None
    number = text.partition('"')[2].partition(".")[0]
    return int(number) if number.isdigit() else None
