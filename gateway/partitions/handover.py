"""Sends sessions to the gateway that owns their partition now: `moved` with its URL, then close
4001.

No I/O, no clock: time is passed in. `assignment` says who and where; the hub does it. Source:
protocol.md section 2, design.md D8.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

from gateway.sessions import close
from gateway.sessions.effects import SendFrame, SocketEffect
from gateway.sessions.protocol import Phase, Session
from schemas import frames

MAX_PER_TICK: Final = 500
"""2,000 a second: a connection costs its new gateway 290 us (decisions/0025), and the core of one
must not be taken whole.
"""
OWED_TIMEOUT_S: Final = 2.0
"""So long a session that is to move still waits for its `ok`s: a watermark's comes after a second.
"""


class Handover:
    """Sessions on their way to other gateways. `execute` writes to a session's socket."""

    def __init__(self, execute: Callable[[Session, SocketEffect], None]) -> None:
        self._execute = execute
        self._waiting: deque[tuple[Session, str]] = deque()
        self._told: list[tuple[Session, float]] = []

    def begin(self, sessions: Iterable[Session], url: str) -> None:
        """These go to that gateway, each in its turn; until then they stay as they are."""
        self._waiting.extend((session, url) for session in sessions)

    def cancel(self, partitions: Collection[int]) -> None:
        """Sessions of these partitions that have not been sent `moved` yet may stay after all."""
        self._waiting = deque(
            (session, url) for session, url in self._waiting if session.partition not in partitions
        )

    def tick(self, now_s: float) -> None:
        """Called some times a second: sends `moved` to some, and closes those that have had their
        answers.
        """
        for _ in range(min(len(self._waiting), MAX_PER_TICK)):
            session, url = self._waiting.popleft()
            if session.phase is Phase.OPEN:
                self._execute(session, SendFrame(frames.Moved(url=url)))
                self._told.append((session, now_s + OWED_TIMEOUT_S))
        staying: list[tuple[Session, float]] = []
        for session, until_s in self._told:
            if session.owed and session.phase is Phase.OPEN and now_s < until_s:
                staying.append((session, until_s))
            else:
                self._execute(session, close.MOVED)
        self._told = staying
