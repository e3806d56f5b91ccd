"""How both sides of a contact hear that it has changed: by the log, from what the transaction wrote
down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backends.relations import Contact
from functions.domain.records import Writer
from functions.domain.relay import Relay, append_deliveries, change_event

if TYPE_CHECKING:
    from backends.wiring import Backends


def contact_notices(backends: Backends, *, timeout_s: float) -> Relay[Contact]:
    """Publishes what is not in the log yet, as of now: of two notices the greater version counts,
    so none is wrong when it is late or comes twice.

    `timeout_s`: how long `publish` waits for the log.
    """

    async def append(contacts: Sequence[Contact]) -> None:
        cause = change_event(
            "contacts",
            source="/v1/contacts",
            event_type="knchat.contacts.changed.v1",
            now_ms=backends.clock.now_ms(),
        )
        deliveries = [contact.delivery for contact in contacts]
        await append_deliveries(deliveries, Writer("accounts", cause), backends)

    relations = backends.relations
    return Relay[Contact](
        "changes of contacts",
        unpublished=lambda limit: relations.unpublished(limit=limit),
        append=append,
        mark_published=relations.mark_published,
        timeout_s=timeout_s,
    )
