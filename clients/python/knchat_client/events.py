"""What `Client.events()` yields, and the bounded queue it comes out of.

Events are the server's pushes as they are (`frames.Message`, `frames.Receipt`, ...; ephemeral ones,
`frames.IsTyping` and `frames.Presence`, too), its `live`, and the client's own news of its
connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from knchat_client.protocol import frames


@dataclass(frozen=True, slots=True)
class Connected:
    """A session has begun. `result`: new, resumed or reset."""

    result: str
    session: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The session has ended; the client reconnects by itself after `pause_s`.

    `code` is None when there was no close frame.
    """

    code: int | None
    reason: str
    pause_s: float


@dataclass(frozen=True, slots=True)
class Reload:
    """More was missed than the server still holds: read each chat from 1 h before your newest id.

    `history_lag_s`: history itself is behind by so much, so read again after it; None: it is not.
    """

    history_lag_s: float | None


@dataclass(frozen=True, slots=True)
class Replaced:
    """The message shown under this id is a second copy: take it away.

    The one that stays comes next.
    """

    chat: str
    message: str


Event = (
    frames.Push
    | frames.IsTyping
    | frames.Presence
    | frames.Live
    | Connected
    | Disconnected
    | Reload
    | Replaced
)
_EPHEMERAL = (Connected, Disconnected, frames.Live, frames.IsTyping, frames.Presence)


class Inbox:
    """A bounded queue of events with one reader.

    Full, it makes the connection wait: the server then holds what comes next.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[Event] = deque()
        self._changed = asyncio.Condition()
        self._end: BaseException | None = None
        self._ended = False

    async def put(self, event: Event, *, give_up: Callable[[], bool]) -> bool:
        """Waits for room.

        False, and the event is not taken: there is none, and `give_up` says that a reply is waited
        for, which comes behind it.
        """
        async with self._changed:
            while len(self._events) >= self._limit:
                if give_up():
                    return False
                await self._changed.wait()
            self._add(event)
            return True

    async def put_nowait(self, event: Event) -> None:
        """Adds what must not wait.

        What is ephemeral is left out when there is no room: news of the connection, typing and
        presence.
        """
        async with self._changed:
            if len(self._events) < self._limit or (
                not isinstance(event, _EPHEMERAL) and event not in self._events
            ):
                self._add(event)

    async def wake(self) -> None:
        """Makes a waiting `put` ask `give_up` again."""
        async with self._changed:
            self._changed.notify_all()

    async def get(self) -> Event | None:
        """The next event; None at the end. Raises the error that ended it."""
        async with self._changed:
            while not self._events:
                if self._end is not None:
                    raise self._end
                if self._ended:
                    return None
                await self._changed.wait()
            event = self._events.popleft()
            self._changed.notify_all()
            return event

    @property
    def has_room(self) -> bool:
        """At most half full."""
        return len(self._events) <= self._limit // 2

    def begin(self) -> None:
        """Something will come, again. What has not been read yet is still there."""
        self._ended, self._end = False, None

    async def end(self, error: BaseException | None) -> None:
        """What is in it can still be read; then comes the end."""
        async with self._changed:
            self._ended, self._end = True, error
            self._changed.notify_all()

    def _add(self, event: Event) -> None:
        self._events.append(event)
        self._changed.notify_all()
