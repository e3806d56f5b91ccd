"""A table in a README or in docs/ is a promise: these tests compare them with the code.

A failure prints the row as it should be.
"""

import base64
import dataclasses
import re
from collections import Counter

import pytest

from backends.settings import Settings
from backends.telemetry.metrics import METRICS
from functions.triggers import TRIGGERS, OnEvents, OnHttp
from measure.capacity_inputs import AIM, DESIGN, Inputs
from schemas.topics import TOPICS
from tests.support.pages import ROOT, rows


def _value(value):
    if value in {"", ()}:
        return "empty"
    return str(int(value)) if isinstance(value, bool) else str(value)


def test_every_setting_stands_in_the_table_as_it_is():
    """Name, default, unit and meaning."""
    expected = [
        (
            f"`{item.metadata['variable'] or f'KNCHAT_{item.name.upper()}'}`",
            _value(item.default),
            item.metadata["unit"],
            item.metadata["meaning"],
        )
        for item in dataclasses.fields(Settings)
    ]

    assert rows("docs/operations/settings.md", "Settings") == expected


def test_the_example_with_tls_and_passwords_is_taken(tmp_path):
    """Each variable is one, together they are a whole configuration, and every store's authority
    and password is among them.
    """
    example = (
        (ROOT / "docs/operations/settings.md")
        .read_text()
        .partition("\n## TLS and passwords\n")[2]
        .partition("```sh\n")[2]
        .partition("```")[0]
    )
    variables = dict(line.split("=", 1) for line in example.splitlines())
    for name, path in variables.items():
        if path.startswith("/secrets/"):
            variables[name] = str(tmp_path / name)
            (tmp_path / name).write_bytes(base64.b64encode(bytes(32)))
    settings = Settings.from_env(variables)

    for store in ("kafka", "database", "cassandra", "redis"):
        assert getattr(settings, f"{store}_ca")
        assert getattr(settings, f"{store}_password")
    assert settings.s3_ca
    assert settings.s3_secret


def test_every_metric_stands_in_the_table_as_it_is():
    """Name, kind, labels and meaning."""
    expected = [
        (
            f"`{metric.name}`",
            metric.kind,
            ", ".join(metric.labels) or "none",
            f"{metric.meaning} ({metric.unit})",
        )
        for metric in METRICS.values()
    ]

    assert rows("docs/operations/metrics.md", "Metrics") == expected


def test_every_topic_stands_in_the_table_as_it_is():
    """Name, partitions, retention."""

    def kept(seconds):
        number, unit = (seconds // 3600, "hour") if seconds < 86_400 else (seconds // 86_400, "day")
        return f"{number} {unit}{'s' * (number > 1)}"

    expected = [
        (topic.name, str(topic.partitions), kept(topic.kept_s)) for topic in TOPICS.values()
    ]

    assert [row[:3] for row in rows("schemas/README.md", "Topics")] == expected
    assert [
        (name, re.findall(r"\((\d+)\)", partition)[0], until.partition(":")[0])
        for name, partition, _, _, until in rows("docs/design.md", "4. Topics")
    ] == expected


def test_the_budget_of_the_capacity_model_stands_in_the_design():
    """Input, value, meaning: what `scripts/capacity` calls the design's."""
    inputs = {item.name: item for item in dataclasses.fields(Inputs)}
    values = {
        name: item.default for name, item in inputs.items() if item.metadata["source"] == DESIGN
    } | AIM
    expected = [
        (f"`{name}`", f"{value:,g}", inputs[name].metadata["meaning"])
        for name, value in values.items()
    ]

    assert rows("docs/design.md", "9. Budget of the capacity model") == expected


def test_every_trigger_stands_in_the_table_as_it_is():
    """Target, what calls it, retries."""
    expected = []
    for trigger in TRIGGERS:
        if isinstance(trigger, OnEvents):
            delay = f"{trigger.retry_policy.retry} x {trigger.retry_policy.backoff_delay_s:g} s"
            expected.append((f"`{trigger.target}`", f"topic {trigger.topic}", trigger.group, delay))
        else:
            assert isinstance(trigger, OnHttp)
            expected.append(
                (
                    f"`{trigger.target}`",
                    ", ".join(f"`{path}`" for path in trigger.paths),
                    "none",
                    "none",
                )
            )

    assert rows("functions/README.md", "Triggers") == expected


@pytest.mark.parametrize("room", ["schemas", "backends", "functions", "gateway", "scripts"])
def test_every_file_of_a_room_stands_in_its_layout(room):
    """A newcomer finds each file once in the README of its room: by name, or in its folder.

    Nothing else is named.
    """
    named = Counter(
        name
        for files, _ in rows(f"{room}/README.md", "Layout")
        for name in re.findall(r"`([^`]+)`", files)
    )
    files = {path.relative_to(ROOT / room).as_posix() for path in (ROOT / room).rglob("*.py")} - {
        "__init__.py"
    }
    found = Counter(name if name in named else f"{name.partition('/')[0]}/" for name in files)

    assert [name for name, times in named.items() if times > 1] == []
    assert set(found) ^ set(named) == set()


def test_every_script_stands_in_the_table():
    """Each is named once, and nothing else is."""
    scripts = {
        path.name
        for path in (ROOT / "scripts").iterdir()
        if path.is_file() and path.suffix != ".md"
    }
    (table,) = re.findall(
        r"^\| script \|.*?\n\n",
        (ROOT / "scripts" / "README.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )

    assert sorted(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)) == sorted(scripts)


def test_every_folder_of_tests_stands_in_the_table():
    """A room's tests are found by its name."""
    folders = {
        f"{path.name}/"
        for path in (ROOT / "tests").iterdir()
        if path.is_dir() and not path.name.startswith("__")
    }

    assert (
        set(
            re.findall(
                r"^\| `([^`]+)` \|", (ROOT / "tests" / "README.md").read_text(), re.MULTILINE
            )
        )
        == folders
    )
