"""Log-ins that have ended and are not in the log yet: looked up in the database, which knows them
first.

So a device is out within seconds while the log is unavailable, or although the process that ended
its log-in died right afterwards. `app` runs it beside the connections. Source: design.md D19.
"""

from __future__ import annotations

import logging
from typing import Final

from backends.accounts import LogIns
from backends.clock import Clock
from backends.concurrency import jittered
from gateway.sessions.revocations import Revocations
from schemas.errors import Unavailable

log = logging.getLogger(__name__)

MAX_PER_POLL: Final = 10_000
"""As many endings within minutes mean that the log is unavailable; the oldest of them come first.
"""


async def watch_endings(
    log_ins: LogIns, revocations: Revocations, clock: Clock, *, interval_s: float
) -> None:
    """Does that until cancelled. While the database is unavailable too, only the log says it."""
    unavailable = False
    while True:
        try:
            unpublished = await log_ins.unpublished(limit=MAX_PER_POLL)
        except Unavailable as error:
            if not unavailable:
                log.warning("ended log-ins cannot be looked up", extra={"error": error.message})
            unavailable = True
        else:
            unavailable = False
            revocations.apply([ending.delivery for ending in unpublished], clock.now_ms())
        await clock.sleep(jittered(interval_s))
