"""`kn-chat doctor` and its runbook: each check has a page, each page a check."""

import re
from pathlib import Path

import pytest

from knchat.operate.checkup import Seen
from knchat.operate.checkup.workloads import audit
from knchat.operate.doctor import CHECKS
from knchat.operate.installed import Installed

RUNBOOK = (Path(__file__).parents[2] / "docs/operations/runbook.md").read_text()
PAGES = dict(re.findall(r"^## ([\w-]+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))


def test_each_check_has_its_page_and_each_page_its_check():
    """In the same order, so that one reads on where doctor goes on."""
    assert list(PAGES) == [check.name for check in CHECKS]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_it_means_where_to_look_and_what_to_do(name):
    """In this order."""
    assert re.findall(r"^- \*\*([\w ]+)\*\*: \S", PAGES[name], re.MULTILINE) == [
        "Means",
        "Look at",
        "Do",
    ]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({}, []),
        (
            {
                "lastScheduleTime": "2026-01-31T12:10:00Z",
                "lastSuccessfulTime": "2026-01-31T12:10:09Z",
            },
            [],
        ),
        (
            {
                "lastScheduleTime": "2026-01-31T12:20:00Z",
                "lastSuccessfulTime": "2026-01-31T12:10:09Z",
                "active": [{"name": "audit-1"}],
            },
            [],
        ),
        (
            {
                "lastScheduleTime": "2026-01-31T12:20:00Z",
                "lastSuccessfulTime": "2026-01-31T12:10:09Z",
            },
            ["ran at 2026-01-31T12:20:00Z, and ended well last at 2026-01-31T12:10:09Z"],
        ),
        (
            {"lastScheduleTime": "2026-01-31T12:20:00Z"},
            ["ran at 2026-01-31T12:20:00Z, and has never ended well"],
        ),
    ],
)
@pytest.mark.parametrize("name", ["audit", "files-sweep"])
def test_an_audit_or_a_sweep_that_failed_is_told(name, status, said):
    """By what the CronJob says of its runs; one that runs now may still end well."""
    jobs = [
        {
            "kind": "CronJob",
            "apiVersion": "batch/v1",
            "metadata": {"name": each, "namespace": "chat"},
            "spec": {},
            "status": status if each == name else {},
        }
        for each in ("audit", "files-sweep")
    ]

    findings = list(audit(Seen(Installed(jobs, [], []))))
    assert [finding.wrong for finding in findings] == said
    assert all(name in finding.where for finding in findings)


def test_there_is_a_way_from_a_finding_to_its_page():
    """A heading of that very name."""
    for check in CHECKS:
        assert check.runbook == f"docs/operations/runbook.md#{check.name}"
