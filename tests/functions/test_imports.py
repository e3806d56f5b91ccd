"""What each event function imports until its first 200: a cold start is made of imports (design.md
D21), so the sets are pinned here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "backends", "functions", "gateway", "scripts/knchat")

FRAMEWORK = {
    "anyio",
    "blinker",
    "click",
    "cloudevents",
    "deprecation",
    "flask",
    "functions_framework",
    "google",
    "itsdangerous",
    "jinja2",
    "markupsafe",
    "msgspec",
    "packaging",
    "starlette",
    "typing_extensions",
    "werkzeug",
}
"""functions-framework with what it brings, and our own codecs."""
THIRD_PARTY = {
    "report_failed": FRAMEWORK,
    "send": FRAMEWORK | {"sqlalchemy"},
    "persist": FRAMEWORK | {"sqlalchemy"},
    "index": FRAMEWORK | {"sqlalchemy"},
    "history": FRAMEWORK | {"sqlalchemy"},
    "resize": FRAMEWORK | {"sqlalchemy"},
}
BROUGHT = {"a1_coverage", "coverage", "cython_runtime", "sitecustomize"}
"""What compiled modules, the coverage tool and the system's Python put there themselves."""
# Those that are heavy, or belong to another function.
OURS_NEVER = {
    "backends.dispatcher",
    "backends.sql.migrations.env",
    "functions.domain.passwords",
    "functions.endpoints",
    "functions.runtime.router",
    "gateway",
    "schemas.endpoints",
    "schemas.tokens",
}
DIALECT_NEVER = "sqlalchemy.dialects.postgresql"
"""Of a process on SQLite."""

PROGRAM = """
import asyncio, pathlib, sys
from backends.settings import Settings
from backends.wiring import Backends
from functions.runtime.context import use_backends
from functions.runtime.asgi import event_app

target, data, samples = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])

async def main():
    stores = Backends(Settings(data=data))
    use_backends(stores)
    lines = (samples / f"{target}.headers").read_text().splitlines()
    headers = [tuple(part.encode() for part in line.split(": ", 1)) for line in lines]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    scope |= {"query_string": b"", "root_path": ""}
    answer = []

    async def receive():
        return {"type": "http.request", "body": (samples / f"{target}.bin").read_bytes()}

    async def send(message):
        answer.append(message)

    await event_app(target)(scope, receive, send)
    assert answer[0]["status"] == 200, answer
    print(*sorted(sys.modules), sep="\\n")
    await stores.close()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder that is migrated already, as a production database is."""
    folder = tmp_path_factory.mktemp("data")
    for target in ("send", "persist"):
        modules_of(target, folder)
    return folder


def modules_of(target, folder):
    command = [sys.executable, "-c", PROGRAM, target, folder, ROOT / "functions" / "samples"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("target", THIRD_PARTY)
def test_a_function_imports_what_it_needs_and_nothing_else(target, data):
    """From exec to the 200 of the sample event no other package is loaded, and no module of another
    function.
    """
    modules = modules_of(target, data)
    tops = (
        {name.partition(".")[0] for name in modules}
        - set(sys.stdlib_module_names)
        - {"backends", "functions", "schemas"}
        - BROUGHT
    )

    assert {name for name in tops if not name.startswith("_")} == THIRD_PARTY[target]
    assert not modules & {*OURS_NEVER, DIALECT_NEVER}
    assert modules & {f"functions.events.{other}" for other in THIRD_PARTY} == {
        f"functions.events.{target}"
    }


@pytest.mark.parametrize("room", ROOMS)
def test_no_file_is_called_like_a_standard_module(room):
    """functions-framework runs a source under its bare name: a `profile.py` would stand in for the
    standard library's.
    """
    names = {name for path in (ROOT / room).rglob("*.py") for name in (path.stem, path.parent.name)}

    assert not names & set(sys.stdlib_module_names)
