"""One search under way: what to ask the index for next, and what of its candidates is an answer.

Adapters ask and hand over rows; here is decided what a user may find. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from backends.search import Found, Wanted, may_see
from backends.search.tokens import Question, question_of
from schemas.ids import ChatId, MessageId, UserId

MAX_CANDIDATES: Final = 1_000
"""Asked for at once."""


class Candidate(Protocol):
    """A row of the index."""

    @property
    def id(self) -> MessageId: ...  # noqa: D102 - a column
    @property
    def chat(self) -> ChatId: ...  # noqa: D102 - a column
    @property
    def sender(self) -> UserId: ...  # noqa: D102 - a column
    @property
    def has_file(self) -> bool: ...  # noqa: D102 - a column
    @property
    def text(self) -> str: ...  # noqa: D102 - a column


class Finding:
    """Asks until there are enough: `question`, then `take`, and again until it is None."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._places: list[tuple[ChatId, MessageId]] = []
        self.before = wanted.before
        """Candidates lie below it."""
        self.most = min(wanted.limit + 1, MAX_CANDIDATES)
        """Candidates to ask for, the newest."""
        self.question: Question | None = self._next()
        """What they hold; None: there is nothing more to ask."""

    @property
    def found(self) -> Found:
        """What was found."""
        limit = self._wanted.limit
        return Found(self._places[:limit], more=len(self._places) > limit)

    def take(self, candidates: Sequence[Any]) -> None:
        """What the index has answered to `question`, newest first."""
        self._places += self._answers(candidates)
        if len(candidates) < self.most or len(self._places) > self._wanted.limit:
            self.question = None
            return
        self.before = candidates[-1].id
        # What holds the stretches of a word may hold them apart: then many are looked at.
        self.most = min(self.most * 4, MAX_CANDIDATES)
        self.question = self._next()

    def _answers(self, candidates: Iterable[Candidate]) -> Iterable[tuple[ChatId, MessageId]]:
        wanted = self._wanted
        return (
            (one.chat, one.id)
            for one in candidates
            if may_see(wanted, one.chat, one.id)
            and wanted.sender in {None, one.sender}
            and (one.has_file or not wanted.has_file)
            and all(term in one.text for term in wanted.terms)
        )

    def _next(self) -> Question | None:
        """Groups that end above `before`, for this user, are asked for no more."""
        groups = [chat for chat, begins in self._wanted.groups.items() if begins < self.before]
        if not groups and not self._wanted.directs:
            return None
        return question_of(self._wanted, groups)
