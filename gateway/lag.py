"""How far history is behind what is delivered: `welcome` says it, so that a client loads again after so long.

Measured from what the group that writes history has committed. Source: design.md D9, protocol.md section 4.
"""

from __future__ import annotations

import logging
from typing import Final

from backends.clock import Clock
from backends.log import Reads
from backends.telemetry import gauge
from schemas.errors import Unavailable
from schemas.topics import HISTORY_GROUP, MESSAGES

log = logging.getLogger(__name__)

EVERY_S: Final = 10.0


class HistoryLag:
    """Belongs to one event loop."""

    def __init__(self, reads: Reads, *, clock: Clock) -> None:
        self._reads = reads
        self._clock = clock
        self.seconds = 0.0
        """Age of the oldest outcome that history does not hold yet, as of the last look; 0 when there is none."""

    async def watch(self) -> None:
        """Looks for ever, after the look that the start has made. While the log is away the last figure stays."""
        while True:
            await self._clock.sleep(EVERY_S)
            try:
                await self.look()
            except Unavailable as error:
                log.info("history's lag is not known", extra={"error": error.message})

    async def look(self) -> None:
        """One look. Raises Unavailable."""
        partitions = range(await self._reads.partitions(MESSAGES))
        committed = await self._reads.committed(HISTORY_GROUP, MESSAGES)
        lag_s = 0.0
        for partition, bounds in (await self._reads.bounds(MESSAGES, partitions)).items():
            offset = max(committed.get(partition, bounds.begin), bounds.begin)
            if offset < bounds.end:
                oldest = await self._reads.read(MESSAGES, partition, offset, max_records=1)
                lag_s = max([lag_s, *(self._clock.now_s() - record.at_ms / 1_000 for record in oldest)])
        self.seconds = lag_s
        gauge("knchat_history_lag_seconds", lag_s)
