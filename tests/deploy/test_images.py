"""The images: their Dockerfile and locks by rule, and, slowly, both built and run as their own
lines say (`dockerfile.py`).
"""

import ast
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx
import pytest

from functions.triggers import TRIGGERS, OnEvents
from tests.deploy.cluster import unless_had
from tests.deploy.dockerfile import Engine, instructions, may_make_roots, stages
from tests.support.servers import free_port

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "knative" / "Dockerfile"
SAMPLES = ROOT / "functions" / "samples"
EXTRAS = {
    "functions": {
        "functions",
        "kafka",
        "cassandra",
        "postgres",
        "redis",
        "opensearch",
        "s3",
        "otlp",
    },
    "gateway": {"gateway", "kafka", "knative", "postgres", "redis", "otlp"},
}
WITHOUT = {
    "functions": [],
    "gateway": [
        "backends.chats.cassandra",
        "backends.chats.cassandra_nodes",
        "backends.files.s3",
    ],
}


def pins(path):
    """Name -> version and hashes of a lock."""
    entries = re.findall(
        r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)((?:.*\\\n)+.*)", path.read_text(), re.MULTILINE
    )
    return {
        name: (version, frozenset(re.findall(r"sha256:[0-9a-f]{64}", rest)))
        for name, version, rest in entries
    }


def test_hadolint_has_nothing_to_say():
    """With all its rules."""
    hadolint = Path(sys.executable).parent / "hadolint"
    told = subprocess.run(
        [hadolint, DOCKERFILE], capture_output=True, text=True, timeout=30, check=False
    )

    assert (told.returncode, told.stdout) == (0, "")


@pytest.mark.parametrize("image", EXTRAS)
def test_an_image_is_locked_to_what_was_tested(image):
    """The versions and hashes of requirements.txt, and all that the image's extras name."""
    locked, all_of_them = (
        pins(ROOT / "knative" / f"requirements-{image}.txt"),
        pins(ROOT / "requirements.txt"),
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(need for extra in EXTRAS[image] for need in project["optional-dependencies"][extra]),
    ]

    assert {name: pin for name, pin in locked.items() if all_of_them.get(name) != pin} == {}
    assert {re.match(r"[a-z0-9-]+", need)[0] for need in wanted} - locked.keys() == set()
    assert all(hashes for _, hashes in locked.values())


def test_what_builds_images_is_locked_with_hashes():
    """hatchling and the maker of the SBOM."""
    locked = pins(ROOT / "knative" / "requirements-build.txt")

    assert {"hatchling", "cyclonedx-bom"} <= locked.keys()
    assert all(hashes for _, hashes in locked.values())


@pytest.mark.parametrize("image", EXTRAS)
def test_an_image_runs_without_root_and_names_its_version(image):
    """A pinned base, a numeric user, no shell form, labels with the version of the project, and
    only what was built is copied in.
    """
    found = stages(DOCKERFILE)
    chain, name = [], image
    while name in found:
        chain = [*found[name].instructions, *chain]
        name = found[name].base
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    labels = " ".join(text for word, text in chain if word == "LABEL")

    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", name)
    assert [text for word, text in chain if word == "USER"] == ["65532:65532"]
    assert [text[0] for word, text in chain if word == "CMD"] == ["["]
    assert f'org.opencontainers.image.version="{version}"' in labels
    assert all(
        text.startswith(f"--from=installed-{image} ") for word, text in chain if word == "COPY"
    )


def test_continued_lines_and_comments_are_read_as_an_engine_does(tmp_path):
    """One instruction, without the comment in its middle."""
    path = tmp_path / "Dockerfile"
    path.write_text("# a\nFROM x AS y\nRUN one \\\n# no part\n    && two\n")

    assert instructions(path) == [("FROM", "x AS y"), ("RUN", "one     && two")]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """Builds each image once."""
    unless_had(may_make_roots)
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PIP_") or name.lower().endswith("_proxy")
    }
    folder = tmp_path_factory.mktemp("images")
    # Pytest's folders are for their owner only, and a container's user is another.
    for above in (
        folder,
        *folder.parents[:3],
    ):
        above.chmod(above.stat().st_mode | 0o011)
    yield Engine(DOCKERFILE, ROOT, folder, passed)
    shutil.rmtree(folder)


