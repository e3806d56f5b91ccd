"""What `scripts/conformance protocol` holds a server to is what docs/protocol.md serves.

A row that loses its *planned* gets its row in `tests/conformance/protocol/rows.py` and a case; the
run itself fails for a row that no case has sent or seen.
"""

from __future__ import annotations

import re

import msgspec
import pytest

from schemas.kinds import CLIENT_FRAMES, SERVER_FRAMES
from tests.conformance.protocol import rows, run
from tests.conformance.protocol.shapes import OBJECTS
from tests.support import pages

PAGE = "docs/protocol.md"
_EVERYWHERE = {"type", "id", "re"}
_PROSE = {"and", "of", "a", "or", "direct", "group", "invited", "invited_me", "contact", "none"}
"""Words among the names of fields."""


def _names(shape):
    return {field.removesuffix("?") for field in shape}


@pytest.mark.parametrize(
    ("heading", "ours", "code"),
    [
        ("Client to server", rows.CLIENT_FRAMES, CLIENT_FRAMES),
        ("Server to client", rows.SERVER_FRAMES, SERVER_FRAMES),
    ],
)
def test_frames_and_fields(heading, ours, code):
    """Each that is served has its row and all its fields; none that is planned."""
    served, planned = pages.split(PAGE, heading)

    assert set(ours) == set(served), f"{heading}; planned are {sorted(planned)}"
    for name, shape in ours.items():
        words, later = pages.said(served[name])
        fields = {field.encode_name for field in msgspec.structs.fields(code[name])}
        assert _names(shape) - _EVERYWHERE == fields - _EVERYWHERE, name
        assert _names(shape) - _EVERYWHERE <= words, name
        assert not _names(shape) & later, name


def test_calls():
    """Each that is served has its row and all its fields, open ones as such."""
    served, planned = pages.split(PAGE, "1. HTTP (functions)")
    is_open = {
        name
        for first, *_ in pages.rows(PAGE, "1. HTTP (functions)")
        if "(open)" in first
        for name in served
        if f"`{name}`" in first
    }

    assert set(rows.CALLS) == set(served), f"planned are {sorted(planned)}"
    assert {name for name, call in rows.CALLS.items() if call.is_open} == is_open
    for first, fields, *_ in pages.rows(PAGE, "1. HTTP (functions)"):
        ours = {
            field
            for name in re.findall(r"`([^`]+)`", first)
            if name in served
            for field in rows.CALLS[name].fields
        }
        words, _ = pages.said(fields)
        optional = re.findall(r"\b(\w+)`?\?", fields.partition("*planned:*")[0])
        assert ours <= words, first
        assert first.startswith(pages.PLANNED) or {*optional} <= ours, first


@pytest.mark.parametrize(
    "name",
    [
        *("message", "chat state", "mine", "group", "member", "contact"),
        *("section", "field", "revision"),
    ],
)
def test_objects(name):
    """What the page says of an object is what the suite wants to see of it."""
    text = (pages.ROOT / PAGE).read_text().partition("## 3. Objects")[2].partition("## 4")[0]
    [said] = re.findall(rf"\b{name}(?:, in history and pages)?: {{([^}}]*(?:}}\][^}}]*)?)}}", text)
    # What is in brackets explains, or is of another object.
    names = re.sub(r"\([^)]*\)|\[[^\]]*\]", "", said)

    assert set(re.findall(r"\b[a-z_]+\b", names)) - _PROSE == _names(OBJECTS[name])


def test_codes():
    """Close codes, and error codes with status and whether they are temporary."""
    served, _ = pages.split(PAGE, "Error codes")

    assert {str(code) for code in rows.CLOSE_CODES} == {
        first for first, *_ in pages.rows(PAGE, "Close codes") if not first.startswith("*planned")
    }
    assert {
        code: (str(status), "yes" if temporary else "no")
        for code, (status, temporary) in rows.ERROR_CODES.items()
    } == {code: tuple(cell.split(" | ")[:2]) for code, cell in served.items()}


def test_only_rows_that_there_are_may_be_left_out():
    """What no client can cause is named with its reason, and is a row."""
    known = set(run.served())

    left_out = {*rows.NOT_CAUSED, *rows.ONLY_SLOW, *rows.ONLY_SEVERAL}
    assert left_out <= known
    whole = {row.rpartition(".")[0] for row in known}
    assert known | whole >= rows.ADMINISTRATORS
    assert len({case.name for case in run.load()}) == len(run.load())
    assert all(case.expected for case in run.load())
