"""Log lines: one each, with the fields of the record, set up once."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys
from backends.telemetry import logs
logs.set_up("INFO")
logs.set_up("DEBUG")
log = logging.getLogger("functions.test")
log.debug("not shown")
log.info("session paused, outbox full", extra={"user_id": 7, "offset": 12})
reason, title = "a\\nERROR functions.test: forged", "\\u202egnp.exe\\x1b[2J"
log.info("told", extra={"reason": reason, "title": title, "place": "M\u00fcnchen"})
logging.getLogger("elsewhere").info("a library's chatter")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("bug")
"""


@pytest.fixture(scope="module")
def lines():
    """What a process of its own says."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert not done.stdout
    return done.stderr.splitlines()


def test_a_line_has_time_level_text_and_fields(lines):
    """The text is constant and the values are fields; what is below the level and libraries' INFO
    are left out.
    """
    at, rest = lines[0].split(" ", 1)

    assert at.endswith("Z")
    assert rest == "INFO functions.test: session paused, outbox full user_id=7 offset=12"
    assert lines[2].endswith("ERROR functions.test: bug")


def test_what_clients_wrote_cannot_forge_a_line_or_move_the_cursor(lines):
    """Line feeds, escapes and signs that turn the order of reading are written as Python writes
    them; letters stay.
    """
    _, rest = lines[1].split(" ", 1)

    assert (
        rest == r"INFO functions.test: told reason=a\nERROR functions.test: forged "
        r"title=\u202egnp.exe\x1b[2J place=München"
    )


def test_a_traceback_follows_its_line(lines):
    """A bug is told with where it is."""
    assert lines[3] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_what_is_set_up_already_stays(monkeypatch):
    """Logging that is configured is not overruled."""
    from backends.telemetry import logs  # noqa: PLC0415 - the root logger of the tests is looked at

    before = list(logging.getLogger().handlers)
    logs.set_up("DEBUG")

    assert before
    assert logging.getLogger().handlers == before
