"""From README a newcomer finds the answers to common questions within two links, and the paths that
it names are there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.pages import HEADING, LINK, ROOT, anchors, text_of

CLICKS: Final = 2


def section(page: Path, anchor: str | None) -> str:
    """What stands under a heading, up to the next of its level or above; the whole page without an
    anchor.
    """
    if page.suffix != ".md" or anchor is None:
        return page.read_text()
    text, begin = text_of(page), anchors(page)[anchor]
    after = (
        heading.start()
        for heading in HEADING.finditer(text, begin.end())
        if len(heading[1]) <= len(begin[1])
    )
    return text[begin.start() : next(after, len(text))]


def places() -> dict[tuple[Path, str | None], int]:
    """Every page and heading that links lead to from README, and after how many."""
    reached: dict[tuple[Path, str | None], int] = {(ROOT / "README.md", None): 0}
    for clicks in range(1, CLICKS + 1):
        pages = {
            page
            for (page, _), after in reached.items()
            if after == clicks - 1 and page.suffix == ".md" and page.is_file()
        }
        for page in pages:
            for name, anchor in LINK.findall(text_of(page)):
                reached.setdefault(
                    ((page.parent / name).resolve() if name else page, anchor or None), clicks
                )
    return reached


@pytest.mark.parametrize(
    ("page", "anchor", "said"),
    [
        ("gateway/publishing/publisher.py", None, "ok"),
        ("docs/design.md", "d1-adaptive-micro-batches", "log"),
        ("docs/operations/runbook.md", "what-happens-when-a-store-is-unavailable", r"\| Cassandra"),
        ("CONTRIBUTING.md", "how-to-add", "### A message kind"),
        ("CONTRIBUTING.md", "how-to-add", "### A function"),
        ("CONTRIBUTING.md", "how-to-add", "### A store"),
        ("CONTRIBUTING.md", "how-to-add", "### A setting"),
        ("docs/protocol.md", "close-codes", r"\| 4003 \| slow consumer \|"),
    ],
    ids=[
        "ok",
        "why ok",
        "Cassandra unavailable",
        "message kind",
        "function",
        "store",
        "setting",
        "close 4003",
    ],
)
def test_an_answer_is_two_links_away(page, anchor, said):
    """Where `ok` is decided, what happens without Cassandra, how to add things, what a close code
    means.
    """
    assert (ROOT / page, anchor) in places()
    assert re.search(said, section(ROOT / page, anchor))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_files_that_are_named_are_there(page):
    """By their path from the root, in backticks; patterns match something."""
    named = set(
        re.findall(r"`([a-z]+/[\w./*-]*\.(?:py|md|proto|yaml|tf))`", (ROOT / page).read_text())
    )

    assert named
    assert {name for name in named if not list(ROOT.glob(name))} == set()
