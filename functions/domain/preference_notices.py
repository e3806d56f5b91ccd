"""How a user's devices hear of what the user wants of a chat: by the log, from what SQL holds."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from backends.preferences import Preferences
from functions.domain.records import Writer
from functions.domain.relay import Relay
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event
from schemas.ids import time_text
from schemas.topics import DELIVERIES

if TYPE_CHECKING:
    from backends.wiring import Backends


def preference_notices(backends: Backends, *, timeout_s: float) -> Relay[Preferences]:
    """Publishes what the log does not have yet, as of now: the greater version counts.

    `timeout_s`: how long `publish` waits for the log.
    """

    async def append(some: Sequence[Preferences]) -> None:
        # Appended nowhere: the cause that the log's events are named after.
        cause = Event(
            id=f"preferences.{secrets.token_hex(8)}",
            source="/v1/chats",
            type="knchat.preferences.changed.v1",
            data=b"",
            time=time_text(backends.clock.now_ms()),
        )
        deliveries = [pb.Delivery(users=[one.user], chat=one.part) for one in some]
        partitions = await backends.reads.partitions(DELIVERIES)
        await backends.appends.append(Writer("chats", cause).deliveries(deliveries, partitions))

    stored = backends.preferences
    return Relay[Preferences](
        "preferences of chats",
        unpublished=lambda limit: stored.unpublished(limit=limit),
        append=append,
        mark_published=stored.mark_published,
        timeout_s=timeout_s,
    )
