"""What people install: the two wheels, and that each works in an environment that holds it and what
it asks for, and nothing else.
"""

import ast
import contextlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLIENT = tomllib.loads((ROOT / "clients" / "python" / "pyproject.toml").read_text())["project"]
SHIPPED = ("schemas", "backends", "functions", "gateway", "knchat")
NOT_OF_THE_GATEWAY = {
    "flask",
    "functions-framework",
    "gunicorn",
    "werkzeug",
    "starlette",
    "uvicorn",
    "pydantic",
}
TIMEOUT_S = 60


def files_of(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def names_of(requirements):
    return {re.match(r"[a-z0-9-]+", text)[0] for text in requirements}


def test_the_gateway_is_installed_without_a_web_framework():
    """Neither its image nor the extra names one, nor does anything that they bring."""
    locked = set(
        re.findall(
            r"^([a-z0-9-]+)==",
            (ROOT / "knative" / "requirements-gateway.txt").read_text(),
            re.MULTILINE,
        )
    )

    assert locked & NOT_OF_THE_GATEWAY == set()
    assert (
        names_of([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["gateway"]]) <= locked
    )


def test_both_distributions_have_one_version():
    """`dev` asks for the client of its own version, and the client for nothing of ours."""
    assert CLIENT["version"] == PROJECT["version"]
    assert f"kn-chat-client=={CLIENT['version']}" in PROJECT["optional-dependencies"]["dev"]
    assert names_of(CLIENT["dependencies"]) == {"httpx", "msgspec", "websockets"}


def test_what_is_shipped_starts_nothing_that_is_not():
    """`python -m MODULE` names a module of ours that is in the wheel, or one
    that an extra brings.
    """
    started = {
        part.elts[at + 1].value
        for path in files_of(*SHIPPED[:-1], "scripts/knchat")
        for part in ast.walk(ast.parse(path.read_text()))
        if isinstance(part, ast.List)
        for at, item in enumerate(part.elts[:-1])
        if isinstance(item, ast.Constant)
        and item.value == "-m"
        and isinstance(part.elts[at + 1], ast.Constant)
    }

    assert started
    assert {
        name for name in started if name.partition(".")[0] not in {*SHIPPED, "uvicorn"}
    } == set()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Both, built as a release builds them."""
    folder = tmp_path_factory.mktemp("wheels")
    for project in (ROOT, ROOT / "clients" / "python"):
        subprocess.run(
            [Path(sys.executable).parent / "hatchling", "build", "-t", "wheel", "-d", folder],
            cwd=project,
            check=True,
        )
    return folder


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Constraints: the versions that were tested."""
    path = tmp_path_factory.mktemp("constraints") / "versions.txt"
    lines = re.findall(
        r"^[a-z0-9._-]+(?:\[[^]]*\])?==\S+(?: ;[^\\\n]*)?",
        (ROOT / "requirements.txt").read_text(),
        re.MULTILINE,
    )
    path.write_text("\n".join(re.sub(r"\[[^]]*\]", "", line) for line in lines))
    return path


class Environment:
    """An environment of its own, with one thing installed in it by pip."""

    def __init__(self, folder, what, wheels, versions):
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self._pip(
            "install",
            "--quiet",
            "--no-compile",
            "--find-links",
            wheels,
            "--constraint",
            versions,
            what,
        )

    def packages(self):
        """Name -> version, as `pip list` has them."""
        return dict(
            line.lower().split("==")
            for line in self._pip("list", "--format", "freeze").splitlines()
        )

    def popen(self, command, *words, **options):
        own = {
            "PATH": os.environ["PATH"],
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
        }
        program = self.folder / "venv" / "bin" / command
        return subprocess.Popen(
            [program, *words],
            cwd=self.folder,
            env=own,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, command, *words):
        """What it printed; it must end well."""
        with self.popen(command, *words, stderr=subprocess.PIPE) as process:
            out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, err
        return out

    def _pip(self, *words):
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            self.folder / "venv" / "bin" / "python",
            "--disable-pip-version-check",
        ]
        return subprocess.run(
            [*pip, *words], capture_output=True, text=True, check=True, timeout=300
        ).stdout


@pytest.fixture(scope="module")
def make(tmp_path_factory, wheels, versions):
    return lambda what: Environment(tmp_path_factory.mktemp("environment"), what, wheels, versions)


@pytest.fixture(scope="module")
def dev(make):
    """`kn-chat[dev]`, and the server that it starts: (environment, URL)."""
    environment = make("kn-chat[dev]")
    with environment.popen(
        "kn-chat", "dev", "--memory", "--http-port", "0", "--gateway-port", "0"
    ) as server:
        try:
            word, url, _ = server.stdout.readline().split()
            assert word == "ready"
            yield environment, url
        finally:
            server.terminate()
            assert server.wait(TIMEOUT_S) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_conversation_with_nothing_but_the_dev_extra(dev):
    """A server, two people who log in, a message from one to the other."""
    environment, url = dev
    for name in ("alice", "bob"):
        environment.run(
            "kn-chat", "login", name, "--password", f"{name}-demo-password", "--http", url
        )
    message, _ = environment.run("kn-chat", "send", "bob", "Hello, Bob", "--user", "alice").split()

    assert f"{message}  alice: Hello, Bob" in environment.run(
        "kn-chat", "history", "alice", "--user", "bob"
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_clients_example_with_nothing_but_the_client(dev, make):
    """The one of its README, as it stands there but for the address."""
    _, url = dev
    environment = make("kn-chat-client")
    (example,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "clients" / "python" / "README.md").read_text(), re.DOTALL
    )
    (environment.folder / "example.py").write_text(example.replace("http://127.0.0.1:8080", url))

    assert "text='Hello, Bob'" in environment.run("python", "example.py")
    assert (
        environment.packages().keys() & {"kn-chat", "protobuf", "sqlalchemy", *NOT_OF_THE_GATEWAY}
        == set()
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_help_needs_no_extra(make):
    """The base is what every part needs, and the list of all subcommands works with it alone."""
    environment = make("kn-chat")

    assert names_of(PROJECT["dependencies"]) <= environment.packages().keys()
    assert (
        environment.packages().keys()
        & {"sqlalchemy", "httpx", "kn-chat-client", *NOT_OF_THE_GATEWAY}
        == set()
    )
    assert "kn-chat dev" in environment.run("kn-chat", "--help")
    for words, needed in (
        (["dev", "--memory"], "kn-chat[dev]"),
        (["login", "alice", "--password", "x"], "kn-chat-client"),
    ):
        with environment.popen("kn-chat", *words, stderr=subprocess.PIPE) as process:
            _, err = process.communicate(timeout=TIMEOUT_S)
        (line,) = err.splitlines()
        assert (process.returncode != 0, needed in line) == (True, True)


@pytest.mark.slow
def test_the_wheels_hold_the_product_and_nothing_else(wheels):
    """No tests, no tools; the client's has no file of the server's."""
    held = {}
    for path in wheels.glob("*.whl"):
        with contextlib.closing(zipfile.ZipFile(path)) as wheel:
            held[path.name.partition("-")[0]] = {
                name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" not in name
            }

    assert held == {"kn_chat": set(SHIPPED), "kn_chat_client": {"knchat_client"}}
