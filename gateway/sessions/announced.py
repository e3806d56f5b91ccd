"""What members of large groups were told of lately: a page that one of them asks for then has to
show it.

`feed` notes what is told, connections put it into questions. No I/O and no clock: time is passed
in. Source: decisions/0058.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from gateway.sessions.deduplicator import RecentDict
from schemas import chat_pb2 as pb

TTL_MS: Final = 10_000
"""Members who ask later find it in history, or history is behind for all."""
MAX_IDS: Final = 64
"""Of one group: some seconds of a lively one."""
MAX_GROUPS: Final = 4_096


class Announced:
    """The messages of groups whose members are told `newer`."""

    def __init__(self) -> None:
        self._told = RecentDict[str, deque[tuple[int, int]]]()
        """Group -> time and message, in the order of the log."""

    def note(self, newer: pb.Newer, at_ms: int) -> None:
        """Members were told this at this time (Unix milliseconds)."""
        told = self._told.get(newer.chat)
        if told is None:
            told = deque(maxlen=MAX_IDS)
        told.append((at_ms, newer.newest))
        self._told.put(newer.chat, told, limit=MAX_GROUPS)

    def mark(self, query: pb.Query, now_ms: int) -> None:
        """Says in a question for a page what was told of its group."""
        if not query.HasField("history"):
            return
        if (told := self._told.get(query.history.chat)) is not None:
            since_ms = now_ms - TTL_MS
            query.history.told.extend({message for at_ms, message in told if at_ms >= since_ms})
