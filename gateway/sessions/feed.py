"""What comes out of the log for this gateway's partitions: each thing once, kept for a resume, and
passed on to the hub.

No I/O and no clock: time is passed in. `deliveries/reader` puts the records in; a hello asks here
from where it goes on. Source: design.md D9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gateway.sessions.deduplicator import Deduplicator
from gateway.sessions.hub import Hub
from gateway.sessions.replay_buffer import Cursor, Position, ReplayBuffer
from gateway.sessions.revocations import Revocations
from schemas import chat_pb2 as pb

RECENT_MS: Final = 120_000
"""Deliveries of so long are pushed to a device that is new or was gone too long (protocol.md
section 4).
"""


class Feed:
    """The deliveries of some partitions, from where each was opened."""

    def __init__(self, replay_buffer: ReplayBuffer, revocations: Revocations, hub: Hub) -> None:
        self.replay_buffer = replay_buffer
        self.epoch = ""
        """Of the log; cursors of another one lead nowhere."""
        self._revocations = revocations
        self._hub = hub
        self._deduplicator = Deduplicator()
        self._awaited: dict[int, dict[Callable[[], None], Position]] = {}

    # ---- what comes ------------------------------------------------------------------------------

    def open(self, partition: int, offset: int, gone_ms: int = 0) -> None:
        """What comes of this partition begins at this offset; what was held and sent before is
        forgotten.

        `gone_ms`: see `ReplayBuffer`.
        """
        self.replay_buffer.open(partition, offset, gone_ms)
        self._deduplicator.drop(partition)

    def drop(self, partition: int) -> None:
        """Nothing of this partition comes any more."""
        self.replay_buffer.drop(partition)
        self._deduplicator.drop(partition)

    def deliver(
        self, partition: int, offset: int, at_ms: int, deliveries: Sequence[pb.Delivery]
    ) -> None:
        """One record out of the log: kept in the replay buffer, and pushed to live sessions.

        What its users have had already is neither.
        """
        for delivery in deliveries:
            self._deduplicator.drop_repeats(partition, at_ms, delivery)
        self.replay_buffer.add(partition, offset, at_ms, deliveries)
        self._revocations.apply(deliveries, at_ms)
        self._hub.push(partition, offset, deliveries)
        if self._awaited:
            self._notify_reached(partition)

    def forget(self, now_ms: int) -> None:
        """Called now and then: forgets old deliveries."""
        self.replay_buffer.forget(now_ms)

    # ---- how far it is ---------------------------------------------------------------------------

    def notify_at(
        self, partition: int, position: Position, reached: Callable[[], None]
    ) -> Callable[[], None]:
        """Calls `reached` once, as soon as everything before this position has come.

        Returns what to call to cancel it.
        """
        waiting = self._awaited.setdefault(partition, {})
        waiting[reached] = position

        def forget() -> None:
            waiting.pop(reached, None)

        return forget

    def _notify_reached(self, partition: int) -> None:
        waiting, end = self._awaited.get(partition, {}), self.replay_buffer.end(partition)
        for reached in [reached for reached, position in waiting.items() if position <= end]:
            del waiting[reached]
            reached()
        if not waiting:
            self._awaited.pop(partition, None)

    # ---- where a hello goes on -------------------------------------------------------------------

    def cursor_of(self, partition: int, resume: str) -> Cursor | None:
        """The cursor in this text, if it is one of this log and partition."""
        cursor = Cursor.parse(resume)
        return (
            cursor
            if cursor is not None and (cursor.epoch, cursor.partition) == (self.epoch, partition)
            else None
        )

    def place(
        self, partition: int, resume: str | None, now_ms: int, *, behind: bool = False
    ) -> tuple[str, Position]:
        """How a hello goes on: new, resumed or reset, and from where.

        `behind`: what the replay buffer no longer holds is there too.
        """
        recent = self.replay_buffer.since(partition, now_ms - RECENT_MS)
        if resume is None:
            return "new", recent
        cursor = self.cursor_of(partition, resume)
        if cursor is None or not (behind or self.replay_buffer.holds(partition, cursor.position)):
            return "reset", recent
        return "resumed", cursor.position

    def pushed_s(self, partition: int, now_ms: int) -> float:
        """For how far back `new` and `reset` push everything."""
        return max(0, min(RECENT_MS, now_ms - self.replay_buffer.gone_ms(partition))) / 1_000
