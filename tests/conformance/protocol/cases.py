"""What a case is, and all of them: each file of this folder whose name begins with `of_` adds those
of its subject.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.conformance.protocol.server import Server

Run = Callable[[Server], Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """One rule of the page, and how it is tried."""

    name: str
    expected: str
    """What the page says, in a sentence."""
    run: Run
    slow: bool = False
    once: bool = False
    """The same in both codecs: tried in JSON only."""
    is_for_administrators: bool = False
    """It needs the user of `--administrator`."""


CASES: Final[list[Case]] = []


def case(
    *, slow: bool = False, once: bool = False, is_for_administrators: bool = False
) -> Callable[[Run], Run]:
    """Adds a case: its docstring says what is expected, its name is that of the function below the
    name of its file.
    """

    def add(run: Run) -> Run:
        subject = run.__module__.rpartition(".of_")[2]
        expected = " ".join((run.__doc__ or "").split())
        CASES.append(
            Case(
                f"{subject}/{run.__name__}",
                expected,
                run,
                slow=slow,
                once=once,
                is_for_administrators=is_for_administrators,
            )
        )
        return run

    return add
