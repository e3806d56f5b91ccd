"""`kn-chat doctor` and its runbook: each check has a page, each page a check."""

import re
from pathlib import Path

import pytest

from knchat.doctor import CHECKS

RUNBOOK = (Path(__file__).parents[2] / "knative/runbook.md").read_text()
PAGES = dict(re.findall(r"^## ([\w-]+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))


def test_each_check_has_its_page_and_each_page_its_check():
    """In the same order, so that one reads on where doctor goes on."""
    assert list(PAGES) == [check.name for check in CHECKS]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_it_means_where_to_look_and_what_to_do(name):
    """In this order."""
    assert re.findall(r"^- \*\*([\w ]+)\*\*: \S", PAGES[name], re.MULTILINE) == ["Means", "Look at", "Do"]


def test_there_is_a_way_from_a_finding_to_its_page():
    """A heading of that very name."""
    for check in CHECKS:
        assert check.runbook == f"knative/runbook.md#{check.name}"
