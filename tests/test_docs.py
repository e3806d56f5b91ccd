"""Pages that cannot rot: every link, anchor and citation leads somewhere, and pages keep their
form.
"""

import re
from functools import cache

import pytest

from tests.support.pages import HEADING, LINK, ROOT, anchors, text_of

DOCS = ROOT / "docs"

# `design.md D3, D8 and section 6`: what is cited of the page, up to the first other word.
_CITED = re.compile(
    r"\b(design|protocol)\.md((?:,? (?:and |to )?(?:D\d+b?|sections? \d+|\d+(?=[ ,.;:)]))\b)*)"
)
_DECISION = re.compile(r"\bD\d{1,2}b?\b")
_RECORD = re.compile(r"\bdecisions(?:/| \()(\d{4})\b")
_CITES = re.compile(r"\.(?:py|md|proto|yaml|env|tf|toml)$|^[a-z-]+$")
_PAGE = re.compile(r"(?<![\w./-])\w[\w./-]*\.md\b")

PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/**/*.md")]
    if "node_modules" not in path.parts
)


def broken_links(page):
    """Relative links of a page whose file or anchor is not there."""
    broken = []
    for name, anchor in LINK.findall(text_of(page)):
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            broken.append(f"{name}#{anchor}" if anchor else name)
    return broken


@cache
def sources():
    """Every file of ours that may cite a page, by its path: its text on one line, comment signs
    left out.
    """
    files = [
        path
        for top in ROOT.glob("[A-Za-z]*")
        for path in ([top] if top.is_file() else top.rglob("*"))
        if _CITES.search(path.name)
    ]
    return {
        path.relative_to(ROOT).as_posix(): re.sub(r"\s*\n\s*(?:#|//)?\s*", " ", path.read_text())
        for path in files
        if path.is_file() and "captures" not in path.parts
    }


def numbers(page):
    """The numbers of the sections of a page of docs/: `3` for `## 3. Decisions`."""
    return {
        match[1]
        for _, heading in HEADING.findall(text_of(DOCS / page))
        if (match := re.match(r"(\d+)\. ", heading))
    }


def decisions():
    """The numbers of the decisions that docs/design.md has headings for."""
    return {
        match[1]
        for _, heading in HEADING.findall(text_of(DOCS / "design.md"))
        if (match := re.match(r"(D\d+b?)\. ", heading))
    }


def records():
    """The records of docs/decisions, by number."""
    return {path.name[:4]: path for path in (DOCS / "decisions").glob("[0-9]*.md")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_a_file_and_a_heading(page):
    """Relative links and anchors."""
    assert broken_links(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    """A missing file, a missing anchor here and there; what is in a code block is no link."""
    (tmp_path / "other.md").write_text("# One heading: of `two`\n")
    (tmp_path / "page.md").write_text(
        "# Top\n[a](other.md) [b](other.md#one-heading-of-two) [c](#top) [d](missing.md) "
        "[e](other.md#none) [f](#none)\n"
        "```\n[g](missing.md)\n```\n[h](https://example.org/missing.md)\n"
    )

    assert broken_links(tmp_path / "page.md") == ["missing.md", "other.md#none", "#none"]


def test_cited_decisions_are_headings_of_the_design():
    """`D12b`, wherever it is written."""
    cited = {
        (name, number) for name, text in sources().items() for number in _DECISION.findall(text)
    }

    assert len(cited) > 100
    assert {(name, number) for name, number in cited if number not in decisions()} == set()


def test_cited_sections_are_headings_of_their_page():
    """`design.md section 6`, `protocol.md sections 2 and 4`."""
    cited = {
        (name, page, number)
        for name, text in sources().items()
        for page, what in _CITED.findall(text)
        for number in re.findall(r"(?<![D\d])\d+", what)
    }
    known = {page: numbers(f"{page}.md") for page in ("design", "protocol")}

    assert len(cited) > 20
    assert {
        (name, page, number) for name, page, number in cited if number not in known[page]
    } == set()


def test_cited_figures_stand_in_the_table_of_the_design():
    """`figure P4`."""
    table = set(
        re.findall(
            r"^\| (P\d+) \|", text_of(DOCS / "design.md").partition("\n## 8. ")[2], re.MULTILINE
        )
    )
    cited = {
        (name, figure)
        for name, text in sources().items()
        for figure in re.findall(r"(?:\bfigures? |\bFigure\(\s*\"|\bto )(P\d+)\b", text)
    }

    assert len(cited) > 10
    assert {(name, figure) for name, figure in cited if figure not in table} == set()


def test_cited_records_are_there():
    """`decisions/0018`."""
    cited = {(name, number) for name, text in sources().items() for number in _RECORD.findall(text)}

    assert {(name, number) for name, number in cited if number not in records()} == set()


def test_pages_that_code_names_are_in_the_repository():
    """By their path, or by the end of it."""
    pages = [f"/{path.relative_to(ROOT).as_posix()}" for path in PAGES]
    named = {
        (name, page)
        for name, text in sources().items()
        if not name.endswith((".md", "/test_docs.py"))
        for page in _PAGE.findall(text)
    }

    assert len(named) > 20
    assert {
        (name, page) for name, page in named if not any(path.endswith(f"/{page}") for path in pages)
    } == set()


def test_every_decision_has_its_reason():
    """A heading, the decision, and why."""
    sections = re.split(
        r"^### ", text_of(DOCS / "design.md").partition("\n## 4. ")[0], flags=re.MULTILINE
    )[1:]

    assert [section.splitlines()[0] for section in sections if "\n*Why.* " not in section] == []


def test_every_record_has_its_form_and_stands_in_the_index():
    """Number and title as in the file's name and the index, the date, the context, and what was
    decided.
    """
    index = dict(
        re.findall(
            r"^- \[(\d{4})\]\([^)]+\) ((?:.|\n  )+)",
            (DOCS / "decisions" / "README.md").read_text(),
            re.MULTILINE,
        )
    )
    wrong = []
    for number, path in sorted(records().items()):
        text = path.read_text()
        listed, _, replacement = " ".join(index.pop(number, "").split()).partition(" (replaced by ")
        form = (r"^Dates?: 20\d\d-\d\d-\d\d", r"^## Context$", r"^## Decision$")
        is_formed = all(re.search(part, text, re.MULTILINE) for part in form)
        is_replaced = (
            f"Replaced by [{replacement[:4]}](" in " ".join(text.split())
            if replacement
            else "Replaced by" not in text
        )
        if text.splitlines()[0] != f"# {number}. {listed}" or not is_formed or not is_replaced:
            wrong.append(path.name)

    assert (wrong, index) == ([], {})
    assert sorted(records()) == [f"{number:04}" for number in range(1, len(records()) + 1)]


def test_lines_of_pages_end_by_column_100():
    """Only tables and links may be longer."""
    pages = [
        path
        for path in PAGES
        if path.name in {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"} or DOCS in path.parents
    ]
    wide = [
        (path.relative_to(ROOT).as_posix(), line)
        for path in pages
        for line in path.read_text().splitlines()
        if len(line) > 100
        and not line.lstrip().startswith("|")
        and not re.search(r"\]\(|https?://", line)
    ]

    assert wide == []


def test_readmes_are_short():
    """At most 900 words: a purpose, a layout, how to add, links.

    The rest has pages of its own in docs/.
    """
    long = {
        path.relative_to(ROOT).as_posix()
        for path in PAGES
        if path.name == "README.md" and len(path.read_text().split()) > 900
    }

    assert long == set()
