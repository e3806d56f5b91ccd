"""What a file may be called, and the header that tells a browser."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Malformed
from schemas.file_names import MAX_FILE_NAME_BYTES, content_disposition, extensions, file_name
from tests.functions.hostile.names import REFUSED


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_names_that_mislead_or_break_out_are_refused(name):
    """The error names the field; nothing is repaired silently."""
    with pytest.raises(Malformed) as error:
        file_name(name)

    assert error.value.field == "name"


@pytest.mark.parametrize(
    "name",
    [
        'The "final" report.pdf',
        "it's.txt",
        "100% = 50%.txt",
        "a;b, c.tar.gz",
        ".bashrc",
        "console.log",
        "nullable.txt",
        "com10.txt",
        "\u65e5\u672c\u8a9e.png",
        "\u05e9\u05dc\u05d5\u05dd.pdf",
        "\U0001f468\u200d\U0001f469.jpg",
        "a" * MAX_FILE_NAME_BYTES,
    ],
)
def test_names_that_people_give_stay_as_they_are(name):
    """Quotes and every script are fine."""
    assert file_name(name) == name


def test_a_name_is_composed_and_without_white_space_around_it():
    """The same name is the same bytes, whichever keyboard wrote it."""
    assert file_name("  re\u0301sume\u0301.pdf \n") == "r\u00e9sum\u00e9.pdf"


def test_extensions_are_found_behind_white_space_and_capitals():
    """What a system would go by."""
    assert extensions("photo.jpg      .EXE") == ("jpg", "exe")
    assert extensions(".profile") == ()
    assert extensions("a.tar.gz") == ("tar", "gz")


@given(st.text(min_size=1))
def test_a_header_holds_the_name_and_nothing_else(text):
    """Whatever may be a name comes back from filename*, and neither form ends the header early."""
    try:
        name = file_name(text)
    except Malformed:
        return

    header = content_disposition(name)

    shape = re.fullmatch(r"attachment; filename=\"([^\"\\%/]+)\"; filename\*=UTF-8''(\S+)", header)
    assert shape
    assert header.isascii()
    assert header.isprintable()
    assert unquote(shape[2]) == name


def test_quotes_and_percents_do_not_leave_the_old_form():
    """RFC 6266: what could end the quotes, or be decoded, is an underscore there."""
    assert content_disposition('a"; filename="b%41.html') == (
        'attachment; filename="a_; filename=_b_41.html"; '
        "filename*=UTF-8''a%22%3B%20filename%3D%22b%2541.html"
    )
