"""The images: their Dockerfile and locks by rule, and, slowly, both built and run as their own lines say (`dockerfile.py`)."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.dockerfile import instructions, stages

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "knative" / "Dockerfile"
EXTRAS = {
    "functions": {"functions", "kafka", "cassandra", "postgres", "redis", "otlp"},
    "gateway": {"gateway", "kafka", "knative", "postgres", "redis", "otlp"},
}


def pins(path):
    """Name -> version and hashes of a lock."""
    entries = re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)((?:.*\\\n)+.*)", path.read_text(), re.MULTILINE)
    return {name: (version, frozenset(re.findall(r"sha256:[0-9a-f]{64}", rest))) for name, version, rest in entries}


def test_hadolint_has_nothing_to_say():
    """With all its rules."""
    hadolint = Path(sys.executable).parent / "hadolint"
    told = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, timeout=30, check=False)

    assert (told.returncode, told.stdout) == (0, "")


@pytest.mark.parametrize("image", EXTRAS)
def test_an_image_is_locked_to_what_was_tested(image):
    """The versions and hashes of requirements.txt, and all that the image's extras name."""
    locked, all_of_them = pins(ROOT / "knative" / f"requirements-{image}.txt"), pins(ROOT / "requirements.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(need for extra in EXTRAS[image] for need in project["optional-dependencies"][extra])]

    assert {name: pin for name, pin in locked.items() if all_of_them.get(name) != pin} == {}
    assert {re.match(r"[a-z0-9-]+", need)[0] for need in wanted} - locked.keys() == set()
    assert all(hashes for _, hashes in locked.values())


def test_what_builds_images_is_locked_with_hashes():
    """hatchling and the maker of the SBOM."""
    locked = pins(ROOT / "knative" / "requirements-build.txt")

    assert {"hatchling", "cyclonedx-bom"} <= locked.keys()
    assert all(hashes for _, hashes in locked.values())


@pytest.mark.parametrize("image", EXTRAS)
def test_an_image_runs_as_nobody_of_a_fixed_version(image):
    """A pinned base, a numeric user, no shell form, labels with the version of the project, and only what was built is copied in."""
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
    assert all(text.startswith(f"--from=installed-{image} ") for word, text in chain if word == "COPY")


def test_continued_lines_and_comments_are_read_as_an_engine_does(tmp_path):
    """One instruction, without the comment in its middle."""
    path = tmp_path / "Dockerfile"
    path.write_text("# a\nFROM x AS y\nRUN one \\\n# no part\n    && two\n")

    assert instructions(path) == [("FROM", "x AS y"), ("RUN", "one     && two")]
