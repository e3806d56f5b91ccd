"""Where the servers' programs come from: Debian packages, and jars by Maven, kept in the user's cache folder.

Missing Debian packages are installed as root; anybody else is told the one line to run. Jars are downloaded once for all checkouts.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

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
  <groupId>knchat</groupId><artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>{}</dependencies>
</project>
"""
_DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"services: {text}", file=sys.stderr, flush=True)


def java() -> Path:
    """A Java 17."""

    def find() -> Path | None:
        candidates = [*sorted(Path("/usr/lib/jvm").glob(f"java-{_JAVA}-*/bin/java")), _program("java")]
        return next((path for path in candidates if path and _version_of_java(path) == _JAVA), None)

    return _need(find, "openjdk-17-jre-headless")


def postgres() -> Path:
    """The folder with PostgreSQL's programs, the newest that is installed, with pg_trgm."""

    def find() -> Path | None:
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -int(folder.parent.name))
        return next((folder for folder in folders if (folder / "postgres").exists() and (folder / "initdb").exists()), None)

    return _need(find, "postgresql")


def redis() -> Path:
    """The server's program."""
    return _need(lambda: _program("redis-server"), "redis-server")


def jars(name: str, *coordinates: str) -> Path:
    """The folder with these `group:artifact:version` and all they need; downloaded at the first call of this user on this machine.

    Two calls at once: the second waits and finds it done. Failed when the download fails, with Maven's last lines.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kn-chat"
    folder = cache / f"{name}-{coordinates[0].rpartition(':')[2]}"
    if folder.exists():
        return folder
    maven = _need(lambda: _program("mvn"), "maven")
    with locked(cache / "lock"):
        if folder.exists():
            return folder
        say(f"{name}: downloading by Maven (once, about 15 s)")
        with tempfile.TemporaryDirectory(dir=cache, prefix=f".{name}-") as part:
            pom = Path(part) / "pom.xml"
            pom.write_text(_POM.format("".join(_DEPENDENCY.format(*one.split(":")) for one in coordinates)))
            done = subprocess.run(
                [maven, "--batch-mode", "--quiet", "--file", pom, "dependency:copy-dependencies", f"-DoutputDirectory={part}/jars"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                env={**os.environ, "JAVA_HOME": str(java().resolve().parents[1])},
            )
            if done.returncode != 0:
                raise Failed(f"{name} cannot be downloaded; Maven says:\n" + "\n".join(done.stdout.splitlines()[-15:]))
            (Path(part) / "jars").rename(folder)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock among all processes of this machine; it ends with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _need(find: Callable[[], Path | None], package: str) -> Path:
    found = find()
    if found:
        return found
    apt = _program("apt-get")
    if os.geteuid() == 0 and apt:
        say(f"installing {package} with apt-get")
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", package]):
            subprocess.run([apt, *arguments], stdout=sys.stderr, check=False, env=environ)
        found = find()
    if found is None:
        raise Failed(f"{package} is missing; on Debian or Ubuntu: apt-get install {package}", MISSING)
    return found


def _program(name: str) -> Path | None:
    path = shutil.which(name)
    return Path(path) if path else None


def _version_of_java(path: Path) -> int | None:
    """17 for `openjdk version "17.0.15" ...`."""
    try:
        text = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    except OSError:
        return None
    number = text.partition('"')[2].partition(".")[0]
    return int(number) if number.isdigit() else None
