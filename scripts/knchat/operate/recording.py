"""What operators do about accounts is in their audit log: `users` and `admin` write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backends.account_events import DONE, AccountEvent
from schemas.ids import UserId, random_id

if TYPE_CHECKING:
    from backends.wiring import Backends


async def record(event: str, user: UserId, backends: Backends, *, device: str = "") -> None:
    """Writes it at once; there is no address."""
    at_ms = backends.clock.now_ms()
    await backends.account_events.write(
        [AccountEvent(random_id(), at_ms, event, user, device, "", DONE)]
    )
