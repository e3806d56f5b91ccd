"""Changes of groups: their ids, and how their events get into the log.

The transaction that changes a group writes down a command; `publish` appends it to chat-retries,
where each command is decided alone. `send` tells the members, as it does for everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from backends.groups import Change
from functions.domain.records import Writer
from functions.domain.relay import Relay, change_event
from schemas import chat_pb2 as pb
from schemas.ids import Snowflake

if TYPE_CHECKING:
    from backends.wiring import Backends
    from schemas.tokens import Claims

MAX_IDS: Final = 3
"""Events of one change, at most: name, avatar and history at once."""
LEASE_MARGIN_S: Final = 5.0
"""What is left of a lease is counted by our own clock: no drift must matter."""


class GroupChanges:
    """Of one process. `Context` makes it."""

    def __init__(self, backends: Backends, *, timeout_s: float) -> None:
        """`timeout_s`: how long `publish` waits for the log."""
        self._backends = backends
        self._claiming = asyncio.Lock()
        self._snowflake: Snowflake | None = None
        self._until_s = 0.0
        groups = backends.groups
        self._relay = Relay[pb.Command](
            "events of groups",
            unpublished=lambda limit: groups.unpublished(limit=limit),
            append=self._append,
            mark_published=lambda commands: groups.mark_published([one.id for one in commands]),
            timeout_s=timeout_s,
        )

    async def by(self, caller: Claims) -> Change:
        """What a change that this caller asks for needs. Raises Unavailable.

        Ids are made by a generator that is leased when it is first needed, and again when its
        lease has run out: this process may change no group for hours.
        """
        clock = self._backends.clock
        async with self._claiming:
            if self._snowflake is None or clock.elapsed_s() >= self._until_s:
                lease = await self._backends.generators.claim("functions")
                reading = lease.reading
                clock.synchronise(reading, newest_ms=0)
                lease_s = (lease.until_ms - reading.store_ms) / 1_000
                self._until_s = reading.asked_s + lease_s - LEASE_MARGIN_S
                self._snowflake = Snowflake(lease.generator)
        now_ms, next_id = clock.now_ms(), self._snowflake.next_id
        ids = tuple(next_id(now_ms) for _ in range(MAX_IDS))
        return Change(caller.user, caller.device, ids)

    async def publish(self) -> None:
        """Call it after each change. It waits for the log for `timeout_s` at most."""
        await self._relay.publish()

    async def publish_once(self) -> None:
        """What a process has left when it died. Raises Unavailable."""
        await self._relay.publish_once()

    async def _append(self, commands: Sequence[pb.Command]) -> None:
        cause = change_event(
            "groups",
            source="/v1/chats",
            event_type="knchat.groups.changed.v1",
            now_ms=self._backends.clock.now_ms(),
        )
        writer = Writer("chats", cause)
        await self._backends.appends.append([writer.retry(command) for command in commands])
