"""A Dockerfile carried out without a container engine: its own RUN, COPY, ENV, WORKDIR, USER and
CMD, in roots made by chroot.

Needs root and `unshare`. This machine's libraries and a copy of its Python at /usr/local stand in
for the base image; it proves the lines of the Dockerfile and what they install, not the base image.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

from servers.packages import MISSING
from servers.place import Failed


@dataclass
class Stage:
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)


def instructions(path):
    """Word and rest of each instruction, continued lines joined."""
    lines = [
        line
        for line in path.read_text().splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    joined = "\n".join(lines).replace("\\\n", "")
    return [tuple(line.split(None, 1)) for line in joined.splitlines()]


def stages(path):
    """Name -> stage, in order."""
    found = {}
    for word, rest in instructions(path):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = stage = Stage(base)
        else:
            stage.instructions.append((word, rest))
    return found


def may_make_roots():
    """Raises Failed where this user or this machine cannot; many containers may not mount."""
    if (
        os.geteuid()
        or subprocess.run(
            ["unshare", "--mount", "mount", "--bind", "/tmp", "/tmp"],  # noqa: S108
            check=False,
        ).returncode
    ):
        raise Failed(
            "images are built in roots of their own, for which one must be root and be allowed to "
            "mount",
            MISSING,
        )


class Engine:
    """Carries out stages below a folder.

    `environ`: what builds need beside the Dockerfile's own, such as where packages come from.
    """

    def __init__(self, path, context, folder, environ):
        self.stages, self.context, self.folder, self.environ = (
            stages(path),
            context,
            folder,
            environ,
        )
        self.built = {}

    def build(self, name):
        """The image of a stage, once; of the stages that it needs before."""
        if name in self.built:
            return self.built[name]
        stage, root = self.stages[name], self.folder / name
        if stage.base in self.stages:
            image = self.build(stage.base).copied(root)
        else:
            image = Image(root, {"PATH": "/usr/local/bin:/usr/bin:/bin"})
            _copy_python(root)
        for word, rest in stage.instructions:
            match word:
                case "ENV":
                    image.environ |= dict(pair.split("=", 1) for pair in shlex.split(rest))
                case "WORKDIR":
                    image.folder = rest
                    (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
                case "USER":
                    image.user = rest
                case "CMD":
                    image.command = json.loads(rest)
                case "COPY":
                    self._copy(image, rest)
                case "RUN":
                    image.run(
                        ["sh", "-c", rest],
                        user="0:0" if not image.user else image.user,
                        environ=self.environ,
                    )
                case "LABEL" | "EXPOSE":
                    pass
                case _:
                    raise AssertionError(f"{word} is not known here")
        self.built[name] = image
        return image

    def _copy(self, image, rest):
        *sources, target = rest.split()
        root = self.context
        if sources[0].startswith("--from="):
            root = self.build(sources.pop(0).removeprefix("--from=")).root
        else:
            allowed = [
                line[1:]
                for line in (self.context / ".dockerignore").read_text().splitlines()
                if line.startswith("!")
            ]
            for source in sources:
                assert any(fnmatch(source, pattern) for pattern in allowed), (
                    f".dockerignore keeps {source} away"
                )
        for source in sources:
            found = root / source.lstrip("/")
            place = image.root / (
                target if target.startswith("/") else f"{image.folder}/{target}"
            ).lstrip("/")
            if found.is_dir():
                shutil.copytree(
                    found,
                    place,
                    symlinks=True,
                    dirs_exist_ok=True,
                    ignore=None if root != self.context else _CACHES,
                )
            else:
                place = place / found.name if target.endswith("/") else place
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, place)


_CACHES = shutil.ignore_patterns("__pycache__")
# The base image's system, by this machine's: read only. /usr/local, /opt and /tmp are the image's
# own.
_SYSTEM = (
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/sbin",
    "/usr/share/zoneinfo",
    "/usr/share/ca-certificates",
    "/usr/share/python-wheels",  # where Debian's ensurepip finds pip
    "/etc/ssl",
    "/dev",
    "/proc",
)
_ENTER = """
root=$1 user=$2 folder=$3 writable=$4
shift 4
if [ "$writable" = no ]; then
    mount --bind "$root" "$root" && mount -o remount,bind,ro "$root" &&
        mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
