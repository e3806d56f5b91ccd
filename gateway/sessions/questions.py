"""The questions of one session that wait for an answer.

No I/O and no clock: time is passed in.
"""

from __future__ import annotations

from typing import Final

from schemas.errors import Malformed, Refused

QUERY_TIMEOUT_S: Final = 10.0
MAX_QUERIES: Final = 16
"""Questions of one session that may wait for an answer."""


class Questions:
    """They have numbers of our own: the client may use its own again after the error that there is
    no answer, which may come all the same.
    """

    __slots__ = ("_last", "_waiting")

    def __init__(self) -> None:
        self._last = 0
        self._waiting: dict[int, tuple[int, float]] = {}
        """Our number -> the client's, and until when, in the order of their ends."""

    def add(self, re: int, now_s: float) -> int:
        """Our number of the client's question.

        Raises Malformed when the client's number waits already, Refused when too many do.
        """
        if any(re == waiting for waiting, _ in self._waiting.values()):
            raise Malformed("a question with this id still waits for its answer", field="id")
        if len(self._waiting) >= MAX_QUERIES:
            raise Refused(
                "rate_limited", f"{MAX_QUERIES} questions wait for their answers", retry_after_s=1.0
            )
        self._last += 1
        self._waiting[self._last] = (re, now_s + QUERY_TIMEOUT_S)
        return self._last

    def pop(self, number: int) -> int | None:
        """The client's number of a question, which does not wait any more.

        None when it did not: the answer is not wanted.
        """
        re, _ = self._waiting.pop(number, (None, 0.0))
        return re

    def pop_late(self, now_s: float) -> list[int]:
        """The client's numbers of those that have waited too long, and do not any more."""
        late = [number for number, (_, until_s) in self._waiting.items() if now_s >= until_s]
        return [self._waiting.pop(number)[0] for number in late]

    @property
    def next_s(self) -> float:
        """When the first of them has waited too long; infinite when none waits."""
        return next((until_s for _, until_s in self._waiting.values()), float("inf"))
