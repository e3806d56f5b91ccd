"""How both sides of a contact hear that it has changed: by the log, from what the transaction wrote
down.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from backends.relations import Contact
from functions.domain.records import Writer
from functions.domain.relay import Relay
from schemas.cloudevents import Event
from schemas.ids import time_text
from schemas.topics import DELIVERIES

if TYPE_CHECKING:
    from backends.wiring import Backends


def contact_notices(backends: Backends, *, timeout_s: float) -> Relay[Contact]:
    """Publishes what is not in the log yet, as of now: of two notices the greater version counts,
    so none is wrong when it is late or comes twice.

    `timeout_s`: how long `publish` waits for the log.
    """

    async def append(contacts: Sequence[Contact]) -> None:
        # Appended nowhere: the cause that the log's events are named after.
        cause = Event(
            id=f"contacts.{secrets.token_hex(8)}",
            source="/v1/contacts",
            type="knchat.contacts.changed.v1",
            data=b"",
            time=time_text(backends.clock.now_ms()),
        )
        deliveries = [contact.delivery for contact in contacts]
        partitions = await backends.reads.partitions(DELIVERIES)
        await backends.appends.append(Writer("accounts", cause).deliveries(deliveries, partitions))

    relations = backends.relations
    return Relay[Contact](
        "changes of contacts",
        unpublished=lambda limit: relations.unpublished(limit=limit),
        append=append,
        mark_published=relations.mark_published,
        timeout_s=timeout_s,
    )
