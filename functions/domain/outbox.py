"""The outbox of ended log-ins: gateways are told by the log, at once and again until the log has
it.

`devices` and `accounts` call `publish` after the transaction that ended them, which has written
down what is to be told; gateways read it in the database too. Source: design.md D19.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backends.accounts import Ending
from functions.domain.records import Writer
from functions.domain.relay import Relay, append_deliveries, change_event
from functions.domain.valid_tokens import set_epoch, set_valid_since

if TYPE_CHECKING:
    from backends.wiring import Backends


class Outbox:
    """What one process publishes. `Context` makes it."""

    def __init__(self, backends: Backends, *, timeout_s: float) -> None:
        """`timeout_s`: how long a call waits for the log."""
        self._backends = backends
        self._cache, self._token_s = backends.cache, backends.settings.token_s
        log_ins = backends.log_ins
        self._relay = Relay[Ending](
            "endings of log-ins",
            unpublished=lambda limit: log_ins.unpublished(limit=limit),
            append=self._append,
            mark_published=log_ins.mark_published,
            timeout_s=timeout_s,
        )

    async def publish(self, endings: Sequence[Ending]) -> None:
        """Returns when caches and the log have been told, or the log has not answered in time: then
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
        await self._relay.publish()

    async def _append(self, endings: Sequence[Ending]) -> None:
        cause = change_event(
            "ended",
            source="/v1/devices",
            event_type="knchat.devices.ended.v1",
            now_ms=self._backends.clock.now_ms(),
        )
        deliveries = [ending.delivery for ending in endings]
        await append_deliveries(deliveries, Writer("accounts", cause), self._backends)
