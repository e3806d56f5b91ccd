"""A table in a README is a promise: these tests compare them with the code. A failure prints the row as it should be."""

import dataclasses
import re
from pathlib import Path

import pytest

from backends.settings import Settings
from backends.telemetry import METRICS
from functions.main import TRIGGERS, OnEvents, OnHttp
from schemas.errors import STATUS_OF_CODE, TEMPORARY_CODES
from schemas.topics import TOPICS

ROOT = Path(__file__).parents[1]


def rows(readme, heading):
    """The cells of the table under a heading, without its first two lines."""
    text = (ROOT / readme).read_text()
    section = re.split(r"^## ", text.partition(f"\n## {heading}\n")[2], flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert len(lines) > 2, f"{readme} has no table under {heading}"
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines[2:]]


def _value(value):
    if value in {"", ()}:
        return "empty"
    return str(int(value)) if isinstance(value, bool) else str(value)


def test_every_setting_stands_in_the_table_as_it_is():
    """Name, default, unit and meaning."""
    expected = [
        (f"`KNCHAT_{item.name.upper()}`", _value(item.default), item.metadata["unit"], item.metadata["meaning"])
        for item in dataclasses.fields(Settings)
    ]

    assert rows("backends/README.md", "Settings") == expected


def test_every_metric_stands_in_the_table_as_it_is():
    """Name, kind, labels and meaning."""
    expected = [
        (f"`{metric.name}`", metric.kind, ", ".join(metric.labels) or "none", f"{metric.meaning} ({metric.unit})")
        for metric in METRICS.values()
    ]

    assert rows("backends/README.md", "Metrics") == expected


def test_every_topic_stands_in_the_table_as_it_is():
    """Name, partitions, retention."""

    def kept(seconds):
        number, unit = (seconds // 3600, "hour") if seconds < 86_400 else (seconds // 86_400, "day")
        return f"{number} {unit}{'s' * (number > 1)}"

    assert [row[:3] for row in rows("schemas/README.md", "Topics")] == [
        (topic.name, str(topic.partitions), kept(topic.kept_s)) for topic in TOPICS.values()
    ]


def test_every_trigger_stands_in_the_table_as_it_is():
    """Target, what calls it, patience."""
    expected = []
    for trigger in TRIGGERS:
        if isinstance(trigger, OnEvents):
            delay = f"{trigger.delivery.retry} x {trigger.delivery.backoff_delay_s:g} s"
            expected.append((f"`{trigger.target}`", f"topic {trigger.topic}", trigger.group, delay))
        else:
            assert isinstance(trigger, OnHttp)
            expected.append((f"`{trigger.target}`", ", ".join(f"`{path}`" for path in trigger.paths), "none", "none"))

    assert rows("functions/README.md", "Triggers") == expected


def test_every_error_code_stands_in_the_table_as_it_is():
    """Code, status, whether it is temporary."""
    assert [row[:3] for row in rows("schemas/README.md", "Error codes")] == [
        (f"`{code}`", str(status), "yes" if code in TEMPORARY_CODES else "no") for code, status in STATUS_OF_CODE.items()
    ]


@pytest.mark.parametrize("room", ["schemas", "backends", "functions", "gateway"])
def test_every_file_of_a_room_stands_in_its_map(room):
    """A newcomer finds each file named once in the README of its room."""
    text = (ROOT / room / "README.md").read_text()
    files = {path.relative_to(ROOT / room).as_posix().removesuffix("__init__.py") for path in (ROOT / room).rglob("*.py")}
    files = {name for name in files if name and "versions/" not in name}

    assert {name for name in files if f"`{name}`" not in text} == set()


@pytest.mark.parametrize(
    "readme", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("**/README.md") if ".venv" not in path.parts)
)
def test_links_and_paths_in_readmes_lead_somewhere(readme):
    """Relative links point at files that exist."""
    base = (ROOT / readme).parent
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / readme).read_text())

    assert [link for link in links if not (base / link).exists()] == []


def test_no_module_shadows_the_standard_library():
    """functions-framework puts a source's folder on the path, so that a file called like a standard module would replace it."""
    import sys  # noqa: PLC0415 - only this test looks at the interpreter

    names = {
        path.stem for room in ("schemas", "backends", "functions", "gateway", "scripts/knchat") for path in (ROOT / room).rglob("*.py")
    }

    assert names & (sys.stdlib_module_names - {"__main__", "__init__"}) == set()
