"""A Dockerfile carried out without a container engine: its own RUN, COPY, ENV, WORKDIR, USER and CMD, in roots made by chroot.

Needs root and `unshare`. The base image is played by this machine's libraries and a copy of its Python at /usr/local; it proves the lines
of the Dockerfile and what they install, not the base image.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Stage:
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)


def instructions(path):
    """Word and rest of each instruction, continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
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
