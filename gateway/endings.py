"""Log-ins that have ended and that the log does not tell yet: looked up in the database, which knows them first.

So a device is out within seconds while the log is away, or although the process that ended its log-in died before it told anybody.
`server` runs it beside the conversations. Source: design.md D19.
"""

from __future__ import annotations

import logging
from typing import Final

from backends.accounts import LogIns
from backends.clock import Clock
from backends.concurrency import jittered
from gateway.hub import Hub
from schemas.errors import Unavailable

log = logging.getLogger(__name__)

LOOK_S: Final = 2.0
AT_ONCE: Final = 10_000
"""As many endings within minutes mean that the log is away; the oldest of them are heeded first."""


async def watch_endings(log_ins: LogIns, hub: Hub, clock: Clock) -> None:
    """Does that for ever. While the database is away too, only the log tells."""
    away = False
    while True:
        try:
            untold = await log_ins.untold(limit=AT_ONCE)
        except Unavailable as error:
            if not away:
                log.warning("ended log-ins cannot be looked up", extra={"error": error.message})
            away = True
        else:
            away = False
            hub.revoke_all([ending.delivery for ending in untold], clock.now_ms())
        await clock.sleep(jittered(LOOK_S))
