"""How `kn-chat` ends: exit codes that mean something, and the one line on stderr that goes with
them.

Used by every subcommand.
"""

from __future__ import annotations

from typing import Final, Protocol

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
MISSING: Final = 3
CANNOT_START: Final = 4
UNAVAILABLE: Final = 5
UNWELL: Final = 6
INTERRUPTED: Final = 130

TABLE: Final = """\
exit codes:
  0    done
  1    refused, not found, or failed
  2    wrong usage: an option, an argument or a KNCHAT_ variable
  3    a package is missing; the text says which
  4    cannot start: a port or the data folder is in use, not writable, or of a newer version
  5    something does not answer; try again later
  6    `doctor` found something
  130  interrupted"""


class Ended(Exception):
    """Ends the command with this code and this line on stderr."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class Told(Protocol):
    """An error of ours, or of the client, which has classes of its own."""

    message: str
    field: str | None

    @property
    def status(self) -> int:
        """The HTTP status of it."""
        ...


def line_of(error: Told) -> str:
    """What a person reads of it: the place of the mistake, where there is one, and the text."""
    return (
        error.message
        if error.field is None or error.field in error.message
        else f"{error.field}: {error.message}"
    )


def code_of(error: Told) -> int:
    """The exit code of an error: malformed and too large are wrong usage, 503 is for later."""
    if error.status in {400, 413}:
        return USAGE
    return UNAVAILABLE if error.status == 503 else FAILED