@contextlib.contextmanager
def running(image, port, **environ):
    """A container's process that answers /livez; the end must be clean."""
    given = {"KNCHAT_DATA": "/tmp/data", **environ}  # noqa: S108 - the image's
    process = image.start(given, stdout=subprocess.DEVNULL)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    try:
        while True:
            assert process.poll() is None, f"ended with {process.returncode}"
            assert time.monotonic() < deadline, "does not answer"
            with contextlib.suppress(httpx.TransportError):
                assert httpx.get(f"{url}/livez").status_code == 200
                break
            time.sleep(0.05)
        assert "\nUid:\t65532\t" in Path(f"/proc/{process.pid}/status").read_text()
        yield url
    finally:
        process.terminate()
        assert process.wait(30) in {0, -15}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_function_answers_from_the_image(engine):
    """Sample events get 200, HTTP calls their answers, /metrics its text; as another user, with
    nothing but /tmp to write to.
    """
    image = engine.build("functions")
    for target in dict.fromkeys(
        trigger.target for trigger in TRIGGERS if isinstance(trigger, OnEvents)
    ):
        port = free_port()
        headers = dict(
            line.split(": ", 1)
            for line in (SAMPLES / f"{target}.headers").read_text().splitlines()
            if line
        )
        with running(image, port, PORT=str(port), FUNCTION_TARGET=target) as url:
            answer = httpx.post(
                url, content=(SAMPLES / f"{target}.bin").read_bytes(), headers=headers, timeout=20
            )
            assert (target, answer.status_code) == (target, 200)
            assert "process_cpu_seconds_total" in httpx.get(f"{url}/metrics", timeout=20).text
    for target, call, expected in (
        ("accounts", "/v1/sessions", 401),
        ("chats", "/v1/chats", 401),
        ("files", "/v1/files", 401),
    ):
        port = free_port()
        with running(image, port, PORT=str(port), FUNCTION_TARGET=target) as url:
            body = {"user_name": "unregistered", "password": "not-the-password", "device": "phone"}
            answer = (
                httpx.post(url + call, json=body, timeout=20)
                if target == "accounts"
                else httpx.get(url + call, timeout=20)
            )
            assert (target, answer.status_code) == (target, expected)
    looks(image)
    assert not_loaded(image) == WITHOUT["functions"]
    assert (
        image.run(["test", "-f", image.environ["FUNCTION_SOURCE"]], user="65532:65532", environ={})
        == ""
    )
    assert "migrate" in image.run(["kn-chat", "migrate", "--help"], user="65532:65532", environ={})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_gateway_answers_from_the_image(engine):
    """/livez, as another user, and from outside of the container."""
    image, port = engine.build("gateway"), free_port()
    with running(image, port, KNCHAT_GATEWAY_PORT=str(port)) as url:
        assert httpx.get(f"{url}/livez").status_code == 200
    looks(image)
    assert image.environ["KNCHAT_HOST"] == "0.0.0.0"
    assert not_loaded(image) == WITHOUT["gateway"]


def not_loaded(image):
    """The adapters of wiring.py whose packages are not in the image; PostgreSQL's driver and the
    exporter of traces must be in both.
    """
    wiring = ast.walk(ast.parse((ROOT / "backends" / "wiring.py").read_text()))
    inside = [
        part
        for function in wiring
        if isinstance(function, ast.FunctionDef)
        for part in ast.walk(function)
    ]
    adapters = sorted({part.module for part in inside if isinstance(part, ast.ImportFrom)})
    program = f"""
import importlib
from backends.sql import postgresql
from backends.telemetry import tracing
tracing.set_up("http://127.0.0.1:9", ratio=0.0, service="test")
for name in {adapters}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        print(name)
"""
    return image.run(["python", "-c", program], user=image.user, environ={}).split()


def looks(image):
    """The SBOM names what is installed, .pyc files are there, only /tmp is written, and builders
    left nothing.
    """
    sbom = json.loads((image.root / "usr/share/doc/kn-chat/sbom.json").read_text())
    installed = {
        path.name.split("-")[0].replace("_", "-").lower()
        for path in image.root.glob("opt/kn-chat/lib/*/site-packages/*.dist-info")
    }
    named = {
        part["name"].replace("_", "-").replace(".", "-").lower()
        for part in [*sbom["components"], sbom["metadata"]["component"]]
    }

    assert sbom["bomFormat"] == "CycloneDX"
    assert installed - named == set()
    for place in ("opt/kn-chat/lib/*/site-packages/schemas", "usr/local/lib/python3*/asyncio"):
        compiled = list(image.root.glob(f"{place}/__pycache__/*.pyc"))
        assert {path.read_bytes()[4] for path in compiled} == {1}, (
            "not there, or void when times of files change"
        )
    assert (
        image.start(
            {}, ["sh", "-c", "touch /tmp/a; ! touch /opt/kn-chat/a 2>/dev/null && test -f /tmp/a"]
        ).wait(30)
        == 0
    )
    assert not (image.root / "opt/build").exists()
    assert not (image.root / "src").exists()
