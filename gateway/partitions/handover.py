"""Sends sessions to the gateway that owns their partition now: `moved` with its URL, then close
4001.

No I/O, no clock: time is passed in. `assignment` says which and where. Source: protocol.md section
2, design.md D8.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

from gateway.sessions import close
from gateway.sessions.protocol import Phase
from schemas import frames

if TYPE_CHECKING:
    from gateway.sessions.connection import ClientConnection

MAX_PER_TICK: Final = 500
"""2,000 a second: a connection costs its new gateway 290 us (decisions/0025), and the core of one
must not be taken whole.
"""
OWED_TIMEOUT_S: Final = 2.0
"""So long a session that is to move still waits for its `ok`s: a watermark's comes after a second.
"""


class Handover:
    """Connections on their way to other gateways."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[ClientConnection, str]] = deque()
        self._told: list[tuple[ClientConnection, float]] = []

    def begin(self, connections: Iterable[ClientConnection], url: str) -> None:
        """These go to that gateway, each in its turn; until then they stay as they are."""
        self._waiting.extend((connection, url) for connection in connections)

    def cancel(self, partitions: Collection[int]) -> None:
        """Those of these partitions that have not been sent `moved` yet may stay after all."""
        self._waiting = deque(
            (connection, url)
            for connection, url in self._waiting
            if connection.session.partition not in partitions
        )

    def tick(self, now_s: float) -> None:
        """Called some times a second: sends `moved` to some, and closes those that have had their
        answers.
        """
        for _ in range(min(len(self._waiting), MAX_PER_TICK)):
            connection, url = self._waiting.popleft()
            if connection.session.phase is Phase.OPEN:
                connection.send(frames.Moved(url=url))
                self._told.append((connection, now_s + OWED_TIMEOUT_S))
        staying: list[tuple[ClientConnection, float]] = []
        for connection, until_s in self._told:
            session = connection.session
            if session.owed and session.phase is Phase.OPEN and now_s < until_s:
                staying.append((connection, until_s))
            else:
                connection.close(close.MOVED)
        self._told = staying