fi
for place in $PLACES; do
    mount --bind "$place" "$root$place" || exit
    [ "$place" = /dev ] || mount -o remount,bind,ro "$root$place" || exit
done
unset PLACES
exec /usr/sbin/chroot --userspec="$user" "$root" /usr/bin/env -C "$folder" "$@"
"""


@dataclass
class Image:
    root: Path
    environ: dict[str, str]
    folder: str = "/"
    user: str = ""
    command: list[str] = field(default_factory=list)

    def copied(self, root):
        """The image that another stage goes on from."""
        subprocess.run(["cp", "-a", "--reflink=auto", self.root, root], check=True)
        return replace(self, root=root, environ=dict(self.environ))

    def run(self, command, *, user, environ):
        """A step of the build: ends well or fails, with what it said."""
        done = subprocess.run(
            self._entered(command, user, "yes"),
            env=self._environ(environ),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, (
            f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )
        return done.stdout

    def start(self, environ, command=None, **options):
        """The image's CMD, or another command, as its user; nothing but /tmp can be written, which
        is empty.
        """
        return subprocess.Popen(
            self._entered(command or self.command, self.user, "no"),
            env=self._environ(environ),
            **options,
        )

    def _entered(self, command, user, writable):
        return [
            "unshare",
            "--mount",
            "sh",
            "-c",
            _ENTER,
            "sh",
            self.root,
            user,
            self.folder,
            writable,
            *command,
        ]

    def _environ(self, environ):
        places = " ".join(place for place in _SYSTEM + _SOURCES if Path(place).exists())
        return {**self.environ, **environ, "PLACES": places}


# Where this machine's pip finds packages, if that is a folder.
_SOURCES = tuple(
    place for place in os.environ.get("PIP_FIND_LINKS", "").split() if place.startswith("/")
)


def _copy_python(root):
    """A root with this machine's system and a copy of its Python, without .pyc files as the
    official image.
    """
    made = ("/tmp", "/etc", "/usr/local/bin", "/usr/local/lib", "/opt")  # noqa: S108 - the image's
    for place in (*_SYSTEM, *_SOURCES, *made):
        (root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    for name in (
        "passwd",
        "group",
        "resolv.conf",
        "hosts",
        "nsswitch.conf",
        "pip.conf",
        "os-release",
    ):
        if Path("/etc", name).exists():
            shutil.copy2(Path("/etc", name), root / "etc" / name)
    (root / "etc" / "ld.so.conf").write_text(
        "/usr/local/lib\n" + "".join(f"{path}\n" for path in Path("/usr/lib").glob("*-linux-gnu"))
    )
    base, version = Path(sys.base_prefix), "python{}.{}".format(*sys.version_info)
    shutil.copy2(base / "bin" / version, root / "usr/local/bin" / version)
    for name in ("python", "python3"):
        (root / "usr/local/bin" / name).symlink_to(version)
    for library in base.glob("lib/libpython*.so*"):
        shutil.copy2(library, root / "usr/local/lib", follow_symlinks=False)
    without = shutil.ignore_patterns(
        "__pycache__", "test", "tests", "site-packages", "dist-packages", "config-*"
    )
    shutil.copytree(base / "lib" / version, root / "usr/local/lib" / version, ignore=without)
    if version != "python3.11":  # the Dockerfile's
        (root / "usr/local/lib/python3.11").symlink_to(version)
    Image(root, {"PATH": "/usr/sbin:/usr/bin"}).run(["ldconfig"], user="0:0", environ={})
