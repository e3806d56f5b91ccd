"""scripts/venv, and what the scripts that source it do: the one thing that every other script
relies on.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path):
    """A copy of the files that a fresh clone has, without an environment."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, tracked):
        if (ROOT / name).exists():
            target = tmp_path / "checkout" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    return tmp_path / "checkout"


def run(script, cwd, **environ):
    return subprocess.run(
        ["/bin/sh", script],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        check=False,
    )


def make_it_fit(checkout):
    made_from = "".join(
        (checkout / name).read_text()
        for name in ("requirements-dev.txt", "clients/python/pyproject.toml")
    )
    checksum = subprocess.run(
        ["cksum"], input=made_from, capture_output=True, text=True, check=True
    ).stdout
    (checkout / ".venv" / "made-from").write_text(f"{checksum.strip()} {checkout}\n")


def test_an_environment_that_fits_the_lock_is_left_alone(checkout):
    """Every script asks at each start: it must cost nothing and say nothing."""
    (checkout / ".venv").mkdir()
    make_it_fit(checkout)
    done = run("scripts/venv", checkout)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_command_is_found_through_a_link(checkout, tmp_path):
    """As a plugin of kn it is a link somewhere on PATH, and runs the checkout that it leads to."""
    (checkout / ".venv/bin").mkdir(parents=True)
    make_it_fit(checkout)
    command = checkout / ".venv/bin/kn-chat"
    command.write_text('#!/bin/sh\necho "$0" "$@"\n')
    command.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/kn-chat").symlink_to(checkout / "scripts/kn-chat")
    done = subprocess.run(
        [tmp_path / "bin/kn-chat", "doctor"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{command} doctor\n", "")


def test_without_python_it_says_what_to_install(checkout, tmp_path):
    """One line, and the exit code of a missing system package.

    There is no apt-get on this path, so nothing is installed.
    """
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("cat", "cksum", "dirname", "id", "mkdir", "flock"):
        (tools / tool).symlink_to(shutil.which(tool))
    done = run("scripts/venv", checkout, PATH=str(tools), PYTHON="no-python")

    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert "apt-get install python3 python3-venv" in line


def shorten_lock(path, *names):
    """To these packages, with their versions and hashes."""
    packages = re.findall(r"^\S+==(?:.*\\\n)*.*\n", path.read_text(), re.MULTILINE)
    kept = [package for package in packages if package.partition("==")[0] in names]
    assert len(kept) == len(names)
    path.write_text("".join(kept))


@pytest.mark.slow  # ten seconds
def test_two_scripts_at_once_make_one_environment_that_works(checkout):
    """A fresh clone: both wait for the same environment, and `kn-chat` runs in it.

    What is said goes to stderr. The whole lock is what these tests themselves run on: here are what
    makes the editable install, and some with and without code in C.
    """
    build = ("hatchling", "editables", "packaging", "pathspec", "pluggy", "trove-classifiers")
    shorten_lock(
        checkout / "requirements-dev.txt",
        *build,
        "click",
        "msgspec",
        "uvloop",
        "starlette",
        "pyjwt",
    )
    first, second = (
        subprocess.Popen(
            ["scripts/kn-chat", "--version"],
            cwd=checkout,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )
    (out, err), (other_out, other_err) = (
        first.communicate(timeout=300),
        second.communicate(timeout=300),
    )

    assert out.startswith("kn-chat ")
    assert out == other_out
    assert (err + other_err).count("making .venv") == 1
    assert run("scripts/venv", checkout).stderr == ""
