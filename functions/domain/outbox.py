"""The outbox of ended log-ins: gateways are told by the log, at once and again until the log has
it.

`devices` and `accounts` call `publish` after the transaction that ended them, which has written
down what is to be told. So a log that is unavailable delays no call for long, and what a process
has not told when it dies the next one tells; gateways read it in the database too. Source:
design.md D19.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from backends.accounts import Ending
from backends.concurrency import Backoff
from functions.domain.records import Writer
from functions.domain.valid_tokens import set_epoch, set_valid_since
from schemas.cloudevents import Event
from schemas.errors import Unavailable
from schemas.ids import time_text
from schemas.topics import DELIVERIES

if TYPE_CHECKING:
    from backends.wiring import Backends

log = logging.getLogger(__name__)

MAX_BATCH: Final = 256
RETRY: Final = Backoff(first_s=0.2, max_s=5.0)
MAX_RETRIES: Final = 200
"""About a token's life.

After that no token is left to be refused, and the next ending tries again anyway.
"""


class Outbox:
    """What one process publishes. `Context` makes it."""

    def __init__(self, backends: Backends, *, timeout_s: float) -> None:
        """`timeout_s`: how long a call waits for the log."""
        self._timeout_s = timeout_s
        self._cache, self._log_ins = backends.cache, backends.log_ins
        self._reads, self._appends = backends.reads, backends.appends
        self._clock, self._token_s = backends.clock, backends.settings.token_s
        self._wanted = False
        self._publishing: asyncio.Task[None] | None = None

    async def publish(self, endings: Sequence[Ending]) -> None:
        """Returns when caches and the log have been told, or have not answered in time: then
        publishing goes on behind.
        """
        if not endings:
            return
        for ending in endings:
            if ending.epoch:
                await set_epoch(self._cache, ending.user, ending.epoch, ttl_s=self._token_s)
            else:
                await set_valid_since(
                    self._cache, ending.user, ending.device, ending.before_ms, ttl_s=self._token_s
                )
        self._wanted = True
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.create_task(self._publish())
        await asyncio.wait([self._publishing], timeout=self._timeout_s)

    async def _publish(self) -> None:
        tries = 0
        while self._wanted and tries < MAX_RETRIES:
            self._wanted = False
            try:
                while endings := await self._log_ins.unpublished(limit=MAX_BATCH):
                    await self._append(endings)
                    await self._log_ins.mark_published(endings)
            except Unavailable as error:
                self._wanted = True
                if not tries:
                    log.warning(
                        "endings of log-ins cannot be published yet, retrying",
                        extra={"error": error.message},
                    )
                await asyncio.sleep(RETRY.delay_s(tries))
                tries += 1

    async def _append(self, endings: Sequence[Ending]) -> None:
        # Appended nowhere: what ended them, as the cause that the log's events are named after.
        cause = Event(
            id=f"ended.{secrets.token_hex(8)}",
            source="/v1/devices",
            type="knchat.devices.ended.v1",
            data=b"",
            time=time_text(self._clock.now_ms()),
        )
        partitions = await self._reads.partitions(DELIVERIES)
        await self._appends.append(
            Writer("accounts", cause).deliveries(
                [ending.delivery for ending in endings], partitions
            )
        )
