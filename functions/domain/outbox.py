"""The outbox of log-ins: gateways are told by the log which have ended, and a user's other devices
what one of them did, at once and again until the log has it.

`devices` and `accounts` call `publish` after the transaction, which has written down what is to be
told; endings are read by gateways in the database too. Source: design.md D19.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backends.accounts import Ending, Notice
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
        self._log_ins = backends.log_ins
        self._relay = Relay[Ending | Notice](
            "what became of log-ins",
            unpublished=self._unpublished,
            append=self._append,
            mark_published=self._mark_published,
            timeout_s=timeout_s,
        )

    async def publish(self, items: Sequence[Ending | Notice]) -> None:
        """Returns when caches and the log have been told, or the log has not answered in time: then
        publishing goes on behind.
        """
        if not items:
            return
        for ending in items:
            if isinstance(ending, Notice):
                continue
            if ending.epoch:
                await set_epoch(self._cache, ending.user, ending.epoch, ttl_s=self._token_s)
            else:
                await set_valid_since(
                    self._cache, ending.user, ending.device, ending.before_ms, ttl_s=self._token_s
                )
        await self._relay.publish()

    async def publish_once(self) -> None:
        """What a process has left when it died. Raises Unavailable."""
        await self._relay.publish_once()

    async def _unpublished(self, limit: int) -> Sequence[Ending | Notice]:
        """Notices first: a device that is told of a new password is then ended by it."""
        notices = await self._log_ins.untold(limit=limit)
        return [*notices, *await self._log_ins.unpublished(limit=limit)]

    async def _append(self, items: Sequence[Ending | Notice]) -> None:
        now_ms = self._backends.clock.now_ms()
        for kind, prefix in ((Notice, "noticed"), (Ending, "ended")):
            deliveries = [item.delivery for item in items if isinstance(item, kind)]
            if deliveries:
                # A record of its own: gateways take the endings in one before they push the rest.
                cause = change_event(
                    prefix,
                    source="/v1/devices",
                    event_type=f"knchat.devices.{prefix}.v1",
                    now_ms=now_ms,
                )
                await append_deliveries(deliveries, Writer("accounts", cause), self._backends)

    async def _mark_published(self, items: Sequence[Ending | Notice]) -> None:
        if notices := [item for item in items if isinstance(item, Notice)]:
            await self._log_ins.mark_told(notices)
        if endings := [item for item in items if isinstance(item, Ending)]:
            await self._log_ins.mark_published(endings)
