"""Reading pages of Markdown: their links, their headings as GitHub makes anchors of them, and their
tables.
"""

import re
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLANNED = "*planned*"
LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]+))?\)")
"""A relative link: a path, an anchor, or both."""
HEADING = re.compile(r"^(#+) +(.+?) *$", re.MULTILINE)
_FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)


@cache
def text_of(path):
    """A page without its code blocks, in which `#` and `[` mean something else."""
    return _FENCE.sub("", path.read_text())


@cache
def anchors(path):
    """Anchor -> the match of its heading in `text_of`; what stands twice is numbered."""
    seen, found = Counter(), {}
    for heading in HEADING.finditer(text_of(path)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[2]).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found[f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor] = heading
        seen[anchor] += 1
    return found


def rows(page, heading):
    """The cells of the table under a heading below the page's title, without the table's first two
    lines.
    """
    text = (ROOT / page).read_text()
    section = re.split(
        r"^#+ ",
        re.split(rf"^##+ {re.escape(heading)}\n", text, flags=re.MULTILINE)[1],
        flags=re.MULTILINE,
    )[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert len(lines) > 2, f"{page} has no table under {heading}"
    return [
        tuple(cell.strip() for cell in re.split(r"(?<= )\|(?= )", line.strip("|")))
        for line in lines[2:]
    ]


def split(page, heading):
    """The rows under a heading that are served, and those that are planned: each name in the first
    cell -> the rest. A row that begins with `*planned*` is planned whole.
    """
    served, planned = {}, {}
    for first, *rest in rows(page, heading):
        group = planned if first.startswith(PLANNED) else served
        names = re.findall(r"`([^`]+)`", first) or re.split(
            r", ?", first.removeprefix(PLANNED).strip()
        )
        group.update(dict.fromkeys(names, " | ".join(rest)))
    return served, planned


def said(cell):
    """The words of what is served of a row, and the names in backticks of what is planned of it."""
    parts = [part.partition("*planned:*") for part in cell.split(" | ")]
    return (
        set(re.findall(r"\w+", " ".join(part[0] for part in parts))),
        set(re.findall(r"`(\w+)`", " ".join(part[2] for part in parts))),
    )
