"""How far history is behind what is delivered: `welcome` says it, so that a client loads again
after so long.

Measured from what the groups that write history have committed, in chat-messages and among what
waits for another try. Source: design.md D9, protocol.md section 4.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from backends.clock import Clock
from backends.log import ConsumerRecord, LogReader
from backends.telemetry.metrics import gauge
from schemas import chat_pb2 as pb
from schemas.cloudevents import from_kafka, parse
from schemas.errors import Malformed, Unavailable
from schemas.ids import unix_ms_of
from schemas.topics import HISTORY_GROUPS

log = logging.getLogger(__name__)

POLL_INTERVAL_S: Final = 10.0


class HistoryLag:
    """Belongs to one event loop."""

    def __init__(
        self, reads: LogReader, *, clock: Clock, interval_s: float = POLL_INTERVAL_S
    ) -> None:
        self._reads = reads
        self._clock = clock
        self._interval_s = interval_s
        self.seconds = 0.0
        """Age of the oldest outcome that history does not hold yet, as of the last look, or 0."""
        self._looked_s = clock.elapsed_s()

    @property
    def at_most_s(self) -> float:
        """That age now, had nothing been written since the last look."""
        return self.seconds + self._clock.elapsed_s() - self._looked_s

    async def watch(self) -> None:
        """Looks until cancelled, after the look that the start has made.

        While the log is unavailable the last figure stays.
        """
        while True:
            await self._clock.sleep(self._interval_s)
            try:
                await self.look()
            except Unavailable as error:
                log.info("history's lag is not known", extra={"error": error.message})

    async def look(self) -> None:
        """One look. Raises Unavailable."""
        looked_s, now_s = self._clock.elapsed_s(), self._clock.now_s()
        oldest_ms = [
            at_ms
            for topic, group in HISTORY_GROUPS.items()
            for at_ms in await self._waiting_ms(topic, group)
        ]
        lag_s = max(0.0, now_s - min(oldest_ms) / 1_000) if oldest_ms else 0.0
        self.seconds, self._looked_s = lag_s, looked_s
        gauge("knchat_history_lag_seconds", lag_s)

    async def _waiting_ms(self, topic: str, group: str) -> Iterable[int]:
        """Since when the oldest outcome of each partition waits (Unix milliseconds)."""
        committed = await self._reads.committed(group, topic)
        waiting = []
        for partition, bounds in (
            await self._reads.bounds(topic, range(await self._reads.partitions(topic)))
        ).items():
            offset = max(committed.get(partition, bounds.begin), bounds.begin)
            if offset < bounds.end:
                waiting += [
                    _since_ms(record)
                    for record in await self._reads.read(topic, partition, offset, max_records=1)
                ]
        return waiting


def _since_ms(record: ConsumerRecord) -> int:
    """An outcome that goes round is older than its record."""
    try:
        outcomes = parse(from_kafka(record.headers, record.value), pb.Outcomes)
    except Malformed:
        return record.at_ms
    return min([record.at_ms, *(unix_ms_of(outcome.command.id) for outcome in outcomes.outcomes)])
