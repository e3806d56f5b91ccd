"""How a user's devices hear of what the user wants of a chat: by the log, from what SQL holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backends.preferences import Preferences
from functions.domain.records import Writer
from functions.domain.relay import Relay, append_deliveries, change_event
from schemas import chat_pb2 as pb

if TYPE_CHECKING:
    from backends.wiring import Backends


def preference_notices(backends: Backends, *, timeout_s: float) -> Relay[Preferences]:
    """Publishes what the log does not have yet, as of now: the greater version counts.

    `timeout_s`: how long `publish` waits for the log.
    """

    async def append(some: Sequence[Preferences]) -> None:
        cause = change_event(
            "preferences",
            source="/v1/chats",
            event_type="knchat.preferences.changed.v1",
            now_ms=backends.clock.now_ms(),
        )
        deliveries = [pb.Delivery(users=[one.user], chat=one.part) for one in some]
        await append_deliveries(deliveries, Writer("chats", cause), backends)

    stored = backends.preferences
    return Relay[Preferences](
        "preferences of chats",
        unpublished=lambda limit: stored.unpublished(limit=limit),
        append=append,
        mark_published=stored.mark_published,
        timeout_s=timeout_s,
    )
